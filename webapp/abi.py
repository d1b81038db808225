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
        return {found for part in self.inputs for found in _addresses(part, self.args[part["name"]])}


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
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
