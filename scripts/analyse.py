"""slither over contracts/: no high or medium finding without a written reason.

The reasons are tests/proofs/slither.json: {"<detector> <Contract>.<function>": {"findings": count, "reason": text}}.
A reason for more or fewer findings than there are fails too. Beside the contracts lies a planted bad one in every run, whose bugs must be found: one plain,
one that shows only inside OpenZeppelin's ERC-1155 callback. And every contract of contracts/ must have been seen, for a
compiler that gives nothing leaves nothing to find.

Exit code 1 on an open finding, a reason without a finding, a planted bug not found, a contract not seen.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.workspace import ROOT, WorkspaceError, build, workspace

REASONS = ROOT / "tests" / "proofs" / "slither.json"
IMPACTS = ("High", "Medium")
PLANTED = """\
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC1155} from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";

contract PlantedBug is ERC1155("") {
    mapping(address => uint256) private _owed;

    receive() external payable {
        _owed[msg.sender] += msg.value;
    }

    function withdraw() external {
        (bool sent,) = msg.sender.call{value: _owed[msg.sender]}("");
        require(sent);
        _owed[msg.sender] = 0;
    }

    function collect() external {
        uint256 owed = _owed[msg.sender];
        require(owed != 0);
        _mint(msg.sender, 0, owed, "");
        _owed[msg.sender] = 0;
    }
}
"""
# Detector and function of the planted contract that must be found.
PLANTED_FINDINGS = {"reentrancy-eth PlantedBug.withdraw", "reentrancy-no-eth PlantedBug.collect"}
DEFINITION = re.compile(r"^(?:abstract )?(?:contract|library|interface) (\w+)", re.MULTILINE)


def analysed(folder: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """slither's findings of high and medium impact, and the names of the contracts it saw below contracts/."""
    from slither import Slither
    from slither.detectors import all_detectors
    from slither.detectors.abstract_detector import AbstractDetector

    logging.disable(logging.INFO)
    working = Path.cwd()
    os.chdir(folder)
    try:
        slither = Slither(".", exclude_dependencies=True, foundry_ignore_compile=True)
        for detector in vars(all_detectors).values():
            if (
                isinstance(detector, type)
                and issubclass(detector, AbstractDetector)
                and detector is not AbstractDetector
            ):
                slither.register_detector(detector)
        findings = [f for found in slither.run_detectors() for f in found if f["impact"] in IMPACTS]
        ours = (folder / "contracts").resolve()
        seen = {
            contract.name
            for contract in slither.contracts
            if Path(contract.source_mapping.filename.absolute).resolve().is_relative_to(ours)
        }
    finally:
        os.chdir(working)
    return findings, seen


def key_of(finding: dict[str, Any]) -> str:
    """`<detector> <Contract>.<function>` of a finding's first element."""
    element = finding["elements"][0]
    while element["type"] not in ("function", "contract"):
        element = element["type_specific_fields"]["parent"]
    if element["type"] == "contract":
        return f"{finding['check']} {element['name']}"
    return f"{finding['check']} {element['type_specific_fields']['parent']['name']}.{element['name']}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run analyse", description="slither over contracts/, high and medium.")
    parser.add_argument("--json", action="store_true", help="the findings as one JSON object")
    options = parser.parse_args(arguments)
    try:
        folder = workspace("slither", ["contracts"], "contracts")
        (folder / "contracts" / "PlantedBug.sol").write_text(PLANTED, encoding="utf-8")
        build(folder, "--build-info", "--ast", "--force")
    except WorkspaceError as error:
        print(error, file=sys.stderr)
        return 1
    findings, seen = analysed(folder)
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "contracts").rglob("*.sol"))}
    reasons = json.loads(REASONS.read_text(encoding="utf-8"))

    by_key: dict[str, list[str]] = {}
    for finding in findings:
        by_key.setdefault(key_of(finding), []).append(f"{finding['impact']}: {finding['description'].strip()}")
    found = {key: texts for key, texts in by_key.items() if " PlantedBug" not in key}
    open_ = {key: texts for key, texts in found.items() if key not in reasons}

    problems = [f"{key}\n  " + "\n  ".join(texts) for key, texts in sorted(open_.items())]
    for key, entry in reasons.items():
        count = len(found.get(key, ()))
        if entry["findings"] != count:
            problems.append(f"slither.json: {key!r} gives a reason for {entry['findings']} findings, there are {count}")
        if not entry["reason"].strip():
            problems.append(f"slither.json: {key!r} has no reason")
    problems += [f"the planted bug was not found: {key}" for key in sorted(PLANTED_FINDINGS - by_key.keys())]
    defined = {name for text in sources.values() for name in DEFINITION.findall(text)} | {"PlantedBug"}
    problems += [f"slither did not see {name}" for name in sorted(defined - seen)]
    problems += [
        f"{path.relative_to(ROOT)}: reasons belong into {REASONS.relative_to(ROOT)}, not into slither-disable comments"
        for path, text in sources.items()
        if "slither-disable" in text
    ]
    reasoned = sum(len(texts) for key, texts in found.items() if key in reasons)
    if options.json:
        print(json.dumps({"contracts": len(seen) - 1, "reasoned": reasoned, "problems": problems}, indent=2))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        planted = len(PLANTED_FINDINGS & by_key.keys())
        print(
            f"{len(seen) - 1} contracts, libraries and interfaces seen, {planted} of {len(PLANTED_FINDINGS)} planted bugs "
            f"found, {reasoned} findings with a reason, {len(open_)} open"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
