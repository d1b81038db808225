"""Artifacts and the address book: what is on a chain, and whether it is what is committed. Nothing here sends.

The book's format is in docs/protocol.md. While a deployment is not complete its book is ``<book>.partial``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eth_utils import abi_to_signature, function_signature_to_4byte_selector
from web3 import Web3
from web3.contract import Contract

from scripts.networks import PRIVATE_BOOKS, PUBLIC_BOOKS, ROOT, DeployError

ARTIFACTS = ROOT / "oracle" / "artifacts"
SCHEMA = "wattmark/addresses/1"
MANAGER = "AccessManager"
MANAGED = ("DeviceRegistry", "Notary", "EnergyCertificate", "EmissionFactors", "MitigationOutcome")
ADAPTER = "ERC1888Adapter"
CONTRACTS = (MANAGER, *MANAGED, ADAPTER)


# -- artifacts --------------------------------------------------------------------------------------


@cache
def artifact(name: str) -> Mapping[str, Any]:
    """The committed artifact of a contract."""
    path = ARTIFACTS / f"{name}.json"
    if not path.exists():
        raise DeployError(f"{path.relative_to(ROOT)} is missing; mend: ./run compile")
    return MappingProxyType(json.loads(path.read_text(encoding="utf-8")))


def masked(code: bytes, document: Mapping[str, Any]) -> bytes:
    """Run-time code with its immutables set to zero, so that it can be compared with the artifact's."""
    changed = bytearray(code)
    for places in document["immutableReferences"].values():
        for place in places:
            begin, end = place["start"], place["start"] + place["length"]
            changed[begin:end] = bytes(end - begin)
    return bytes(changed)


def is_ours(name: str, code: bytes) -> bool:
    """Whether ``code`` is what the committed artifact becomes on chain."""
    document = artifact(name)
    return masked(code, document) == bytes.fromhex(document["deployedBytecode"][2:])


def selectors(signatures: Sequence[str]) -> list[bytes]:
    return [function_signature_to_4byte_selector(signature) for signature in signatures]


def changing_functions(name: str) -> list[str]:
    """Signatures of a contract's functions that are not views."""
    functions = [entry for entry in artifact(name)["abi"] if entry["type"] == "function"]
    return [abi_to_signature(entry) for entry in functions if entry["stateMutability"] not in ("view", "pure")]


# -- the address book -------------------------------------------------------------------------------


def contract_at(w3: Web3, book: Mapping[str, Any], name: str) -> Contract:
    return _contract(w3, book["contracts"][name]["address"], name)


@lru_cache(maxsize=64)
def _contract(w3: Web3, address: str, name: str) -> Contract:
    return w3.eth.contract(address=address, abi=artifact(name)["abi"])


def partial(path: Path) -> Path:
    """Where a deployment that is not complete is kept: never among the files to be committed."""
    folder = PRIVATE_BOOKS if path.parent == PUBLIC_BOOKS else path.parent
    return folder / f"{path.name}.partial"


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One deployment at a time for the books of a folder: another waits, and then finds what has been done. The system
    frees the lock with the process that holds it."""
    folder = partial(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for another deployment that writes to {folder}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write(path: Path, book: Mapping[str, Any]) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}")
    with half.open("w", encoding="utf-8") as file:
        file.write(json.dumps(book, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def load(path: Path, chain_id: int) -> dict[str, Any]:
    """The address book at ``path``. Raises DeployError where it is none, or another chain's."""
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DeployError(f"no deployment at {path}; mend: ./run deploy") from None
    except ValueError:
        raise DeployError(f"{path} is not an address book (no JSON)") from None
    if not isinstance(book, dict) or book.get("schema") != SCHEMA:
        raise DeployError(f"{path} is not an address book ({SCHEMA})")
    if book.get("chainId") != chain_id:
        raise DeployError(
            f"{path} is for chain {book.get('chainId')}, not {chain_id}; name another by WATTMARK_ADDRESSES"
        )
    return book


def read(w3: Web3, path: Path) -> dict[str, Any] | None:
    """The address book at ``path``; None where there is none, or where its chain was begun anew."""
    if not path.exists():
        return None
    book = load(path, w3.eth.chain_id)
    codes = {name: bytes(w3.eth.get_code(entry["address"])) for name, entry in book["contracts"].items()}
    if (codes and not any(codes.values())) or book.get("pending", {}).get("block", 0) > w3.eth.block_number:
        print(f"  nothing of {path.name} is on this chain: it was begun anew", flush=True)
        return None
    for name, code in codes.items():
        if not is_ours(name, code):
            address = book["contracts"][name]["address"]
            raise DeployError(
                f"{name} at {address} has other code than oracle/artifacts; move {path} away to deploy anew"
            )
    return book
