"""Compiles tests/contracts/attackers: hostile contracts that must never be among what is deployed."""

from __future__ import annotations

import functools
from pathlib import Path

import solcx

ROOT = Path(__file__).resolve().parent.parent.parent
SOLC_VERSION = "0.8.37"


@functools.cache
def build() -> dict[str, dict]:
    """`{name: {abi, bin}}` of every contract in attackers/."""
    sources = sorted((Path(__file__).parent / "attackers").glob("*.sol"))
    settings = {
        "evmVersion": "cancun",
        "optimizer": {"enabled": True, "runs": 200},
        "remappings": ["@openzeppelin=.wattmark/node/node_modules/@openzeppelin"],
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
    }
    output = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {f"attackers/{path.name}": {"content": path.read_text(encoding="utf-8")} for path in sources},
            "settings": settings,
        },
        solc_version=SOLC_VERSION,
        base_path=str(ROOT),
        allow_paths=str(ROOT),
    )
    return {
        name: {"abi": contract["abi"], "bin": contract["evm"]["bytecode"]["object"]}
        for unit, contracts in output["contracts"].items()
        if unit.startswith("attackers/")
        for name, contract in contracts.items()
    }
