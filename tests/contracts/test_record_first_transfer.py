"""MitigationOutcome.recordFirstTransfer: authorised outcomes may be used, and no more are made"""

import pytest

from tests.contracts.reference import ZERO_HASH, outcome_id
from tests.contracts.world import EVIDENCE, refuses

pytestmark = pytest.mark.usefixtures("certificates")


def test_retire_authorised_outcome_waits_for_the_first_transfer(world, day):
    world.authorise(7)
    world.convert([day(0).id, day(1).id], [10_000, 10_000], 7)
    token, details = outcome_id(authorisation_id=7), world.details()
    with refuses("NotFirstTransferred", 7, 1):
        world.outcome.retire(token, 1, details, {"from": world.generator})
    with refuses("NotFirstTransferred", 7, 1):
        world.outcome.retireBatch([token], [1], details, {"from": world.generator})
    world.outcome.safeTransferFrom(world.generator, world.buyer, token, 10, b"", {"from": world.generator})
    world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})
    world.outcome.retire(token, 10, details, {"from": world.buyer})
    assert world.outcome.retiredOf(world.buyer, token) == 10


def test_record_first_transfer_is_told_and_ends_conversions(world, day):
    world.authorise(7)
    world.authorise(8)
    world.convert([day(0).id], [10_000], 7)
    tx = world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})
    event = tx.events["StateAdvanced"]
    assert (event["authorisationId"], event["state"], bytes(event["evidenceHash"])) == (7, 2, EVIDENCE)
    assert world.outcome.authorisation(7)[6] == 2
    with refuses("AuthorisationNotOpen", 7, 2):
        world.convert([day(1).id], [1], 7)
    world.convert([day(1).id], [1], 8)


def test_record_first_transfer_twice_or_late_is_refused(world):
    world.authorise(7)
    world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})
    with refuses("StateDoesNotFollow", 7, 2, 2):
        world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})
    world.outcome.recordAdjustmentPending(7, EVIDENCE, {"from": world.recorder})
    with refuses("StateDoesNotFollow", 7, 3, 2):
        world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": world.recorder})


def test_record_first_transfer_without_evidence_or_authorisation_is_refused(world):
    world.authorise(7)
    with refuses("AuthorisationInvalid", "evidenceHash"):
        world.outcome.recordFirstTransfer(7, ZERO_HASH, {"from": world.recorder})
    with refuses("AuthorisationUnknown", 5):
        world.outcome.recordFirstTransfer(5, EVIDENCE, {"from": world.recorder})


def test_record_first_transfer_by_anyone_else_is_refused(world):
    world.authorise(7)
    for account in (world.authoriser, world.stranger):
        with refuses("AccessManagedUnauthorized", account.address):
            world.outcome.recordFirstTransfer(7, EVIDENCE, {"from": account})
