"""The deployment: from the committed artifacts, once, resumable after any step. Plain web3; scripts/deploy.py brings brownie.

The steps are contracts, bindings, roles, hand-over. What is deployed is kept in ``<address book>.partial`` and what is
set is read from the chain, so that a run that was cut short, between any two instructions, is taken up again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils import keccak, to_checksum_address
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import TimeExhausted, Web3Exception
from web3.utils import get_create_address

from scripts.addresses import (
    ADAPTER,
    CONTRACTS,
    MANAGER,
    SCHEMA,
    artifact,
    contract_at,
    is_ours,
    partial,
    read,
    selectors,
    write,
)
from scripts.deployment_check import facts, membership, require, roles_of
from scripts.networks import DeployError
from scripts.roles import ADMIN_DELAY_SECONDS, ADMINISTRATOR, ROLES
from scripts.safe import Call

DEFAULT_BASE_URI = "http://localhost:8000/certificates/"
OUTCOME_BASE_URI = "http://localhost:8000/outcomes/"
PATIENCE_SECONDS = 600
POLL_SECONDS = 0.05
#: Transactions that were estimated may find a chain that has moved on since.
GAS_MARGIN = 1.1


@dataclass(frozen=True)
class Settings:
    """What a deployment is made from.

    ``holders``: address by role name; roles without one stay empty. ``admin_delay_seconds``: how long acts of
    the administrator wait. ``safe``: file for what the administrator, a Safe, has to execute; None where the sender is
    administrator until the hand-over. ``gas_price_wei``: a legacy price, None for what the chain asks.
    """

    book: Path
    chain_name: str
    signers: tuple[str, ...]
    threshold: int
    holders: dict[str, str]
    admin_delay_seconds: int
    certificate_uri: str
    outcome_uri: str
    safe: Path | None = None
    gas_price_wei: int | None = None
    confirmations: int = 1

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str],
        deployer: str,
        book: Path,
        chain_name: str,
        development: Sequence[str] = (),
        safe: Path | None = None,
        confirmations: int = 1,
    ) -> Settings:
        """From WATTMARK_SIGNERS (comma separated), WATTMARK_THRESHOLD, a WATTMARK_<ROLE> for each role, WATTMARK_ADMIN_DELAY,
        WATTMARK_CERTIFICATE_URI, WATTMARK_OUTCOME_URI, WATTMARK_CHAIN_NAME, WATTMARK_GAS_PRICE_WEI.

        ``development``: signers of a chain that ends with the run, where role holders default to the deployer and
        nothing waits; elsewhere nothing but the administrator (the deployer) has a default.
        """
        signers = environment.get("WATTMARK_SIGNERS") or ",".join(development)
        if not signers:
            raise DeployError("no signers: set WATTMARK_SIGNERS to the witnesses' addresses, separated by commas")
        addresses = tuple(sorted((address_of("WATTMARK_SIGNERS", one) for one in signers.split(",")), key=str.lower))
        holders = {}
        for role in ROLES:
            given = environment.get(role.variable, deployer if development or role is ADMINISTRATOR else "")
            if given:
                holders[role.name] = address_of(role.variable, given)
        for name in ("registrar", "factor publisher", "guardian"):
            if name not in holders:
                raise DeployError(f"no {name}: set {variable_of(name)} to its address")
        if safe and holders[ADMINISTRATOR.name] == deployer:
            raise DeployError(f"--safe: set {ADMINISTRATOR.variable} to the address of the Safe")
        delay = environment.get("WATTMARK_ADMIN_DELAY", "0" if development else str(ADMIN_DELAY_SECONDS))
        price = environment.get("WATTMARK_GAS_PRICE_WEI")
        return cls(
            book=book,
            chain_name=environment.get("WATTMARK_CHAIN_NAME", chain_name),
            signers=addresses,
            threshold=whole("WATTMARK_THRESHOLD", environment.get("WATTMARK_THRESHOLD", str(len(addresses) // 2 + 1))),
            holders=holders,
            admin_delay_seconds=whole("WATTMARK_ADMIN_DELAY", delay),
            certificate_uri=environment.get("WATTMARK_CERTIFICATE_URI", DEFAULT_BASE_URI),
            outcome_uri=environment.get("WATTMARK_OUTCOME_URI", OUTCOME_BASE_URI),
            safe=safe,
            gas_price_wei=whole("WATTMARK_GAS_PRICE_WEI", price) if price else None,
            confirmations=confirmations,
        )


def address_of(variable: str, text: str) -> str:
    """The checksum address in ``text``."""
    try:
        return to_checksum_address(text.strip())
    except ValueError as error:
        raise DeployError(f"{variable}: {text.strip()!r} is not an address") from error


def whole(variable: str, text: str) -> int:
    if not text.isdecimal():
        raise DeployError(f"{variable}: {text!r} is not a whole number")
    return int(text)


def variable_of(role_name: str) -> str:
    return next(role.variable for role in ROLES if role.name == role_name)


def new_book(w3: Web3, settings: Settings) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "chainId": w3.eth.chain_id,
        "chainName": settings.chain_name,
        "deployedBlock": 0,
        "contracts": {},
        "roles": {},
        "signers": list(settings.signers),
        "threshold": settings.threshold,
        "parameters": {"certificateUri": settings.certificate_uri, "outcomeUri": settings.outcome_uri},
    }


# -- keys -------------------------------------------------------------------------------------------


def signer_of(environment: Mapping[str, str], w3: Web3, public: bool) -> LocalAccount | str:
    """Who deploys: WATTMARK_KEYSTORE with WATTMARK_PASSWORD_FILE, else WATTMARK_DEPLOYER_KEY, else, where the network is
    not ``public``, the node's first own account."""
    keystore, key = environment.get("WATTMARK_KEYSTORE"), environment.get("WATTMARK_DEPLOYER_KEY")
    if keystore:
        return opened(Path(keystore), environment.get("WATTMARK_PASSWORD_FILE"))
    if key:
        try:
            return Account.from_key(key.strip())
        except Exception:
            # Whatever is wrong with a key, no part of it may be shown.
            raise DeployError("WATTMARK_DEPLOYER_KEY is not a private key (32 bytes in hex)") from None
    return own_account(w3, public, "nothing to sign with: set WATTMARK_KEYSTORE and WATTMARK_PASSWORD_FILE")


def opened(keystore: Path, password_file: str | None) -> LocalAccount:
    """The account in an encrypted keystore."""
    if not password_file:
        raise DeployError("WATTMARK_KEYSTORE needs WATTMARK_PASSWORD_FILE: the file that holds its password")
    try:
        password = Path(password_file).read_text(encoding="utf-8").rstrip("\n")
        return Account.from_key(Account.decrypt(keystore.read_text(encoding="utf-8"), password))
    except OSError as error:
        raise DeployError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, LookupError):
        raise DeployError(f"{keystore}: the password in {password_file} does not open it") from None


def address_without_key(environment: Mapping[str, str], w3: Web3, public: bool) -> str:
    """Who would deploy: WATTMARK_DEPLOYER, the keystore's address (not opened), the key's, or the node's account."""
    given, keystore = environment.get("WATTMARK_DEPLOYER"), environment.get("WATTMARK_KEYSTORE")
    if given:
        return address_of("WATTMARK_DEPLOYER", given)
    if keystore:
        try:
            return to_checksum_address(json.loads(Path(keystore).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, TypeError, LookupError):
            raise DeployError(f"{keystore} states no address; set WATTMARK_DEPLOYER") from None
    if environment.get("WATTMARK_DEPLOYER_KEY"):
        signer = signer_of(environment, w3, public)
        return signer if isinstance(signer, str) else signer.address
    return own_account(w3, public, "who would deploy? set WATTMARK_DEPLOYER to an address, or WATTMARK_KEYSTORE")


def own_account(w3: Web3, public: bool, otherwise: str) -> str:
    """The first account whose key the node itself holds; never on a public network."""
    accounts = [] if public else w3.eth.accounts
    if not accounts:
        raise DeployError(otherwise)
    return accounts[0]


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
        if self.settings.safe:
            self.outstanding += acts
            return
        manager = self.contract(MANAGER)
        if not membership(manager, ADMINISTRATOR, self.sender)[0]:
            raise DeployError(
                f"{what}: {self.sender} is not administrator; use the administrator's key, or --safe FILE where it is a Safe"
            )
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
    settings, w3 = run.settings, run.w3
    known = read(w3, settings.book)
    if known and known["contracts"].keys() >= set(CONTRACTS):
        say(f"{settings.book.name}: everything is deployed")
        run.book = known
        return run
    run.book = read(w3, partial(settings.book)) or known or new_book(w3, settings)
    for name, wanted in (("signers", list(settings.signers)), ("threshold", settings.threshold)):
        if run.book[name] != wanted:
            raise DeployError(
                f"{partial(settings.book)} was begun with {name} {run.book[name]}, not {wanted}; move it away to begin anew"
            )
    run.take_up()
    deploy_contracts(run)
    bind(run)
    set_roles(run)
    hand_over(run)
    run.book["deployedBlock"] = min(entry["block"] for entry in run.book["contracts"].values())
    run.book["roles"] = {
        role.name: {
            "id": role.id,
            "holder": settings.holders.get(role.name),
            "delaySeconds": settings.admin_delay_seconds if role.delayed else 0,
        }
        for role in ROLES
    }
    run.save()
    if not run.outstanding:
        last = w3.eth.block_number
        wait_until(lambda: w3.eth.block_number >= last + settings.confirmations - 1)
        require(facts(w3, run.book))
        write(settings.book, run.book)
        partial(settings.book).unlink(missing_ok=True)
    return run
