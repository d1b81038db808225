"""MitigationOutcome.recordAdjustment: the last of the states"""

import pytest

from tests.contracts.reference import ZERO_HASH
from tests.contracts.world import EVIDENCE, refuses

pytestmark = pytest.mark.usefixtures("certificates")


def test_states_move_forward_one_at_a_time(world, day):
    world.authorise(7)
    world.convert([day(0).id], [10_000], 7)
    steps = [world.outcome.recordFirstTransfer, world.outcome.recordAdjustmentPending, world.outcome.recordAdjustment]
    for at in range(4):
        for to, step in enumerate(steps, start=2):
            if to != at + 2:
                with refuses("StateDoesNotFollow", 7, at + 1, to):
                    step(7, EVIDENCE, {"from": world.recorder})
        if at < 3:
            with refuses("AuthorisationInvalid", "evidenceHash"):
                steps[at](7, ZERO_HASH, {"from": world.recorder})
            tx = steps[at](7, EVIDENCE, {"from": world.recorder})
            event = tx.events["StateAdvanced"]
            assert (event["authorisationId"], event["state"], bytes(event["evidenceHash"])) == (7, at + 2, EVIDENCE)
            with refuses("AuthorisationNotOpen", 7, at + 2):
                world.convert([day(1).id], [1], 7)
    assert world.outcome.authorisation(7)[6] == 4


def test_states_of_an_unknown_authorisation_cannot_be_moved(world):
    for step in (
        world.outcome.recordFirstTransfer,
        world.outcome.recordAdjustmentPending,
        world.outcome.recordAdjustment,
    ):
        with refuses("AuthorisationUnknown", 5):
            step(5, EVIDENCE, {"from": world.recorder})
    with refuses("AuthorisationUnknown", 5):
        world.outcome.authorisation(5)


def test_record_adjustment_by_anyone_else_is_refused(world):
    for account in (world.authoriser, world.stranger):
        with refuses("AccessManagedUnauthorized", account.address):
            world.outcome.recordAdjustment(7, EVIDENCE, {"from": account})
