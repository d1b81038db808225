"""Symbolic proofs of the contracts with halmos: every property of tests/proofs holds for all inputs within its bounds.

`./run prove` compiles contracts/ and tests/proofs with the settings of the artifacts and runs each property by itself.
A property passes only if halmos explored every path: a counterexample, a timeout, a loop cut short, a path that could
not be followed or a property in which nothing succeeds all fail.

`./run prove --planted` plants one bug per property into a copy of the contracts and passes only if halmos finds a
counterexample to that property.

    ./run prove --match retire --jobs 2
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.workspace import Plant, WorkspaceError, build, workspace

SOURCES = ("contracts", "tests/proofs")
# What halmos asks of forge, so that it finds nothing left to compile.
BUILD = ("--ast", "--extra-output", "storageLayout", "metadata")
ASSERTION_SECONDS = 120
BRANCHING_MILLISECONDS = 100
OUTCOMES = ("proven", "counterexample", "timeout", "stuck", "nothing succeeds", "error")


@dataclass(frozen=True)
class Property:
    """A `check_` function of a harness, and the bug that must break it.

    loops: how often a loop may go round; more fails. lengths: of the dynamic lists among its arguments, characters: of
    the texts; the default ones matter only where a property takes any calldata.
    """

    harness: str
    function: str
    plant: Plant
    loops: int = 3
    lengths: str = "0,1,2"
    characters: str = "0,65"

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
        "check_a_first_issue_after_its_correction_is_refused",
        _plant(
            "EnergyCertificate",
            "_takeSlots(statement, admitted);\n            return _credit(",
            "return _credit(",
        ),
    ),
    Property(
        "IssueProof",
        "check_correction_owes_what_it_lowers",
        _plant("EnergyCertificate", "statement.deviceId, previousWh - energyWh);", "statement.deviceId, previousWh);"),
    ),
    Property(
        "TokenProof",
        "check_only_the_holder_and_the_approved_lower_a_balance",
        _plant("RetirableToken", "if (!SignatureChecker.", "if (deadline != 7 && !SignatureChecker."),
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
    ),
    Property(
        "NotaryProof",
        "check_final_batches_are_chained",
        _plant("Notary", "if (batch.head != expected) revert", "if (batch.head != expected && batch.head != 0) revert"),
    ),
    Property(
        "NotaryProof",
        "check_interim_batches_stand_beside",
        _plant("Notary", "if (batch.kind == BatchKind.FINAL) expected = _head;", "expected = _head;"),
    ),
    Property(
        "NotaryProof",
        "check_a_root_is_notarized_once",
        _plant(
            "Notary",
            "if (_notarizations[batch.root].status != BatchStatus.NONE) revert",
            "if (_notarizations[batch.root].status == BatchStatus.OPEN) revert",
        ),
    ),
    Property(
        "NotaryProof",
        "check_signatures_are_of_distinct_members",
        _plant("Notary", "if (signer <= previous) revert", "if (signer < previous) revert"),
    ),
    Property(
        "NotaryProof",
        "check_revoking_changes_the_status_alone",
        _plant("Notary", "record.status = BatchStatus.REVOKED;", "record.status = BatchStatus.REVOKED; record.energyWh = 0;"),
    ),
    Property(
        "RolesProof",
        "check_registry_is_the_registrars",
        _plant("DeviceRegistry", "uint56 capacityW, uint40 since) external restricted {", "uint56 capacityW, uint40 since) external {"),
        loops=6,
    ),
    Property(
        "RolesProof",
        "check_notary_is_administrators_and_guardians",
        _plant("Notary", "function unpause() external restricted {", "function unpause() external {\n        _state.paused = true;"),
        loops=6,
    ),
    Property(
        "RolesProof",
        "check_certificate_is_administrators_and_guardians",
        _plant("EnergyCertificate", "function pause() external restricted {", "function pause() external {"),
        loops=6,
    ),
    Property(
        "RolesProof",
        "check_factors_are_the_publishers",
        _plant("EmissionFactors", ") external restricted returns (uint32 factorId) {", ") external returns (uint32 factorId) {"),
        loops=6,
    ),
    Property(
        "RolesProof",
        "check_authorisations_are_the_recorders",
        _plant("MitigationOutcome", "Authorisation calldata given) external restricted {", "Authorisation calldata given) external {"),
        loops=6,
    ),
)  # fmt: skip


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


def proofs(chosen: list[Property], seconds: float, jobs: int) -> Iterator[Result]:
    folder = workspace("halmos", SOURCES, "tests/proofs")
    build(folder, *BUILD)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda property_: prove(property_, folder, seconds, False), chosen)


def planted(chosen: list[Property], seconds: float) -> Iterator[Result]:
    """One bug at a time, in a copy of its own contracts; passed: halmos found a counterexample."""
    for property_ in chosen:
        folder = workspace("planted", SOURCES, "tests/proofs", [property_.plant])
        build(folder, *BUILD)
        result = prove(property_, folder, seconds, True)
        yield Result(**{**asdict(result), "passed": result.outcome == "counterexample"})


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 if a property does not pass, or none is chosen."""
    parser = argparse.ArgumentParser(prog="./run prove", description="Symbolic proofs of the contracts with halmos.")
    parser.add_argument("--planted", action="store_true", help="plant each property's bug; passes if it is found")
    parser.add_argument("--match", default="", metavar="TEXT", help="only properties whose name holds TEXT")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="of one property (1800)")
    parser.add_argument("--jobs", type=int, default=1, help="properties at once (1)")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    options = parser.parse_args(arguments)
    chosen = [p for p in PROPERTIES if options.match.replace(" ", "_") in f"{p.harness}.{p.function}"]
    run = planted(chosen, options.timeout) if options.planted else proofs(chosen, options.timeout, options.jobs)
    results = []
    try:
        for result in run:
            results.append(result)
            shown = f"{result.outcome:<16} {result.paths:>6} paths {result.seconds:>7.1f} s  {result.property}"
            print(shown, file=sys.stderr if options.json else sys.stdout, flush=True)
            if not result.passed and result.says:
                print(f"    {result.says}", file=sys.stderr)
    except WorkspaceError as error:
        print(error, file=sys.stderr)
        return 1
    passed = sum(result.passed for result in results)
    what = "planted bugs found" if options.planted else "properties proven"
    if options.json:
        bounds = {
            f"{p.harness}.{p.function}": {"loops": p.loops, "listLengths": p.lengths, "textLengths": p.characters}
            for p in chosen
        }
        limits = {
            "propertySeconds": options.timeout,
            "assertionSeconds": ASSERTION_SECONDS,
            "branchingMilliseconds": BRANCHING_MILLISECONDS,
        }
        document = {"planted": options.planted, "limits": limits, "bounds": bounds}
        print(json.dumps({**document, "results": [asdict(result) for result in results]}, indent=2))
    else:
        print(f"{passed} of {len(results)} {what}")
    return 0 if results and passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
