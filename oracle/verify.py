#!/usr/bin/env python3
"""Checks a Wattmark evidence bundle with nothing but the Python standard library (3.9 or later).

    python3 -I verify.py BUNDLE.zip [--rpc URL [--confirmations N]] [--anchor BLOCKHASH] [--trust ADDRESS] [--json]

Do the readings hash to the statement (data)? Is it under the notarized root (inclusion)? Is the transaction in a final
block of the chain (finality)? Did enough authorised witnesses sign (authority)? Offline the last two are "cannot
check", because only the bundle vouches for its block headers: ask a node that you trust (--rpc), or name blocks that
you know to be final (--anchor). Which contracts are the authority's own no bundle proves: compare them, or use --trust.
Exit code: 0 all verified; 1 mismatch, not found or revoked; 2 not a usable bundle; 3 not final or cannot be checked.
Take this script from a source that you trust, not from the bundle that you doubt. More: docs/bundle.md, protocol.md.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import struct
import sys
import time
import urllib.request
import zlib
from collections import namedtuple
from pathlib import Path
from typing import Any

SCHEMA = "wattmark/bundle/1"
VERDICTS = ("verified", "not final", "cannot check", "not found", "revoked", "mismatch")
VERIFIED, NOT_FINAL, CANNOT_CHECK, NOT_FOUND, REVOKED, MISMATCH = VERDICTS

# A bundle comes from anyone, so everything in it is bounded.
MAX_BYTES, MAX_ITEMS, MAX_SIGNATURES, TIMEOUT_SECONDS = 16 << 20, 2048, 32, 10
MEMBER = re.compile(r"(manifest|statements|transactions)\.json|verify\.py|archives/[0-9a-f]{64}\.(json|assessments)")
SLOT_SECONDS, DAY_SECONDS, MAX_DAYS, BYTES_PER_SLOT, CERTIFIED, INTERIM = 900, 86_400, 31, 5, 32, 2


class Refused(ValueError):
    """Bytes are not what they should be; the text says how. ``verdict`` is what a check answers then, "" elsewhere."""

    def __init__(self, reason: str, verdict: str = ""):
        super().__init__(reason)
        self.verdict = verdict


def ensure(holds: Any, reason: str, verdict: str = "") -> None:
    if not holds:
        raise Refused(reason, verdict)


# ---- keccak-256: the permutation of FIPS 202 with the padding that Ethereum uses -------------------------------------

_MASK = (1 << 64) - 1
_PLACES = (10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1)
_STEPS = [(place, (t + 1) * (t + 2) // 2 % 64) for t, place in enumerate(_PLACES)]
_CHI = [(i, i // 5 * 5 + (i + 1) % 5, i // 5 * 5 + (i + 2) % 5) for i in range(25)]


def keccak256(data: bytes) -> bytes:
    """Ethereum's keccak-256 of ``data``: 32 bytes."""
    padded = bytearray(data) + bytes(136 - len(data) % 136)
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for at in range(0, len(padded), 136):
        for i, lane in enumerate(struct.unpack_from("<17Q", padded, at)):
            lanes[i] ^= lane
        register = 1
        for _ in range(24):
            column = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
            mixed = [column[x - 1] ^ (column[x - 4] << 1 & _MASK | column[x - 4] >> 63) for x in range(5)]
            lanes = [lane ^ more for lane, more in zip(lanes, mixed * 5)]  # noqa: B905 - strict= came with Python 3.10
            moving = lanes[1]
            for place, turn in _STEPS:
                moving, lanes[place] = lanes[place], (moving << turn | moving >> (64 - turn)) & _MASK
            lanes = [lanes[i] ^ ~lanes[j] & lanes[k] for i, j, k in _CHI]
            for j in range(7):
                lanes[0] ^= (register & 1) << (2**j - 1)
                register = register << 1 ^ (0x171 if register & 0x80 else 0)
    return struct.pack("<4Q", *lanes[:4])


# ---- secp256k1: who signed (SEC 1, 4.1.6) ----------------------------------------------------------------------------

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
_GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8


def _add(a: Any, b: Any) -> Any:
    """Sum of two points of the curve; None is the point at infinity."""
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and a[1] != b[1]:
        return None
    slope = 3 * a[0] ** 2 * pow(2 * a[1], -1, _P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope**2 - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def recover(digest: bytes, signature: bytes) -> bytes:
    """Address (20 bytes) whose key signed ``digest``; Refused for what the Notary refuses, such as a high s."""
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64:]
    ensure(v in (b"\x1b", b"\x1c") and 0 < r < _N and 0 < s <= _N // 2, "a signature is not in its one valid form")
    y = pow(r**3 + 7, (_P + 1) // 4, _P)
    ensure((y * y - r**3 - 7) % _P == 0, "a signature is of no key")
    point = (r, y if y % 2 == v[0] - 27 else _P - y)
    inverse = pow(r, -1, _N)
    for_g, for_point = -int.from_bytes(digest, "big") * inverse % _N, s * inverse % _N
    key: Any = None
    table = (None, (_GX, _GY), point, _add((_GX, _GY), point))
    for bit in range(255, -1, -1):
        key = _add(_add(key, key), table[(for_g >> bit & 1) + 2 * (for_point >> bit & 1)])
    ensure(key, "a signature is of no key")
    return keccak256(key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big"))[12:]


# ---- RLP and Merkle-Patricia tries (Ethereum yellow paper, appendices B and D) ---------------------------------------


def big_endian(number: int) -> bytes:
    """An integer as RLP has it: without leading zeros, 0 is empty."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def rlp_encode(item: Any) -> bytes:
    """RLP of bytes or nested lists of bytes."""
    if isinstance(item, bytes) and len(item) == 1 and item[0] < 0x80:
        return item
    kind, body = (0x80, item) if isinstance(item, bytes) else (0xC0, b"".join(map(rlp_encode, item)))
    size = big_endian(len(body))
    return (bytes((kind + len(body),)) if len(body) < 56 else bytes((kind + 55 + len(size),)) + size) + body


def rlp_decode(data: bytes) -> Any:
    """The one item that ``data`` is; Refused unless it is whole and in its shortest form."""
    item, _ = _rlp_item(data, 0, 0)
    ensure(rlp_encode(item) == data, "RLP is not canonical")
    return item


def _rlp_item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    ensure(at < len(data) and depth < 8, "RLP is cut off or too deep")
    if data[at] < 0x80:
        return data[at : at + 1], at + 1
    kind = 0x80 if data[at] < 0xC0 else 0xC0
    size, at = data[at] - kind, at + 1
    if size > 55:
        size, at = int.from_bytes(data[at : at + size - 55], "big"), at + size - 55
    end, items = at + size, []
    if kind == 0x80:
        return data[at:end], end
    while at < end:
        item, at = _rlp_item(data, at, depth + 1)
        items.append(item)
    return items, at


def nibbles(data: bytes) -> list[int]:
    return [nibble for byte in data for nibble in (byte >> 4, byte & 15)]


def trie_value(root: bytes, key: bytes, proof: list[bytes]) -> bytes:
    """What the trie ``root`` holds under ``key``; ``proof`` is its nodes from the root down. Refused otherwise."""
    node: Any = root
    path, left = nibbles(key), list(proof)
    while True:
        if isinstance(node, bytes):  # a hash; nodes shorter than one stand inside their parent
            ensure(left and keccak256(left[0]) == node, "a node of the proof is missing or changed")
            node = rlp_decode(left.pop(0))
        ensure(isinstance(node, list) and len(node) in (2, 17), "a node of the proof is no trie node")
        if len(node) == 17:
            value, node = node[16], node[path.pop(0)] if path else None
        else:
            part = nibbles(node[0])
            is_leaf, part = part[0] & 2, part[1 if part[0] & 1 else 2 :]
            ensure(path == part if is_leaf else path[: len(part)] == part, "the proof leads to another key")
            path, value, node = path[len(part) :], node[1], None if is_leaf else node[1]
        if node is None:
            ensure(not left and value and isinstance(value, bytes), "the proof does not end at a value")
            return value


# ---- ABI: "uint64" is one word, a tuple a struct, a one-item list a dynamic array ------------------------------------

BATCH = ("uint8", "uint16", "bytes32", "bytes32", "uint40", "uint40", "uint32", "uint64", "bytes32", "uint40")
DETAILS = ("address", "string", "string", "bytes2", "string", "uint40", "uint40")
FACTOR = ("bytes16", "uint16", "uint56", "bool", "uint32", "address", "bytes32", "string")


def spell(shape: Any) -> str:
    """An ABI type as signatures spell it."""
    if isinstance(shape, str):
        return shape
    return spell(shape[0]) + "[]" if isinstance(shape, list) else "(" + ",".join(map(spell, shape)) + ")"


def word(value: Any) -> bytes:
    """One ABI word: an unsigned integer, or bytes filled up on the right."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.ljust(32, b"\0")


def abi_decode(shapes: Any, data: bytes, base: int = 0) -> list[Any]:
    """Values of ``shapes``: int, bytes (also for addresses), str, list, tuple. Refused if ``data`` does not fit."""

    def dynamic(shape: Any) -> bool:
        return bool(re.search(r"bytes\b|string|\[\]", spell(shape)))

    def uint(at: int, bits: int = 32) -> int:
        value = int.from_bytes(data[at : at + 32], "big")
        ensure(at + 32 <= len(data) and not value >> bits, f"ABI data is cut off or does not fit {bits} bits")
        return value

    def read(shape: Any, at: int) -> Any:
        if isinstance(shape, tuple):
            return tuple(abi_decode(shape, data, at))
        if isinstance(shape, list):
            most = MAX_SIGNATURES if dynamic(shape[0]) else len(data) // 32
            ensure(uint(at) <= most, "an ABI array is too long")
            return abi_decode(shape * uint(at), data, at + 32)
        if shape in ("bytes", "string"):
            content = data[at + 32 : at + 32 + uint(at)]
            ensure(len(content) == uint(at), "ABI data is cut off")
            return content if shape == "bytes" else content.decode("utf-8", "replace")
        if shape == "address":
            return uint(at, 160).to_bytes(20, "big")
        return word(uint(at, 256))[: int(shape[5:])] if shape.startswith("bytes") else uint(at, int(shape[4:] or 1))

    values, at = [], base
    for shape in shapes:
        values.append(read(shape, base + uint(at) if dynamic(shape) else at))
        at += 32 * len(shape) if isinstance(shape, tuple) and not dynamic(shape) else 32
    return values


# Events by name: which contracts emit them, their indexed fields, the others.
_TOKENS, _AMOUNTS = ("EnergyCertificate", "MitigationOutcome"), {"ids": ["uint256"], "amounts": ["uint256"]}
_CERTIFICATE, _RETIREMENT = {"id": "uint256", "root": "bytes32"}, {"number": "uint256", "account": "address"}
_ENERGY, _CONVERSION = {"energy_wh": "uint64", "profile_hash": "bytes32"}, {"id": "uint256", "outcome_id": "uint256"}
_ZONE, _GRAMS = {"zone": "bytes16", "year": "uint16"}, {"amount_wh": "uint256", "co2e_g": "uint256", "rest": "uint32"}
EVENTS: dict[str, Any] = {
    "Notarized": (("Notary",), {"root": "bytes32", "new_head": "bytes32"}, {"batch": BATCH, "signers": ["address"]}),
    "SignersSet": (("Notary",), {"epoch": "uint16"}, {"threshold": "uint8", "signers": ["address"]}),
    "Issued": (_TOKENS[:1], {**_CERTIFICATE, "account": "address"}, _ENERGY),
    "Corrected": (_TOKENS[:1], _CERTIFICATE, {"version": "uint32", "previous_wh": "uint64", **_ENERGY}),
    "Retired": (_TOKENS, {**_RETIREMENT, "id": "uint256"}, {"amount": "uint256", "details": DETAILS}),
    "RetiredBatch": (_TOKENS, _RETIREMENT, {**_AMOUNTS, "details": DETAILS}),
    "Converted": (_TOKENS[1:], {"account": "address", **_CONVERSION}, _GRAMS),
    "FactorPublished": (("EmissionFactors",), {"factor_id": "uint32", **_ZONE}, {"factor": FACTOR}),
}
TOPICS = {keccak256(f"{name}{spell((*a.values(), *b.values()))}".encode()): name for name, (_, a, b) in EVENTS.items()}
NOTARIZE = keccak256(f"notarize({spell(BATCH)},bytes[])".encode())[:4]


# ---- what the protocol hashes ----------------------------------------------------------------------------------------

# In the order of the ABI; times in UTC seconds, energies in Wh.
Statement = namedtuple("Statement", "device_id start duration version energy_wh previous_wh profile_hash")
Batch = namedtuple("Batch", "kind signer_epoch head root start end statements energy_wh archive_hash deadline")
BATCH_TYPE = (
    b"Batch(uint8 kind,uint16 signerEpoch,bytes32 head,bytes32 root,uint40 start,uint40 end,uint32 statements,"
    b"uint64 energyWh,bytes32 archiveHash,uint40 deadline)"
)
DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def statement_leaf(statement: Statement) -> bytes:
    return keccak256(keccak256(b"".join(map(word, statement))))


def root_from_proof(leaf: bytes, proof: list[bytes]) -> bytes:
    for sibling in proof:
        leaf = keccak256(min(leaf, sibling) + max(leaf, sibling))
    return leaf


def token_id(statement: Statement) -> int:
    return statement.device_id << 192 | statement.start << 152 | statement.duration << 120


def batch_digest(batch: Batch, chain_id: int, notary: bytes) -> bytes:
    """The EIP-712 digest that the witnesses sign."""
    names = b"".join(map(keccak256, (DOMAIN_TYPE, b"Wattmark Notary", b"1")))
    separator = keccak256(names + word(chain_id) + notary.rjust(32, b"\0"))
    return keccak256(b"\x19\x01" + separator + keccak256(keccak256(BATCH_TYPE) + b"".join(map(word, batch))))


def profile_hash(start: int, duration: int, profile: bytes, salts: list[bytes]) -> bytes:
    """Hash of a period's readings, cut at UTC midnights; Refused if they are not as many as its slots and days."""
    end, hashes, at = start + duration, [], 0
    on_slots = start % SLOT_SECONDS == duration % SLOT_SECONDS == 0
    ensure(on_slots and 0 < duration <= MAX_DAYS * DAY_SECONDS, "the period is not of 1 to 2,976 quarter hours")
    midnights = range(start - start % DAY_SECONDS, end, DAY_SECONDS)
    fitting = len(profile) == duration // SLOT_SECONDS * BYTES_PER_SLOT and len(salts) == len(midnights)
    ensure(fitting, "there are not as many readings as slots, or salts as days")
    for day, salt in enumerate(salts):
        seconds = min(end, midnights[day] + DAY_SECONDS) - max(start, midnights[day])
        stop = at + seconds // SLOT_SECONDS * BYTES_PER_SLOT
        hashes.append(keccak256(salt + profile[at:stop]))
        at = stop
    return keccak256(b"".join(hashes))


def certified_wh(profile: bytes) -> int:
    """Wh over the certified slots."""
    slots = list(struct.iter_unpack(">IB", profile))
    ensure(all(quality < 64 and (quality or not wh) for wh, quality in slots), "a slot has an impossible quality byte")
    return sum(wh for wh, quality in slots if quality & CERTIFIED)


# ---- the members of a bundle -----------------------------------------------------------------------------------------

# What a bundle is about, and the contracts that its truth rests on.
SUBJECTS = {
    "statement": ("Notary",),
    "certificate": ("Notary", "EnergyCertificate"),
    "retirement": ("Notary", "EnergyCertificate"),
    "outcome": ("Notary", "EnergyCertificate", "EmissionFactors", "MitigationOutcome"),
    "outcome retirement": ("Notary", "EnergyCertificate", "EmissionFactors", "MitigationOutcome"),
}
# A dict is exactly these fields ("*": of any name), a list any number of one shape, a tuple one shape or null.
# Integers of 64 bits and more stand as decimal digits, because JavaScript would round them.
_STATED = {"deviceId": "decimal64", "start": "uint40", "duration": "uint32", "version": "uint32"}
_STATED.update(energyWh="decimal64", previousWh="decimal64", profileHash="hex32")
_READINGS = {"profile": "hex", "salts": ["hex32"]}
_PROOF = {"header": "hex", "transaction": ["hex"], "receipt": ["hex"]}
_PLACE = {"blockHash": "hex32", "index": "uint32", "transaction": "hex", "receipt": "hex"}
SHAPES: dict[str, Any] = {
    "manifest.json": {
        "schema": "text40",
        "chainId": "uint53",
        "contracts": {"*": {"address": "hex20", "codeHash": "hex32"}},
        "subject": {"kind": "text40", "id": ("decimal256",)},
        "members": {"*": {"bytes": "uint32", "sha256": "hex32"}},
        "seal": "hex32",
    },
    "statements.json": [{"statement": _STATED, "root": "hex32", "proof": ["hex32"], "readings": (_READINGS,)}],
    "transactions.json": [{**_PLACE, "proof": (_PROOF,), "unproven": ("text300",)}],
}


def fit(shape: Any, value: Any, where: str) -> Any:
    """``value`` with its hex and digits read, if it is of ``shape``; Refused naming ``where`` otherwise."""
    if isinstance(shape, tuple):
        return None if value is None else fit(shape[0], value, where)
    if not isinstance(shape, str):
        ensure(type(value) is type(shape) and len(value) <= MAX_ITEMS, f"{printable(where)} is of another kind")
    if isinstance(shape, list):
        return [fit(shape[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(shape, dict):
        names = value if "*" in shape else shape
        ensure(set(value) == set(names), f"{printable(where)} has not exactly the fields {', '.join(names)}")
        return {name: fit(shape.get(name, shape.get("*")), value[name], f"{where}.{name}") for name in names}
    kind, is_text = shape.rstrip("0123456789"), type(value) is str
    size = int(shape[len(kind) :] or 0)
    fits = {
        "uint": type(value) is int and 0 <= value < 1 << size,
        "text": is_text and len(value) <= size,
        "decimal": is_text and re.fullmatch("0|[1-9][0-9]{0,77}", value) and int(value) < 1 << size,
        "hex": is_text and re.fullmatch("0x([0-9a-f]{2})*", value) and (not size or len(value) == 2 + 2 * size),
    }
    ensure(fits[kind], f"{printable(where)} is no {shape}")
    return int(value) if kind == "decimal" else unhexed(value) if kind == "hex" else value


def load_json(data: bytes, name: str) -> Any:
    """JSON without fractions; Refused if it is none. ``name`` is for the message."""

    def whole(digits: str) -> int:
        ensure(len(digits) <= 80 and digits.lstrip("-").isdigit(), "a number is not whole or too long")
        return int(digits)

    depth = 0  # counted here, because Python crashes where somebody raised its own limit
    for bracket in re.sub(rb'"(?:[^"\\]|\\.)*"|[^][}{"]+', b"", data):
        depth += (bracket in b"[{") - (bracket in b"]}")
        ensure(depth < 32, f"{printable(name)} is too deep")
    try:
        return json.loads(data.decode("utf-8"), parse_int=whole, parse_float=whole, parse_constant=whole)
    except (ValueError, RecursionError):
        raise Refused(f"{printable(name)} is not there or not readable JSON") from None


def canonical(value: Any) -> bytes:
    """The one JSON text that a value has in a bundle: sorted keys, one space of indentation, ASCII."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()


def seal(manifest: dict[str, Any]) -> str:
    """SHA-256 over the manifest without its seal: no byte of a bundle changes unnoticed."""
    return hexed(hashlib.sha256(canonical({key: manifest[key] for key in manifest if key != "seal"})).digest())


def stated(content: bytes) -> dict[str, Any]:
    """What the manifest says of a member."""
    return {"bytes": len(content), "sha256": hexed(hashlib.sha256(content).digest())}


def pack_zip(members: dict[str, bytes]) -> bytes:
    """The one zip of these members: sorted, stored, of a fixed time. A bundle is these bytes and no others."""
    body, directory, count = b"", b"", len(members)
    for name, content in sorted(members.items()):
        size = len(content)
        common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, zlib.crc32(content), size, size, len(name), 0)
        attributes = struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, len(body))
        directory += b"PK\1\2\x14\3" + common + attributes + name.encode()
        body += b"PK\3\4" + common + name.encode() + content
    return body + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)


def read_zip(data: bytes) -> dict[str, bytes]:
    """Members of a zip that :func:`pack_zip` made; nothing is unpacked, so nothing can swell or land elsewhere."""
    members, at = dict[str, bytes](), 0
    while data[at : at + 4] == b"PK\3\4" and at + 30 <= len(data) and len(members) <= MAX_ITEMS:
        size, name_size = struct.unpack_from("<IH", data, at + 22)
        start = at + 30 + name_size
        members[data[at + 30 : start].decode("ascii", "replace")] = data[start : start + size]
        at = start + size
    whole = members and all(map(MEMBER.fullmatch, members)) and pack_zip(members) == data
    ensure(whole, "the zip is damaged, or another program packed it (then check the folder that it unpacks to)")
    return members


def attached(data: bytes) -> bytes:
    """The bundle that a PDF statement carries, uncompressed; other data as they are."""
    return data[data.find(b"PK\3\4") : data.rfind(b"PK\5\6") + 22] if data[:5] == b"%PDF-" else data


def read_members(path: str) -> dict[str, bytes]:
    """Members of a bundle by name: of the zip, or of the folder that it was unpacked to."""
    whole, members, left = Path(path), dict[str, bytes](), MAX_BYTES
    for file in whole.rglob("*") if whole.is_dir() else [whole]:
        name = file.relative_to(whole).as_posix()
        if file == whole or MEMBER.fullmatch(name):
            usual = file.is_file() and not file.is_symlink() and file.stat().st_size <= left
            ensure(usual, f"{printable(file.name)} is not there, no ordinary file, or above 16 MiB with the others")
            with file.open("rb") as opened:
                members[name] = opened.read(left)
            left -= len(members[name])
    return members if whole.is_dir() else read_zip(attached(members["."]))


Event = namedtuple("Event", "name values transaction")
Record = namedtuple("Record", "statement root proof readings")  # readings: {"profile": bytes, "salts": [bytes]} or None


class Transaction:
    """A transaction with its receipt and place. ``fault`` says why the proof into its block fails, "" if it holds."""

    def __init__(self, entry: dict[str, Any]):
        self.block_hash, self.index, self.raw, self.receipt = (entry[key] for key in _PLACE)
        self.unproven, proof = entry["unproven"], entry["proof"]
        self.number, self.time, self.fault, self.place = -1, 0, "", f"block {hexed(self.block_hash)}"
        ensure((proof is None) != (self.unproven is None), "a transaction has neither a proof nor a reason for none")
        try:
            body = rlp_decode(self.receipt[1:] if self.receipt[:1] < b"\x80" else self.receipt)
            self.succeeded = body[0] == b"\x01"
            self.logs = [(bytes(log[0]), [bytes(topic) for topic in log[1]], bytes(log[2])) for log in body[3]]
        except (ValueError, TypeError, IndexError):
            raise Refused("transactions.json has a receipt that is none") from None
        try:
            if proof is not None:
                ensure(keccak256(proof["header"]) == self.block_hash, "the header does not hash to it")
                fields, key = rlp_decode(proof["header"]), rlp_encode(big_endian(self.index))
                self.number, self.time = (int.from_bytes(fields[i], "big") for i in (8, 11))
                self.place = f"block {self.number}"
                same = trie_value(fields[4], key, proof["transaction"]) == self.raw
                ensure(same and trie_value(fields[5], key, proof["receipt"]) == self.receipt, "it holds another")
        except (ValueError, TypeError, IndexError) as fault:
            self.fault = f"The proof into {self.place} fails: {fault}."

    def events(self, contracts: dict[str, bytes]) -> list[Event]:
        """The known events of a successful transaction that these contracts, and no others, emitted."""
        found = []
        for address, topics, data in self.logs if self.succeeded else ():
            name = TOPICS.get(topics[0], "") if topics else ""
            emitters, indexed, others = EVENTS.get(name, ((), {}, {}))
            for emitter in (one for one in emitters if contracts.get(one) == address):
                values = abi_decode(indexed.values(), b"".join(topics[1:])) + abi_decode(others.values(), data)
                fields = {field: values[i] for i, field in enumerate([*indexed, *others])}
                found.append(Event(name, {**fields, "contract": emitter}, self))
        return found

    def notarize_call(self, root: bytes) -> tuple[Batch, list[bytes]] | None:
        """Batch and signatures of the notarize call for ``root``, also inside a multi-signature wallet's call."""
        for match in list(re.finditer(re.escape(NOTARIZE), self.raw))[:MAX_SIGNATURES]:
            try:
                fields, signatures = abi_decode((BATCH, ["bytes"]), self.raw[match.end() :])
            except Refused:
                continue
            if Batch(*fields).root == root:
                return Batch(*fields), signatures
        return None


class Bundle:
    """A bundle that is whole: each byte is one that the manifest names. Whether it is true is what the checks ask."""

    def __init__(self, members: dict[str, bytes]):
        raw = {name: load_json(members.get(name, b""), name) for name in SHAPES}
        for name, value in raw.items():
            ensure(canonical(value) == members[name], f"{name} is not in canonical form")
        manifest, statements, transactions = (fit(SHAPES[name], value, name) for name, value in raw.items())
        text = raw["manifest.json"]
        ensure(text["schema"] == SCHEMA, f"the schema is not {SCHEMA}: another version of this script reads it")
        ensure(text["seal"] == seal(text), "manifest.json is damaged: its seal does not fit")
        found = {name: stated(content) for name, content in members.items() if name != "manifest.json"}
        wrong = [name for name in {**found, **text["members"]} if text["members"].get(name) != found.get(name)]
        ensure(not wrong, f"damaged, missing or not named by manifest.json: {printable(', '.join(wrong))}")
        self.chain_id, (self.kind, self.id) = manifest["chainId"], manifest["subject"].values()
        ensure(self.kind in SUBJECTS and (self.id is None) == (self.kind == "statement"), "its subject is none")
        self.contracts = {name: entry["address"] for name, entry in manifest["contracts"].items()}
        self.code_hashes = {name: entry["codeHash"] for name, entry in manifest["contracts"].items()}
        self.relied_on = SUBJECTS[self.kind]
        ensure(set(self.relied_on) <= set(self.contracts), "manifest.json does not name the contracts")
        self.records = [Record(Statement(*one.pop("statement").values()), **one) for one in statements]
        ensure(self.records and (self.id is not None or len(self.records) == 1), "its statements are none or too many")
        self.transactions = [Transaction(entry) for entry in transactions]
        self.events = [event for one in self.transactions for event in one.events(self.contracts)]
        self.archives = {name[9:]: content for name, content in members.items() if name.startswith("archives/")}
        roots = {record.root.hex() for record in self.records}
        belong = all(name[:64] in roots and name[:64] + ".json" in self.archives for name in self.archives)
        ensure(belong, "archives/ has a file of no statement here, or assessments without their manifest")

    def find(self, *names: str, **values: Any) -> list[Event]:
        """Events with one of these names and all of these values."""
        return [e for e in self.events if e.name in names and values.items() <= e.values.items()]


# ---- the four questions ----------------------------------------------------------------------------------------------

Finding = namedtuple("Finding", "verdict reason")
# By which calls a contract names another one of this bundle.
LINKS = {
    "EnergyCertificate": {"notary()": "Notary", "converter()": "MitigationOutcome"},
    "MitigationOutcome": {"certificate()": "EnergyCertificate", "factors()": "EmissionFactors"},
}
# What the Notary keeps of a root: notarizedAt, start, end, statements, energyWh, kind, status, signerEpoch.
KEPT = ("uint40", "uint40", "uint40", "uint32", "uint64", "uint8", "uint8", "uint16")


class Node:
    """A JSON-RPC node that the user trusts. Once it has not answered, it is not asked again."""

    def __init__(self, url: str, chain_id: int):
        ensure(url.startswith(("http://", "https://")), "--rpc is no http:// or https:// URL")
        self.url, self.silent, self.answers = url, "", dict[str, Any]()
        try:
            self.silent = (
                "" if self.ask(lambda told: int(told, 16), "eth_chainId") == chain_id else "it is of another chain"
            )
        except Refused:
            self.silent = self.silent or "it does not name its chain"

    def ask(self, read: Any, method: str, *params: Any) -> Any:
        """The result of a call, read by ``read``. Nothing can be checked without one."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        try:
            if body not in self.answers and not self.silent:
                request = urllib.request.Request(self.url, body.encode(), {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                    self.answers[body] = load_json(response.read(MAX_BYTES), "its answer")
        except (OSError, ValueError, http.client.HTTPException) as fault:
            self.silent = f"{type(fault).__name__} at {method}"
        ensure(not self.silent, f"The node gave no usable answer: {self.silent}.", CANNOT_CHECK)
        try:
            return read(self.answers[body]["result"])
        except (ValueError, TypeError, LookupError, AttributeError):
            raise Refused(f"The node gave no usable answer: {method} cannot be read.", CANNOT_CHECK) from None

    def call(self, contract: bytes, signature: str, shapes: tuple[Any, ...], *words: Any) -> list[Any]:
        request = {"to": hexed(contract), "data": hexed(keccak256(signature.encode())[:4] + b"".join(map(word, words)))}
        return self.ask(lambda result: abi_decode(shapes, unhexed(result)), "eth_call", request, "latest")

    def block(self, by: str, name: str) -> Any:
        """Number and hash of a block by "Hash" or "Number", None if the node has none of this name."""
        return self.ask(lambda b: b and (int(b["number"], 16), unhexed(b["hash"])), f"eth_getBlockBy{by}", name, False)


class Check:
    """The four questions put to a bundle, with what its user trusts: a node, block hashes, addresses."""

    def __init__(self, bundle: Bundle, node: Node | None, anchors: set[bytes], trusted: set[bytes], depth: int | None):
        self.bundle, self.anchors, self.trusted, self.depth = bundle, anchors, trusted, depth
        self.node, self.notary = node, bundle.contracts["Notary"]

    def findings(self) -> dict[str, Finding]:
        bundle = self.bundle
        roots, claims = sorted({record.root for record in bundle.records}), [] if bundle.id is None else [bundle.id]
        appointing = [event.transaction for event in bundle.find("SignersSet")]
        placed = [one for one in bundle.transactions if one.fault or one not in appointing]
        asked: dict[str, Any] = {
            "data": {self.data: bundle.records},
            "inclusion": {self.claim: claims, self.inclusion: bundle.records},
            "finality": {self.finality: placed, self._notarized: roots},
            "authority": {self.authority: roots, self.contract: bundle.contracts},
        }
        return {
            key: worst(answer(ask, one) for ask, many in asks.items() for one in many) for key, asks in asked.items()
        }

    def _notarized(self, root: bytes) -> Event:
        events = self.bundle.find("Notarized", root=root)
        ensure(events, f"No transaction in this bundle notarizes root {hexed(root)}.", NOT_FOUND)
        return events[0]

    def data(self, record: Record) -> str:
        statement, name = record.statement, record.root.hex()
        manifest, texts = self.bundle.archives.get(f"{name}.json"), self.bundle.archives.get(f"{name}.assessments")
        if manifest is not None:
            signed = Batch(*self._notarized(record.root).values["batch"]).archive_hash
            ensure(keccak256(manifest) == signed, "The archive's manifest is not the signed one.", MISMATCH)
            said = load_json(manifest, "the archive's manifest")
            ensure(isinstance(said, dict) and said.get("root") == "0x" + name, "the archive is of another root")
            same = texts is None or said.get("assessments") == hexed(keccak256(texts))
            ensure(same, "The assessments are not those that were signed.", MISMATCH)
        ensure(record.readings, "The readings were left out, as those of private devices are.", CANNOT_CHECK)
        hashed = profile_hash(statement.start, statement.duration, **record.readings)
        ensure(hashed == statement.profile_hash, "The readings do not hash to the statement.", MISMATCH)
        sum_wh, wh = certified_wh(record.readings["profile"]), statement.energy_wh
        ensure(sum_wh == wh, f"The certified slots add up to {sum_wh} Wh, the statement says {wh} Wh.", MISMATCH)
        archive = "the archive's manifest is the signed one" if manifest else "the archive's manifest was left out"
        return f"The readings hash to the statement, the certified slots add up to its {wh} Wh; {archive}."

    def inclusion(self, record: Record) -> str:
        statement, root = record.statement, record.root
        reached = root_from_proof(statement_leaf(statement), record.proof)
        ensure(reached == root, "The statement and its proof do not lead to the root.", MISMATCH)
        event = self._notarized(root)
        batch, end = Batch(*event.values["batch"]), statement.start + statement.duration
        inside = batch.start <= statement.start <= end <= batch.end
        ensure(inside, "The statement's period lies outside that of its batch.", MISMATCH)
        acts = self.bundle.find("Issued", "Corrected", id=token_id(statement), root=root)
        same = all(act.values["profile_hash"] == statement.profile_hash for act in acts)
        ensure(same, "The certificate was issued or corrected by another statement of this root.", MISMATCH)
        if self.node:
            _, *kept, status, epoch = self.node.call(self.notary, "notarization(bytes32)", KEPT, root)
            ensure(status, "The Notary on the chain does not know the root.", NOT_FOUND)
            figures = [batch.start, batch.end, batch.statements, batch.energy_wh, batch.kind, batch.signer_epoch]
            ensure([*kept, epoch] == figures, "The Notary on the chain keeps other figures of this root.", MISMATCH)
            ensure(status != 2, "The statement is in a batch that was notarized and has been revoked.", REVOKED)
        kind = "interim evidence" if batch.kind == INTERIM else "final"
        return f"It is one of {batch.statements} under {hexed(root)}, notarized as {kind} in {event.transaction.place}."

    def claim(self, number: int) -> str:
        """That acts of the contracts lead from these statements to the certificate, retirement or outcome."""
        kind, token = self.bundle.kind, self.bundle.relied_on[-1]
        taken, said = [(number, 0)], f"The {kind} {number:#x} rests on statements that are all in their roots."
        if kind.endswith("retirement"):
            events = self.bundle.find("Retired", "RetiredBatch", contract=token, number=number)
            ensure(events, f"No transaction in this bundle is {kind} {number}.", NOT_FOUND)
            taken, place = retired_amounts(events[0]), events[0].transaction.place
            said = f"The {kind} {number} is in {place}, and all statements behind it in their roots."
        if token == "MitigationOutcome":
            taken = [source for outcome, grams in taken for source in self.converted(outcome, grams)]
        most: dict[int, int] = {}
        for statement, root in ((record.statement, record.root) for record in self.bundle.records):
            certificate, hashed = token_id(statement), statement.profile_hash
            acts = self.bundle.find("Issued", "Corrected", id=certificate, root=root, profile_hash=hashed)
            ensure(acts, f"No transaction here issues or corrects certificate {certificate:#x}.", NOT_FOUND)
            most[certificate] = max(most.get(certificate, 0), statement.energy_wh)
        ensure(
            {one for one, _ in taken} == set(most), f"The statements here are not those behind the {kind}.", MISMATCH
        )
        for certificate, most_wh in most.items():
            fits = sum(amount for one, amount in taken if one == certificate) <= most_wh
            ensure(fits, f"More was taken of {certificate:#x} than any of its statements says.", MISMATCH)
        return said

    def converted(self, outcome: int, grams: int) -> list[tuple[int, int]]:
        """Certificates and Wh that were converted into an outcome of which ``grams`` are retired."""
        events = [event.values for event in self.bundle.find("Converted", outcome_id=outcome)]
        factors = self.bundle.find("FactorPublished", factor_id=outcome >> 224)
        ensure(events and factors, f"No transaction here converts into {outcome:#x} by its factor.", NOT_FOUND)
        _, year, grams_per_mwh, *_ = factors[0].values["factor"]
        for one in events:
            by_factor = one["co2e_g"] == one["amount_wh"] * grams_per_mwh // 1_000_000
            of_year = year == outcome >> 208 & 0xFFFF == time.gmtime(one["id"] >> 152 & (1 << 40) - 1).tm_year
            ensure(by_factor and of_year, "A conversion is not by the factor of its zone and year.", MISMATCH)
        enough = grams <= sum(one["co2e_g"] for one in events)
        ensure(enough, "More was retired of an outcome than was converted into it.", MISMATCH)
        return [(one["id"], one["amount_wh"]) for one in events]

    def finality(self, one: Transaction) -> str:
        ensure(not one.fault, one.fault, MISMATCH)
        if one.block_hash in self.anchors and not one.unproven:
            return f"The transaction is in {one.place}, whose hash you gave."
        if not self.node:
            mend = f'no proof, because "{printable(one.unproven)}"' if one.unproven else "give --rpc or --anchor"
            raise Refused(f"Only the bundle says that {one.place} is of the chain; {mend}.", CANNOT_CHECK)
        known = self.node.block("Hash", hexed(one.block_hash))
        there = known and one.number in (-1, known[0]) and self.node.block("Number", hex(known[0])) == known
        ensure(there, f"The node's chain does not have {one.place} with this hash.", NOT_FOUND)
        if one.unproven:
            found = self.node.ask(place_and_logs, "eth_getTransactionReceipt", hexed(keccak256(one.raw)))
            ensure(found == (one.block_hash, one.logs), "The node does not have this receipt in this block.", NOT_FOUND)
        last = self.node.block("Number", "finalized" if self.depth is None else "latest")
        ensure(last, "The node does not say which blocks are final; give --confirmations.", CANNOT_CHECK)
        late = last[0] >= known[0] + max(0, (self.depth or 0) - 1)
        ensure(late, f"The transaction is in block {known[0]}, which may still be reorganised away.", NOT_FINAL)
        return f"The transaction is in block {known[0]}, which is final."

    def authority(self, root: bytes) -> str:
        event = self._notarized(root)
        batch, call = Batch(*event.values["batch"]), event.transaction.notarize_call(root)
        ensure(call, "The signatures are not in the notarizing transaction's own data.", CANNOT_CHECK)
        signed, signatures = call or (batch, [])
        signers = [recover(batch_digest(batch, self.bundle.chain_id, self.notary), one) for one in signatures]
        agreed = signed == batch and signers == event.values["signers"] == sorted(set(signers))
        ensure(agreed, "The signatures are not by those whom the event names, each once, for this batch.", MISMATCH)
        epoch = batch.signer_epoch
        sets = self.bundle.find("SignersSet", epoch=epoch)
        known = [(one.values["signers"], one.values["threshold"]) for one in sets]
        if self.node:
            shapes = (["address"], "uint8", "uint40", "uint40")
            *named, since, until = self.node.call(self.notary, "signerSet(uint16)", shapes, epoch)
            known.append(tuple(named))
            when = event.transaction.time or since
            ensure(since <= when <= (until or when), f"Epoch {epoch} was not the current one then.", MISMATCH)
        ensure(known, f"The bundle does not say who the witnesses of epoch {epoch} are.", CANNOT_CHECK)
        ensure(known[0] == known[-1], f"The bundle names other witnesses of epoch {epoch} than the chain.", MISMATCH)
        members, threshold = known[0]
        names = f"{len(signers)} of the {len(members)} witnesses of epoch {epoch} signed, where {threshold} are enough"
        ensure(set(signers) <= set(members), f"Others than the witnesses of epoch {epoch} signed.", MISMATCH)
        ensure(len(signers) >= max(1, threshold), f"Only {names}.", MISMATCH)
        used = [one.transaction for one in (event, *sets)]
        anchored = sets and all(one.block_hash in self.anchors and not one.unproven for one in used)
        ensure(self.node or anchored, f"{names}, but that they are the witnesses only the bundle says.", CANNOT_CHECK)
        return f"{names}: {', '.join(map(checksummed, signers))}."

    def contract(self, name: str) -> str:
        address, shown = self.bundle.contracts[name], printable(name)
        known = name not in self.bundle.relied_on or not self.trusted or address in self.trusted
        ensure(known, f"{shown} at {checksummed(address)} is not among the contracts that you trust.", MISMATCH)
        if self.node:
            code = self.node.ask(unhexed, "eth_getCode", hexed(address), "latest")
            ensure(keccak256(code) == self.bundle.code_hashes[name], f"{shown} has other code on the chain.", MISMATCH)
            for getter, other in LINKS.get(name, {}).items():
                linked = other in self.bundle.relied_on and self.node.call(address, getter, ("address",))
                bound = not linked or linked == [self.bundle.contracts[other]]
                ensure(bound, f"{shown} is not bound to this {other}.", MISMATCH)
        return f"{shown} is what the bundle says."


def answer(check: Any, subject: Any) -> Finding:
    try:
        return Finding(VERIFIED, check(subject))
    except Refused as fault:
        problem = str(fault) if fault.verdict else f"Something here is not what it must be: {fault}."
        return Finding(fault.verdict or MISMATCH, problem)


def worst(findings: Any) -> Finding:
    return max(findings, key=lambda finding: VERDICTS.index(finding.verdict))


# ---- what is shown ---------------------------------------------------------------------------------------------------


def printable(value: Any) -> str:
    """Anyone's text on one line of a terminal: nothing in it can steer it or turn its direction."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(value)[:300])


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def unhexed(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def place_and_logs(receipt: Any) -> Any:
    """Block hash and logs of a receipt as a node tells it."""
    logs = [
        (unhexed(log["address"]), list(map(unhexed, log["topics"])), unhexed(log["data"])) for log in receipt["logs"]
    ]
    return unhexed(receipt["blockHash"]), logs


def checksummed(address: bytes) -> str:
    """An address as wallets show it (ERC-55)."""
    digits = keccak256(address.hex().encode()).hex()
    return "0x" + "".join(c.upper() if digits[i] > "7" else c for i, c in enumerate(address.hex()))


def utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if seconds < 1 << 37 else f"second {seconds}"


def retired_amounts(event: Event) -> list[tuple[int, int]]:
    told = event.values
    return list(zip(told["ids"], told["amounts"])) if "ids" in told else [(told["id"], told["amount"])]  # noqa: B905


def subject(bundle: Bundle) -> list[str]:
    """What the bundle is about, a line each."""
    lines = [] if bundle.id is None or bundle.kind.endswith("retirement") else [f"The {bundle.kind} {bundle.id:#x}"]
    unit = "g CO2e" if bundle.kind.startswith("outcome") else "Wh"
    for event in bundle.find("Retired", "RetiredBatch", contract=bundle.relied_on[-1], number=bundle.id):
        total, (beneficiary, name, purpose, *_) = sum(a for _, a in retired_amounts(event)), event.values["details"]
        lines.append(f"The {bundle.kind} {bundle.id}: {total} {unit} by {checksummed(event.values['account'])}")
        lines.append(f"for {printable(name)} ({checksummed(beneficiary)}), purpose: {printable(purpose)}")
    for s in (record.statement for record in bundle.records):
        period = f"{utc(s.start)} to {utc(s.start + s.duration)}"
        lines.append(f"Statement of device {s.device_id}, {period}, version {s.version}: {s.energy_wh} Wh")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="the zip, or the folder it was unpacked to")
    parser.add_argument("--rpc", metavar="URL", help="a node of the chain")
    parser.add_argument("--confirmations", metavar="N", type=int, help="blocks that make one final, itself counted")
    parser.add_argument("--anchor", metavar="BLOCKHASH", action="append", default=[], help="a block known to be final")
    parser.add_argument("--trust", metavar="ADDRESS", action="append", default=[], help="a contract of the authority's")
    parser.add_argument("--json", action="store_true", help="the same for machines")
    options = parser.parse_args(arguments)
    try:
        anchors = {fit("hex32", anchor.lower(), "--anchor") for anchor in options.anchor}
        trusted = {fit("hex20", address.lower(), "--trust") for address in options.trust}
        bundle = Bundle(read_members(options.bundle))
        node = Node(options.rpc, bundle.chain_id) if options.rpc else None
        findings = Check(bundle, node, anchors, trusted, options.confirmations).findings()
    except (Refused, OSError, RecursionError, MemoryError) as fault:
        reason = str(fault) if isinstance(fault, Refused) else f"it cannot be read ({type(fault).__name__})"
        print(json.dumps({"schema": "wattmark/check/1", "refused": reason}) if options.json else f"refused: {reason}")
        return 2
    headline = worst(findings.values()).verdict
    report: dict[str, Any] = {"schema": "wattmark/check/1", "headline": headline, "subject": subject(bundle)}
    report["verdicts"] = {question: finding._asdict() for question, finding in findings.items()}
    report["contracts"] = {name: checksummed(address) for name, address in bundle.contracts.items()}
    report["blocks"] = [{"place": one.place, "hash": hexed(one.block_hash)} for one in bundle.transactions]
    if options.json:
        print(json.dumps({**report, "chainId": bundle.chain_id}, indent=1))
    else:
        answers = [f"  {question:<10}{found.verdict:<14}{found.reason}" for question, found in findings.items()]
        relied_on = " and ".join(f"{name} {report['contracts'][name]}" for name in bundle.relied_on)
        rests = f"\nAll of this rests on {relied_on} of chain {bundle.chain_id}: compare with what is published."
        places = [f"{block['place']}: {block['hash']}" for block in report["blocks"]]
        print(*report["subject"], "", headline.upper(), *answers, rests, *places, sep="\n")
    return 0 if headline == VERIFIED else 3 if headline in (NOT_FINAL, CANNOT_CHECK) else 1


if __name__ == "__main__":
    sys.exit(main())
