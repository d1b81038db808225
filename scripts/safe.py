"""Calls for the owners of a Safe to look at, sign and execute: the file that its Transaction Builder loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils import keccak

VERSION = "1.0"


@dataclass(frozen=True)
class Call:
    """A function call as ABI entry and arguments; ``data`` is its calldata, 0x-prefixed hex."""

    to: str
    abi: dict[str, Any]
    arguments: tuple[Any, ...]
    data: str


def batch(
    chain_id: int, safe: str, created_ms: int, name: str, description: str, calls: Sequence[Call]
) -> dict[str, Any]:
    """The Transaction Builder's document of ``calls``, in order. ``created_ms``: milliseconds since 1970, UTC."""
    document = {
        "version": VERSION,
        "chainId": str(chain_id),
        "createdAt": created_ms,
        "meta": {
            "name": name,
            "description": description,
            "txBuilderVersion": "1.18.0",
            "createdFromSafeAddress": safe,
            "createdFromOwnerAddress": "",
        },
        "transactions": [transaction(call) for call in calls],
    }
    document["meta"]["checksum"] = checksum(document)
    return document


def transaction(call: Call) -> dict[str, Any]:
    """One call with its calldata, and beside it the function and arguments that owners read."""
    inputs = call.abi["inputs"]
    return {
        "to": call.to,
        "value": "0",
        "data": call.data,
        "contractMethod": {
            "inputs": inputs,
            "name": call.abi["name"],
            "payable": call.abi["stateMutability"] == "payable",
        },
        "contractInputsValues": {
            entry["name"]: text_of(value) for entry, value in zip(inputs, call.arguments, strict=True)
        },
    }


def text_of(value: Any) -> str:
    """An argument as the Transaction Builder's form holds it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, list | tuple):
        return "[" + ",".join(text_of(one) for one in value) + "]"
    return json.dumps(value)


def checksum(document: dict[str, Any]) -> str:
    """The checksum that the Transaction Builder compares on loading: keccak256 of its own serialization, in
    which every object leads with its sorted keys, with the batch's name and checksum left out."""
    meta = {key: value for key, value in document["meta"].items() if key != "checksum"} | {"name": None}
    return "0x" + keccak(text=serialized({**document, "meta": meta})).hex()


def serialized(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(serialized, value)) + "]"
    if isinstance(value, dict):
        keys = sorted(value)
        listed = json.dumps(keys, separators=(",", ":"), ensure_ascii=False)
        return "{" + listed + "".join(serialized(value[key]) + "," for key in keys) + "}"
    return json.dumps(value, ensure_ascii=False)
