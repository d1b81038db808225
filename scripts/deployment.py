"""The deployment: from the committed artifacts, once, resumable after any step. Plain web3; scripts/deploy.py brings brownie.

The steps are contracts, bindings, roles, hand-over. What is deployed is kept in ``<address book>.partial`` and what is
set is read from the chain, so that a run that was cut short, between any two instructions, is taken up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from eth_account.signers.local import LocalAccount
from eth_utils import keccak
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import TimeExhausted, Web3Exception
from web3.utils import get_create_address

from scripts.addresses import (
    ADAPTER,
    CONTRACTS,
    MANAGER,
    SCHEMA,
    alone,
    artifact,
    contract_at,
    is_ours,
    partial,
    read,
    selectors,
    write,
)
from scripts.deployment_check import facts, membership, require, roles_of
from scripts.deployment_settings import Settings
from scripts.networks import DeployError, told
from scripts.roles import ADMINISTRATOR, ROLES
from scripts.safe import Call

PATIENCE_SECONDS = 600
POLL_SECONDS = 0.05
#: Transactions that were estimated may find a chain that has moved on since.
GAS_MARGIN = 1.1


# -- what it is made from --------------------------------------------------------------------------


def new_book(w3: Web3, settings: Settings) -> dict[str, Any]:
    """The address book before anything is deployed."""
    return {
        "schema": SCHEMA,
        "chainId": w3.eth.chain_id,
        "chainName": settings.chain_name,
        "deployedBlock": 0,
        "contracts": {},
        "roles": {
            role.name: {
                "id": role.id,
                "holder": settings.holders.get(role.name),
                "delaySeconds": settings.admin_delay_seconds if role.delayed else 0,
            }
            for role in ROLES
        },
        "signers": list(settings.signers),
        "threshold": settings.threshold,
        "parameters": {"certificateUri": settings.certificate_uri, "outcomeUri": settings.outcome_uri},
    }


def wishes(book: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment is made from, by name, as its book has it."""
    found = {name: book[name] for name in ("signers", "threshold")} | dict(book.get("parameters", {}))
    for name, entry in book["roles"].items():
        found |= {name: entry["holder"], f"delay of the {name}": entry["delaySeconds"]}
    return found


def refuse_other_wishes(begun: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Part of what a deployment was begun with is on the chain for good, so it goes on with that or not at all."""
    now = wishes(wanted)
    for name, value in wishes(begun).items():
        if name in now and now[name] != value:
            raise DeployError(
                f"{path} was begun with {name} {value}, not {now[name]}; give the same again, or move it away to begin anew"
            )


# -- sending ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A transaction that was sent: what for, ``gas`` used, its hash."""

    what: str
    gas: int
    transaction: str


@dataclass(frozen=True)
class Act:
    """A call that only the administrator may make."""

    contract: str
    function: str
    arguments: tuple[Any, ...]


@dataclass
class Deployment:
    """One run. ``signer``: an account, or the address of one whose key the node holds. ``outstanding``: acts for the Safe."""

    w3: Web3
    signer: LocalAccount | str
    settings: Settings
    book: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    deployed: list[str] = field(default_factory=list)
    outstanding: list[Act] = field(default_factory=list)

    @property
    def sender(self) -> str:
        return self.signer if isinstance(self.signer, str) else self.signer.address

    @property
    def sent(self) -> int:
        return len(self.steps)

    @property
    def gas(self) -> int:
        return sum(step.gas for step in self.steps)

    def contract(self, name: str) -> Contract:
        return contract_at(self.w3, self.book, name)

    def save(self) -> None:
        write(partial(self.settings.book), self.book)

    def send(
        self, to: str | None, data: str, what: str, intend: Callable[[int, str | None], None] | None = None
    ) -> Any:
        """Send one transaction and wait for its receipt. Raises DeployError where it fails.

        ``intend`` is told the nonce and, where we sign, the hash, before anything leaves.
        """
        eth = self.w3.eth
        nonce = eth.get_transaction_count(self.sender)
        transaction = {"from": self.sender, "data": data, "value": 0, "nonce": nonce, "chainId": eth.chain_id}
        transaction |= {"to": to} if to else {}
        transaction |= fees(self.w3, self.settings.gas_price_wei)
        try:
            transaction["gas"] = int(eth.estimate_gas(transaction) * GAS_MARGIN)
            if isinstance(self.signer, str):
                if intend:
                    intend(nonce, None)
                sent = eth.send_transaction(transaction)
            else:
                del transaction["from"]
                signed = self.signer.sign_transaction(transaction if to else transaction | {"to": ""})
                if intend:
                    intend(nonce, "0x" + signed.hash.hex().removeprefix("0x"))
                sent = eth.send_raw_transaction(signed.raw_transaction)
            receipt = eth.wait_for_transaction_receipt(sent, PATIENCE_SECONDS, POLL_SECONDS)
        except TimeExhausted:
            raise DeployError(
                f"{what}: not mined after {PATIENCE_SECONDS} s; run the same again to go on waiting"
            ) from None
        except requests.RequestException as error:
            raise DeployError(f"{what}: {told(error)}") from None
        except (Web3Exception, ValueError) as error:
            said = error.args[0].get("message") if error.args and isinstance(error.args[0], dict) else error
            raise DeployError(f"{what}: {said} ({self.sender} has {eth.get_balance(self.sender)} wei)") from error
        txid = "0x" + bytes(sent).hex()
        if receipt["status"] != 1:
            raise DeployError(f"{what}: transaction {txid} failed")
        self.steps.append(Step(what, receipt["gasUsed"], txid))
        say(f"{what}: {receipt['gasUsed']:,} gas")
        return receipt

    def deploy(self, name: str, *arguments: Any) -> None:
        """Deploy a contract unless the book has it."""
        if name in self.book["contracts"]:
            return
        document = artifact(name)
        factory = self.w3.eth.contract(abi=document["abi"], bytecode=document["bytecode"])
        block = self.w3.eth.block_number

        def intend(nonce: int, txid: str | None) -> None:
            noted = {"contract": name, "sender": self.sender, "nonce": nonce, "transaction": txid, "block": block}
            self.book["pending"] = noted
            self.save()

        data = factory.constructor(*arguments).data_in_transaction
        self.record(name, self.send(None, data, f"deploy {name}", intend))

    def record(self, name: str, receipt: Any) -> None:
        """Put a deployed contract into the book."""
        code = bytes(self.w3.eth.get_code(receipt["contractAddress"], receipt["blockNumber"]))
        if not is_ours(name, code):
            raise DeployError(f"{name}: the code at {receipt['contractAddress']} is not the artifact's")
        self.book["contracts"][name] = {
            "address": receipt["contractAddress"],
            "codeHash": "0x" + keccak(code).hex(),
            "transaction": "0x" + bytes(receipt["transactionHash"]).hex(),
            "block": receipt["blockNumber"],
        }
        self.book.pop("pending", None)
        self.deployed.append(name)
        self.save()

    def take_up(self) -> None:
        """Wait for what an earlier run sent, and find out whether it had created a contract it could not note down."""
        eth, pending = self.w3.eth, self.book.get("pending")
        sender = pending["sender"] if pending else self.sender
        wait_until(lambda: eth.get_transaction_count(sender, "pending") <= eth.get_transaction_count(sender))
        if not pending:
            return
        address = get_create_address(sender, pending["nonce"])
        if is_ours(pending["contract"], bytes(eth.get_code(address))):
            txid = pending["transaction"] or creation(self.w3, pending)
            say(f"deploy {pending['contract']}: had been sent before")
            self.record(pending["contract"], eth.get_transaction_receipt(txid))
        else:
            del self.book["pending"]

    def perform(self, acts: Sequence[Act], what: str) -> None:
        """Let the administrator act: by ``signer`` in one transaction, or on paper for the Safe."""
        if not acts:
            return
        manager, safe = self.contract(MANAGER), self.settings.safe
        who = self.settings.holders[ADMINISTRATOR.name] if safe else self.sender
        if not membership(manager, ADMINISTRATOR, who)[0]:
            mend = "go on without --safe" if safe else "use the administrator's key, or --safe FILE where it is a Safe"
            raise DeployError(f"{what}: {who} is not administrator; {mend}")
        if safe:
            self.outstanding += acts
            return
        calls = [self.call(act) for act in acts]
        if len(calls) == 1:
            self.send(calls[0].to, calls[0].data, what)
        else:
            data = manager.encode_abi("multicall", [[call.data for call in calls]])
            self.send(manager.address, data, what)

    def call(self, act: Act) -> Call:
        contract = self.contract(act.contract)
        entry = next(one for one in contract.abi if one.get("name") == act.function and one["type"] == "function")
        return Call(contract.address, entry, act.arguments, contract.encode_abi(act.function, list(act.arguments)))


def fees(w3: Web3, gas_price_wei: int | None = None) -> dict[str, int]:
    """Fees for one transaction: twice the base fee and the node's tip; a legacy price, 0 too, where there is no base fee."""
    if gas_price_wei is not None:
        return {"gasPrice": gas_price_wei}
    base = w3.eth.get_block("latest").get("baseFeePerGas")
    if base is None:
        return {"gasPrice": w3.eth.gas_price}
    tip = w3.eth.max_priority_fee if base else 0
    return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}


def expected_price(w3: Web3, gas_price_wei: int | None = None) -> tuple[int, int]:
    """What a unit of gas is expected to cost now, and what it costs at most, in wei."""
    asked = fees(w3, gas_price_wei)
    if "gasPrice" in asked:
        return asked["gasPrice"], asked["gasPrice"]
    tip, most = asked["maxPriorityFeePerGas"], asked["maxFeePerGas"]
    return (most - tip) // 2 + tip, most


def creation(w3: Web3, pending: Mapping[str, Any]) -> Any:
    """Hash of the transaction by which a node's own account created a contract: no hash is known before the node signs."""
    for number in range(pending["block"] + 1, w3.eth.block_number + 1):
        for transaction in w3.eth.get_block(number, full_transactions=True)["transactions"]:
            if transaction["from"] == pending["sender"] and transaction["nonce"] == pending["nonce"]:
                return transaction["hash"]
    raise DeployError(f"{pending['contract']} is on the chain, but not the transaction that created it")


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise DeployError(f"a transaction is still waiting after {PATIENCE_SECONDS} s; run the same again to go on")
        time.sleep(POLL_SECONDS)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


# -- the steps --------------------------------------------------------------------------------------


def deploy_contracts(run: Deployment) -> None:
    """All contracts. The AccessManager's first administrator is the Safe, or the sender until :func:`hand_over`."""
    settings = run.settings
    run.deploy(MANAGER, settings.holders[ADMINISTRATOR.name] if settings.safe else run.sender)
    manager = run.contract(MANAGER).address
    run.deploy("DeviceRegistry", manager)
    run.deploy("Notary", manager, list(settings.signers), settings.threshold)
    run.deploy("EmissionFactors", manager)
    registry, notary = run.contract("DeviceRegistry").address, run.contract("Notary").address
    run.deploy("EnergyCertificate", manager, registry, notary, settings.certificate_uri)
    certificate, factors = run.contract("EnergyCertificate").address, run.contract("EmissionFactors").address
    run.deploy("MitigationOutcome", manager, certificate, factors, settings.outcome_uri)
    run.deploy(ADAPTER, certificate)


def bind(run: Deployment) -> None:
    """Tell the registry who knows debts, and the certificate who may convert. Once, for ever."""
    registry, certificate, outcome = map(run.contract, ("DeviceRegistry", "EnergyCertificate", "MitigationOutcome"))
    if int(registry.functions.certificate().call(), 16) == 0:
        act = Act("DeviceRegistry", "bindCertificate", (certificate.address,))
        run.perform([act], "bind the certificate to the registry")
    if int(certificate.functions.converter().call(), 16) == 0:
        act = Act("EnergyCertificate", "bindConverter", (outcome.address,))
        run.perform([act], "bind the converter to the certificate")


def set_roles(run: Deployment) -> None:
    """Labels, functions and holders of all roles but the administrator's, in one transaction."""
    manager = run.contract(MANAGER)
    acts = []
    for role in ROLES:
        for name, signatures in role.functions.items():
            target = run.contract(name).address
            asked = selectors(signatures)
            set_to = roles_of(manager, target, asked)
            wrong = [one for one, number in zip(asked, set_to, strict=True) if number != role.id]
            if wrong:
                acts.append(Act(MANAGER, "setTargetFunctionRole", (target, wrong, role.id)))
        holder = run.settings.holders.get(role.name)
        if role is not ADMINISTRATOR and holder and not membership(manager, role, holder)[0]:
            acts.append(Act(MANAGER, "labelRole", (role.id, role.name)))
            acts.append(Act(MANAGER, "grantRole", (role.id, holder, 0)))
    run.perform(acts, f"set {len(acts)} entries of the role table")


def hand_over(run: Deployment) -> None:
    """Last of all: the administrator's acts wait from now on, and the sender is no longer administrator."""
    manager, settings = run.contract(MANAGER), run.settings
    admin, delay = settings.holders[ADMINISTRATOR.name], settings.admin_delay_seconds
    acts = []
    if membership(manager, ADMINISTRATOR, admin) != (True, delay):
        acts.append(Act(MANAGER, "grantRole", (ADMINISTRATOR.id, admin, delay)))
    if admin != run.sender and membership(manager, ADMINISTRATOR, run.sender)[0]:
        acts.append(Act(MANAGER, "renounceRole", (ADMINISTRATOR.id, run.sender)))
    run.perform(acts, f"administrator {admin}, delay {delay} s")


def deploy(run: Deployment) -> Deployment:
    """Deploy what is missing, bind, set roles, check, and write the address book. Sends nothing where all is done.

    With acts left to the Safe (``run.outstanding``) the deployment stays partial until they are executed.
    """
    with alone(run.settings.book):
        return deploy_alone(run)


def deploy_alone(run: Deployment) -> Deployment:
    """:func:`deploy`, while no other writes to these books."""
    settings, w3 = run.settings, run.w3
    known = read(w3, settings.book)
    if known and known["contracts"].keys() >= set(CONTRACTS):
        say(f"{settings.book.name}: everything is deployed")
        run.book = known
        return run
    begun, wanted = read(w3, partial(settings.book)) or known, new_book(w3, settings)
    if begun:
        refuse_other_wishes(begun, wanted, settings.book if begun is known else partial(settings.book))
    run.book = (begun or wanted) | {"roles": wanted["roles"]}
    run.take_up()
    deploy_contracts(run)
    bind(run)
    set_roles(run)
    hand_over(run)
    run.book["deployedBlock"] = min(entry["block"] for entry in run.book["contracts"].values())
    run.save()
    if not run.outstanding:
        last = w3.eth.block_number
        wait_until(lambda: w3.eth.block_number >= last + settings.confirmations - 1)
        require(facts(w3, run.book))
        write(settings.book, run.book)
        partial(settings.book).unlink(missing_ok=True)
    return run
