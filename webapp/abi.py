"""What the committed artifacts say about bytes: events, calls and errors decoded to plain values.

Decoded values are what JSON can carry: bytes and addresses as 0x text, structs as dictionaries by field
name. Integers stay integers here; :func:`plain` turns those that JavaScript would round into text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
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
    """A decoded call, event or error. ``inputs`` tells the type of each of ``args``."""

    contract: str
    name: str
    args: dict[str, Any]
    inputs: tuple[Abi, ...] = ()

    def addresses(self) -> set[str]:
        """Every address among the arguments, the zero address left out."""
        return addresses_of(self.inputs, self.args)


class _Odd(ValueError):
    """Bytes that the quick way leaves to eth-abi's judgement."""


#: Reads a value out of hex text: the text, the place of its head in it, and where the enclosing tuple begins.
_Read = Callable[[str, int, int], Any]
#: Characters of a topic: 0x and one word.
_TOPIC = 66


@dataclass(frozen=True, slots=True)
class EventReader:
    """How to read one event's logs straight from their hex text; eth-abi's general decoder takes ten times as long.

    ``words`` are the arguments of one word: name, reader, first digit and end in the topics and ``data`` written one after
    the other; ``parts`` those that are longer, all of them in ``data``. ``address_fields`` and
    ``wide_fields`` name the arguments that are addresses and those that may pass 2**53; None where they are to be looked
    for, in arrays and structs.
    """

    shape: Shape
    topics: int
    head: int
    words: tuple[tuple[str, Callable[[str], Any], int, int], ...]
    parts: tuple[tuple[str, int, _Read], ...]
    address_fields: tuple[str, ...] | None
    wide_fields: tuple[str, ...] | None

    @classmethod
    def of(cls, shape: Shape) -> EventReader | None:
        """None for an event that only the general decoder reads."""
        words, parts, topics, at = [], [], 1, 2
        before = _TOPIC * (1 + sum(part["indexed"] for part in shape.inputs))
        for part in shape.inputs:
            word, found = _word(part["type"]), _reader(part)
            if found is None or (part["indexed"] and word is None):
                return None
            if word:
                place = _TOPIC * topics + 2 if part["indexed"] else before + at
                words.append((part["name"], word, place, place + 64))
            else:
                parts.append((part["name"], at, found[0]))
            topics, at = (topics + 1, at) if part["indexed"] else (topics, at + found[1])
        kinds = {part["name"]: str(part["type"]) for part in shape.inputs}
        addresses: tuple[str, ...] | None = None
        wide: tuple[str, ...] | None = None
        if not any(kind.startswith("tuple") or kind.endswith("]") for kind in kinds.values()):
            addresses = tuple(name for name, kind in kinds.items() if kind == "address")
            wide = tuple(name for name, kind in kinds.items() if kind.startswith("uint") and int(kind[4:]) > 53)
        return cls(shape, topics, at, tuple(words), tuple(parts), addresses, wide)

    def read(self, topics: Sequence[str], data: str) -> dict[str, Any] | None:
        """The arguments; None for a log that the ABI does not describe exactly."""
        text = "".join(topics)
        if len(text) != _TOPIC * self.topics or len(data) < self.head:
            return None
        text += data
        try:
            args = {name: read(text[start:end]) for name, read, start, end in self.words}
            for name, at, read_part in self.parts:
                args[name] = read_part(data, at, 2)
        except (ValueError, KeyError):
            return None
        return {part["name"]: args[part["name"]] for part in self.shape.inputs} if self.parts else args

    def addresses(self, args: dict[str, Any]) -> set[str]:
        """Every address among the arguments, the zero address left out."""
        if self.address_fields is None:
            return addresses_of(self.shape.inputs, args)
        found = {args[field] for field in self.address_fields}
        found.discard(ZERO)
        return found

    def plain(self, args: dict[str, Any]) -> dict[str, Any]:
        """The same as :func:`plain` of the arguments."""
        if self.wide_fields is None:
            return dict(plain(args))
        wide = {field: str(args[field]) for field in self.wide_fields if args[field] > _SAFE_INTEGER}
        return {**args, **wide} if wide else args


def _word(kind: str) -> Callable[[str], Any] | None:
    """Reader of a value that fills one word of 64 digits; None for another type."""
    if kind == "address":
        return _address
    if kind.startswith("uint") and kind[4:].isdigit():
        bits = int(kind[4:])

        def number(word: str) -> Any:
            value = int(word, 16)
            if value >> bits:
                raise _Odd
            return value

        return number
    if kind.startswith("bytes") and kind[5:].isdigit():
        digits = 2 * int(kind[5:])

        def fixed(word: str) -> Any:
            if word[digits:] != _NO_DIGITS[digits:]:
                raise _Odd
            return "0x" + word[:digits]

        return fixed
    if kind == "bool":
        return lambda word: {_NO_DIGITS: False, _NO_DIGITS[1:] + "1": True}[word]
    return None


@lru_cache(maxsize=65_536)
def _address(word: str) -> str:
    if len(word) != 64 or not word.startswith(_NO_DIGITS[:24]):
        raise _Odd
    return checksum("0x" + word[24:])


_NO_DIGITS = "0" * 64


def _reader(part: Abi) -> tuple[_Read, int] | None:
    """Reader of an ABI input and the digits of its head; None for a type that is left to eth-abi."""
    kind = str(part["type"])
    if word := _word(kind):
        return lambda text, at, base: word(text[at : at + 64]), 64
    if kind in ("string", "bytes"):

        def octets(text: str, at: int, base: int) -> Any:
            start, size = _tail(text, at, base, 2)
            found = text[start : start + size]
            return bytes.fromhex(found).decode(errors="replace") if kind == "string" else "0x" + found

        return octets, 64
    if kind.endswith("[]"):
        item = _word(kind[:-2])
        if item is None:
            return None

        def items(text: str, at: int, base: int) -> Any:
            start, size = _tail(text, at, base, 64)
            return [item(text[place : place + 64]) for place in range(start, start + size, 64)]

        return items, 64
    if kind != "tuple":
        return None
    members, digits = [], 0
    for inner in part["components"]:
        found = _reader(inner)
        if found is None:
            return None
        members.append((inner["name"], digits, found[0]))
        digits += found[1]
    dynamic = any(inner["type"] in ("string", "bytes") or inner["type"].endswith("]") for inner in part["components"])
    if not dynamic and any(inner["type"] == "tuple" for inner in part["components"]):
        return None

    def struct(text: str, at: int, base: int) -> Any:
        if dynamic:
            at = base = base + 2 * int(text[at : at + 64], 16)
        if len(text) < at + digits:
            raise _Odd
        return {name: read(text, at + place, base) for name, place, read in members}

    return struct, 64 if dynamic else digits


def _tail(text: str, at: int, base: int, digits: int) -> tuple[int, int]:
    """Place and length in digits of what a head points to: so many items of ``digits`` each. Raises where the text ends before."""
    start = base + 2 * int(text[at : at + 64], 16)
    size = digits * int(text[start : start + 64], 16)
    if start + 64 + size > len(text):
        raise _Odd
    return start + 64, size


def canonical(part: Abi) -> str:
    """Type of an ABI input as signatures spell it: tuples written out."""
    kind = str(part["type"])
    if kind.startswith("tuple"):
        return "(" + ",".join(canonical(inner) for inner in part["components"]) + ")" + kind[5:]
    return kind


def _lenient(part: Abi) -> str:
    """The type with texts as bytes: a chain keeps any bytes as a text, and bad UTF-8 in one must not hide the event."""
    return canonical(part).replace("string", "bytes")


class Artifacts:
    """The ABIs of all contracts, searchable by what stands on the chain."""

    def __init__(self, folder: Path = ARTIFACTS):
        self.events: dict[str, dict[bytes, Shape]] = {}
        self.readers: dict[tuple[str, str], EventReader] = {}
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
                    if reader := EventReader.of(shape):
                        self.readers[contract, "0x" + digest.hex()] = reader
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
            found = decode([_lenient(p) for p in loose], data, strict=False)
            values = {part["name"]: _value(part, value) for part, value in zip(loose, found, strict=True)}
            for part, topic in zip(indexed, topics[1:], strict=True):
                # Of strings, arrays and structs only the hash stands in a topic.
                hashed = part["type"] in ("string", "bytes") or part["type"].endswith("]") or part["type"] == "tuple"
                values[part["name"]] = "0x" + topic.hex() if hashed else _value(part, decode([part["type"]], topic)[0])
        except (DecodingError, ValueError, OverflowError):
            return None
        return Call(contract, shape.name, {p["name"]: values[p["name"]] for p in shape.inputs}, shape.inputs)

    def log(self, contract: str, topics: Sequence[str], data: str) -> Call | None:
        """The same as :meth:`event` of a log as JSON-RPC writes it, and quick."""
        reader = self.readers.get((contract, topics[0])) if topics else None
        if reader and (args := reader.read(topics, data)) is not None:
            return Call(contract, reader.shape.name, args, reader.shape.inputs)
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
        values = decode([_lenient(part) for part in shape.inputs], data[4:], strict=False)
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
        return value.decode(errors="replace") if kind == "string" else "0x" + value.hex()
    return value


def addresses_of(inputs: Sequence[Abi], args: dict[str, Any]) -> set[str]:
    """Every address among arguments of these types, the zero address left out."""
    return {found for part in inputs for found in _addresses(part, args[part["name"]])}


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
