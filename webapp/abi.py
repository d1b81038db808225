"""What the committed artifacts say about bytes: events, calls and errors decoded to plain values.

Decoded values are what JSON can carry: bytes and addresses as 0x text, structs as dictionaries by field
name. Integers stay integers here; :func:`plain` turns those that JavaScript would round into text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from eth_abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address

import oracle
from oracle.protocol import keccak256

ARTIFACTS = Path(oracle.__file__).parent / "artifacts"
ZERO = "0x" + "0" * 40
_SAFE_INTEGER = (1 << 53) - 1

Abi = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """An event, function or error: its name, the contract it was found in, and its inputs as the ABI states them."""

    contract: str
    name: str
    inputs: tuple[Abi, ...]

    @property
    def signature(self) -> str:
        return f"{self.name}({','.join(canonical(part) for part in self.inputs)})"


@dataclass(frozen=True, slots=True)
class Call:
    """A decoded call, event or error. ``inputs`` tells the type of each of ``args``.

    ``address_fields`` names the arguments that are addresses where no other argument holds one; None: not known.
    """

    contract: str
    name: str
    args: dict[str, Any]
    inputs: tuple[Abi, ...] = ()
    address_fields: tuple[str, ...] | None = None

    def addresses(self) -> set[str]:
        """Every address among the arguments, the zero address left out."""
        if self.address_fields is not None:
            return {self.args[field] for field in self.address_fields} - {ZERO}
        return {found for part in self.inputs for found in _addresses(part, self.args[part["name"]])}


@dataclass(frozen=True, slots=True)
class FlatEvent:
    """How to read a log whose every argument is one 32-byte word, as most are, straight from its hex text.

    ``fields`` are name, place and kind in the order of the ABI. A place is the number of a topic, or the offset of
    the word's first digit in ``data`` after 0x; eth-abi's general decoder takes ten times as long to find the same.
    """

    shape: Shape
    topics: int
    data_length: int
    fields: tuple[tuple[str, bool, int, str], ...]
    address_fields: tuple[str, ...]

    @classmethod
    def of(cls, shape: Shape) -> FlatEvent | None:
        """None for an event with an argument of several words."""
        fields, topics, at = [], 1, 2
        for part in shape.inputs:
            kind = _word_kind(part["type"])
            if kind is None:
                return None
            fields.append((part["name"], part["indexed"], topics if part["indexed"] else at, kind))
            topics, at = (topics + 1, at) if part["indexed"] else (topics, at + 64)
        addresses = tuple(name for name, _, _, kind in fields if kind == "address")
        return cls(shape, topics, at, tuple(fields), addresses)

    def read(self, topics: Sequence[str], data: str) -> Call | None:
        """The event; None for a log that the ABI does not describe exactly."""
        if len(topics) != self.topics or len(data) != self.data_length:
            return None
        args: dict[str, Any] = {}
        for name, indexed, at, kind in self.fields:
            word = topics[at][2:] if indexed else data[at : at + 64]
            if kind == "uint":
                args[name] = int(word, 16)
            elif kind == "bytes32":
                args[name] = "0x" + word
            elif word.startswith("0" * 24):
                args[name] = checksum("0x" + word[24:])
            else:
                return None
        return Call(self.shape.contract, self.shape.name, args, self.shape.inputs, self.address_fields)


def _word_kind(kind: str) -> str | None:
    return (
        "uint" if kind.startswith("uint") and kind[4:].isdigit() else kind if kind in ("address", "bytes32") else None
    )


def canonical(part: Abi) -> str:
    """Type of an ABI input as signatures spell it: tuples written out."""
    kind = str(part["type"])
    if kind.startswith("tuple"):
        return "(" + ",".join(canonical(inner) for inner in part["components"]) + ")" + kind[5:]
    return kind


class Artifacts:
    """The ABIs of all contracts, searchable by what stands on the chain."""

    def __init__(self, folder: Path = ARTIFACTS):
        self.events: dict[str, dict[bytes, Shape]] = {}
        self.flat_events: dict[tuple[str, str], FlatEvent] = {}
        self.functions: dict[bytes, Shape] = {}
        self.errors: dict[bytes, Shape] = {}
        self.abis: dict[str, list[Abi]] = {}
        for path in sorted(folder.glob("*.json")):
            artifact = json.loads(path.read_text())
            contract = artifact["contractName"]
            self.abis[contract] = artifact["abi"]
            self.events[contract] = {}
            for entry in artifact["abi"]:
                if entry["type"] not in ("event", "function", "error"):
                    continue
                shape = Shape(contract, entry["name"], tuple(entry["inputs"]))
                digest = keccak256(shape.signature.encode())
                if entry["type"] == "event":
                    self.events[contract][digest] = shape
                    if flat := FlatEvent.of(shape):
                        self.flat_events[contract, "0x" + digest.hex()] = flat
                else:
                    (self.functions if entry["type"] == "function" else self.errors).setdefault(digest[:4], shape)

    def event(self, contract: str, topics: Sequence[bytes], data: bytes) -> Call | None:
        """The event that a log of ``contract`` records; None for one that the ABI does not know."""
        shape = self.events.get(contract, {}).get(topics[0]) if topics else None
        if shape is None:
            return None
        indexed = [part for part in shape.inputs if part["indexed"]]
        loose = [part for part in shape.inputs if not part["indexed"]]
        try:
            values = dict(
                zip((p["name"] for p in loose), decode([canonical(p) for p in loose], data, strict=False), strict=True)
            )
            for part, topic in zip(indexed, topics[1:], strict=True):
                # Of strings, arrays and structs only the hash stands in a topic.
                hashed = part["type"] in ("string", "bytes") or part["type"].endswith("]") or part["type"] == "tuple"
                values[part["name"]] = topic if hashed else decode([part["type"]], topic)[0]
        except (DecodingError, ValueError, OverflowError):
            return None
        return Call(contract, shape.name, {p["name"]: _value(p, values[p["name"]]) for p in shape.inputs}, shape.inputs)

    def log(self, contract: str, topics: Sequence[str], data: str) -> Call | None:
        """The same as :meth:`event` of a log as JSON-RPC writes it, and quick."""
        flat = self.flat_events.get((contract, topics[0])) if topics else None
        if flat and (event := flat.read(topics, data)):
            return event
        return self.event(contract, [bytes.fromhex(topic[2:]) for topic in topics], bytes.fromhex(data[2:]))

    def function(self, data: str) -> str | None:
        """Name of the function that a transaction's input (0x text) calls; None for one of no contract of ours."""
        shape = self.functions.get(bytes.fromhex(data[2:10]))
        return shape.name if shape else None

    def call(self, data: bytes) -> Call | None:
        """The function call in a transaction's input."""
        return _decoded(self.functions, data)

    def error(self, data: bytes) -> Call | None:
        """The custom error in a revert's data."""
        return _decoded(self.errors, data)


@lru_cache
def artifacts(folder: Path = ARTIFACTS) -> Artifacts:
    return Artifacts(folder)


def _decoded(shapes: dict[bytes, Shape], data: bytes) -> Call | None:
    shape = shapes.get(data[:4])
    if shape is None:
        return None
    try:
        values = decode([canonical(part) for part in shape.inputs], data[4:], strict=False)
    except (DecodingError, ValueError, OverflowError):
        return None
    args = {p["name"]: _value(p, v) for p, v in zip(shape.inputs, values, strict=True)}
    return Call(shape.contract, shape.name, args, shape.inputs)


def _value(part: Abi, value: Any) -> Any:
    kind = part["type"]
    if kind.endswith("]"):
        inner = {**part, "type": kind[: kind.rindex("[")]}
        return [_value(inner, item) for item in value]
    if kind == "tuple":
        return {p["name"]: _value(p, v) for p, v in zip(part["components"], value, strict=True)}
    if kind == "address":
        return checksum(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value


def _addresses(part: Abi, value: Any) -> Iterator[str]:
    kind = part["type"]
    if kind.endswith("]"):
        inner = {**part, "type": kind[: kind.rindex("[")]}
        for item in value:
            yield from _addresses(inner, item)
    elif kind == "tuple":
        for field in part["components"]:
            yield from _addresses(field, value[field["name"]])
    elif kind == "address" and int(value, 16):
        yield value


@lru_cache(maxsize=65_536)
def checksum(address: str) -> str:
    return str(to_checksum_address(address))


def plain(value: Any) -> Any:
    """The same value with integers past 2**53 as decimal text, so that every JSON reader keeps them whole."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _SAFE_INTEGER else str(value)
    if isinstance(value, dict):
        return {
            key: inner if type(inner) is str or (type(inner) is int and 0 <= inner <= _SAFE_INTEGER) else plain(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
