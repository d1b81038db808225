"""Deploy the contracts, or check a deployment. Run by brownie, from what is committed in oracle/artifacts.

    ./run deploy --network development          a chain of its own that ends with the run
    WATTMARK_RPC=… ./run deploy --network local     a node that is running already
    brownie run deploy check_deployment --network local    compare the chain with the address book

Everything is taken from the environment (:class:`Settings`). Running it again sends nothing. A run that
was cut short is taken up where it stopped: what is deployed is kept in `<address book>.partial`.
The last line is one JSON object: chainId, addresses (the book's path), deployed, transactions, gas, seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from brownie import Contract, accounts, network, web3
from eth_account import Account
from eth_utils import abi_to_signature, function_signature_to_4byte_selector, keccak, to_checksum_address

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.roles import ADMIN_DELAY_SECONDS, ADMINISTRATOR, ROLES, Role  # noqa: E402

ARTIFACTS = ROOT / "oracle" / "artifacts"
SCHEMA = "wattmark/addresses/1"
DEFAULT_BASE_URI = "http://localhost:8000/certificates/"
OUTCOME_BASE_URI = "http://localhost:8000/outcomes/"
MANAGED = ("DeviceRegistry", "Notary", "EnergyCertificate", "EmissionFactors", "MitigationOutcome")
LATEST = "latest"


class DeployError(Exception):
    """The deployment cannot be made, or is not what it should be. The text says what mends it."""


@dataclass(frozen=True)
class Settings:
    """What a deployment is made from.

    ``holders``: address by role name; roles without one stay empty. ``admin_delay_seconds``: how long acts of
    the administrator wait (WATTMARK_ADMIN_DELAY; 0 on brownie's development networks, else two days).
    """

    book: Path
    chain_name: str
    signers: tuple[str, ...]
    threshold: int
    holders: dict[str, str]
    admin_delay_seconds: int
    certificate_uri: str
    outcome_uri: str

    @classmethod
    def from_environment(cls, deployer: str) -> Settings:
        """Read WATTMARK_SIGNERS (comma separated), WATTMARK_THRESHOLD, a WATTMARK_<ROLE> for each role, WATTMARK_ADMIN_DELAY,
        WATTMARK_CERTIFICATE_URI, WATTMARK_OUTCOME_URI, WATTMARK_ADDRESSES, WATTMARK_CHAIN_NAME.

        On brownie's development networks signers and role holders have defaults among the node's accounts.
        """
        environment = os.environ
        development = network.show_active() == "development"
        signers = environment.get("WATTMARK_SIGNERS", "")
        if development and not signers:
            signers = ",".join(account.address for account in list(accounts)[7:10])
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
        return cls(
            book=Path(environment.get("WATTMARK_ADDRESSES") or default_book()),
            chain_name=environment.get("WATTMARK_CHAIN_NAME", network.show_active()),
            signers=addresses,
            threshold=whole("WATTMARK_THRESHOLD", environment.get("WATTMARK_THRESHOLD", str(len(addresses) // 2 + 1))),
            holders=holders,
            admin_delay_seconds=whole(
                "WATTMARK_ADMIN_DELAY",
                environment.get("WATTMARK_ADMIN_DELAY", "0" if development else str(ADMIN_DELAY_SECONDS)),
            ),
            certificate_uri=environment.get("WATTMARK_CERTIFICATE_URI", DEFAULT_BASE_URI),
            outcome_uri=environment.get("WATTMARK_OUTCOME_URI", OUTCOME_BASE_URI),
        )


def address_of(variable: str, text: str) -> str:
    """The checksum address in `text`, as web3 writes it."""
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


def default_book() -> Path:
    return ROOT / ".wattmark" / "addresses" / f"{web3.eth.chain_id}.json"


# -- artifacts --------------------------------------------------------------------------------------


def artifact(name: str) -> dict:
    """The committed artifact of a contract."""
    path = ARTIFACTS / f"{name}.json"
    if not path.exists():
        raise DeployError(f"{path.relative_to(ROOT)} is missing; mend: ./run compile")
    return json.loads(path.read_text(encoding="utf-8"))


def masked(code: bytes, document: dict) -> bytes:
    """Run-time code with its immutables set to zero, so that it can be compared with the artifact's."""
    changed = bytearray(code)
    for places in document["immutableReferences"].values():
        for place in places:
            begin, end = place["start"], place["start"] + place["length"]
            changed[begin:end] = bytes(end - begin)
    return bytes(changed)


def is_ours(name: str, code: bytes) -> bool:
    """Whether `code` is what the committed artifact becomes on chain."""
    document = artifact(name)
    return masked(code, document) == bytes.fromhex(document["deployedBytecode"][2:])


def selectors(signatures: tuple[str, ...]) -> list[bytes]:
    return [function_signature_to_4byte_selector(signature) for signature in signatures]


# -- sending ----------------------------------------------------------------------------------------


@dataclass
class Deployment:
    """One run: the sender, the address book as it grows, and what was sent."""

    account: object
    settings: Settings
    book: dict
    sent: int = 0
    gas: int = 0
    deployed: list[str] = field(default_factory=list)

    def contract(self, name: str) -> Contract:
        return contract_at(self.book, name)

    def send(self, to: str | None, data: str, what: str):
        """Send one transaction and wait for it. Raises DeployError where it fails."""
        receipt = self.account.transfer(to, data=data, silent=True, **fees())
        receipt.wait(1)
        if receipt.status != 1:
            raise DeployError(f"{what}: transaction {receipt.txid} failed: {receipt.revert_msg}")
        self.sent += 1
        self.gas += receipt.gas_used
        say(f"{what}: {receipt.gas_used:,} gas")
        return receipt

    def deploy(self, name: str, *arguments: object) -> None:
        """Deploy a contract unless the book has it with the right code."""
        if name in self.book["contracts"]:
            return
        document = artifact(name)
        factory = web3.eth.contract(abi=document["abi"], bytecode=document["bytecode"])
        receipt = self.send(None, factory.constructor(*arguments).data_in_transaction, f"deploy {name}")
        code = bytes(web3.eth.get_code(receipt.contract_address))
        if not is_ours(name, code):
            raise DeployError(f"{name}: the code at {receipt.contract_address} is not the artifact's")
        self.book["contracts"][name] = {
            "address": str(receipt.contract_address),
            "codeHash": "0x" + keccak(code).hex(),
            "transaction": receipt.txid,
            "block": receipt.block_number,
        }
        self.deployed.append(name)
        write(partial(self.settings.book), self.book)


def fees() -> dict:
    """Fees for one transaction: twice the base fee and the node's tip; a legacy price, 0 too, where there is no base fee."""
    base = web3.eth.get_block(LATEST).get("baseFeePerGas")
    if base is None:
        return {"gas_price": web3.eth.gas_price}
    tip = web3.eth.max_priority_fee if base else 0
    return {"max_fee": 2 * base + tip, "priority_fee": tip}


def membership(manager: Contract, role: Role, account: str) -> tuple[bool, int]:
    """Whether `account` holds `role`, and for how many seconds its calls wait."""
    is_member, delay = manager.hasRole(role.id, account)
    return bool(is_member), int(delay)


def contract_at(book: dict, name: str) -> Contract:
    return Contract.from_abi(name, book["contracts"][name]["address"], artifact(name)["abi"], persist=False)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def write(path: Path, book: dict) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_text(json.dumps(book, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    half.replace(path)


def read(path: Path) -> dict | None:
    """The address book at `path`; None where there is none, or where its chain was begun anew."""
    if not path.exists():
        return None
    book = json.loads(path.read_text(encoding="utf-8"))
    if book.get("schema") != SCHEMA or book.get("chainId") != web3.eth.chain_id:
        raise DeployError(
            f"{path} is for chain {book.get('chainId')}, not {web3.eth.chain_id}; name another by WATTMARK_ADDRESSES"
        )
    codes = {name: bytes(web3.eth.get_code(entry["address"])) for name, entry in book["contracts"].items()}
    if codes and not any(codes.values()):
        say(f"nothing of {path.name} is on this chain: it was begun anew")
        return None
    for name, code in codes.items():
        if not is_ours(name, code):
            raise DeployError(
                f"{name} at {book['contracts'][name]['address']} has other code than oracle/artifacts; move {path} away to deploy anew"
            )
    return book


# -- the steps --------------------------------------------------------------------------------------


def deploy_contracts(run: Deployment) -> None:
    """The six contracts. The sender is the AccessManager's administrator until :func:`hand_over`."""
    settings = run.settings
    run.deploy("AccessManager", run.account.address)
    manager = run.contract("AccessManager").address
    run.deploy("DeviceRegistry", manager)
    run.deploy("Notary", manager, list(settings.signers), settings.threshold)
    run.deploy("EmissionFactors", manager)
    registry, notary = run.contract("DeviceRegistry").address, run.contract("Notary").address
    run.deploy("EnergyCertificate", manager, registry, notary, settings.certificate_uri)
    certificate, factors = run.contract("EnergyCertificate").address, run.contract("EmissionFactors").address
    run.deploy("MitigationOutcome", manager, certificate, factors, settings.outcome_uri)


def bind(run: Deployment) -> None:
    """Tell the registry who knows debts, and the certificate who may convert. Once, for ever."""
    registry, certificate, outcome = map(run.contract, ("DeviceRegistry", "EnergyCertificate", "MitigationOutcome"))
    if int(registry.certificate(), 16) == 0:
        run.send(
            registry.address,
            registry.bindCertificate.encode_input(certificate.address),
            "bind the certificate to the registry",
        )
    if int(certificate.converter(), 16) == 0:
        run.send(
            certificate.address,
            certificate.bindConverter.encode_input(outcome.address),
            "bind the converter to the certificate",
        )


def set_roles(run: Deployment) -> None:
    """Labels, functions and holders of all roles but the administrator's, in one transaction."""
    manager = run.contract("AccessManager")
    calls = []
    for role in ROLES:
        functions = [(name, one) for name, signatures in role.functions.items() for one in selectors(signatures)]
        for name in role.functions:
            target = run.contract(name).address
            wrong = [s for n, s in functions if n == name and manager.getTargetFunctionRole(target, s) != role.id]
            if wrong:
                calls.append(manager.setTargetFunctionRole.encode_input(target, wrong, role.id))
        holder = run.settings.holders.get(role.name)
        if role is not ADMINISTRATOR and holder and not membership(manager, role, holder)[0]:
            calls.append(manager.labelRole.encode_input(role.id, role.name))
            calls.append(manager.grantRole.encode_input(role.id, holder, 0))
    if calls:
        run.send(manager.address, manager.multicall.encode_input(calls), f"set {len(calls)} entries of the role table")


def hand_over(run: Deployment) -> None:
    """Last of all: the administrator's acts wait from now on, and the sender is no longer administrator."""
    manager, settings = run.contract("AccessManager"), run.settings
    admin, delay = settings.holders[ADMINISTRATOR.name], settings.admin_delay_seconds
    calls = []
    if membership(manager, ADMINISTRATOR, admin) != (True, delay):
        calls.append(manager.grantRole.encode_input(ADMINISTRATOR.id, admin, delay))
    if admin != run.account.address and membership(manager, ADMINISTRATOR, run.account.address)[0]:
        calls.append(manager.renounceRole.encode_input(ADMINISTRATOR.id, run.account.address))
    if calls:
        run.send(manager.address, manager.multicall.encode_input(calls), f"administrator {admin}, delay {delay} s")


def deploy(account: object, settings: Settings) -> Deployment:
    """Deploy what is missing, bind, set roles and write the address book. Sends nothing where all is done."""
    known = read(settings.book)
    book = known or read(partial(settings.book)) or new_book(settings)
    run = Deployment(account, settings, book)
    if known:
        say(f"{settings.book.name}: everything is deployed")
        return run
    deploy_contracts(run)
    bind(run)
    set_roles(run)
    hand_over(run)
    book["deployedBlock"] = min(entry["block"] for entry in book["contracts"].values())
    book["roles"] = {
        role.name: {"id": role.id, "holder": settings.holders.get(role.name), "delaySeconds": delay_of(role, settings)}
        for role in ROLES
    }
    check(book)
    write(settings.book, book)
    partial(settings.book).unlink(missing_ok=True)
    return run


def new_book(settings: Settings) -> dict:
    return {
        "schema": SCHEMA,
        "chainId": web3.eth.chain_id,
        "chainName": settings.chain_name,
        "deployedBlock": 0,
        "contracts": {},
        "roles": {},
        "signers": list(settings.signers),
        "threshold": settings.threshold,
    }


def delay_of(role: Role, settings: Settings) -> int:
    return settings.admin_delay_seconds if role.delayed else 0


# -- checking ---------------------------------------------------------------------------------------


def check(book: dict) -> int:
    """Compare a deployment with artifacts, role table and address book. Returns how many facts were compared.

    Raises DeployError that lists everything that differs.
    """
    facts = [*code_facts(book), *binding_facts(book), *role_facts(book)]
    wrong = [f"{what}: {found}, should be {wanted}" for what, found, wanted in facts if found != wanted]
    if wrong:
        raise DeployError("the deployment is not what it should be:\n  " + "\n  ".join(wrong))
    return len(facts)


def code_facts(book: dict) -> list[tuple[str, object, object]]:
    facts = []
    for name in ("AccessManager", *MANAGED):
        entry = book["contracts"][name]
        code = bytes(web3.eth.get_code(entry["address"]))
        facts.append((f"{name} code hash", "0x" + keccak(code).hex(), entry["codeHash"]))
        facts.append((f"{name} code is the artifact's", is_ours(name, code), True))
    return facts


def binding_facts(book: dict) -> list[tuple[str, object, object]]:
    at = {name: book["contracts"][name]["address"] for name in book["contracts"]}
    registry, certificate, outcome, notary = (
        contract_at(book, name) for name in ("DeviceRegistry", "EnergyCertificate", "MitigationOutcome", "Notary")
    )
    facts = [
        ("DeviceRegistry.certificate", registry.certificate(), at["EnergyCertificate"]),
        ("EnergyCertificate.registry", certificate.registry(), at["DeviceRegistry"]),
        ("EnergyCertificate.notary", certificate.notary(), at["Notary"]),
        ("EnergyCertificate.converter", certificate.converter(), at["MitigationOutcome"]),
        ("MitigationOutcome.certificate", outcome.certificate(), at["EnergyCertificate"]),
        ("MitigationOutcome.registry", outcome.registry(), at["DeviceRegistry"]),
        ("MitigationOutcome.factors", outcome.factors(), at["EmissionFactors"]),
    ]
    facts += [(f"{name}.authority", contract_at(book, name).authority(), at["AccessManager"]) for name in MANAGED]
    signers, threshold, _, _ = notary.signerSet(1)
    facts.append(("Notary signers of epoch 1", sorted(map(str, signers)), sorted(book["signers"])))
    facts.append(("Notary threshold of epoch 1", threshold, book["threshold"]))
    return facts


def role_facts(book: dict) -> list[tuple[str, object, object]]:
    """Each function's role, each holder with its delay, no holder beyond them, no contract closed."""
    manager = contract_at(book, "AccessManager")
    roles = {
        (name, selector): role.id
        for role in ROLES
        for name, signatures in role.functions.items()
        for selector in selectors(signatures)
    }
    facts = []
    for name in MANAGED:
        target = book["contracts"][name]["address"]
        facts.append((f"{name} closed", manager.isTargetClosed(target), False))
        for signature in changing_functions(name):
            selector = function_signature_to_4byte_selector(signature)
            wanted = roles.pop((name, selector), ADMINISTRATOR.id)
            facts.append((f"role of {name}.{signature}", manager.getTargetFunctionRole(target, selector), wanted))
    facts.append(("entries of the role table that no contract has", roles, {}))
    members = members_of(manager, book["deployedBlock"] or min(entry["block"] for entry in book["contracts"].values()))
    for role in ROLES:
        wanted = book["roles"][role.name]
        holder = wanted["holder"]
        facts.append((f"holders of {role.name}", members.get(role.id, set()), {holder} if holder else set()))
        if holder:
            facts.append((f"{role.name} {holder}", membership(manager, role, holder), (True, wanted["delaySeconds"])))
    return facts


def changing_functions(name: str) -> list[str]:
    """Signatures of a contract's functions that are not views."""
    functions = [entry for entry in artifact(name)["abi"] if entry["type"] == "function"]
    return [abi_to_signature(entry) for entry in functions if entry["stateMutability"] not in ("view", "pure")]


def members_of(manager: Contract, from_block: int) -> dict[int, set[str]]:
    """Who holds each role, replayed from the AccessManager's events."""
    contract = web3.eth.contract(address=manager.address, abi=manager.abi)
    granted = contract.events.RoleGranted().get_logs(from_block=from_block)
    revoked = contract.events.RoleRevoked().get_logs(from_block=from_block)
    members: dict[int, set[str]] = {}
    for log in sorted([*granted, *revoked], key=lambda log: (log["blockNumber"], log["logIndex"])):
        holders = members.setdefault(log["args"]["roleId"], set())
        (holders.add if log["event"] == "RoleGranted" else holders.discard)(log["args"]["account"])
    return members


# -- entry ------------------------------------------------------------------------------------------


def sender() -> object:
    """The deploying account: WATTMARK_KEYSTORE with WATTMARK_PASSWORD_FILE, else the node's first unlocked one."""
    keystore = os.environ.get("WATTMARK_KEYSTORE")
    if keystore:
        password_file = os.environ.get("WATTMARK_PASSWORD_FILE")
        if not password_file:
            raise DeployError("WATTMARK_KEYSTORE needs WATTMARK_PASSWORD_FILE: the file that holds its password")
        password = Path(password_file).read_text(encoding="utf-8").rstrip("\n")
        try:
            return accounts.add(Account.decrypt(Path(keystore).read_text(encoding="utf-8"), password))
        except ValueError as error:
            raise DeployError(f"{keystore}: the password in {password_file} does not open it") from error
    unlocked = web3.eth.accounts
    if not unlocked:
        raise DeployError("the node has no unlocked account: set WATTMARK_KEYSTORE and WATTMARK_PASSWORD_FILE")
    return accounts.at(unlocked[0], force=True)


def main() -> None:
    """Deploy by the environment, or find that nothing is to be done."""
    began = time.monotonic()
    account = sender()
    settings = Settings.from_environment(account.address)
    say(f"chain {web3.eth.chain_id} ({settings.chain_name}), from {account.address}")
    run = deploy(account, settings)
    summary = {
        "chainId": web3.eth.chain_id,
        "addresses": str(settings.book),
        "deployed": run.deployed,
        "transactions": run.sent,
        "gas": run.gas,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(summary), flush=True)


def check_deployment() -> None:
    """`brownie run deploy check_deployment`: compare the chain with WATTMARK_ADDRESSES."""
    path = Path(os.environ.get("WATTMARK_ADDRESSES") or default_book())
    book = read(path)
    if book is None:
        raise DeployError(f"no deployment at {path}; mend: ./run deploy --network {network.show_active()}")
    print(json.dumps({"chainId": web3.eth.chain_id, "addresses": str(path), "compared": check(book)}), flush=True)
