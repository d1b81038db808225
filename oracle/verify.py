#!/usr/bin/env python3
"""Checks a Wattmark evidence bundle with nothing but the Python standard library (3.9 or later).

    python3 -I verify.py BUNDLE.zip [--rpc URL [--confirmations N]] [--anchor BLOCKHASH ...] [--notary ADDRESS] [--json]

Four questions are answered apart: do the readings hash to the statement (data), is the statement under the notarized
root (inclusion), is the notarizing transaction in a final block of the chain (finality), did enough authorised witnesses
sign (authority). Each answer is one of, from best to worst: verified, not final, cannot check, not found, revoked,
mismatch. The headline is the worst of them.

Without --rpc and --anchor only the bundle itself vouches for its block headers: finality and authority are then "cannot
check". --rpc asks a node that you trust; --anchor gives the hash of a block that you know to be final. Which Notary is
the authority's own no bundle can prove: compare the address shown with the published one, or give that one with --notary.

Exit code: 0 all verified; 1 mismatch, not found or revoked; 2 not a usable bundle; 3 something is not final or cannot be
checked. Take this script from a source that you trust, not from the bundle that you doubt. What is hashed and signed, to
the byte: docs/protocol.md; what a bundle holds: docs/bundle.md.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import re
import struct
import sys
import urllib.parse
import urllib.request
import zlib
from collections import namedtuple
from datetime import datetime, timezone
from typing import Any, NamedTuple

SCHEMA = "wattmark/bundle/1"
VERDICTS = ("verified", "not final", "cannot check", "not found", "revoked", "mismatch")
VERIFIED, NOT_FINAL, CANNOT_CHECK, NOT_FOUND, REVOKED, MISMATCH = VERDICTS

# A bundle comes from anyone, so everything in it is bounded.
MAX_BYTES, MAX_ITEMS, MAX_SIGNATURES, TIMEOUT_SECONDS = 16 << 20, 2048, 32, 10
MEMBER = re.compile(r"manifest\.json|statements\.json|transactions\.json|verify\.py|archives/[0-9a-f]{64}\.(json|assessments)")
SLOT_SECONDS, DAY_SECONDS, MAX_DAYS, BYTES_PER_SLOT, CERTIFIED = 900, 86_400, 31, 5, 32


class Refused(Exception):
    """The input is not a bundle that can be judged; the text says why."""


class NodeFault(Exception):
    """The node gave no usable answer, which says nothing about the chain."""


# ---- keccak-256: the permutation of FIPS 202 with the padding that Ethereum uses -------------------------------------

_MASK = (1 << 64) - 1


def _keccak_tables() -> tuple[list[int], list[tuple[int, int, int]]]:
    constants, register = [], 1
    for _ in range(24):
        constants.append(0)
        for j in range(7):
            constants[-1] |= (register & 1) << (2**j - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
    steps, x, y = [(0, 0, 0)], 1, 0
    for t in range(24):
        steps.append((x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5), (t + 1) * (t + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return constants, steps


_ROUNDS, _STEPS = _keccak_tables()
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
        for constant in _ROUNDS:
            column = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
            mixed = [column[x - 1] ^ (column[x - 4] << 1 & _MASK | column[x - 4] >> 63) for x in range(5)]
            moved = [0] * 25
            for source, target, turn in _STEPS:
                lane = lanes[source] ^ mixed[source % 5]
                moved[target] = (lane << turn | lane >> (64 - turn)) & _MASK
            lanes = [moved[i] ^ ~moved[j] & moved[k] for i, j, k in _CHI]
            lanes[0] ^= constant
    return struct.pack("<4Q", *lanes[:4])


# ---- secp256k1: who signed (SEC 1, 4.1.6) ----------------------------------------------------------------------------

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


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
    """Address (20 bytes) whose key signed ``digest``; ValueError for what the Notary refuses, such as a high s."""
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64:]
    if v not in (b"\x1b", b"\x1c") or not 0 < r < _N or not 0 < s <= _N // 2:
        raise ValueError("a signature is not in its one valid form")
    y = pow(r**3 + 7, (_P + 1) // 4, _P)
    if (y * y - r**3 - 7) % _P:
        raise ValueError("a signature is of no key")
    point = (r, y if y % 2 == v[0] - 27 else _P - y)
    inverse = pow(r, -1, _N)
    for_g, for_point = -int.from_bytes(digest, "big") * inverse % _N, s * inverse % _N
    table, key = (None, _G, point, _add(_G, point)), None
    for bit in range(255, -1, -1):
        key = _add(_add(key, key), table[(for_g >> bit & 1) + 2 * (for_point >> bit & 1)])
    if key is None:
        raise ValueError("a signature is of no key")
    return keccak256(key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big"))[12:]


# ---- RLP and Merkle-Patricia tries (Ethereum yellow paper, appendices B and D) ---------------------------------------


def rlp_encode(item: Any) -> bytes:
    """RLP of bytes or nested lists of bytes."""
    if isinstance(item, bytes) and len(item) == 1 and item[0] < 0x80:
        return item
    kind, body = (0x80, item) if isinstance(item, bytes) else (0xC0, b"".join(map(rlp_encode, item)))
    if len(body) < 56:
        return bytes((kind + len(body),)) + body
    digits = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((kind + 55 + len(digits),)) + digits + body


def rlp_decode(data: bytes) -> Any:
    """The one item that ``data`` is; ValueError unless it is whole and in its shortest form."""
    item, _ = _rlp_item(data, 0, 0)
    if rlp_encode(item) != data:
        raise ValueError("RLP is not canonical")
    return item


def _rlp_item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data) or depth > 8:
        raise ValueError("RLP is cut off or too deep")
    if data[at] < 0x80:
        return data[at : at + 1], at + 1
    kind = 0x80 if data[at] < 0xC0 else 0xC0
    size, at = data[at] - kind, at + 1
    if size > 55:
        size, at = int.from_bytes(data[at : at + size - 55], "big"), at + size - 55
    end = at + size
    if end > len(data):
        raise ValueError("RLP is cut off")
    if kind == 0x80:
        return data[at:end], end
    items = []
    while at < end:
        item, at = _rlp_item(data, at, depth + 1)
        items.append(item)
    return items, at


def _nibbles(data: bytes) -> list[int]:
    return [nibble for byte in data for nibble in (byte >> 4, byte & 15)]


def trie_value(root: bytes, key: bytes, proof: list[bytes]) -> bytes:
    """What the trie ``root`` holds under ``key``; ``proof`` is its nodes from the root down, all needed. ValueError otherwise."""
    path, left, node = _nibbles(key), list(proof), root
    while True:
        if isinstance(node, bytes):  # a hash; nodes shorter than one stand inside their parent
            if not left or keccak256(left[0]) != node:
                raise ValueError("a node of the proof is missing or changed")
            node = rlp_decode(left.pop(0))
        if not isinstance(node, list) or len(node) not in (2, 17):
            raise ValueError("a node of the proof is no trie node")
        if len(node) == 17:
            value, node = node[16], node[path.pop(0)] if path else None
        else:
            part = _nibbles(node[0])
            is_leaf, part = part[0] & 2, part[1 if part[0] & 1 else 2 :]
            if path[: len(part)] != part or (is_leaf and len(part) != len(path)):
                raise ValueError("the proof leads to another key")
            path = path[len(part) :]
            value, node = node[1], None if is_leaf else node[1]
        if node is None:
            if left or not value or not isinstance(value, bytes):
                raise ValueError("the proof does not end at a value")
            return value


# ---- ABI: "uint64" is one word, a tuple a struct of words or more, a one-item list a dynamic array -------------------

STATEMENT = ("uint64", "uint40", "uint32", "uint32", "uint64", "uint64", "bytes32")
BATCH = ("uint8", "uint16", "bytes32", "bytes32", "uint40", "uint40", "uint32", "uint64", "bytes32", "uint40")
DETAILS = ("address", "string", "string", "bytes2", "string", "uint40", "uint40")


def spell(shape: Any) -> str:
    """An ABI type as signatures spell it."""
    if isinstance(shape, str):
        return shape
    return spell(shape[0]) + "[]" if isinstance(shape, list) else "(" + ",".join(map(spell, shape)) + ")"


def word(value: Any) -> bytes:
    """One ABI word: an unsigned integer, or bytes filled up on the right."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.ljust(32, b"\0")


def _dynamic(shape: Any) -> bool:
    return any(map(_dynamic, shape)) if isinstance(shape, tuple) else isinstance(shape, list) or shape in ("bytes", "string")


def abi_decode(shapes: Any, data: bytes, base: int = 0) -> list[Any]:
    """Values of ``shapes``: int, bytes (also for addresses), str, list, tuple. ValueError if ``data`` does not fit."""
    values, at = [], base
    for shape in shapes:
        values.append(_abi_value(shape, data, base + _abi_uint(data, at, 32) if _dynamic(shape) else at))
        at += 32 if isinstance(shape, (str, list)) or _dynamic(shape) else 32 * len(shape)
    return values


def _abi_uint(data: bytes, at: int, bits: int) -> int:
    if at + 32 > len(data) or data[at] and bits < 256 or int.from_bytes(data[at : at + 32], "big") >> bits:
        raise ValueError(f"ABI data is cut off or does not fit {bits} bits")
    return int.from_bytes(data[at : at + 32], "big")


def _abi_value(shape: Any, data: bytes, at: int) -> Any:
    if isinstance(shape, tuple):
        return tuple(abi_decode(shape, data, at))
    if isinstance(shape, list):
        count = _abi_uint(data, at, 32)
        if count > (MAX_SIGNATURES if _dynamic(shape[0]) else len(data) // 32):
            raise ValueError("an ABI array is too long")
        return abi_decode(shape * count, data, at + 32)
    if shape in ("bytes", "string"):
        end = at + 32 + _abi_uint(data, at, 32)
        if end > len(data):
            raise ValueError("ABI data is cut off")
        return data[at + 32 : end] if shape == "bytes" else data[at + 32 : end].decode("utf-8", "replace")
    if shape.startswith("uint"):
        return _abi_uint(data, at, int(shape[4:]))
    if shape == "address":
        return _abi_uint(data, at, 160).to_bytes(20, "big")
    return word(_abi_uint(data, at, 256))[: int(shape[5:])]


ID_ROOT, NUMBER = {"id": "uint256", "root": "bytes32"}, {"number": "uint256", "account": "address"}
# Emitter, indexed fields, other fields.
EVENTS: dict[str, Any] = {
    "Notarized": ("Notary", {"root": "bytes32", "new_head": "bytes32"}, {"batch": BATCH, "signers": ["address"]}),
    "SignersSet": ("Notary", {"epoch": "uint16"}, {"threshold": "uint8", "signers": ["address"]}),
    "Issued": ("EnergyCertificate", {**ID_ROOT, "account": "address"}, {"energy_wh": "uint64", "profile_hash": "bytes32"}),
    "Corrected": ("EnergyCertificate", ID_ROOT, {"version": "uint32", "previous_wh": "uint64", "energy_wh": "uint64", "profile_hash": "bytes32"}),
    "Retired": ("EnergyCertificate", {**NUMBER, "id": "uint256"}, {"amount": "uint256", "details": DETAILS}),
    "RetiredBatch": ("EnergyCertificate", NUMBER, {"ids": ["uint256"], "amounts": ["uint256"], "details": DETAILS}),
}
TOPICS = {keccak256(f"{name}{spell((*a.values(), *b.values()))}".encode()): name for name, (_, a, b) in EVENTS.items()}
NOTARIZE = keccak256(f"notarize({spell(BATCH)},bytes[])".encode())[:4]


# ---- what the protocol hashes ----------------------------------------------------------------------------------------

# In the order of the ABI; times in UTC seconds, energies in Wh.
Statement = namedtuple("Statement", "device_id start duration version energy_wh previous_wh profile_hash")
Batch = namedtuple("Batch", "kind signer_epoch head root start end statements energy_wh archive_hash deadline")
Notarization = namedtuple("Notarization", "notarized_at start end statements energy_wh kind status signer_epoch")
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
    """Hash of a period's readings, cut at UTC midnights; ValueError for a period or a size that the protocol does not know."""
    if start % SLOT_SECONDS or duration % SLOT_SECONDS or not 0 < duration <= MAX_DAYS * DAY_SECONDS:
        raise ValueError("the period does not lie on 15-minute slots or is longer than 31 days")
    hashes, at, time = [], 0, start
    for salt in salts:
        stop = min(start + duration, time - time % DAY_SECONDS + DAY_SECONDS)
        size = (stop - time) // SLOT_SECONDS * BYTES_PER_SLOT
        hashes.append(keccak256(salt + profile[at : at + size]))
        at, time = at + size, stop
        if not size:
            break
    if time != start + duration or at != len(profile) or len(hashes) != len(salts):
        raise ValueError("the readings are not as many as the period has slots, or the salts not as many as it has days")
    return keccak256(b"".join(hashes))


def certified_wh(profile: bytes) -> int:
    """Wh over the certified slots; ValueError where a slot has an unknown quality, or energy without any."""
    slots = list(struct.iter_unpack(">IB", profile))
    if any(quality > 63 or (energy_wh and not quality) for energy_wh, quality in slots):
        raise ValueError("a slot has an unknown quality, or energy without any")
    return sum(energy_wh for energy_wh, quality in slots if quality & CERTIFIED)


# ---- the members of a bundle -----------------------------------------------------------------------------------------

# A dict is exactly these fields ("*" any), a list any number of one, a tuple one or null; integers beyond 32 bits stand
# as decimal digits, because JavaScript would round them.
MEMBERS = {"*": {"bytes": "uint32", "sha256": "hex32"}}
CONTRACTS = {"*": {"address": "hex20", "codeHash": "hex32"}}
MANIFEST = {"schema": "text40", "chainId": "uint64", "contracts": CONTRACTS, "retirement": ("decimal256",), "members": MEMBERS, "seal": "hex32"}
PERIOD = {"deviceId": "decimal64", "start": "uint40", "duration": "uint32", "version": "uint32"}
FIELDS = {**PERIOD, "energyWh": "decimal64", "previousWh": "decimal64", "profileHash": "hex32"}
READINGS = {"profile": "hex", "salts": ["hex32"]}
STATEMENTS = [{"statement": FIELDS, "root": "hex32", "proof": ["hex32"], "readings": (READINGS,)}]
PROOF = {"header": "hex", "transaction": ["hex"], "receipt": ["hex"]}
TRANSACTION = {"blockHash": "hex32", "index": "uint32", "transaction": "hex", "receipt": "hex"}
TRANSACTIONS = [{**TRANSACTION, "proof": (PROOF,), "unproven": ("text300",)}]


def fit(shape: Any, value: Any, where: str) -> Any:
    """``value`` with its hex and digits read, if it is of ``shape``; Refused naming ``where`` otherwise."""
    if isinstance(shape, tuple):
        return None if value is None else fit(shape[0], value, where)
    if isinstance(shape, dict) and type(value) is dict and len(value) <= MAX_ITEMS and ("*" in shape or set(value) == set(shape)):
        return {key: fit(shape.get(key, shape.get("*")), value[key], f"{where}.{key}") for key in (value if "*" in shape else shape)}
    if isinstance(shape, list) and type(value) is list and len(value) <= MAX_ITEMS:
        return [fit(shape[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    kind, size = re.fullmatch("([a-z]*)([0-9]*)", shape).groups() if isinstance(shape, str) else ("", "")
    if kind == "uint" and type(value) is int and 0 <= value < 1 << int(size):
        return value
    if kind == "text" and type(value) is str and len(value) <= int(size):
        return value
    if kind == "decimal" and type(value) is str and re.fullmatch("0|[1-9][0-9]{0,77}", value) and not int(value) >> int(size):
        return int(value)
    if kind == "hex" and type(value) is str and re.fullmatch("0x([0-9a-f]{2})*", value) and (not size or len(value) == 2 + 2 * int(size)):
        return bytes.fromhex(value[2:])
    raise Refused(f"{printable(where)} is not as a bundle has it")


def _whole(digits: str) -> int:
    if len(digits) > 80 or not digits.lstrip("-").isdigit():
        raise ValueError("a number is not whole or too long")
    return int(digits)


def load_json(data: bytes, name: str) -> Any:
    """JSON without fractions; Refused if it is none. ``name`` is for the message."""
    try:
        return json.loads(data.decode("utf-8"), parse_int=_whole, parse_float=_whole, parse_constant=_whole)
    except (ValueError, RecursionError):
        raise Refused(f"{printable(name)} is not readable JSON") from None


def canonical(value: Any) -> bytes:
    """The one JSON text that a value has in a bundle: sorted keys, one space of indentation, ASCII."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()


def seal(manifest: dict[str, Any]) -> str:
    """SHA-256 over the manifest without its seal: no byte of a bundle changes unnoticed."""
    return "0x" + hashlib.sha256(canonical({key: value for key, value in manifest.items() if key != "seal"})).hexdigest()


def stated(members: dict[str, bytes]) -> dict[str, Any]:
    """What the manifest says of its members."""
    return {name: {"bytes": len(content), "sha256": hexed(hashlib.sha256(content).digest())} for name, content in members.items()}


def pack_zip(members: dict[str, bytes]) -> bytes:
    """The one zip of these members: sorted, stored, of a fixed time. A bundle is these bytes and no others."""
    body, directory = bytearray(), bytearray()
    for name, content in sorted(members.items()):
        common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, zlib.crc32(content), len(content), len(content), len(name), 0)
        directory += b"PK\1\2\x14\3" + common + struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, len(body)) + name.encode()
        body += b"PK\3\4" + common + name.encode() + content
    count = len(members)
    return bytes(body + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0))


def read_zip(data: bytes) -> dict[str, bytes]:
    """Members of a zip that :func:`pack_zip` made; nothing is unpacked, so nothing can swell or land elsewhere."""
    members: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\3\4" and at + 30 <= len(data) and len(members) <= MAX_ITEMS:
        size, name_size = struct.unpack_from("<IH", data, at + 22)
        start = at + 30 + name_size
        members[data[at + 30 : start].decode("ascii", "replace")] = data[start : start + size]
        at = start + size
    if not members or pack_zip(members) != data:
        raise Refused("the zip is damaged, or was packed by another program (then check the folder that it unpacks to)")
    return members


def read_file(path: str) -> bytes:
    name = printable(os.path.basename(path))
    try:
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
            raise Refused(f"{name} is not there, no ordinary file or larger than {MAX_BYTES >> 20} MiB")
        with open(path, "rb") as file:
            return file.read(MAX_BYTES)
    except (OSError, ValueError) as fault:
        raise Refused(f"{name} cannot be read ({type(fault).__name__})") from None


def read_members(path: str) -> dict[str, bytes]:
    """Members of a bundle, a zip or the folder it was unpacked to, by name; Refused for a name that no bundle has."""
    if not os.path.isdir(path):
        members = read_zip(read_file(path))
    else:
        members = {"manifest.json": read_file(os.path.join(path, "manifest.json"))}
        manifest = load_json(members["manifest.json"], "manifest.json")
        names = manifest.get("members") if isinstance(manifest, dict) else None
        for name in list(names)[:MAX_ITEMS] if isinstance(names, dict) else ():
            if MEMBER.fullmatch(name):
                members[name] = read_file(os.path.join(path, *name.split("/")))
    if sum(map(len, members.values())) > MAX_BYTES or not all(map(MEMBER.fullmatch, members)):
        raise Refused(f"the bundle is larger than {MAX_BYTES >> 20} MiB or has a member that does not belong to it")
    return members


class Event(NamedTuple):
    name: str
    values: dict[str, Any]
    transaction: Transaction


class Transaction:
    """A transaction with its receipt and place. ``fault`` says why the proof into its block fails, None if it holds."""

    def __init__(self, entry: dict[str, Any]):
        self.block_hash, self.index, self.raw, self.receipt = (entry[key] for key in TRANSACTION)
        self.unproven, self.number, self.time, self.fault = entry["unproven"], None, None, None
        if (entry["proof"] is None) != (self.unproven is not None):
            raise Refused("transactions.json has a transaction with a proof and a reason for none, or with neither")
        try:
            status, _, _, self.logs = rlp_decode(self.receipt[1:] if self.receipt[:1] < b"\x80" else self.receipt)
            self.succeeded = status == b"\x01"
            self.logs = [(bytes(address), [bytes(topic) for topic in topics], bytes(data)) for address, topics, data in self.logs]
        except (ValueError, TypeError):
            raise Refused("transactions.json has a receipt that is none") from None
        try:
            if self.unproven is None:
                self._prove(**entry["proof"])
        except (ValueError, TypeError, IndexError) as fault:
            self.fault = f"The proof into block {hexed(self.block_hash)} fails: {fault}."

    def _prove(self, header: bytes, transaction: list[bytes], receipt: list[bytes]) -> None:
        fields = rlp_decode(header)
        self.number, self.time = int.from_bytes(fields[8], "big"), int.from_bytes(fields[11], "big")
        if keccak256(header) != self.block_hash:
            raise ValueError("the header does not hash to it")
        key = rlp_encode(self.index.to_bytes((self.index.bit_length() + 7) // 8, "big"))
        if trie_value(fields[5], key, receipt) != self.receipt or trie_value(fields[4], key, transaction) != self.raw:
            raise ValueError("it holds another transaction or receipt")

    def events(self, contracts: dict[str, bytes]) -> list[Event]:
        """The known events of a successful transaction that these contracts, and no others, emitted."""
        found = []
        for address, topics, data in self.logs if self.succeeded else ():
            name = TOPICS.get(topics[0]) if topics else None
            if name and contracts.get(EVENTS[name][0]) == address:
                _, indexed, others = EVENTS[name]
                try:
                    values = abi_decode(indexed.values(), b"".join(topics[1:])) + abi_decode(others.values(), data)
                except ValueError as fault:
                    raise Refused(f"transactions.json has an event {name} that does not decode: {fault}") from None
                found.append(Event(name, dict(zip([*indexed, *others], values)), self))
        return found

    def notarize_call(self, root: bytes) -> tuple[Batch, list[bytes]] | None:
        """Batch and signatures of the notarize call for ``root``; it may be wrapped in a multi-signature wallet's call."""
        at = -1
        for _ in range(MAX_ITEMS):
            at = self.raw.find(NOTARIZE, at + 1)
            try:
                fields, signatures = abi_decode((BATCH, ["bytes"]), self.raw[at + 4 :]) if at >= 0 else ((), [])
                if at < 0 or fields[3] == root:
                    return (Batch(*fields), signatures) if fields else None
            except ValueError:
                continue
        return None


class Record(NamedTuple):
    """A statement with its proof and, where it may be shown, what it was computed from."""

    statement: Statement
    root: bytes
    proof: list[bytes]
    readings: dict[str, Any] | None


class Bundle:
    """A bundle that is whole: each byte is one that the manifest names. Whether it is true is what the checks ask."""

    def __init__(self, members: dict[str, bytes]):
        manifest = self._read(members, "manifest.json", MANIFEST)
        if manifest["schema"] != SCHEMA:
            raise Refused(f"the bundle is of schema {printable(manifest['schema'])}; this script reads {SCHEMA}")
        if seal(load_json(members["manifest.json"], "manifest.json")) != hexed(manifest["seal"]):
            raise Refused("manifest.json is damaged: its seal does not fit")
        if set(members) != {"manifest.json", *manifest["members"]}:
            raise Refused("the members are not those that manifest.json names")
        for name, stated in manifest["members"].items():
            if stated != {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).digest()}:
                raise Refused(f"{name} is damaged: it is not the file that manifest.json names")
        self.chain_id, self.retirement = manifest["chainId"], manifest["retirement"]
        self.contracts = {name: entry["address"] for name, entry in manifest["contracts"].items()}
        self.code_hashes = {name: entry["codeHash"] for name, entry in manifest["contracts"].items()}
        if "Notary" not in self.contracts:
            raise Refused("manifest.json names no Notary")
        self.records = [
            Record(Statement(*entry["statement"].values()), entry["root"], entry["proof"], entry["readings"])
            for entry in self._read(members, "statements.json", STATEMENTS)
        ]
        if not self.records or (self.retirement is None and len(self.records) > 1):
            raise Refused("statements.json holds no statement, or several without a retirement")
        self.transactions = [Transaction(entry) for entry in self._read(members, "transactions.json", TRANSACTIONS)]
        self.events = [event for one in self.transactions for event in one.events(self.contracts)]
        self.archives = {name[9:]: content for name, content in members.items() if name.startswith("archives/")}
        roots = {record.root.hex() for record in self.records}
        if not all(name[:64] in roots and name[:64] + ".json" in self.archives for name in self.archives):
            raise Refused("archives/ has a file of no statement here, or assessments without their manifest")

    @staticmethod
    def _read(members: dict[str, bytes], name: str, shape: Any) -> Any:
        value = load_json(members.get(name, b""), name)
        if canonical(value) != members[name]:
            raise Refused(f"{name} is not in canonical form")
        return fit(shape, value, name)

    def find(self, *names: str, **values: Any) -> list[Event]:
        """Events with one of these names and all of these values."""
        return [e for e in self.events if e.name in names and all(e.values[key] == value for key, value in values.items())]


# ---- the four questions ----------------------------------------------------------------------------------------------

Finding = namedtuple("Finding", "verdict reason")


class Node:
    """A JSON-RPC node that the user trusts. What it does not answer raises NodeFault, at once after the first time."""

    def __init__(self, url: str, chain_id: int):
        self.url, self.chain_id, self.silent = url, chain_id, ""
        self.answers: dict[str, Any] = {}

    def ask(self, method: str, *params: Any) -> Any:
        if not self.answers and method != "eth_chainId" and self.number("eth_chainId") != self.chain_id:
            self.silent = f"it is of another chain than the bundle's, {self.chain_id}"
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        if body not in self.answers and not self.silent:
            try:
                request = urllib.request.Request(self.url, body.encode(), {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                    self.answers[body] = json.loads(response.read(MAX_BYTES))
            except (OSError, ValueError, RecursionError, http.client.HTTPException) as fault:
                self.silent = f"{type(fault).__name__} at {method}"
        if self.silent:
            raise NodeFault(self.silent)
        if not isinstance(self.answers[body], dict) or "result" not in self.answers[body]:
            raise NodeFault(f"it refuses {method}")
        return self.answers[body]["result"]

    def data(self, method: str, *params: Any) -> bytes:
        try:
            return bytes.fromhex(self.ask(method, *params)[2:])
        except (TypeError, ValueError):
            raise NodeFault(f"what it answers to {method} is not data") from None

    def number(self, method: str) -> int:
        try:
            return int(self.ask(method), 16)
        except (TypeError, ValueError):
            raise NodeFault(f"what it answers to {method} is no number") from None

    def call(self, contract: bytes, signature: str, shapes: tuple[Any, ...], *words: Any) -> list[Any]:
        data = keccak256(signature.encode())[:4] + b"".join(map(word, words))
        try:
            return abi_decode(shapes, self.data("eth_call", {"to": hexed(contract), "data": hexed(data)}, "latest"))
        except ValueError:
            raise NodeFault(f"what it answers to {signature} does not decode") from None

    def block(self, method: str, name: str) -> tuple[int, str] | None:
        """Number and hash of a block, None if the node knows none of this name."""
        block = self.ask(method, name, False)
        try:
            return None if block is None else (int(block["number"], 16), block["hash"])
        except (TypeError, ValueError, LookupError):
            raise NodeFault(f"what it answers to {method} is no block") from None


class Check:
    """The four questions put to a bundle, with what its user trusts: a node, block hashes, the address of the Notary."""

    def __init__(self, bundle: Bundle, node: Node | None, anchors: set[bytes], notary: bytes | None, confirmations: int | None):
        self.bundle, self.node, self.anchors, self.trusted, self.confirmations = bundle, node, anchors, notary, confirmations
        self.notary = bundle.contracts["Notary"]
        self.notarized = {event.values["root"]: event for event in bundle.find("Notarized")}

    def findings(self) -> dict[str, Finding]:
        records, roots = self.bundle.records, sorted({record.root for record in self.bundle.records})
        placed = [one for one in self.bundle.transactions if not all(e.name == "SignersSet" for e in one.events(self.bundle.contracts))]
        retired = [] if self.bundle.retirement is None else [self.bundle.retirement]
        return {
            "data": self._worst([(self.data, record) for record in records]),
            "inclusion": self._worst([(self.inclusion, record) for record in records] + [(self.retirement, n) for n in retired]),
            "finality": self._worst([(self.finality, root) for root in roots] + [(self.in_final_block, one) for one in placed]),
            "authority": self._worst([(self.authority, root) for root in roots] + [(self.contract, n) for n in self.bundle.contracts]),
        }

    def _worst(self, questions: list[tuple[Any, Any]]) -> Finding:
        findings = []
        for question, subject in questions:
            try:
                findings.append(question(subject))
            except NodeFault as fault:
                findings.append(Finding(CANNOT_CHECK, f"The node gave no usable answer: {fault}."))
        return max(findings, key=lambda finding: VERDICTS.index(finding.verdict))

    def data(self, record: Record) -> Finding:
        statement, event = record.statement, self.notarized.get(record.root)
        manifest, texts = (self.bundle.archives.get(record.root.hex() + kind) for kind in (".json", ".assessments"))
        if manifest is not None:
            stated = load_json(manifest, "the archive's manifest")
            if event is None or keccak256(manifest) != event.values["batch"][8] or stated.get("root") != hexed(record.root):
                return Finding(MISMATCH, "The archive's manifest is not the one that was signed.")
            if texts is not None and hexed(keccak256(texts)) != stated.get("assessments"):
                return Finding(MISMATCH, "The assessments are not those that were signed.")
        if record.readings is None:
            return Finding(CANNOT_CHECK, "The readings were left out of this bundle, as those of private devices are.")
        try:
            if profile_hash(statement.start, statement.duration, **record.readings) != statement.profile_hash:
                return Finding(MISMATCH, "The readings do not hash to the statement.")
            energy_wh = certified_wh(record.readings["profile"])
        except ValueError as fault:
            return Finding(MISMATCH, f"The readings are not those of the statement: {fault}.")
        if energy_wh != statement.energy_wh:
            return Finding(MISMATCH, f"The certified slots add up to {energy_wh} Wh, the statement says {statement.energy_wh} Wh.")
        archive = "and the archive's manifest is the signed one" if manifest else "the archive's manifest is not in this bundle"
        return Finding(VERIFIED, f"The readings hash to the statement, their certified slots add up to its {energy_wh} Wh, {archive}.")

    def inclusion(self, record: Record) -> Finding:
        statement, event = record.statement, self.notarized.get(record.root)
        if root_from_proof(statement_leaf(statement), record.proof) != record.root:
            return Finding(MISMATCH, "The statement and its proof do not lead to the root.")
        if event is None:
            return Finding(NOT_FOUND, f"No transaction in this bundle notarizes root {hexed(record.root)}.")
        batch = Batch(*event.values["batch"])
        if not batch.start <= statement.start <= statement.start + statement.duration <= batch.end:
            return Finding(MISMATCH, "The statement's period lies outside that of its batch.")
        for issued in self.bundle.find("Issued", "Corrected", id=token_id(statement), root=record.root):
            if issued.values["profile_hash"] != statement.profile_hash:
                return Finding(MISMATCH, "The certificate was issued or corrected by another statement of this root.")
        if self.node:
            shapes = ("uint40", "uint40", "uint40", "uint32", "uint64", "uint8", "uint8", "uint16")
            kept = Notarization(*self.node.call(self.notary, "notarization(bytes32)", shapes, record.root))
            if not kept.status:
                return Finding(NOT_FOUND, "The Notary on the chain does not know the root.")
            if any(getattr(kept, field) != getattr(batch, field) for field in set(Batch._fields) & set(Notarization._fields)):
                return Finding(MISMATCH, "The Notary on the chain keeps other figures of this root.")
            if kept.status == 2:
                return Finding(REVOKED, "The statement is in the notarized root, which the guardian has revoked.")
        return Finding(VERIFIED, f"The statement is under root {hexed(record.root)}, notarized in {event.transaction.place}.")

    def retirement(self, number: int) -> Finding:
        events = self.bundle.find("Retired", "RetiredBatch", number=number)
        if not events:
            return Finding(NOT_FOUND, f"No transaction in this bundle is retirement {number}.")
        left = list(self.bundle.records)
        for certificate, amount in retired_amounts(events[0]):
            behind = [record for record in left if token_id(record.statement) == certificate]
            issued = [r for r in behind if self.bundle.find("Issued", "Corrected", id=certificate, root=r.root, profile_hash=r.statement.profile_hash)]
            if not behind or len(issued) < len(behind):
                return Finding(NOT_FOUND, f"For the retired certificate {certificate:#x} the bundle has no statement that it was issued from.")
            if amount > max(record.statement.energy_wh for record in behind):
                return Finding(MISMATCH, f"More of certificate {certificate:#x} was retired than its statement says.")
            left = [record for record in left if record not in behind]
        return Finding(MISMATCH, "A statement here is of no retired certificate.") if left else Finding(VERIFIED, "The retirement is in its block.")

    def finality(self, root: bytes) -> Finding:
        event = self.notarized.get(root)
        if event is None:
            return Finding(NOT_FOUND, f"No transaction in this bundle notarizes root {hexed(root)}.")
        return self.in_final_block(event.transaction)

    def in_final_block(self, one: Transaction) -> Finding:
        if one.fault:
            return Finding(MISMATCH, one.fault)
        if one.block_hash in self.anchors and not one.unproven:
            return Finding(VERIFIED, f"The transaction is in {one.place}, whose hash you gave.")
        if not self.node:
            why = printable(one.unproven or "no node (--rpc) and no hash (--anchor) was given")
            return Finding(CANNOT_CHECK, f"That {one.place} is of the chain, only the bundle says: {why}.")
        known = self.node.block("eth_getBlockByHash", hexed(one.block_hash))
        if known is None or self.node.block("eth_getBlockByNumber", hex(known[0])) != known or one.number not in (None, known[0]):
            return Finding(NOT_FOUND, f"The node's chain does not have {one.place} with this hash; it was reorganised away or never there.")
        if one.unproven and not self._has_receipt(one):
            return Finding(NOT_FOUND, f"The node does not have this transaction and receipt in {one.place}.")
        last = self.node.block("eth_getBlockByNumber", "finalized" if self.confirmations is None else "latest")
        if last is None:
            return Finding(CANNOT_CHECK, "The node does not tell which blocks are final; say how many are enough with --confirmations.")
        if last[0] < known[0] + max(0, (self.confirmations or 0) - 1):
            return Finding(NOT_FINAL, f"The transaction is in block {known[0]}, which may still be reorganised away.")
        return Finding(VERIFIED, f"The transaction is in block {known[0]}, which is final.")

    def _has_receipt(self, one: Transaction) -> bool:
        assert self.node
        receipt = self.node.ask("eth_getTransactionReceipt", hexed(keccak256(one.raw)))
        try:
            logs = [(log["address"].lower(), log["topics"], log["data"]) for log in receipt["logs"]]
            return receipt["blockHash"] == hexed(one.block_hash) and logs == [
                (hexed(address), [hexed(topic) for topic in topics], hexed(data)) for address, topics, data in one.logs
            ]
        except (TypeError, LookupError, AttributeError):
            return False

    def authority(self, root: bytes) -> Finding:
        event = self.notarized.get(root)
        if event is None:
            return Finding(NOT_FOUND, f"No transaction in this bundle notarizes root {hexed(root)}.")
        batch, call = Batch(*event.values["batch"]), event.transaction.notarize_call(root)
        if call is None:
            return Finding(CANNOT_CHECK, "The signatures are not in the notarizing transaction's own data.")
        try:
            signers = [recover(batch_digest(batch, self.bundle.chain_id, self.notary), signature) for signature in call[1]]
        except ValueError as fault:
            return Finding(MISMATCH, f"The signatures do not hold: {fault}.")
        if call[0] != batch or signers != event.values["signers"] or signers != sorted(set(signers)):
            return Finding(MISMATCH, "The signatures are not by those whom the event names, each once, for this batch.")
        sets = self.bundle.find("SignersSet", epoch=batch.signer_epoch)
        if sets and sets[0].transaction.fault:
            return Finding(MISMATCH, sets[0].transaction.fault)
        known = [(one.values["signers"], one.values["threshold"]) for one in sets]
        if self.node:
            shapes = (["address"], "uint8", "uint40", "uint40")
            members, threshold, since, until = self.node.call(self.notary, "signerSet(uint16)", shapes, batch.signer_epoch)
            time = event.transaction.time
            if time is not None and (time < since or 0 < until < time):
                return Finding(MISMATCH, f"Epoch {batch.signer_epoch} was not the current one when the batch was notarized.")
            known.append((members, threshold))
        if not known or known[0] != known[-1]:
            return Finding(MISMATCH if known else CANNOT_CHECK, f"Who may sign in epoch {batch.signer_epoch} the bundle does not say, or says wrongly.")
        members, threshold = known[0]
        if len(signers) < threshold or not threshold or not set(signers) <= set(members):
            return Finding(MISMATCH, f"Fewer than {threshold} of the witnesses of epoch {batch.signer_epoch} signed, or others did.")
        names = f"{len(signers)} of the {len(members)} witnesses of epoch {batch.signer_epoch} signed, {threshold} being enough"
        if self.node or (sets and {sets[0].transaction.block_hash, event.transaction.block_hash} <= self.anchors):
            return Finding(VERIFIED, f"{names}: {', '.join(map(checksummed, signers))}.")
        return Finding(CANNOT_CHECK, f"{names}, but that these are the witnesses only the bundle says.")

    def contract(self, name: str) -> Finding:
        address = self.bundle.contracts[name]
        if name == "Notary" and self.trusted not in (None, address):
            return Finding(MISMATCH, f"The bundle is of Notary {checksummed(address)}, not of the one you gave.")
        if self.node:
            if keccak256(self.node.data("eth_getCode", hexed(address), "latest")) != self.bundle.code_hashes[name]:
                return Finding(MISMATCH, f"The code of {name} at {checksummed(address)} is not the one in the bundle.")
            if name == "EnergyCertificate" and self.node.call(address, "notary()", ("address",)) != [self.notary]:
                return Finding(MISMATCH, "The EnergyCertificate does not issue from this Notary.")
        return Finding(VERIFIED, f"{name} is as the bundle says.")


# ---- what is shown ---------------------------------------------------------------------------------------------------


def printable(value: Any) -> str:
    """Text of anyone's on one line of a terminal: nothing in it can steer it or turn its direction."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(value)[:300])


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def checksummed(address: bytes) -> str:
    """An address as wallets show it (ERC-55)."""
    digits = keccak256(address.hex().encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(address.hex(), digits))


def utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M") if seconds < 1 << 37 else f"second {seconds}"


def retired_amounts(event: Event) -> list[tuple[int, int]]:
    values = event.values
    return [(values["id"], values["amount"])] if event.name == "Retired" else list(zip(values["ids"], values["amounts"]))


def subject(bundle: Bundle) -> list[str]:
    """What the bundle is about, a line each."""
    lines = []
    for event in bundle.find("Retired", "RetiredBatch", number=bundle.retirement) if bundle.retirement is not None else ():
        total_wh, details = sum(amount for _, amount in retired_amounts(event)), event.values["details"]
        lines.append(f"Retirement {bundle.retirement}: {total_wh} Wh by {checksummed(event.values['account'])}")
        lines.append(f"for {printable(details[1])} ({checksummed(details[0])}), purpose: {printable(details[2])}")
    for record in bundle.records:
        s = record.statement
        period = f"{utc(s.start)} to {utc(s.start + s.duration)} UTC"
        lines.append(f"Statement of device {s.device_id}, {period}, version {s.version}: {s.energy_wh} Wh")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="the zip, or the folder it was unpacked to")
    parser.add_argument("--rpc", metavar="URL", help="a node of the chain")
    parser.add_argument("--confirmations", metavar="N", type=int, help="blocks that make one final, instead of the node's own finalized one")
    parser.add_argument("--anchor", metavar="BLOCKHASH", action="append", default=[], help="a block known to be final; may be repeated")
    parser.add_argument("--notary", metavar="ADDRESS", help="the authority's Notary")
    parser.add_argument("--json", action="store_true", help="the same for machines")
    options = parser.parse_args(arguments)
    try:
        anchors = {fit("hex32", anchor.lower(), "--anchor") for anchor in options.anchor}
        notary = fit("hex20", options.notary.lower(), "--notary") if options.notary else None
        bundle = Bundle(read_members(options.bundle))
        if options.rpc and urllib.parse.urlsplit(options.rpc).scheme not in ("http", "https"):
            raise Refused("--rpc is no http:// or https:// URL")
        node = Node(options.rpc, bundle.chain_id) if options.rpc else None
        findings = Check(bundle, node, anchors, notary, options.confirmations).findings()
    except Refused as fault:
        print(json.dumps({"schema": "wattmark/check/1", "refused": str(fault)}) if options.json else f"refused: {fault}")
        return 2
    headline = max((finding.verdict for finding in findings.values()), key=VERDICTS.index)
    contracts = {name: checksummed(address) for name, address in bundle.contracts.items()}
    blocks = [{"number": one.number, "hash": hexed(one.block_hash), "transaction": hexed(keccak256(one.raw))} for one in bundle.transactions]
    if options.json:
        verdicts = {question: finding._asdict() for question, finding in findings.items()}
        facts = {"subject": subject(bundle), "chainId": bundle.chain_id, "contracts": contracts, "blocks": blocks}
        print(json.dumps({"schema": "wattmark/check/1", "headline": headline, "verdicts": verdicts, **facts}, indent=1))
    else:
        print("\n".join([*subject(bundle), "", headline.upper()]))
        print("\n".join(f"  {question:<10}{finding.verdict:<14}{finding.reason}" for question, finding in findings.items()))
        print(f"\nAll of this rests on chain {bundle.chain_id} and Notary {contracts['Notary']}: compare both with the published ones.")
        print("\n".join(f"block {block['number']}  {block['hash']}" for block in blocks))
    return 0 if headline == VERIFIED else 3 if headline in (NOT_FINAL, CANNOT_CHECK) else 1


if __name__ == "__main__":
    sys.exit(main())
