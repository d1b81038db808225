"""The deployed contracts with named actors, and the steps that contract tests begin with.

The contracts are compiled from contracts/ by brownie, the AccessManager comes from its artifact. Roles are
those of scripts/roles.py, without delays.
"""

from __future__ import annotations

import brownie
from brownie import (
    Contract,
    DeviceRegistry,
    EmissionFactors,
    EnergyCertificate,
    MitigationOutcome,
    Notary,
    accounts,
    web3,
)
from eth_account import Account
from eth_utils import keccak

from scripts.addresses import artifact, selectors
from scripts.roles import ROLES
from tests.contracts import reference
from tests.contracts.attackers_build import build
from tests.contracts.reference import DAY, FINAL, GENERATION, PUBLIC, Batch, Details, Statement, Tree

FOREVER = 2**40 - 1
JULY_2016 = 1_467_331_200  # 2016-07-01 00:00 UTC
ACTIVE_FROM = JULY_2016 - 10 * DAY
CAPACITY_W = 6_000  # 158,400 Wh a day at most, the tenth above capacity included
GRID_ZONE = b"RMPA".ljust(16, b"\0")
FACTOR_G_PER_MWH = 700_001
HOLDER_KEY = reference.key("holder")
EVIDENCE = keccak(b"evidence")


def refuses(error: str, *values: object):
    """The next call fails with this custom error and these values."""
    return brownie.reverts(f"{error}: {', '.join(text_of(value) for value in values)}")


def text_of(value: object) -> str:
    # brownie shows what its decoder gives: addresses in lower case, bytes as Python does.
    return value.lower() if isinstance(value, str) and value.startswith("0x") and len(value) == 42 else str(value)


class World:
    """The deployed contracts, their actors, and the steps that most tests begin with."""

    def __init__(self) -> None:
        (
            self.admin,
            self.generator,
            self.neighbour,
            self.buyer,
            self.registrar,
            self.publisher,
            self.guardian,
            self.authoriser,
            self.recorder,
            self.stranger,
        ) = accounts[:10]
        self.witnesses = sorted((reference.key(f"witness {i}") for i in range(5)), key=lambda k: int(address(k), 16))
        self.threshold = 3
        self._deploy()
        self.domain = ("Wattmark Notary", self.notary.address)

    def _deploy(self) -> None:
        self.manager = self.another_manager(self.admin)
        sender = {"from": self.admin}
        signers = [address(key) for key in self.witnesses]
        self.registry = DeviceRegistry.deploy(self.manager, sender)
        self.notary = Notary.deploy(self.manager, signers, self.threshold, sender)
        self.factors = EmissionFactors.deploy(self.manager, sender)
        self.certificate = EnergyCertificate.deploy(
            self.manager, self.registry, self.notary, "https://w.example/c/", sender
        )
        self.outcome = MitigationOutcome.deploy(
            self.manager, self.certificate, self.factors, "https://w.example/o/", sender
        )
        self.contracts = {
            contract._name: contract
            for contract in (self.manager, self.registry, self.notary, self.factors, self.certificate, self.outcome)
        }
        self.registry.bindCertificate(self.certificate, sender)
        self.certificate.bindConverter(self.outcome, sender)
        named = {
            "administrator": self.admin,
            "registrar": self.registrar,
            "factor publisher": self.publisher,
            "guardian": self.guardian,
            "authoriser": self.authoriser,
        }
        self.holders = {role.id: named.get(role.name, self.recorder) for role in ROLES}
        calls = []
        for role in ROLES:
            for name, signatures in role.functions.items():
                target = self.contracts[name]
                calls.append(self.manager.setTargetFunctionRole.encode_input(target, selectors(signatures), role.id))
            calls.append(self.manager.grantRole.encode_input(role.id, self.holders[role.id], 0))
        self.manager.multicall(calls, sender)

    def another_manager(self, admin):
        """An AccessManager whose administrator is `admin`, who deploys it."""
        manager = artifact("AccessManager")
        factory = web3.eth.contract(abi=manager["abi"], bytecode=manager["bytecode"])
        receipt = admin.transfer(data=factory.constructor(admin.address).data_in_transaction, silent=True)
        return Contract.from_abi("AccessManager", receipt.contract_address, manager["abi"], persist=False)

    # -- devices --

    def device(self, **changes: object) -> tuple:
        """A device as the registry takes it."""
        values = {
            "account": self.generator.address,
            "capacity_w": CAPACITY_W,
            "kind": GENERATION,
            "visibility": PUBLIC,
            "country": b"US",
            "granularity": DAY,
            "fuel_code": 1_040_100,
            "technology_code": 10_100,
            "active_from": ACTIVE_FROM,
            "active_until": FOREVER,
            "grid_zone": GRID_ZONE,
            "meter_hash": keccak(b"meter 1"),
        }
        assert changes.keys() <= values.keys()
        return tuple({**values, **changes}.values())

    def register(self, device_id: int = 1, **changes: object):
        changes.setdefault("meter_hash", keccak(text=f"meter {device_id}"))
        return self.registry.register(device_id, self.device(**changes), {"from": self.registrar})

    def set_account(self, account, since: int, device_id: int = 1, sender=None):
        return self.registry.setAccount(device_id, account, since, {"from": sender or self.registrar})

    def set_capacity(self, capacity_w: int, since: int, device_id: int = 1, sender=None):
        return self.registry.setCapacity(device_id, capacity_w, since, {"from": sender or self.registrar})

    def terms(self, time: int, device_id: int = 1) -> tuple:
        """Account and capacity in force at a time."""
        account, _, capacity_w = self.registry.termsAt(device_id, time)
        return account, capacity_w

    # -- batches --

    def batch(self, of: list[Statement], **changes: object) -> Batch:
        """The batch that a notarization of these statements is, next in the chain."""
        kind = changes.get("kind", FINAL)
        values = Batch(
            kind=kind,
            signer_epoch=self.notary.signerEpoch(),
            head=bytes(self.notary.head()) if kind == FINAL else bytes(32),
            root=Tree(of).root,
            start=min(s.start for s in of),
            end=max(s.start + s.duration for s in of),
            statements=len(of),
            energy_wh=sum(max(0, s.energy_wh - s.previous_wh) for s in of),
            archive_hash=keccak(b"archive"),
            deadline=now() + 3600,
        )
        return values._replace(**changes)

    def message(self, batch: Batch, contract: str | None = None, chain_id: int | None = None):
        name, at = self.domain
        return reference.message(name, "Batch", batch, chain_id or web3.eth.chain_id, contract or at)

    def signatures(self, batch: Batch, keys: list[str] | None = None) -> list[bytes]:
        keys = self.witnesses[: self.threshold] if keys is None else keys
        return [reference.sign(self.message(batch), key) for key in keys]

    def notarize(self, *statements: Statement, **changes: object) -> Tree:
        """Notarize these statements as one batch; their tree."""
        batch = self.batch(list(statements), **changes)
        self.notary.notarize(batch, self.signatures(batch), {"from": self.stranger})
        return Tree(list(statements))

    def issue(self, statement: Statement, tree: Tree | None = None, sender=None):
        """Issue a statement, notarizing it alone where no tree is given; the receipt."""
        tree = tree or self.notarize(statement)
        return self.certificate.issue(tree.root, statement, tree.proof(statement), {"from": sender or self.stranger})

    def issue_many(self, tree: Tree, statements: list[Statement] | None = None, sender=None):
        ordered, proof, flags = tree.multi_proof(statements or tree.statements)
        return self.certificate.issueMany(tree.root, ordered, proof, flags, {"from": sender or self.stranger})

    def correct(self, statement: Statement, tree: Tree | None = None, sender=None):
        tree = tree or self.notarize(statement)
        return self.certificate.correct(tree.root, statement, tree.proof(statement), {"from": sender or self.stranger})

    def indebt(self, device_id: int = 1, debt_wh: int = 5_000, day: int = 20) -> Statement:
        """Give a device a debt; the statement it comes from."""
        statement = Statement(device_id, JULY_2016 + day * DAY, energy_wh=debt_wh)
        self.issue(statement)
        self.correct(statement.corrected(0))
        return statement

    # -- retirements --

    def details(self, **changes: object) -> Details:
        return Details(beneficiary=self.buyer.address)._replace(**changes)

    def request(self, kind: str, values: tuple, contract=None, chain_id: int | None = None):
        """The message of a signed retirement from the certificate, or from `contract`."""
        contract = contract or self.certificate
        name = {"EnergyCertificate": "Wattmark Energy Certificate", "MitigationOutcome": "Wattmark Mitigation Outcome"}
        return reference.message(name[contract._name], kind, values, chain_id or web3.eth.chain_id, contract.address)

    # -- outcomes --

    def publish(self, year: int = 2016, grams_per_mwh: int = FACTOR_G_PER_MWH, zone: bytes = GRID_ZONE):
        document = keccak(b"document")
        return self.factors.publish(zone, year, grams_per_mwh, False, document, "eGRID 2016", {"from": self.publisher})

    def authorisation(self, **changes: object) -> tuple:
        values = {
            "country": b"US",
            "first_year": 2016,
            "last_year": 2020,
            "purposes": 1,
            "share_of_proceeds_bps": 500,
            "overall_mitigation_bps": 200,
            "state": 1,
            "cap_g": 1_000_000,
            "converted_g": 0,
            "share_of_proceeds_account": self.neighbour.address,
            "document_hash": keccak(b"letter of authorisation"),
            "reference": "US-2016-0001",
        }
        assert changes.keys() <= values.keys()
        return tuple({**values, **changes}.values())

    def authorise(self, authorisation_id: int = 7, **changes: object):
        return self.outcome.authorise(authorisation_id, self.authorisation(**changes), {"from": self.authoriser})

    def convert(self, ids: list[int], amounts: list[int], authorisation_id: int = 0, sender=None):
        return self.outcome.convert(ids, amounts, authorisation_id, {"from": sender or self.generator})

    # -- further contracts --

    def deploy(self, container, *arguments: object):
        """One more deployment of a contract of ours, for this test only: brownie is not told to remember it."""
        receipt = self.admin.transfer(data=container.deploy.encode_input(*arguments), silent=True)
        return Contract.from_abi(container._name, receipt.contract_address, container.abi, persist=False)

    def attacker(self, name: str, *arguments: object, sender=None):
        """Deploy a contract of tests/contracts/attackers."""
        entry = build()[name]
        factory = web3.eth.contract(abi=entry["abi"], bytecode=entry["bin"])
        data = factory.constructor(*arguments).data_in_transaction
        receipt = (sender or self.stranger).transfer(data=data, silent=True)
        return Contract.from_abi(name, receipt.contract_address, entry["abi"], persist=False)


def address(private_key: str) -> str:
    return Account.from_key(private_key).address


def now() -> int:
    """The last block's time."""
    return web3.eth.get_block("latest")["timestamp"]


def next_day() -> int:
    """A UTC midnight on chain with a day's room for transactions before it."""
    return (now() // DAY + 2) * DAY


def travel(time: int) -> None:
    """Let the next block, and a block at once, come at `time`."""
    set_next_time(time)
    web3.provider.make_request("evm_mine", [])


def set_next_time(time: int) -> None:
    """The next block carries exactly this time."""
    answer = web3.provider.make_request("evm_setNextBlockTimestamp", [time])
    assert "error" not in answer, answer


def plain(value: object) -> object:
    """What brownie returned, in plain Python values: its own types refuse to be compared with others."""
    if isinstance(value, list | tuple):
        return tuple(plain(inner) for inner in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return bytes(value) if isinstance(value, bytes) else value if isinstance(value, bool) else str(value)
