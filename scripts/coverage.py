"""Line and branch coverage of contracts/ by the contract tests, from the program counters that their transactions ran.

The contracts are measured as they are compiled, optimised, by the source maps of that very bytecode; code on the test
chain that is not ours is left out. A line is covered if a statement that begins on it ran. A branch is one of the two
ways of a conditional jump that the compiler made for an `if`, a conditional expression, `&&`, `||` or a loop.
Statements and conditions that the optimiser left without any instruction are listed as not measurable.

    ./run coverage                                  every test of tests/contracts
    ./run coverage --without tests/contracts/test_register.py
                                                    what is left uncovered without these tests; a test of its own, too
    ./run coverage --recorded --without tests/contracts/test_register.py
                                                    the same from the last run's record, without running anything
    ./run coverage --recorded --each                what is lost without each file of tests
    ./run coverage -k revoke                        any pytest arguments
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.compile import ROOT, SETTINGS, SOLC_VERSION, STATE, CompileError, standard_input

HITS = STATE / "test" / "coverage.json"
SIMPLE = {
    "ExpressionStatement", "VariableDeclarationStatement", "Return", "EmitStatement", "RevertStatement",
    "Break", "Continue", "InlineAssembly", "PlaceholderStatement",
}  # fmt: skip
CONDITIONAL = {"IfStatement": "condition", "WhileStatement": "condition", "ForStatement": "condition"}
JUMPI, PUSH1, PUSH32 = 0x57, 0x60, 0x7F

Range = tuple[str, int, int]  # file, first byte, length


@dataclass
class Measured:
    """What is found in the sources, and what the tests ran of it."""

    statements: dict[Range, str] = field(default_factory=dict)
    branches: set[Range] = field(default_factory=set)
    with_code: set[Range] = field(default_factory=set)
    ran: set[Range] = field(default_factory=set)
    ways: dict[Range, set[str]] = field(default_factory=lambda: defaultdict(set))


def compiled() -> dict[str, Any]:
    """The compiler's output with source maps and syntax trees; not kept, as it is large."""
    request = standard_input(ROOT)
    request["settings"] = {
        **SETTINGS,
        "outputSelection": {
            "*": {
                "*": [
                    "evm.bytecode.object", "evm.bytecode.sourceMap", "evm.deployedBytecode.object",
                    "evm.deployedBytecode.sourceMap", "evm.deployedBytecode.immutableReferences",
                ],
                "": ["ast"],
            }
        },
    }  # fmt: skip
    solc = os.environ.get("WATTMARK_SOLC") or STATE / "solc" / f"solc-v{SOLC_VERSION}"
    done = subprocess.run(
        [str(solc), "--standard-json"], input=json.dumps(request), capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise CompileError(done.stderr.strip())
    output = json.loads(done.stdout)
    errors = [m["formattedMessage"] for m in output.get("errors", []) if m["severity"] == "error"]
    if errors:
        raise CompileError("\n".join(errors))
    return output


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "nodeType" in tree:
            yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def range_of(node: dict[str, Any], names: dict[int, str]) -> Range:
    start, length, index = map(int, node["src"].split(":"))
    return names[index], start, length


def find(output: dict[str, Any], names: dict[int, str], measured: Measured) -> None:
    """The statements and conditions of our own function bodies."""
    for unit, source in output["sources"].items():
        if not unit.startswith("contracts/"):
            continue
        for function in nodes(source["ast"]):
            if function["nodeType"] not in ("FunctionDefinition", "ModifierDefinition") or not function.get("body"):
                continue
            for node in nodes(function["body"]):
                kind = node["nodeType"]
                if kind in SIMPLE:
                    measured.statements[range_of(node, names)] = kind
                elif kind in CONDITIONAL and node.get(CONDITIONAL[kind]):
                    measured.statements[range_of(node[CONDITIONAL[kind]], names)] = kind
                    measured.branches.add(range_of(node, names))
                elif kind == "Conditional" or (kind == "BinaryOperation" and node["operator"] in ("&&", "||")):
                    measured.branches.add(range_of(node, names))


def instructions(code: bytes, source_map: str) -> Iterator[tuple[int, int, tuple[int, int, int]]]:
    """(program counter, opcode, (first byte, length, file index)) of every mapped instruction."""
    place = ["0", "0", "-1"]
    at = 0
    for entry in source_map.split(";"):
        for number, value in enumerate(entry.split(":")[:3]):
            if value:
                place[number] = value
        if at >= len(code):
            return
        opcode = code[at]
        yield at, opcode, (int(place[0]), int(place[1]), int(place[2]))
        at += 1 + (opcode - PUSH1 + 1 if PUSH1 <= opcode <= PUSH32 else 0)


def hits_of(recorded: dict[str, Any], contract: dict[str, Any], created: bool) -> set[str] | None:
    """What ran of a contract's creation or run-time code; None if it was never deployed."""
    runtime = contract["evm"]["deployedBytecode"]
    wanted = contract["evm"]["bytecode"]["object"] if created else runtime["object"]
    holes = [] if created else [p for places in runtime.get("immutableReferences", {}).values() for p in places]

    def masked(code: str) -> str:
        text = bytearray.fromhex(code)
        for hole in holes:
            text[hole["start"] : hole["start"] + hole["length"]] = bytes(hole["length"])
        return text.hex()

    found: set[str] | None = None
    for name, code in recorded["code"].items():
        code = code.removeprefix("0x")
        if created and not code.startswith(wanted):
            continue
        if not created and (len(code) != len(wanted) or masked(code) != wanted):
            continue
        found = (found or set()) | set(recorded["hits"][name])
    return found


def record(without: Collection[str] = ()) -> dict[str, Any]:
    """The last run's record: code, and the program counters of all files of tests together but for those left out."""
    kept = json.loads(HITS.read_text(encoding="utf-8"))
    hits: dict[str, set[str]] = {name: set() for name in kept["code"]}
    for file, codes in kept["hits"].items():
        if file not in without:
            for name, places in codes.items():
                hits[name].update(places)
    # Code that only left-out files have put on the chain was never there.
    return {"code": {name: code for name, code in kept["code"].items() if hits[name]}, "hits": hits}


def measure(output: dict[str, Any], recorded: dict[str, Any]) -> tuple[Measured, list[str]]:
    """What ran; and the names of contracts with code of which none was found on the test chain."""
    names = {source["id"]: unit for unit, source in output["sources"].items()}
    measured, absent = Measured(), []
    find(output, names, measured)
    by_file: dict[str, list[Range]] = defaultdict(list)
    for statement in measured.statements:
        by_file[statement[0]].append(statement)
    for unit, contracts in sorted(output["contracts"].items()):
        for name, contract in contracts.items():
            if not unit.startswith("contracts/") or not contract["evm"]["bytecode"]["object"]:
                continue
            for part, created in (("bytecode", True), ("deployedBytecode", False)):
                hits = hits_of(recorded, contract, created)
                if hits is None and not created and len(contract["evm"][part]["object"]) > 400:
                    absent.append(name)
                code = bytes.fromhex(contract["evm"][part]["object"])
                for at, opcode, (start, length, index) in instructions(code, contract["evm"][part]["sourceMap"]):
                    file = names.get(index)
                    if file not in by_file:
                        continue
                    place = (file, start, length)
                    inside = [s for s in by_file[file] if s[1] <= start and start + length <= s[1] + s[2]]
                    measured.with_code.update(inside)
                    ways = {way for way in ("0", "1") if hits and f"{at}:{way}" in hits}
                    if ways or (hits and str(at) in hits):
                        measured.ran.update(inside)
                    if opcode == JUMPI and place in measured.branches:
                        measured.with_code.add(place)
                        measured.ways[place] |= ways
    return measured, absent


def report(measured: Measured) -> dict[str, Any]:
    """Figures per file, and what is missing as `file:line: text`."""
    texts = {file: (ROOT / file).read_bytes() for file in {s[0] for s in [*measured.statements, *measured.branches]}}

    def line(place: Range) -> int:
        return texts[place[0]].count(b"\n", 0, place[1]) + 1

    def shown(place: Range, what: str) -> str:
        text = " ".join(texts[place[0]][place[1] : place[1] + place[2]].decode().split())
        return f"{place[0]}:{line(place)}: {what}: {text[:100]}"

    files: dict[str, dict[str, int]] = {}
    missing, unmeasured = [], []
    for file in sorted(texts):
        lines: dict[int, bool] = {}
        for place in sorted(s for s in measured.statements if s[0] == file):
            if place not in measured.with_code:
                unmeasured.append(shown(place, "no instruction"))
                continue
            ran = place in measured.ran
            lines[line(place)] = lines.get(line(place), True) and ran
            if not ran:
                missing.append(shown(place, "not run"))
        ways = 0
        conditions = sorted(b for b in measured.branches if b[0] == file)
        for place in conditions:
            if place not in measured.with_code:
                unmeasured.append(shown(place, "no jump"))
                continue
            ways += len(measured.ways[place])
            if len(measured.ways[place]) < 2:
                missing.append(shown(place, "never both ways"))
        measurable = [c for c in conditions if c in measured.with_code]
        files[file] = {
            "lines": len(lines),
            "linesCovered": sum(lines.values()),
            "branches": 2 * len(measurable),
            "branchesCovered": ways,
        }
    total = {key: sum(figures[key] for figures in files.values()) for key in next(iter(files.values()))}
    return {"files": files, "total": total, "missing": missing, "unmeasured": unmeasured}


def percent(part: int, whole: int) -> str:
    return f"{part}/{whole} {100 * part / whole:.1f} %" if whole else "none"


def lost(whole: dict[str, int], part: dict[str, int]) -> tuple[int, int]:
    """Lines and branches that are covered in the whole only."""
    return (whole["linesCovered"] - part["linesCovered"], whole["branchesCovered"] - part["branchesCovered"])


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a test fails, or if coverage is below --least."""
    parser = argparse.ArgumentParser(
        prog="./run coverage", description="Line and branch coverage of contracts/ by tests/contracts.",
        epilog="Further arguments go to pytest.", allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.add_argument("--least", type=float, default=0, metavar="PERCENT", help="of lines and of branches; else fail")
    parser.add_argument(
        "--without", action="append", default=[], metavar="TEST", help="leave a file of tests, or one test, out"
    )
    parser.add_argument("--more", action="store_true", help="add to what the last run recorded: for runs in parts")
    parser.add_argument("--recorded", action="store_true", help="report on the last run without running the tests")
    parser.add_argument("--each", action="store_true", help="also what is lost without each file of tests")
    options, rest = parser.parse_known_args(arguments)
    for test in options.without:
        if not (ROOT / test.split("::")[0]).is_file():
            parser.error(f"there is no {test}")
    status = 0
    if not options.recorded:
        HITS.parent.mkdir(parents=True, exist_ok=True)
        if not options.more:
            HITS.unlink(missing_ok=True)
        rest += [f"--deselect={test}" for test in options.without]
        command = [sys.executable, str(ROOT / "run"), "test", *rest, "-p", "scripts.coverage_probe"]
        if not any((ROOT / argument.split("::")[0]).exists() for argument in rest):
            command.insert(3, "tests/contracts")
        ran = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "WATTMARK_COVERAGE": str(HITS)}, stdout=sys.stderr.fileno()
        )
        status = ran.returncode
    if not HITS.exists():
        print("the tests recorded nothing", file=sys.stderr)
        return 1
    try:
        output = compiled()
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    measured, absent = measure(output, record(options.without))
    result = {**report(measured), "neverDeployed": absent}
    if options.each:
        result["lost"] = {
            file: lost(result["total"], report(measure(output, record([*options.without, file]))[0])["total"])
            for file in sorted(json.loads(HITS.read_text(encoding="utf-8"))["hits"])
            if file and file not in options.without
        }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        for text in result["unmeasured"]:
            print(f"not measurable: {text}")
        for text in result["missing"]:
            print(text)
        for name in absent:
            print(f"{name}: not found on the test chain, or compiled from other sources than these")
        for file, figures in [*result["files"].items(), ("all", result["total"])]:
            lines = percent(figures["linesCovered"], figures["lines"])
            branches = percent(figures["branchesCovered"], figures["branches"])
            print(f"{file:<36} lines {lines:>18}   branches {branches:>18}")
        for file, (lines, branches) in result.get("lost", {}).items():
            print(f"without {file:<50} {lines:>4} lines {branches:>4} branches fewer")
    total = result["total"]
    least = min(
        100 * total["linesCovered"] / max(total["lines"], 1), 100 * total["branchesCovered"] / max(total["branches"], 1)
    )
    return status or (1 if least < options.least or absent else 0)


if __name__ == "__main__":
    sys.exit(main())
