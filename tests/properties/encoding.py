"""What is hashed and signed, read from docs/protocol.md with nothing but keccak256 and ABI encoding.

Shares no code with `oracle/`: a mistake there cannot hide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import eth_abi
import sha3
from coincurve import PrivateKey, PublicKey

STATEMENT_TYPES = ("uint64", "uint40", "uint32", "uint32", "uint64", "uint64", "bytes32")
BATCH_TYPES = (
    "uint8", "uint16", "bytes32", "bytes32", "uint40", "uint40", "uint32", "uint64", "bytes32", "uint40",
)  # fmt: skip
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def keccak(data: bytes) -> bytes:
    return sha3.keccak_256(data).digest()


def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """ABI encoding. Plain integers and bytes32 are put down here, which is much faster; the rest is eth_abi's."""
    if len(types) == len(values) and all(kind in WORDS for kind in types):
        words = [
            v.to_bytes(WORDS[kind], "big").rjust(32, b"\0") if WORDS[kind] else v
            for kind, v in zip(types, values, strict=True)
        ]
        if all(len(word) == 32 for word in words):
            return b"".join(words)
    return eth_abi.encode(list(types), list(values))


# Bytes of an integer type; none for 32 bytes as they are.
WORDS = {**{f"uint{8 * size}": size for size in range(1, 33)}, "bytes32": 0}


# -- statements and their tree ---------------------------------------------------------------------


class Statement(NamedTuple):
    device_id: int
    start: int
    duration: int
    version: int
    energy_wh: int
    previous_wh: int
    profile_hash: bytes

    @property
    def end(self) -> int:
        return self.start + self.duration

    @property
    def id(self) -> int:
        return self.device_id << 192 | self.start << 152 | self.duration << 120


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


@lru_cache(maxsize=4096)
def leaf_of(statement: tuple) -> bytes:
    return keccak(keccak(encode(STATEMENT_TYPES, statement)))


def pair_of(a: bytes, b: bytes) -> bytes:
    return keccak(a + b if a < b else b + a)


def root_of_proof(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    for sibling in proof:
        leaf = pair_of(leaf, sibling)
    return leaf


def root_of_multi_proof(leaves: Sequence[bytes], proof: Sequence[bytes], flags: Sequence[bool]) -> bytes | None:
    """The root that a multi-proof leads to; None where its parts do not fit together."""
    if len(leaves) + len(proof) != len(flags) + 1:
        return None
    queue, given = list(leaves), list(proof)
    for both_known in flags:
        a = queue.pop(0)
        queue.append(pair_of(a, queue.pop(0) if both_known else given.pop(0)))
    return None if given else queue[0]


@dataclass(frozen=True)
class Tree:
    """A heap: node i has the children 2i + 1 and 2i + 2; the sorted leaves fill it from its end."""

    nodes: tuple[bytes, ...]
    place: dict[bytes, int]  # of a leaf

    @staticmethod
    def of(statements: Sequence[Statement]) -> Tree:
        leaves = sorted({leaf_of(statement) for statement in statements})
        if len(leaves) != len(statements):
            raise ValueError("a statement occurs twice")
        nodes = [b""] * (len(leaves) - 1) + leaves[::-1]
        for i in range(len(leaves) - 2, -1, -1):
            nodes[i] = pair_of(nodes[2 * i + 1], nodes[2 * i + 2])
        return Tree(tuple(nodes), {leaf: len(nodes) - 1 - i for i, leaf in enumerate(leaves)})

    @property
    def root(self) -> bytes:
        return self.nodes[0]

    def proof(self, statement: Statement) -> tuple[bytes, ...]:
        proof, i = [], self.place[leaf_of(statement)]
        while i:
            proof.append(self.nodes[i + 1 if i % 2 else i - 1])
            i = (i - 1) // 2
        return tuple(proof)

    def multi_proof(
        self, statements: Sequence[Statement]
    ) -> tuple[tuple[Statement, ...], tuple[bytes, ...], tuple[bool, ...]]:
        """The statements in the order that the proof needs, the proof and its flags."""
        ordered = sorted(statements, key=lambda s: self.place[leaf_of(s)], reverse=True)
        queue = [self.place[leaf_of(statement)] for statement in ordered]
        proof, flags = [], []
        while queue and queue[0]:
            i = queue.pop(0)
            sibling = i + 1 if i % 2 else i - 1
            known = bool(queue) and queue[0] == sibling
            if known:
                queue.pop(0)
            else:
                proof.append(self.nodes[sibling])
            flags.append(known)
            queue.append((i - 1) // 2)
        return tuple(ordered), tuple(proof), tuple(flags)


# -- EIP-712 -------------------------------------------------------------------------------------------

DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
BATCH_STRUCT = (
    b"Batch(uint8 kind,uint16 signerEpoch,bytes32 head,bytes32 root,uint40 start,uint40 end,uint32 statements,"
    b"uint64 energyWh,bytes32 archiveHash,uint40 deadline)"
)
DETAILS_STRUCT = (
    b"RetirementDetails(address beneficiary,string beneficiaryName,string purpose,bytes2 country,string location,"
    b"uint40 consumptionStart,uint40 consumptionEnd)"
)
RETIRE_STRUCT = (
    b"Retire(address account,uint256 id,uint256 amount,RetirementDetails details,uint256 nonce,uint256 deadline)"
)
RETIRE_BATCH_STRUCT = (
    b"RetireBatch(address account,uint256[] ids,uint256[] amounts,RetirementDetails details,uint256 nonce,"
    b"uint256 deadline)"
)


class Details(NamedTuple):
    beneficiary: str
    beneficiary_name: str
    purpose: str
    country: bytes
    location: str
    consumption_start: int
    consumption_end: int


def domain_separator(name: str, chain_id: int, contract: str) -> bytes:
    return keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [keccak(DOMAIN_TYPE), keccak(name.encode()), keccak(b"1"), chain_id, contract],
        )
    )


def typed_digest(separator: bytes, struct_hash: bytes) -> bytes:
    return keccak(b"\x19\x01" + separator + struct_hash)


def batch_digest(separator: bytes, batch: Sequence) -> bytes:
    return typed_digest(separator, keccak(keccak(BATCH_STRUCT) + encode(BATCH_TYPES, batch)))


def next_head(head: bytes, digest: bytes) -> bytes:
    return keccak(head + digest)


def details_hash(details: Sequence) -> bytes:
    beneficiary, name, purpose, country, location, start, end = details
    return keccak(
        encode(
            ["bytes32", "address", "bytes32", "bytes32", "bytes2", "bytes32", "uint40", "uint40"],
            [
                keccak(DETAILS_STRUCT),
                beneficiary,
                keccak(name.encode()),
                keccak(purpose.encode()),
                country,
                keccak(location.encode()),
                start,
                end,
            ],
        )
    )


def retire_digest(
    separator: bytes, account: str, id_: int, amount: int, details: Sequence, nonce: int, deadline: int
) -> bytes:
    struct = encode(
        ["bytes32", "address", "uint256", "uint256", "bytes32", "uint256", "uint256"],
        [keccak(RETIRE_STRUCT + DETAILS_STRUCT), account, id_, amount, details_hash(details), nonce, deadline],
    )
    return typed_digest(separator, keccak(struct))


def retire_batch_digest(
    separator: bytes,
    account: str,
    ids: Sequence[int],
    amounts: Sequence[int],
    details: Sequence,
    nonce: int,
    deadline: int,
) -> bytes:
    def list_hash(values: Sequence[int]) -> bytes:
        return keccak(b"".join(value.to_bytes(32, "big") for value in values))

    struct = encode(
        ["bytes32", "address", "bytes32", "bytes32", "bytes32", "uint256", "uint256"],
        [
            keccak(RETIRE_BATCH_STRUCT + DETAILS_STRUCT),
            account,
            list_hash(ids),
            list_hash(amounts),
            details_hash(details),
            nonce,
            deadline,
        ],
    )
    return typed_digest(separator, keccak(struct))


# -- keys -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """A signing key made from a name, for tests only."""

    secret: PrivateKey
    address: str

    @staticmethod
    def named(name: str) -> Key:
        secret = PrivateKey(keccak(name.encode()))
        return Key(secret, _address(secret.public_key))

    def sign(self, digest: bytes) -> bytes:
        signature = self.secret.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])


def malleated(signature: bytes) -> bytes:
    """The other signature of the same digest and signer, with s in the upper half."""
    s, v = int.from_bytes(signature[32:64], "big"), signature[64]
    return signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])


def compacted(signature: bytes) -> bytes:
    """The 64-byte form of ERC-2098."""
    vs = int.from_bytes(signature[32:64], "big") | (signature[64] - 27) << 255
    return signature[:32] + vs.to_bytes(32, "big")


@lru_cache(maxsize=4096)
def recover(digest: bytes, signature: bytes) -> str | None:
    """The signer of a 65-byte signature with v 27 or 28; None where there is none."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    try:
        public = PublicKey.from_signature_and_message(signature[:64] + bytes([signature[64] - 27]), digest, hasher=None)
    except Exception:  # coincurve raises a bare Exception where no point fits
        return None
    return _address(public)


def _address(public: PublicKey) -> str:
    return "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()
