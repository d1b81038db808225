"""Mutation of contracts/: small bugs, one at a time, each of which a test must notice.

A mutant changes one place of one contract: a comparison, an arithmetic or logical operator, a number by one, a
condition to true or false, a statement or a `restricted` left out. Compiled from a copy of the contracts, it is judged

1. by its bytecode: what compiles to the very same code is no other program;
2. by histories of the state machines of tests/properties, recorded once and replayed (scripts/tape.py);
3. if these notice nothing, by the tests of tests/contracts, in which the mutant is deployed instead of the original.

tests/proofs/survivors.json lists what the machines do not notice: {"<mutant>": {"equivalent": why no test can tell it
from the original}} or {"<mutant>": {"test": the test of tests/contracts that does}}. The test is then run alone.

    ./run mutate                            a sample, of every contract its share, the same mutants every time
    ./run mutate --all                      every mutant; hours
    ./run mutate --file Notary --list       what would be done

Exit code 1 if a mutant survives without an argument, or if what the list says of one is not so.
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
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.compile import ROOT, SETTINGS, SOLC_VERSION, STATE, CompileError, standard_input
from scripts.tape import History, record, replay
from tests.properties.machines import MACHINES

SURVIVORS = ROOT / "tests" / "proofs" / "survivors.json"
SEED = 1
# What CI judges: within five minutes, also where other programs use both cores.
SAMPLE = 40
RUNS = 30
# The most that replaying, or the unit tests, may take for one mutant; one that never ends is noticed.
MUTANT_SECONDS = 600
# Without the hash of the sources in it, equal code is equal text.
MUTANT_SETTINGS = {**SETTINGS, "metadata": {"bytecodeHash": "none", "appendCBOR": False}}
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
class Verdict:
    """result: one of RESULTS. by: the machine or test that noticed. problem: what must be mended, if anything."""

    mutant: str
    result: str
    by: str = ""
    problem: str = ""


RESULTS = ("killed", "survived", "same code", "does not compile")


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


# -- the compiler --------------------------------------------------------------------------------------


class Compiler:
    """solc, kept running where it is npm's: starting it takes as long as a small contract."""

    def __init__(self) -> None:
        self.path = Path(os.environ.get("WATTMARK_SOLC") or STATE / "solc" / f"solc-v{SOLC_VERSION}")
        self.server: subprocess.Popen[str] | None = None
        with self.path.open("rb") as file:
            if file.read(2) == b"#!":
                self.server = subprocess.Popen(
                    [str(self.path), "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
                )

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        if self.server:
            self.server.kill()
            self.server.communicate()

    def output(self, request: dict[str, Any]) -> dict[str, Any]:
        """The compiler's output. Raises CompileError with its first error."""
        text = json.dumps(request)
        if self.server and self.server.stdin and self.server.stdout:
            self.server.stdin.write(text + "\n")
            self.server.stdin.flush()
            answer = self.server.stdout.readline()
        else:
            command = [str(self.path), "--standard-json"]
            answer = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT).stdout
        if not answer:
            raise CompileError(f"{self.path} gave no answer")
        output: dict[str, Any] = json.loads(answer)
        for message in output.get("errors", []):
            if message["severity"] == "error":
                raise CompileError(message["formattedMessage"])
        return output

    def contracts(self, sources: dict[str, Any], wanted: dict[str, str]) -> dict[str, dict[str, Any]]:
        """ABI and creation code of `wanted`, {contract: its source unit}."""
        outputs: dict[str, Any] = {}
        for name, unit in wanted.items():
            outputs.setdefault(unit, {})[name] = ["abi", "evm.bytecode.object"]
        settings = {**MUTANT_SETTINGS, "outputSelection": outputs}
        output = self.output({"language": "Solidity", "sources": sources, "settings": settings})
        found = {name: output["contracts"][unit][name] for name, unit in wanted.items()}
        return {name: {"abi": c["abi"], "bytecode": "0x" + c["evm"]["bytecode"]["object"]} for name, c in found.items()}


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
    with Compiler() as compiler:
        output = compiler.output(request)
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


class Court:
    """What judges mutants: the original's code, recorded histories, the unit tests, and the list of survivors."""

    def __init__(self, argued: dict[str, dict[str, str]], runs: int, jobs: int, asks_tests: bool) -> None:
        self.argued, self.asks_tests = argued, asks_tests
        self.sources: dict[str, Any] = standard_input(ROOT)["sources"]
        self.committed = {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in (ROOT / "oracle" / "artifacts").glob("*.json")
        }
        self.units = {name: document["sourceName"] for name, document in self.committed.items()}
        self.compilers: SimpleQueue[Compiler] = SimpleQueue()
        for _ in range(jobs):
            self.compilers.put(Compiler())
        with ThreadPoolExecutor(jobs) as pool:
            wanted = [{name: unit} for name, unit in self.units.items() if unit.startswith("contracts/")]
            self.originals: dict[str, dict[str, Any]] = {}
            for compiled in pool.map(lambda one: self.compile(self.sources, one), wanted):
                self.originals.update(compiled)
        self.histories = recorded(runs, jobs)
        noticed = self.notices(self.originals, ())
        if noticed:
            raise RuntimeError(f"the contracts themselves fail the recorded histories: {noticed}")

    def close(self) -> None:
        while not self.compilers.empty():
            self.compilers.get().__exit__()

    def compile(self, sources: dict[str, Any], wanted: dict[str, str]) -> dict[str, dict[str, Any]]:
        compiler = self.compilers.get()
        try:
            return compiler.contracts(sources, wanted)
        finally:
            self.compilers.put(compiler)

    def judge(self, mutant: Mutant) -> Verdict:
        wanted = {name: unit for name, unit in self.units.items() if mutant.file in sources_of(unit)}
        try:
            compiled = self.compile({**self.sources, mutant.file: {"content": mutant.source()}}, wanted)
        except CompileError:
            return Verdict(mutant.name, "does not compile")
        says = self.argued.get(mutant.name, {})
        if all(self.originals[name] == document for name, document in compiled.items()):
            return Verdict(mutant.name, "same code", problem="listed, but it is the same code" if says else "")
        by = self.notices(compiled, MACHINES_OF.get(Path(mutant.file).stem, ()))
        if by:
            return Verdict(
                mutant.name, "killed", by, f"called equivalent, but {by} notices" if "equivalent" in says else ""
            )
        if "equivalent" in says:
            return Verdict(mutant.name, "survived")
        try:
            by = self.fails(compiled, says.get("test", "tests/contracts")) if self.asks_tests else ""
        except RuntimeError as error:
            return Verdict(mutant.name, "survived", problem=str(error))
        if by:
            return Verdict(mutant.name, "killed", by, "" if says else "only this test notices: list it")
        return Verdict(mutant.name, "survived", problem="survived")

    def notices(self, compiled: dict[str, dict[str, Any]], first: tuple[str, ...]) -> str:
        """The machine whose histories tell the code from the original; those named `first` are asked first."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        ranked = sorted(self.histories, key=lambda h: first.index(h.machine) if h.machine in first else len(first))
        documents = {**self.committed, **compiled}
        process = context.Process(target=lambda: theirs.send(replay(ranked, documents)))
        process.start()
        theirs.close()
        try:
            return str(ours.recv()) if ours.poll(MUTANT_SECONDS) else "time"
        except EOFError:
            return "crash"
        finally:
            process.kill()
            process.join()

    def fails(self, compiled: dict[str, dict[str, Any]], tests: str) -> str:
        """The first of the unit tests to fail where this code is deployed; empty if none does."""
        with tempfile.TemporaryDirectory() as scratch:
            swap = Path(scratch) / "swap.json"
            swap.write_text(
                json.dumps({self.committed[name]["bytecode"]: new["bytecode"] for name, new in compiled.items()}),
                encoding="utf-8",
            )
            command = [sys.executable, str(ROOT / "run"), "test", tests, "-x", "-q", "-p", "scripts.mutant_probe"]
            # That one compares deployed code with the artifacts.
            command += ["--ignore=tests/contracts/test_deploy.py"]
            settings = {**os.environ, "WATTMARK_MUTANT": str(swap)}
            try:
                ran = subprocess.run(
                    command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=MUTANT_SECONDS
                )
            except subprocess.TimeoutExpired:
                return "time"
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", ran.stdout, re.MULTILINE)
        if not failed and ran.returncode:
            raise RuntimeError(f"the unit tests did not run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return failed[1] if failed else ""


def recorded(runs: int, jobs: int) -> list[History]:
    """Histories of every machine, `runs` or a few more each."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        return [history for found in pool.map(record, MACHINES, [runs] * len(MACHINES)) for history in found]


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


def sampled(found: list[Mutant], seed: int, size: int) -> list[Mutant]:
    """`size` of the mutants, of every file its share, drawn by the seed."""
    by_file: dict[str, list[Mutant]] = {}
    for mutant in found:
        by_file.setdefault(mutant.file, []).append(mutant)
    draw = random.Random(seed)
    ranked: list[tuple[float, Mutant]] = []
    for of_file in by_file.values():
        draw.shuffle(of_file)
        ranked += [((rank + draw.random()) / len(of_file), mutant) for rank, mutant in enumerate(of_file)]
    return [mutant for _, mutant in sorted(ranked, key=lambda one: one[0])[:size]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run mutate", description="Mutation of contracts/, judged by its tests.")
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--sample", type=int, default=SAMPLE, metavar="NUMBER", help=f"of mutants ({SAMPLE})")
    parser.add_argument("--skip", type=int, default=0, metavar="NUMBER", help="of mutants of the sample, at its start")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the sample ({SEED})")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"recorded histories per machine ({RUNS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at once")
    parser.add_argument("--file", default="", metavar="CONTRACT", help="only mutants of this contract")
    parser.add_argument("--match", default="", metavar="TEXT", help="only mutants whose name holds TEXT")
    parser.add_argument("--machines", action="store_true", help="do not ask the unit tests about what survives")
    parser.add_argument("--listed", action="store_true", help="only what tests/proofs/survivors.json lists")
    parser.add_argument("--list", action="store_true", help="name the mutants and judge none")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        everything = mutants()
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = [m for m in everything if options.file in Path(m.file).stem and options.match in m.name]
    argued: dict[str, dict[str, str]] = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    if options.listed:
        chosen = [m for m in chosen if m.name in argued]
    elif not options.all:
        chosen = sampled(chosen, options.seed, options.sample)[options.skip :]
    if options.list:
        print("\n".join(m.name for m in chosen))
        print(f"{len(chosen)} mutants")
        return 0

    known = {m.name for m in everything}
    problems = [f"survivors.json: there is no mutant {name!r}" for name in argued if name not in known]
    verdicts: list[Verdict] = []
    court = Court(argued, options.runs, options.jobs, not options.machines)
    prepared = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(court.judge, mutant) for mutant in chosen]):
            verdict = done.result()
            verdicts.append(verdict)
            if verdict.problem:
                problems.append(f"{verdict.mutant}: {verdict.problem}")
            shown = f"{verdict.result:<16} {verdict.by:<14} {verdict.mutant}"
            print(shown, file=sys.stderr if options.json else sys.stdout, flush=True)
    court.close()
    counts = Counter(verdict.result for verdict in verdicts)
    judged = counts["killed"] + counts["survived"]
    if not judged:
        problems.append("no mutant was judged")
    if options.json:
        document = {
            "mutants": len(everything),
            "judged": judged,
            "seed": options.seed,
            "runs": options.runs,
            "results": {result: counts[result] for result in RESULTS},
            "by": dict(Counter(verdict.by for verdict in verdicts if verdict.by).most_common()),
            "problems": problems,
        }
        print(json.dumps(document, indent=2))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(
            f"{judged} of {len(everything)} mutants judged in {time.monotonic() - began:.0f} s, "
            f"{prepared - began:.0f} s of them to record histories: {counts['killed']} killed, {counts['survived']} "
            f"survived; {counts['same code']} are the same code, {counts['does not compile']} do not compile; "
            f"{len(problems)} problems"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
