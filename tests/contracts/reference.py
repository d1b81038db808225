"""docs/protocol.md once more, for the contract tests only: nothing of oracle/ and nothing of the contracts.

Hashes come from eth_abi and eth_utils, EIP-712 messages from eth_account.
"""

from __future__ import annotations

from typing import NamedTuple

from eth_abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

DAY = 86_400
FINAL, INTERIM = 1, 2
OPEN, REVOKED = 1, 2
GENERATION, CONSUMPTION = 1, 2
PUBLIC, PRIVATE = 1, 2
ZERO_ADDRESS = "0x" + "00" * 20
ZERO_HASH = bytes(32)


class Statement(NamedTuple):
    device_id: int
    start: int
    duration: int = DAY
    version: int = 0
    energy_wh: int = 20_000
    previous_wh: int = 0
    profile_hash: bytes = keccak(b"profile")

    @property
    def id(self) -> int:
        return self.device_id * 2**192 + self.start * 2**152 + self.duration * 2**120

    @property
    def leaf(self) -> bytes:
        return keccak(keccak(encode(["uint64", "uint40", "uint32", "uint32", "uint64", "uint64", "bytes32"], self)))

    def corrected(self, energy_wh: int) -> Statement:
        return self._replace(version=self.version + 1, energy_wh=energy_wh, previous_wh=self.energy_wh)


class Batch(NamedTuple):
    kind: int
    signer_epoch: int
    head: bytes
    root: bytes
    start: int
    end: int
    statements: int
    energy_wh: int
    archive_hash: bytes
    deadline: int


class Details(NamedTuple):
    beneficiary: str
    beneficiary_name: str = "Faraday Dairy"
    purpose: str = "Scope 2, market-based, 2016"
    country: bytes = b"US"
    location: str = "Golden, Colorado"
    consumption_start: int = 1_467_331_200
    consumption_end: int = 1_470_009_600


class Tree:
    """A StandardMerkleTree: leaves sorted, the greatest first among the nodes' leaves."""

    def __init__(self, statements: list[Statement]):
        self.statements = sorted(statements, key=lambda s: s.leaf)
        count = len(statements)
        self.nodes = [b""] * (count - 1) + [s.leaf for s in reversed(self.statements)]
        for i in reversed(range(count - 1)):
            self.nodes[i] = keccak(b"".join(sorted(self.nodes[2 * i + 1 : 2 * i + 3])))
        self.root = self.nodes[0]

    def proof(self, statement: Statement) -> list[bytes]:
        at, path = self.nodes.index(statement.leaf, len(self.statements) - 1), []
        while at > 0:
            path.append(self.nodes[at - 1 if at % 2 == 0 else at + 1])
            at = (at - 1) // 2
        return path

    def multi_proof(self, statements: list[Statement]) -> tuple[list[Statement], list[bytes], list[bool]]:
        """The statements in the order that the contract needs, the proof and its flags."""
        at = {s: self.nodes.index(s.leaf, len(self.statements) - 1) for s in statements}
        ordered = sorted(statements, key=lambda s: -at[s])
        queue, proof, flags = [at[s] for s in ordered], [], []
        while queue[0] > 0:
            node = queue.pop(0)
            sibling = node - 1 if node % 2 == 0 else node + 1
            known = bool(queue) and queue[0] == sibling
            flags.append(known)
            if known:
                queue.pop(0)
            else:
                proof.append(self.nodes[sibling])
            queue.append((node - 1) // 2)
        return ordered, proof, flags


def outcome_id(factor_id: int = 1, year: int = 2016, country: bytes = b"US", authorisation_id: int = 0) -> int:
    return factor_id << 224 | year << 208 | int.from_bytes(country, "big") << 192 | authorisation_id << 128


def fields(*pairs: str) -> list[dict]:
    return [dict(zip(("type", "name"), pair.split(), strict=True)) for pair in pairs]


DETAILS_FIELDS = fields(
    "address beneficiary",
    "string beneficiaryName",
    "string purpose",
    "bytes2 country",
    "string location",
    "uint40 consumptionStart",
    "uint40 consumptionEnd",
)
REQUESTS = {
    "Batch": fields(
        "uint8 kind",
        "uint16 signerEpoch",
        "bytes32 head",
        "bytes32 root",
        "uint40 start",
        "uint40 end",
        "uint32 statements",
        "uint64 energyWh",
        "bytes32 archiveHash",
        "uint40 deadline",
    ),
    "Retire": fields(
        "address account",
        "uint256 id",
        "uint256 amount",
        "RetirementDetails details",
        "uint256 nonce",
        "uint256 deadline",
    ),
    "RetireBatch": fields(
        "address account",
        "uint256[] ids",
        "uint256[] amounts",
        "RetirementDetails details",
        "uint256 nonce",
        "uint256 deadline",
    ),
}


def named(kind: str, values: tuple) -> dict:
    """A struct's values under their EIP-712 names."""
    shape = DETAILS_FIELDS if kind == "RetirementDetails" else REQUESTS[kind]
    return {
        field["name"]: named("RetirementDetails", value) if field["type"] == "RetirementDetails" else value
        for field, value in zip(shape, values, strict=True)
    }


def message(name: str, kind: str, values: tuple, chain_id: int, contract: str):
    """The EIP-712 message `kind` under the domain `name`, version 1."""
    types = {kind: REQUESTS[kind]}
    if kind != "Batch":
        types["RetirementDetails"] = DETAILS_FIELDS
    domain = {"name": name, "version": "1", "chainId": chain_id, "verifyingContract": contract}
    return encode_typed_data(domain, types, named(kind, values))


def digest(signable) -> bytes:
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def key(name: str) -> str:
    """A private key for an actor of the tests."""
    return "0x" + keccak(text=f"wattmark test key of {name}").hex()


def sign(signable, private_key: str) -> bytes:
    return bytes(Account.sign_message(signable, private_key).signature)
