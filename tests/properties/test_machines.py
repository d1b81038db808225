"""Random histories of calls, each of them predicted by the model; docs/properties.md explains the machines."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

from tests.properties import bed, model
from tests.properties.bed import ROOT
from tests.properties.machines import MACHINES, Bench
from tests.properties.mutants import MUTANTS
from tests.properties.system import HISTOGRAM, Histogram, System

STEPS = 50
RUNS = int(os.environ.get("WATTMARK_PROPERTY_RUNS", "200"))
FEW_RUNS = 12
LEAST_SUCCESSES = 0.3
# Below this many calls, the share of successes is chance.
ENOUGH_CALLS = 60
# Hypothesis draws much of what it drew before, so calls come in clusters and one round's shares swing by twenty points and
# more: a share that is too low is judged once more upon as many runs again, and again.
MOST_ROUNDS = 3


def run(machine, runs, **more):
    """Runs a machine on the committed contracts."""
    Bench.system = System()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


def rules_of(machine):
    found = {name for name in dir(machine) if hasattr(getattr(machine, name), "hypothesis_stateful_rule")}
    assert found, "hypothesis marks its rules otherwise now"
    return found


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_machine_few_runs_agrees_with_model(machine):
    run(machine, FEW_RUNS, derandomize=True, database=None)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_machine_many_runs_agrees_with_model_and_succeeds_often(machine):
    HISTOGRAM.forget(machine.__name__)
    for _ in range(MOST_ROUNDS):
        # What fails is tried first next time.
        run(machine, RUNS, database=DirectoryBasedExampleDatabase(ROOT / ".wattmark" / "test" / "hypothesis"))
        rows = HISTOGRAM.rows(machine.__name__)
        seldom = {
            rule: f"{successes} of {calls}"
            for _, rule, calls, successes, _ in rows
            if calls >= ENOUGH_CALLS and successes < LEAST_SUCCESSES * calls
        }
        if not seldom:
            break
    never = rules_of(machine) - {rule for _, rule, *_ in rows}
    assert not never, f"rules that never called anything: {sorted(never)}"
    assert not seldom, f"rules whose calls seldom succeed: {seldom}"


def test_count_mixed_outcomes_gives_shares():
    histogram = Histogram()
    for error in (None, None, ("NoDebt", (1,)), ("", ())):
        histogram.count("Machine", "rule", bed.Outcome(error is None, None, error, ()))
    assert histogram.rows() == [("Machine", "rule", 4, 2, {"NoDebt": 1, "empty revert": 1})]


def test_matrix_beside_deployment_table_is_the_same():
    """The roles that deployments set up are those of the design as the model reads it."""
    from scripts import roles

    deployed = {
        (contract, signature.split("(")[0]): role.name
        for role in roles.ROLES
        for contract, signatures in role.functions.items()
        for signature in signatures
    }
    assert deployed == {call: model.ROLE_NAMES[role] for call, role in model.MATRIX.items()}
    assert [role.name for role in roles.ROLES if role.delayed] == ["administrator"]


def test_restricted_functions_in_sources_are_those_of_the_matrix():
    """Every function with the modifier is in the matrix, and no other."""
    found = set()
    for path in (ROOT / "contracts").glob("*.sol"):
        for part in path.read_text(encoding="utf-8").split("function ")[1:]:
            head = part.split("{")[0].split(";")[0]
            if " restricted" in head:
                found.add((path.stem, head.split("(")[0]))
    assert found == set(model.MATRIX)


def test_model_and_machines_share_no_code_with_the_oracle_or_the_web_app():
    for path in Path(bed.__file__).parent.glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not [name for name in imported if name.split(".")[0] in ("oracle", "webapp")], path.name


def test_actors_committed_were_compiled_from_their_source():
    assert bed.actors()["source"] == bed.source_hash(), "mend: python -m tests.properties.bed"


def test_docs_name_every_machine_rule_and_planted_bug():
    text = (ROOT / "docs" / "properties.md").read_text(encoding="utf-8")
    for mutant in MUTANTS:
        assert f"| {mutant.name} | {mutant.file} | {mutant.machine.__name__} |" in text
    assert f"All {len(MUTANTS)} are caught" in text
    for machine in MACHINES:
        row = next(line for line in text.splitlines() if line.startswith(f"| {machine.__name__} | ") and " %" in line)
        assert rules_of(machine) == set(re.findall(r"(\w+) \d+ %", row)), machine.__name__


def test_docs_name_tests_that_exist():
    """What went wrong elsewhere is kept out by tests that are there."""
    text = (ROOT / "docs" / "properties.md").read_text(encoding="utf-8").split("## What went wrong elsewhere")[1]
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*/test_*.py"))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    for row in rows:
        assert "`test_" in row or "`tests/" in row or "invariant *" in row, row
        for name in re.findall(r"`(test_\w+)`", row):
            assert f"def {name}(" in tests, name
        for path in re.findall(r"`(tests/[\w/.]+)`", row):
            assert (ROOT / path).exists(), path
