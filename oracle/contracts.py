"""The contracts as files: the address book of a network, the committed artifacts, and what their ABIs say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eth_abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils import to_checksum_address

from .errors import ConfigError
from .protocol import keccak256

ADDRESSES_SCHEMA = "wattmark/addresses/1"
ARTIFACTS = Path(__file__).parent / "artifacts"

_ERROR_STRING, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployed contract: ``code_hash`` is the keccak256 of its run-time code on the chain."""

    name: str
    address: str
    code_hash: bytes
    transaction: bytes
    block: int


@dataclass(frozen=True)
class AddressBook:
    """Where the contracts of one network are, and who was appointed at deployment. Format: docs/protocol.md."""

    chain_id: int
    chain_name: str
    deployed_block: int
    contracts: Mapping[str, Deployment]
    roles: Mapping[str, Any]
    signers: tuple[str, ...]
    threshold: int

    @classmethod
    def read(cls, path: Path) -> AddressBook:
        """Read the JSON file; ConfigError says what is missing or of the wrong form."""
        try:
            book = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no address book at {path}; deploy the contracts first (./run deploy)") from None
        except (OSError, ValueError) as fault:
            raise ConfigError(f"address book {path} cannot be read: {fault}") from None
        try:
            if book["schema"] != ADDRESSES_SCHEMA:
                raise ConfigError(f"address book {path} has schema {book['schema']!r}; expected {ADDRESSES_SCHEMA!r}")
            contracts = {name: _deployment(name, entry) for name, entry in book["contracts"].items()}
            return cls(
                chain_id=int(book["chainId"]),
                chain_name=str(book["chainName"]),
                deployed_block=int(book["deployedBlock"]),
                contracts=MappingProxyType(contracts),
                roles=MappingProxyType(dict(book.get("roles", {}))),
                signers=tuple(to_checksum_address(signer) for signer in book.get("signers", ())),
                threshold=int(book.get("threshold", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise ConfigError(
                f"address book {path}: {type(fault).__name__} at {fault}; expected schema {ADDRESSES_SCHEMA}"
            ) from None


def _deployment(name: str, entry: Mapping[str, Any]) -> Deployment:
    return Deployment(
        name,
        to_checksum_address(entry["address"]),
        bytes.fromhex(entry["codeHash"].removeprefix("0x")),
        bytes.fromhex(str(entry.get("transaction") or "").removeprefix("0x")),
        int(entry["block"]),
    )


@cache
def artifact(name: str) -> Mapping[str, Any]:
    """The committed artifact of a contract: ``abi``, ``bytecode``, ``deployedBytecode``…"""
    try:
        return MappingProxyType(json.loads((ARTIFACTS / f"{name}.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"no artifact of contract {name}; ./run compile writes it") from None


def abi_type(entry: Mapping[str, Any]) -> str:
    """ABI type with the parts of tuples spelled out."""
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(abi_type(part) for part in entry['components'])}){kind.removeprefix('tuple')}"


@cache
def events_of(contract: str) -> dict[bytes, Mapping[str, Any]]:
    """The events of a contract in its ABI, by topic."""
    return {_signature(entry): entry for entry in artifact(contract)["abi"] if entry["type"] == "event"}


def error_in_words(contracts: tuple[str, ...], data: bytes) -> str:
    """Revert data of one of ``contracts`` in words: ``SlotAlreadyCertified(deviceId=1, start=1467331200)``."""
    selector, body = data[:4], data[4:]
    try:
        if selector == _ERROR_STRING:
            return str(decode(["string"], body)[0])
        if selector == _PANIC:
            return f"Panic(code={decode(['uint256'], body)[0]:#x})"
        known = _errors(contracts).get(selector)
        if known:
            values = decode([abi_type(entry) for entry in known["inputs"]], body)
            pairs = (f"{entry['name']}={_shown(value)}" for entry, value in zip(known["inputs"], values, strict=True))
            return f"{known['name']}({', '.join(pairs)})"
    except (DecodingError, UnicodeDecodeError):
        pass
    return f"0x{data.hex()}" if data else "reverted without a reason"


@cache
def _errors(contracts: tuple[str, ...]) -> dict[bytes, Mapping[str, Any]]:
    return {
        _signature(entry)[:4]: entry
        for name in contracts
        for entry in artifact(name)["abi"]
        if entry["type"] == "error"
    }


def _signature(entry: Mapping[str, Any]) -> bytes:
    return keccak256(f"{entry['name']}({','.join(abi_type(part) for part in entry['inputs'])})".encode())


def _shown(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
