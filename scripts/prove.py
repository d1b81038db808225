"""Symbolic proofs of the contracts with halmos: every property of tests/proofs holds for all inputs within its bounds.

`./run prove` compiles contracts/ and tests/proofs with the settings of the artifacts and runs each property by itself.
A property passes only if halmos explored every path: a counterexample, a timeout, a loop cut short, a path that could
not be followed or a property in which nothing succeeds all fail.

`./run prove --planted` plants one bug per property into a copy of the contracts and passes only if halmos finds a
counterexample to that property.

docs/proofs.json is the committed report of both, with bounds and times, and the hash of the code that it holds for;
docs/assurance.md shows it:

    ./run prove --report                    prove, and plant, what the report does not hold for the present code
    ./run prove --check                     the report is whole and belongs to the present code; proves nothing
    ./run prove --sample --jobs 2           the same, and the quick proofs again, and a planted bug
    ./run prove --match retire --jobs 2     some
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.workspace import ROOT, Plant, WorkspaceError, build, workspace

HARNESSES = {
    "SlotsProof": "Slots", "RegistryProof": "Registry", "IssueProof": "Certificate", "TokenProof": "Token",
    "NotaryProof": "Notary", "RolesProof": "Roles",
}  # fmt: skip
REPORT = ROOT / "docs" / "proofs.json"
# Shows the report between these two lines.
PAGE, BEGIN, END = ROOT / "docs" / "assurance.md", "<!-- written by ./run prove --report -->\n", "<!-- until here -->\n"
# What halmos asks of forge, so that it finds nothing left to compile.
BUILD = ("--ast", "--extra-output", "storageLayout", "metadata")
ASSERTION_SECONDS = 120
BRANCHING_MILLISECONDS = 100
OUTCOMES = ("proven", "counterexample", "timeout", "stuck", "nothing succeeds", "error")


@dataclass(frozen=True)
class Property:
    """A `check_` function of a harness, and the bug that must break it.

    loops: how often a loop may go round; more fails. lengths: of the dynamic lists among its arguments, characters: of
    the texts; the default ones matter only where a property takes any calldata. quick: proven in some seconds, again in
    every run of CI.
    """

    harness: str
    function: str
    plant: Plant
    loops: int = 3
    lengths: str = "0,1,2"
    characters: str = "0,65"
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.harness}.{self.function}"

    @property
    def title(self) -> str:
        return self.function.removeprefix("check_").replace("_", " ")


@dataclass(frozen=True)
class Result:
    """What came of one property. paths: explored; seconds: of halmos, wall clock, without compiling."""

    property: str
    outcome: str
    paths: int
    seconds: float
    passed: bool
    says: str = ""


def _plant(file: str, old: str, new: str) -> Plant:
    return Plant(f"contracts/{file}.sol", old, new)


PROPERTIES = (
    Property(
        "SlotsProof",
        "check_certify_sets_its_slots_and_no_other",
        _plant("CertifiedSlots", "= word | (mask & CERTIFIED_BITS) | begins;", "= (mask & CERTIFIED_BITS) | begins;"),
        loops=5,
    ),
    Property(
        "SlotsProof",
        "check_certify_refuses_a_taken_slot",
        _plant("CertifiedSlots", "if (word & mask != 0) return false;", "if (word & mask & (mask - 1) != 0) return false;"),
        loops=5,
    ),
    Property(
        "RegistryProof",
        "check_a_device_is_registered_once",
        _plant("DeviceRegistry", "if (_records[deviceId].fixed_.kind != DeviceKind.NONE) revert DeviceAlreadyRegistered(deviceId);", ""),
        quick=True,
    ),
    Property(
        "RegistryProof",
        "check_only_whole_slots_that_are_over_are_admitted",
        _plant("DeviceRegistry", "duration == 0 || duration > MAX_DURATION ||", "duration > MAX_DURATION ||"),
        quick=True,
    ),
    Property(
        "IssueProof",
        "check_no_slot_is_issued_twice",
        _plant("EnergyCertificate", "admitted.slots = statement.duration / granularity;", "admitted.slots = 1;"),
    ),
    Property(
        "IssueProof",
        "check_no_more_is_issued_than_notarized",
        _plant("EnergyCertificate", "if (issuedWh > notarizedWh) revert", "if (issuedWh > notarizedWh + 1) revert"),
    ),
    Property(
        "IssueProof",
        "check_no_more_is_corrected_than_notarized",
        _plant("EnergyCertificate", "if (energyWh > previousWh) _count(", "if (energyWh - 1 > previousWh) _count("),
    ),
    Property(
        "IssueProof",
        "check_debt_is_netted_first",
        _plant("EnergyCertificate", "= debtWh < energyWh ? debtWh : energyWh;", "= debtWh < energyWh ? debtWh : 0;"),
    ),
    Property(
        "IssueProof",
        "check_a_correction_follows_what_is_stored",
        _plant("EnergyCertificate", "statement.version - 1 != stored.version", "statement.version < stored.version"),
    ),
    Property(
        "IssueProof",
        "check_a_correction_leaves_its_slots_certified",
        _plant(
            "EnergyCertificate",
            "_takeSlots(statement, admitted);\n            return _credit(",
            "return _credit(",
        ),
    ),
    Property(
        "IssueProof",
        "check_a_certified_slot_is_not_issued_again",
        _plant("CertifiedSlots", "if (word & mask != 0) return false;", "if (begins != 0 && word & mask != 0) return false;"),
    ),
    Property(
        "IssueProof",
        "check_correction_owes_what_it_lowers",
        _plant("EnergyCertificate", "statement.deviceId, previousWh - energyWh);", "statement.deviceId, previousWh);"),
    ),
    Property(
        "TokenProof",
        "check_only_the_holder_and_the_approved_lower_a_balance",
        _plant("RetirableToken", "if (!SignatureChecker.", "if (deadline != type(uint256).max && !SignatureChecker."),
        lengths="1",
        characters="65",
    ),
    Property(
        "TokenProof",
        "check_retired_never_falls",
        _plant("RetirableToken", "_retired[id][account] += amount;", "_retired[id][account] = amount;"),
        lengths="1",
        characters="65",
    ),
    Property(
        "TokenProof",
        "check_only_the_converter_consumes",
        _plant("EnergyCertificate", "if (msg.sender != _converter) revert OnlyConverter(msg.sender);", ""),
        quick=True,
    ),
    Property(
        "TokenProof",
        "check_nothing_is_made_or_lost_by_two_acts",
        _plant("EnergyCertificate", "debtWh -= uint64(amountWh);", "debtWh -= uint64(amountWh - 1);"),
    ),
    Property(
        "TokenProof",
        "check_a_signed_retirement_is_done_once",
        _plant("RetirableToken", "_hashDetails(details), _useNonce(account)", "_hashDetails(details), nonces(account)"),
        quick=True,
    ),
    Property(
        "NotaryProof",
        "check_final_batches_are_chained",
        _plant("Notary", "if (batch.head != expected) revert", "if (batch.head != expected && batch.head != 0) revert"),
        quick=True,
    ),
    Property(
        "NotaryProof",
        "check_interim_batches_stand_beside",
        _plant("Notary", "if (batch.kind == BatchKind.FINAL) expected = _head;", "expected = _head;"),
        quick=True,
    ),
    Property(
        "NotaryProof",
        "check_a_root_is_notarized_once",
        _plant(
            "Notary",
            "if (_notarizations[batch.root].status != BatchStatus.NONE) revert",
            "if (_notarizations[batch.root].status == BatchStatus.OPEN) revert",
        ),
        quick=True,
    ),
    Property(
        "NotaryProof",
        "check_signatures_are_of_distinct_members",
        _plant("Notary", "if (signer <= previous) revert", "if (signer < previous) revert"),
        quick=True,
    ),
    Property(
        "NotaryProof",
        "check_revoking_changes_the_status_alone",
        _plant("Notary", "record.status = BatchStatus.REVOKED;", "record.status = BatchStatus.REVOKED; record.energyWh = 0;"),
        quick=True,
    ),
    Property(
        "RolesProof",
        "check_registry_is_the_registrars",
        _plant("DeviceRegistry", "Device calldata given) external restricted {", "Device calldata given) external {"),
        loops=6,
        quick=True,
    ),
    Property(
        "RolesProof",
        "check_notary_is_administrators_and_guardians",
        _plant("Notary", "function unpause() external restricted {", "function unpause() external {\n        _state.paused = true;"),
        loops=6,
        quick=True,
    ),
    Property(
        "RolesProof",
        "check_certificate_is_administrators_and_guardians",
        _plant("EnergyCertificate", "function pause() external restricted {", "function pause() external {"),
        loops=6,
        quick=True,
    ),
    Property(
        "RolesProof",
        "check_factors_are_the_publishers",
        _plant("EmissionFactors", ") external restricted returns (uint32 factorId) {", ") external returns (uint32 factorId) {"),
        loops=6,
        quick=True,
    ),
    Property(
        "RolesProof",
        "check_authorisations_are_the_recorders",
        _plant("MitigationOutcome", "Authorisation calldata given) external restricted {", "Authorisation calldata given) external {"),
        loops=6,
        quick=True,
    ),
)  # fmt: skip


@cache
def built() -> Path:
    """All harnesses upon the contracts as they are, compiled."""
    folder = workspace("halmos", ["contracts", "tests/proofs"], "tests/proofs")
    build(folder, *BUILD)
    other = other_code(folder)
    if other:
        raise WorkspaceError(f"oracle/artifacts holds other code of {', '.join(other)}; mend: ./run compile")
    return folder


def build_planted(property_: Property, name: str) -> Path:
    """The property's harness alone, upon contracts with its bug, compiled."""
    sources = {f"tests/proofs/{HARNESSES[property_.harness]}.t.sol"}
    for _ in HARNESSES:  # until nothing more is imported
        texts = [(ROOT / source).read_text(encoding="utf-8") for source in sources]
        sources |= {f"tests/proofs/{file}" for text in texts for file in re.findall(r'from "\./([^"]+)"', text)}
    folder = workspace(name, ["contracts", *sorted(sources)], "tests/proofs", [property_.plant])
    # What was compiled of other harnesses is no part of this one.
    shutil.rmtree(folder / "out", ignore_errors=True)
    build(folder, *BUILD)
    return folder


def code_of(property_: Property) -> str:
    """sha256 of the harness as compiled, which holds the code of all that it deploys: what a proof is about."""
    file = built() / "out" / f"{HARNESSES[property_.harness]}.t.sol" / f"{property_.harness}.json"
    code = json.loads(file.read_text(encoding="utf-8"))["bytecode"]["object"]
    return hashlib.sha256(bytes.fromhex(code.removeprefix("0x"))).hexdigest()


def contract_codes() -> dict[str, str]:
    """sha256 of the run-time code of every committed artifact, immutables zero, without the compiler's metadata."""
    return {
        path.stem: hashlib.sha256(bytes.fromhex(bare(json.loads(path.read_text(encoding="utf-8"))))).hexdigest()
        for path in sorted((ROOT / "oracle" / "artifacts").glob("*.json"))
    }


def bare(artifact: dict[str, Any]) -> str:
    """Run-time code without the metadata at its end, whose length its last two bytes tell, and the byte before it."""
    code: str = artifact["deployedBytecode"].removeprefix("0x")
    return code[: -2 * (int(code[-4:], 16) + 2)].removesuffix("fe")


def other_code(folder: Path) -> list[str]:
    """Contracts of ours whose code in a workspace is not that of the committed artifact."""
    found = []
    for path in sorted((ROOT / "oracle" / "artifacts").glob("*.json")):
        built = folder / "out" / f"{path.stem}.sol" / f"{path.stem}.json"
        if built.exists():
            code = json.loads(built.read_text(encoding="utf-8"))["deployedBytecode"]["object"]
            if code.removeprefix("0x").removesuffix("fe") != bare(json.loads(path.read_text(encoding="utf-8"))):
                found.append(path.stem)
    return found


def prove(property_: Property, folder: Path, seconds: float, stop_early: bool) -> Result:
    """Run halmos on one property of a workspace that is built."""
    with tempfile.TemporaryDirectory() as scratch:
        report, log = Path(scratch) / "report.json", Path(scratch) / "log"
        command = [
            str(Path(sys.executable).with_name("halmos")), "--root", str(folder),
            "--contract", property_.harness, "--match-test", f"^{property_.function}\\(",
            "--loop", str(property_.loops),
            "--default-array-lengths", property_.lengths, "--default-bytes-lengths", property_.characters,
            "--solver-timeout-branching", f"{BRANCHING_MILLISECONDS}ms",
            "--solver-timeout-assertion", f"{ASSERTION_SECONDS}s",
            "--solver-threads", "1", "--json-output", str(report), "--no-status",
            *(["--early-exit"] if stop_early else []),
        ]  # fmt: skip
        began = time.monotonic()
        with log.open("wb") as output:
            halmos = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                halmos.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(halmos.pid, signal.SIGKILL)
                halmos.wait()
                return Result(property_.title, "timeout", 0, time.monotonic() - began, False, f"after {seconds:.0f} s")
        took = time.monotonic() - began
        said = " ".join(log.read_text(errors="replace").split())[-2000:]
        if not report.exists():
            return Result(property_.title, "error", 0, took, False, said)
        found = [test for tests in json.loads(report.read_text())["test_results"].values() for test in tests]
    if len(found) != 1:
        return Result(
            property_.title, "error", 0, took, False, f"{len(found)} functions are called {property_.function}"
        )
    outcome = OUTCOMES[found[0]["exitcode"]]
    if outcome == "proven" and found[0]["num_bounded_loops"]:
        outcome = "loop cut short"
    passed = outcome == "proven"
    return Result(property_.title, outcome, (found[0]["num_paths"] or [0])[0], took, passed, "" if passed else said)


def proofs(chosen: list[Property], seconds: float, jobs: int) -> Iterator[tuple[Property, Result, str]]:
    """(property, result, what code it is about)."""
    folder = built()
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda p: prove(p, folder, seconds, False), chosen)
        for property_, result in zip(chosen, results, strict=True):
            yield property_, result, code_of(property_)


def planted(chosen: list[Property], seconds: float, jobs: int) -> Iterator[tuple[Property, Result, str]]:
    """One bug at a time, in a copy of its own contracts; passed: halmos found a counterexample."""
    names: SimpleQueue[str] = SimpleQueue()
    for number in range(jobs):
        names.put(f"planted-{number}")

    def run(property_: Property) -> Result:
        name = names.get()
        try:
            result = prove(property_, build_planted(property_, name), seconds, True)
            return replace(result, passed=result.outcome == "counterexample")
        finally:
            names.put(name)

    with ThreadPoolExecutor(jobs) as pool:
        for property_, result in zip(chosen, pool.map(run, chosen), strict=True):
            yield property_, result, code_of(property_)


# -- the report ----------------------------------------------------------------------------------------


def bounds_of(property_: Property) -> dict[str, Any]:
    return {"loops": property_.loops, "listLengths": property_.lengths, "textLengths": property_.characters}


def bug_of(property_: Property) -> str:
    """The planted bug as `file: old -> new`."""
    old, new = (" ".join(text.split()) for text in (property_.plant.old, property_.plant.new))
    return f"{property_.plant.file}: {old} -> {new or 'nothing'}"


def load_report() -> dict[str, Any]:
    return json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {"properties": {}}  # type: ignore[no-any-return]


def holds(property_: Property, entry: dict[str, Any], code: str, what: str) -> bool:
    """Whether the report has it that `what` ("proof" or "planted") was done, for this code and these bounds."""
    done = entry.get(what, {})
    wanted = {"code": code, "bounds": bounds_of(property_)} | ({"bug": bug_of(property_)} if what == "planted" else {})
    return wanted.items() <= done.items()


def outdated(what: str) -> list[Property]:
    entries = load_report()["properties"]
    return [p for p in PROPERTIES if not holds(p, entries.get(p.name, {}), code_of(p), what)]


def enter(property_: Property, result: Result, code: str, what: str, seconds: float) -> None:
    """Write one result that passed into the report."""
    report = load_report()
    report["tools"] = {name: version(name) for name in ("halmos", "z3-solver")}
    report["limits"] = {
        "propertySeconds": seconds,
        "assertionSeconds": ASSERTION_SECONDS,
        "branchingMilliseconds": BRANCHING_MILLISECONDS,
    }
    report["contracts"] = contract_codes()
    entry = {"paths": result.paths, "seconds": round(result.seconds), "bounds": bounds_of(property_), "code": code}
    if what == "planted":
        entry = {"bug": bug_of(property_), **entry}
    known = {p.name for p in PROPERTIES}
    properties = {name: kept for name, kept in report["properties"].items() if name in known}
    properties.setdefault(property_.name, {})[what] = entry
    report["properties"] = properties
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    partial = REPORT.with_suffix(f".{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(REPORT)


def shown(report: dict[str, Any]) -> str:
    """The report as tables of Markdown."""
    lines = ["", "| property | proof | paths | bounds | planted bug | found |", "|---|--:|--:|---|---|--:|"]
    for property_ in PROPERTIES:
        entry = report["properties"].get(property_.name, {})
        proof, plant = entry.get("proof"), entry.get("planted")
        if proof and plant:
            bug = plant["bug"].replace("|", "\\|")
            bounds = f"loops {property_.loops}, lists {property_.lengths}, texts {property_.characters}"
            lines.append(
                f"| {property_.harness}: {property_.title} | {proof['seconds']} s | {proof['paths']} | {bounds} "
                f"| `{bug}` | {plant['seconds']} s |"
            )
    lines += ["", "| contract | sha256 of its run-time code, immutables zero, without metadata |", "|---|---|"]
    lines += [f"| {name} | `{code}` |" for name, code in report["contracts"].items()]
    limits, tools = report["limits"], report["tools"]
    lines += [
        "",
        f"halmos {tools['halmos']}; at most {limits['propertySeconds']:.0f} s a property, {limits['assertionSeconds']} s an "
        f"assertion, {limits['branchingMilliseconds']} ms a branch, after which both ways are followed.",
        "",
    ]
    return "\n".join(lines) + "\n"


def page_with(report: dict[str, Any]) -> str:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + shown(report) + END + rest.split(END)[1]


def check() -> list[str]:
    """What is wrong with the committed report."""
    report = load_report()
    codes, kept = contract_codes(), report.get("contracts", {})
    problems = [f"docs/proofs.json is about other code of {name}" for name in codes if codes[name] != kept.get(name)]
    for what in ("proof", "planted"):
        problems += [f"docs/proofs.json: no {what} of {p.name} for the present code" for p in outdated(what)]
    if not problems and PAGE.read_text(encoding="utf-8") != page_with(report):
        problems.append("docs/assurance.md shows another report; mend: ./run prove --report")
    known = {p.name for p in PROPERTIES}
    problems += [f"docs/proofs.json: {name} is no property" for name in report["properties"] if name not in known]
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a property does not pass, or the report is not about this code."""
    parser = argparse.ArgumentParser(prog="./run prove", description="Symbolic proofs of the contracts with halmos.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--planted", action="store_true", help="plant each property's bug; passes if it is found")
    what.add_argument("--report", action="store_true", help="do what docs/proofs.json lacks, and write it there")
    what.add_argument("--check", action="store_true", help="only see that docs/proofs.json is about this code")
    what.add_argument("--sample", action="store_true", help="--check, the quick proofs, and a planted bug")
    parser.add_argument("--match", default="", metavar="TEXT", help="only properties whose name holds TEXT")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="of one property (1800)")
    parser.add_argument("--jobs", type=int, default=1, help="properties at once (1)")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    options = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    problems: list[str] = []

    def show(run: Iterator[tuple[Property, Result, str]], kind: str) -> None:
        for property_, result, code in run:
            results.append({"kind": kind, "bounds": bounds_of(property_), **asdict(result)})
            if options.report and result.passed:
                enter(property_, result, code, kind, options.timeout)
            shown = (
                f"{kind:<8} {result.outcome:<16} {result.paths:>6} paths {result.seconds:>7.1f} s  {result.property}"
            )
            print(shown, file=sys.stderr if options.json else sys.stdout, flush=True)
            if not result.passed:
                problems.append(f"{kind} {property_.name}: {result.outcome} {result.says}".strip())

    try:
        chosen = [p for p in PROPERTIES if options.match.replace(" ", "_") in p.name]
        if options.report:
            for kind, do in (("proof", proofs), ("planted", planted)):
                lacking = [p for p in outdated(kind) if p in chosen]
                show(do(lacking, options.timeout, options.jobs), kind)
            PAGE.write_text(page_with(load_report()), encoding="utf-8")
        if options.check or options.sample or options.report:
            problems += check()
        if options.sample:
            quick = [p for p in chosen if p.quick]
            show(planted(quick[:1], options.timeout, 1), "planted")
            show(proofs(quick, options.timeout, options.jobs), "proof")
        if options.planted:
            show(planted(chosen, options.timeout, options.jobs), "planted")
        elif not (options.report or options.check or options.sample):
            show(proofs(chosen, options.timeout, options.jobs), "proof")
    except WorkspaceError as error:
        print(error, file=sys.stderr)
        return 1
    if not results and not (options.check or options.report):
        problems.append("nothing was chosen")
    passed = {kind: sum(r["passed"] for r in results if r["kind"] == kind) for kind in ("proof", "planted")}
    if options.json:
        print(json.dumps({"results": results, "problems": problems}, indent=2))
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(
            f"{passed['proof']} properties proven, {passed['planted']} planted bugs found, "
            f"{len(load_report()['properties'])} in the report, {len(problems)} problems"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
