"""Clear signing (ERC-7730): what wallets show instead of bytes. The files lie in webapp/clear-signing.

They name no chain; :func:`descriptor` fills in the addresses, and the ABI of the committed artifacts, of one.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from .abi import artifacts

FOLDER = Path(__file__).parent / "clear-signing"
#: ``calldata-EnergyCertificate`` and the like: what is shown, of which contract.
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@lru_cache
def _template(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def descriptor(name: str, chain_id: int, addresses: dict[str, str]) -> dict[str, Any]:
    """The file ``name`` for the contracts of one chain. ``addresses`` by contract name."""
    contract = name.partition("-")[2]
    body: dict[str, Any] = json.loads(_template(name))
    context = body["context"].get("contract") or body["context"]["eip712"]
    context["deployments"] = [{"chainId": chain_id, "address": addresses[contract]}]
    if "abi" in context:
        shown = {form.partition("(")[0] for form in body["display"]["formats"]}
        context["abi"] = [e for e in artifacts().abis[contract] if e["type"] == "function" and e["name"] in shown]
    else:
        context["domain"] |= {"chainId": chain_id, "verifyingContract": addresses[contract]}
    return body
