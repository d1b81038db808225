"""Bugs planted into copies of the contracts: what must hold can fail, and the machines notice."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.ledger import InvariantBroken
from tests.properties.machines import Bench
from tests.properties.mutants import MUTANTS
from tests.properties.system import System

# The search ends at the first failure; what it draws hangs on the modules imported, so the bound is generous.
RUNS = 1500


def hunt(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=50,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_machine_planted_bug_is_caught(mutant, tmp_path):
    artifacts = mutant.artifacts(tmp_path)
    Bench.system = System(artifacts)
    with pytest.raises(AssertionError):
        hunt(mutant.machine)
    if mutant.invariant:
        Bench.system = System(artifacts, compares=False)
        with pytest.raises(InvariantBroken, match=mutant.invariant):
            hunt(mutant.machine)
