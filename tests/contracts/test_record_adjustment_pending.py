"""MitigationOutcome.recordAdjustmentPending: only after the first transfer"""

import pytest

from tests.contracts.reference import ZERO_HASH
from tests.contracts.world import EVIDENCE, refuses

pytestmark = pytest.mark.usefixtures("certificates")


def test_record_adjustment_pending_follows_the_first_transfer_and_keeps_conversions_closed(world, day):
    world.authorise(7)
    with refuses("StateDoesNotFollow", 7, 1, 3):
        world.outcome.recordAdjustmentPending(7, EVIDENCE, {"from": world.recorder})
    world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})
    tx = world.outcome.recordAdjustmentPending(7, EVIDENCE, {"from": world.recorder})
    assert tx.events["StateAdvanced"]["state"] == world.outcome.authorisation(7)[6] == 3
    with refuses("AuthorisationNotOpen", 7, 3):
        world.convert([day(0).id], [1], 7)
    with refuses("StateDoesNotFollow", 7, 3, 3):
        world.outcome.recordAdjustmentPending(7, EVIDENCE, {"from": world.recorder})


def test_record_adjustment_pending_without_evidence_or_authorisation_is_refused(world):
    world.authorise(7)
    world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})
    with refuses("AuthorisationInvalid", "evidenceHash"):
        world.outcome.recordAdjustmentPending(7, ZERO_HASH, {"from": world.recorder})
    with refuses("AuthorisationUnknown", 5):
        world.outcome.recordAdjustmentPending(5, EVIDENCE, {"from": world.recorder})


def test_record_adjustment_pending_by_anyone_else_is_refused(world):
    for account in (world.authoriser, world.stranger):
        with refuses("AccessManagedUnauthorized", account.address):
            world.outcome.recordAdjustmentPending(7, EVIDENCE, {"from": account})
