"""EnergyCertificate.issueAndRetire"""

import pytest
from eth_utils import keccak

from tests.contracts.reference import PRIVATE, Statement
from tests.contracts.world import JULY_2016, plain, refuses


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def issue_and_retire(world, statement, tree, sender=None, details=None):
    return world.certificate.issueAndRetire(
        tree.root, statement, tree.proof(statement), details or world.details(), {"from": sender or world.generator}
    )


def test_issue_and_retire_ends_it_without_a_mint(world, day):
    tree = world.notarize(day(0), day(1))
    tx = issue_and_retire(world, day(0), tree)
    assert tx.return_value == 1
    assert "TransferSingle" not in tx.events
    assert tx.events["Issued"]["energyWh"] == 20_000
    retired = tx.events["Retired"]
    assert (retired["number"], retired["account"], retired["id"], retired["amount"]) == (
        1,
        world.generator,
        day(0).id,
        20_000,
    )
    assert plain(retired["details"]) == plain(world.details())
    assert world.certificate.retiredOf(world.generator, day(0).id) == 20_000
    assert world.certificate.balanceOf(world.generator, day(0).id) == 0
    assert world.certificate.issuedFrom(tree.root) == 20_000


def test_issue_and_retire_under_debt_retires_what_is_left(world, day):
    world.indebt(1, 5_000)
    tx = issue_and_retire(world, day(0), world.notarize(day(0)))
    assert tx.events["Settled"]["amountWh"] == 5_000
    assert tx.events["Retired"]["amount"] == 15_000


def test_issue_and_retire_with_nothing_left_is_refused(world, day):
    with refuses("AmountZero"):
        issue_and_retire(world, day(1, energy_wh=0), world.notarize(day(1, energy_wh=0)))
    world.indebt(1, 20_000)
    with refuses("AmountZero"):
        issue_and_retire(world, day(0), world.notarize(day(0)))


def test_issue_and_retire_by_another_than_the_account_is_refused(world, day):
    tree = world.notarize(day(0))
    with refuses("NotEntitled", 1, world.stranger.address, world.generator.address):
        issue_and_retire(world, day(0), tree, sender=world.stranger)


def test_issue_and_retire_of_a_private_device_works_for_its_account(world):
    world.register(2, visibility=PRIVATE)
    statement = Statement(2, JULY_2016)
    issue_and_retire(world, statement, world.notarize(statement))


def test_issue_and_retire_after_somebody_issued_it_retires_the_balance(world, day):
    tree = world.notarize(day(0))
    world.issue(day(0), tree, sender=world.stranger)
    tx = issue_and_retire(world, day(0), tree)
    assert tx.events["Retired"]["amount"] == 20_000 and "Issued" not in tx.events
    assert world.certificate.retiredOf(world.generator, day(0).id) == 20_000


def test_issue_and_retire_of_an_issued_id_takes_no_more_than_the_balance(world, day):
    tree = world.notarize(day(0))
    world.issue(day(0), tree)
    world.certificate.safeTransferFrom(world.generator, world.buyer, day(0).id, 12_000, b"", {"from": world.generator})
    assert issue_and_retire(world, day(0), tree).events["Retired"]["amount"] == 8_000
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        issue_and_retire(world, day(0), tree)


def test_issue_and_retire_of_an_issued_id_takes_no_more_than_the_statement(world, day):
    tree = world.notarize(day(0))
    world.issue(day(0), tree)
    world.correct(day(0).corrected(25_000))
    assert issue_and_retire(world, day(0), tree).events["Retired"]["amount"] == 20_000


def test_issue_and_retire_where_another_period_is_certified_is_refused(world, day):
    world.issue(day(0, duration=2 * 86_400))
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        issue_and_retire(world, day(0), world.notarize(day(0)))


def test_issue_and_retire_of_an_unproven_statement_is_refused(world, day):
    tree = world.notarize(day(0))
    forged = day(0, energy_wh=90_000)
    with refuses("ProofInvalid", tree.root):
        world.certificate.issueAndRetire(tree.root, forged, [], world.details(), {"from": world.generator})
    with refuses("RootNotIssuable", keccak(b"?")):
        world.certificate.issueAndRetire(keccak(b"?"), day(0), [], world.details(), {"from": world.generator})


def test_issue_and_retire_of_a_correction_is_refused(world, day):
    statement = day(0).corrected(1)
    with refuses("VersionNotZero", 1):
        issue_and_retire(world, statement, world.notarize(statement))


def test_issue_and_retire_with_empty_details_is_refused(world, day):
    with refuses("DetailsInvalid", "purpose"):
        issue_and_retire(world, day(0), world.notarize(day(0)), details=world.details(purpose=""))
