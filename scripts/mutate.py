"""Mutation of contracts/: small bugs, one at a time, each of which the property tests must notice.

A mutant changes one place of one contract: a comparison, an arithmetic or logical operator, a number by one, a
condition to true or false, a statement or a `restricted` left out. It is compiled from a copy of the contracts and
judged by the state machines of tests/properties, those that concern its file first; a mutant that none of them
notices survives. tests/proofs/survivors.json lists survivors with an argument, {"<mutant>": argument}: why no test can
tell it from the original, or which test of tests/contracts does where the machines cannot.

    ./run mutate                            a sample for five minutes, the same mutants in the same order every time
    ./run mutate --all --runs 100           every mutant; hours
    ./run mutate --file Notary --list       what would be done

Exit code 1 if a mutant survives without an argument, or if a listed one is killed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.compile import ROOT, SETTINGS, SOLC_VERSION, STATE, CompileError, standard_input

SURVIVORS = ROOT / "tests" / "proofs" / "survivors.json"
SEED = 1
SAMPLE_SECONDS = 270
# The most that the machines may take on one mutant; one that never ends is noticed.
MUTANT_SECONDS = 600
# Not part of what the state machines deploy.
LEFT_OUT = ("contracts/ERC1888Adapter.sol", "contracts/Access.sol")
SWAPS = {
    "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"], "==": ["!="], "!=": ["=="],
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "%": ["*"], "&&": ["||"], "||": ["&&"], "&": ["|"], "|": ["&"],
    "<<": [">>"], ">>": ["<<"], "+=": ["-="], "-=": ["+="],
}  # fmt: skip
MACHINES_OF = {
    "CertifiedSlots": ("Issuing", "Correcting"),
    "DeviceRegistry": ("Registering", "Correcting"),
    "EmissionFactors": ("Converting",),
    "EnergyCertificate": ("Issuing", "Correcting", "Holding", "Governing", "Reentering", "Converting"),
    "MitigationOutcome": ("Converting", "Holding", "Governing"),
    "Notary": ("Notarizing", "Governing", "Issuing"),
    "RetirableToken": ("Holding", "Converting"),
    "StatementLeaf": ("Issuing",),
}


@dataclass(frozen=True)
class Mutant:
    """In `file`, the bytes `start` to `end` become `new`."""

    name: str
    file: str
    start: int
    end: int
    new: str

    def source(self) -> str:
        text = (ROOT / self.file).read_bytes()
        return (text[: self.start] + self.new.encode() + text[self.end :]).decode()


# -- mutants -------------------------------------------------------------------------------------------


def solc(request: dict[str, Any]) -> dict[str, Any]:
    """The compiler's output. Raises CompileError with its first error."""
    compiler = os.environ.get("WATTMARK_SOLC") or STATE / "solc" / f"solc-v{SOLC_VERSION}"
    done = subprocess.run(
        [str(compiler), "--standard-json"], input=json.dumps(request), capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise CompileError(done.stderr.strip())
    output: dict[str, Any] = json.loads(done.stdout)
    for message in output.get("errors", []):
        if message["severity"] == "error":
            raise CompileError(message["formattedMessage"])
    return output


def children(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "nodeType" in node:
            yield node
        for value in node.values():
            yield from children(value)
    elif isinstance(node, list):
        for value in node:
            yield from children(value)


def mutants() -> list[Mutant]:
    """Every mutant, in the order of the sources."""
    request = standard_input(ROOT)
    request["settings"] = {**SETTINGS, "outputSelection": {"*": {"": ["ast"]}}}
    output = solc(request)
    found: list[Mutant] = []
    names: Counter[str] = Counter()
    for file, source in sorted(output["sources"].items()):
        if not file.startswith("contracts/") or file.startswith("contracts/interfaces/") or file in LEFT_OUT:
            continue
        text = (ROOT / file).read_bytes()
        for scope in children(source["ast"]):
            is_function = scope["nodeType"] == "FunctionDefinition" and scope.get("body")
            if not is_function and not (scope["nodeType"] == "VariableDeclaration" and scope.get("constant")):
                continue
            for start, end, new in sorted(changes(scope, text)):
                old = " ".join(text[start:end].decode().split())
                name = f"{Path(file).stem}.{scope['name'] or scope.get('kind')}: {old} -> {new or 'nothing'}"
                names[name] += 1
                numbered = name if names[name] == 1 else f"{name} ({names[name]})"
                found.append(Mutant(numbered, file, start, end, new))
    return found


def changes(scope: dict[str, Any], text: bytes) -> Iterator[tuple[int, int, str]]:
    """(first byte, end, new text) of every change within a function or constant."""

    def place(node: dict[str, Any]) -> tuple[int, int]:
        start, length, _ = map(int, node["src"].split(":"))
        return start, start + length

    for node in children(scope):
        kind = node["nodeType"]
        start, end = place(node)
        if kind in ("BinaryOperation", "Assignment"):
            left, right = (
                ("leftExpression", "rightExpression")
                if kind == "BinaryOperation"
                else ("leftHandSide", "rightHandSide")
            )
            between, until = place(node[left])[1], place(node[right])[0]
            at = text.index(node["operator"].encode(), between, until)
            for swap in SWAPS.get(node["operator"], ()):
                yield at, at + len(node["operator"]), swap
        elif kind == "UnaryOperation" and node["operator"] == "!":
            yield start, start + 1, ""
        elif kind == "IfStatement":
            condition = place(node["condition"])
            yield (*condition, "true")
            yield (*condition, "false")
        elif kind == "Literal" and node["kind"] == "number" and text[start:end].replace(b"_", b"").isdigit():
            value = int(text[start:end].replace(b"_", b""))
            yield start, end, str(value + 1)
            if value:
                yield start, end, str(value - 1)
        elif kind in ("ExpressionStatement", "EmitStatement"):
            closing = text.index(b";", end - 1) + 1
            # The head of a `for` has no statement to leave out.
            if text[:start].rstrip()[-1:] in (b"{", b"}", b";", b")") and closing - end <= 1:
                yield start, closing, "{}"
        elif kind == "ModifierInvocation" and node["modifierName"]["name"] == "restricted":
            yield start, end, ""


# -- judgement -----------------------------------------------------------------------------------------


def artifacts(mutant: Mutant) -> dict[str, dict[str, Any]]:
    """The artifacts of a mutant: those that its file is part of compiled, the others as committed."""
    committed = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in (ROOT / "oracle" / "artifacts").glob("*.json")
    }
    request = standard_input(ROOT)
    request["sources"][mutant.file]["content"] = mutant.source()
    concerned = {
        name: document for name, document in committed.items()
        if mutant.file in sources_of(document["sourceName"])
    }  # fmt: skip
    outputs: dict[str, Any] = {}
    for name, document in concerned.items():
        outputs.setdefault(document["sourceName"], {})[name] = ["abi", "evm.bytecode.object"]
    request["settings"] = {**SETTINGS, "outputSelection": outputs}
    output = solc(request)
    for name, document in concerned.items():
        compiled = output["contracts"][document["sourceName"]][name]
        committed[name] = {"abi": compiled["abi"], "bytecode": "0x" + compiled["evm"]["bytecode"]["object"]}
    return committed


def sources_of(file: str, known: frozenset[str] = frozenset()) -> set[str]:
    """A source of ours and all of ours that it imports."""
    found = {file}
    if not file.startswith("contracts/"):
        return found
    for name in re.findall(r'from "(\.[^"]+)"', (ROOT / file).read_text(encoding="utf-8")):
        imported = os.path.normpath(Path(file).parent / name)
        if imported not in known:
            found |= sources_of(imported, known | found)
    return found


def judge(documents: dict[str, dict[str, Any]], machines: list[Any], runs: int, answer: Any) -> None:
    """In a process of its own: sends the machine that noticed, or an empty text."""
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.properties.machines import Bench
    from tests.properties.system import System

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        Bench.system = System(documents)
    except BaseException:
        answer.send("deployment")
        return
    for machine in machines:
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=runs,
                    stateful_step_count=50,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    report_multiple_bugs=False,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except BaseException:
            answer.send(machine.__name__)
            return
    answer.send("")


def verdict(mutant: Mutant, runs: int) -> tuple[str, str]:
    """("killed", by what), ("survived", "") or ("invalid", "") for what does not compile."""
    from tests.properties.machines import MACHINES

    try:
        documents = artifacts(mutant)
    except CompileError:
        return "invalid", ""
    first = MACHINES_OF.get(Path(mutant.file).stem, ())
    machines = sorted(MACHINES, key=lambda m: first.index(m.__name__) if m.__name__ in first else len(first))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=judge, args=(documents, machines, runs, theirs))
    process.start()
    theirs.close()
    try:
        by = ours.recv() if ours.poll(MUTANT_SECONDS) else "time"
    except EOFError:
        by = "crash"
    process.kill()
    process.join()
    return ("killed", by) if by else ("survived", "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="./run mutate", description="Mutation of contracts/, judged by the properties."
    )
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--seconds", type=float, default=SAMPLE_SECONDS, help=f"of the sample ({SAMPLE_SECONDS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the sample ({SEED})")
    parser.add_argument("--runs", type=int, default=25, help="histories of 50 calls per machine and mutant (25)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at once")
    parser.add_argument("--file", default="", metavar="CONTRACT", help="only mutants of this contract")
    parser.add_argument("--match", default="", metavar="TEXT", help="only mutants whose name holds TEXT")
    parser.add_argument("--list", action="store_true", help="name the mutants and judge none")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    options = parser.parse_args(arguments)
    try:
        everything = mutants()
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = [m for m in everything if options.file in Path(m.file).stem and options.match in m.name]
    if not options.all:
        random.Random(options.seed).shuffle(chosen)
    if options.list:
        print("\n".join(m.name for m in chosen))
        print(f"{len(chosen)} mutants")
        return 0

    argued: dict[str, str] = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    known = {m.name for m in everything}
    problems = [f"survivors.json: there is no mutant {name!r}" for name in argued if name not in known]
    began = time.monotonic()
    counts: Counter[str] = Counter()
    by: Counter[str] = Counter()
    survivors: list[str] = []
    import tests.properties.machines  # noqa: F401 — loaded before the judges are forked

    queue = iter(chosen)
    with ThreadPoolExecutor(options.jobs) as pool:
        running: dict[Any, Mutant] = {}
        while True:
            while len(running) < options.jobs and (options.all or time.monotonic() - began < options.seconds):
                mutant = next(queue, None)
                if mutant is None:
                    break
                running[pool.submit(verdict, mutant, options.runs)] = mutant
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                mutant = running.pop(done)
                result, noticed = done.result()
                counts[result] += 1
                by[noticed] += 1
                if result == "survived" and mutant.name not in argued:
                    survivors.append(mutant.name)
                if result == "killed" and mutant.name in argued:
                    problems.append(f"survivors.json: {mutant.name!r} is killed by {noticed}")
                shown = f"{result:<9} {noticed:<12} {mutant.name}"
                print(shown, file=sys.stderr if options.json else sys.stdout, flush=True)
    problems += [f"survived: {name}" for name in sorted(survivors)]
    judged = counts["killed"] + counts["survived"]
    if not judged:
        problems.append("no mutant was judged")
    if options.json:
        document = {
            "mutants": len(everything),
            "judged": judged,
            "seed": options.seed,
            "runs": options.runs,
            **{key: counts[key] for key in ("killed", "survived", "invalid")},
            "by": {name: number for name, number in by.most_common() if name},
            "problems": problems,
        }
        print(json.dumps(document, indent=2))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(
            f"{judged} of {len(everything)} mutants judged in {time.monotonic() - began:.0f} s: {counts['killed']} killed, "
            f"{counts['survived']} survived, {len(survivors)} without an argument; {counts['invalid']} do not compile"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
