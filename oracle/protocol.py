"""What is hashed, signed and stored, to the byte: the Python reading of docs/protocol.md.

Solidity (contracts/) and the browser read the same page; tests/vectors holds the values all of them
must reach. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from typing import Any

import sha3  # safe-pysha3: about forty times faster than pycryptodome's keccak
from eth_abi import encode

from .domain import (
    DAY_SECONDS,
    MAX_DURATION_SECONDS,
    MAX_SLOT_WH,
    SLOT_SECONDS,
    Batch,
    NotaryDomain,
    Profile,
    Statement,
)
from .errors import ProtocolError

SALT_LABEL = b"wattmark/salt/1"
BYTES_PER_SLOT = 5
STATEMENT_TYPES = ("uint64", "uint40", "uint32", "uint32", "uint64", "uint64", "bytes32")
BATCH_TYPE = (
    "Batch(uint8 kind,uint16 signerEpoch,bytes32 head,bytes32 root,uint40 start,uint40 end,"
    "uint32 statements,uint64 energyWh,bytes32 archiveHash,uint40 deadline)"
)
BATCH_TYPES = ("uint8", "uint16", "bytes32", "bytes32", "uint40", "uint40", "uint32", "uint64", "bytes32", "uint40")
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
NOTARY_NAME, NOTARY_VERSION = "Wattmark Notary", "1"


def keccak256(data: bytes) -> bytes:
    """Ethereum's keccak-256 (not NIST SHA3-256) of ``data``: 32 bytes."""
    return sha3.keccak_256(data).digest()


# -- profiles ---------------------------------------------------------------------------------------


def pack_profile(profile: Profile) -> bytes:
    """Five bytes a slot: uint32 big-endian watt-hours, then the quality byte; 480 bytes for a whole day.

    Raises :class:`ProtocolError` where a value does not fit or a missing slot carries energy.
    """
    if len(profile.energy_wh) != len(profile.quality) or not 1 <= len(profile.quality) <= DAY_SECONDS // SLOT_SECONDS:
        raise ProtocolError(
            f"profile at {profile.start} has {len(profile.energy_wh)} energies and {len(profile.quality)} qualities"
        )
    if profile.start % SLOT_SECONDS or profile.start % DAY_SECONDS + len(profile.quality) * SLOT_SECONDS > DAY_SECONDS:
        raise ProtocolError(f"profile at {profile.start} does not lie on slots of one UTC day")
    packed = bytearray()
    for index, (energy_wh, quality) in enumerate(zip(profile.energy_wh, profile.quality, strict=True)):
        if not 0 <= energy_wh <= MAX_SLOT_WH or not 0 <= quality < 64:
            raise ProtocolError(
                f"slot {index} of the profile at {profile.start}: {energy_wh} Wh, quality {quality} does not fit"
            )
        if not quality and energy_wh:
            raise ProtocolError(
                f"slot {index} of the profile at {profile.start} is missing, but carries {energy_wh} Wh"
            )
        packed += energy_wh.to_bytes(4, "big") + bytes((quality,))
    return bytes(packed)


def unpack_profile(start: int, packed: bytes) -> Profile:
    """The inverse of :func:`pack_profile`; ``start`` is the UTC second of the first slot."""
    if len(packed) % BYTES_PER_SLOT:
        raise ProtocolError(f"profile of {len(packed)} bytes is not a whole number of slots")
    cuts = range(0, len(packed), BYTES_PER_SLOT)
    energies = tuple(int.from_bytes(packed[i : i + 4], "big") for i in cuts)
    return Profile(start, energies, tuple(packed[i + 4] for i in cuts))


def day_salt(device_key: bytes, device_id: int, start: int, version: int) -> bytes:
    """HMAC-SHA256(device key, label, uint64 device, uint40 start of the day or its part, uint32 version)."""
    if len(device_key) != 32:
        raise ProtocolError(f"the key of device {device_id} has {len(device_key)} bytes; it must have 32")
    message = SALT_LABEL + device_id.to_bytes(8, "big") + start.to_bytes(5, "big") + version.to_bytes(4, "big")
    return hmac.new(device_key, message, hashlib.sha256).digest()


def day_hash(salt: bytes, packed: bytes) -> bytes:
    """keccak256(salt, packed profile): publishes nothing about private consumption without the salt."""
    return keccak256(salt + packed)


def profile_hash(day_hashes: Iterable[bytes]) -> bytes:
    """keccak256 over the period's day hashes in order, so that one day can be disclosed alone."""
    return keccak256(b"".join(day_hashes))


def day_parts(start: int, duration: int) -> list[tuple[int, int]]:
    """Cut a period at UTC midnights: ``[(start, duration), …]`` in seconds."""
    if start % SLOT_SECONDS or duration % SLOT_SECONDS or not 0 < duration <= MAX_DURATION_SECONDS:
        raise ProtocolError(f"period {start}+{duration} s does not lie on slots or is longer than 31 days")
    parts, at, end = [], start, start + duration
    while at < end:
        stop = min(end, at - at % DAY_SECONDS + DAY_SECONDS)
        parts.append((at, stop - at))
        at = stop
    return parts


# -- statements, ids, batches -----------------------------------------------------------------------


def statement_fields(statement: Statement) -> tuple[int, int, int, int, int, int, bytes]:
    """The statement as the tuple the contracts take."""
    s = statement
    return (s.device_id, s.start, s.duration, s.version, s.energy_wh, s.previous_wh, s.profile_hash)


def statement_leaf(statement: Statement) -> bytes:
    """Leaf of OpenZeppelin's StandardMerkleTree: the double keccak of the ABI encoding."""
    return keccak256(keccak256(encode(STATEMENT_TYPES, statement_fields(statement))))


def token_id(device_id: int, start: int, duration: int) -> int:
    """Certificate id: device (64 bits), start (40), duration (32), then 120 zero bits."""
    return device_id << 192 | start << 152 | duration << 120


def parse_token_id(certificate_id: int) -> tuple[int, int, int]:
    """``(device_id, start, duration)`` of a certificate id; ProtocolError if the low bits are used."""
    if certificate_id & ((1 << 120) - 1) or not 0 <= certificate_id < 1 << 256:
        raise ProtocolError(f"{certificate_id:#x} is not a certificate id")
    return certificate_id >> 192, certificate_id >> 152 & (1 << 40) - 1, certificate_id >> 120 & (1 << 32) - 1


def batch_energy_wh(statements: Sequence[Statement]) -> int:
    """Energy a batch newly notarizes: the sum of max(0, energy - previous energy), in Wh."""
    return sum(max(0, s.energy_wh - s.previous_wh) for s in statements)


def batch_fields(batch: Batch) -> tuple[int, int, bytes, bytes, int, int, int, int, bytes, int]:
    """The batch as the tuple the contracts take and EIP-712 hashes."""
    b = batch
    return (
        int(b.kind),
        b.signer_epoch,
        b.head,
        b.root,
        b.start,
        b.end,
        b.statements,
        b.energy_wh,
        b.archive_hash,
        b.deadline,
    )


def domain_separator(domain: NotaryDomain) -> bytes:
    """EIP-712 domain separator of the Notary."""
    types = ("bytes32", "bytes32", "bytes32", "uint256", "address")
    names = (keccak256(DOMAIN_TYPE.encode()), keccak256(NOTARY_NAME.encode()), keccak256(NOTARY_VERSION.encode()))
    return keccak256(encode(types, (*names, domain.chain_id, domain.contract)))


def batch_digest(batch: Batch, domain: NotaryDomain) -> bytes:
    """What a witness signs: the EIP-712 digest of the batch under the Notary's domain."""
    struct_hash = keccak256(encode(("bytes32", *BATCH_TYPES), (keccak256(BATCH_TYPE.encode()), *batch_fields(batch))))
    return keccak256(b"\x19\x01" + domain_separator(domain) + struct_hash)


def batch_typed_data(batch: Batch, domain: NotaryDomain) -> dict[str, Any]:
    """What :func:`batch_digest` is the digest of, as the JSON that ``eth_signTypedData_v4`` takes."""
    fields = [dict(zip(("type", "name"), field.split(), strict=True)) for field in _members(BATCH_TYPE)]
    message = {
        field["name"]: "0x" + value.hex() if isinstance(value, bytes) else str(value)
        for field, value in zip(fields, batch_fields(batch), strict=True)
    }
    return {
        "types": {
            "EIP712Domain": [
                dict(zip(("type", "name"), field.split(), strict=True)) for field in _members(DOMAIN_TYPE)
            ],
            "Batch": fields,
        },
        "primaryType": "Batch",
        "domain": {
            "name": NOTARY_NAME,
            "version": NOTARY_VERSION,
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        "message": message,
    }


def _members(struct: str) -> list[str]:
    """``["uint8 kind", …]`` of an EIP-712 type string."""
    return struct.partition("(")[2].removesuffix(")").split(",")


def next_head(head: bytes, digest: bytes) -> bytes:
    """Head of the chain of FINAL batches after one with ``digest``: keccak256(head, digest)."""
    return keccak256(head + digest)


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Canonical JSON of an archive's manifest: sorted keys, no spaces, ASCII, integers and strings only.

    archiveHash is the keccak256 of these bytes.
    """
    _refuse_floats(manifest)
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise ProtocolError(f"{value!r}: a manifest carries no floating point numbers")
    if isinstance(value, dict):
        for inner in value.values():
            _refuse_floats(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_floats(inner)
