"""EnergyCertificate.correct, debtOf and correctionOf"""

import pytest

from tests.contracts.reference import DAY, PRIVATE, Statement
from tests.contracts.world import CAPACITY_W, JULY_2016, plain, refuses

LIMIT_WH = CAPACITY_W * 24 * 11 // 10


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def balance(world, statement):
    return world.certificate.balanceOf(world.generator, statement.id)


def standing(world, statement):
    return plain(world.certificate.correctionOf(statement.id))


def test_correct_upwards_mints_the_difference(world, day):
    world.issue(day(0))
    correction = day(0).corrected(23_000)
    tree = world.notarize(correction)
    tx = world.correct(correction, tree)
    assert balance(world, day(0)) == 23_000
    assert standing(world, day(0)) == (1, 23_000)
    assert world.certificate.issuedFrom(tree.root) == 3_000
    assert tx.events["Issued"]["energyWh"] == 3_000
    event = tx.events["Corrected"]
    assert (event["id"], bytes(event["root"]), event["version"]) == (day(0).id, tree.root, 1)
    assert (event["previousWh"], event["energyWh"]) == (20_000, 23_000)


def test_correct_downwards_becomes_debt_and_touches_no_holder(world, day):
    world.issue(day(0))
    world.certificate.safeTransferFrom(world.generator, world.buyer, day(0).id, 20_000, b"", {"from": world.generator})
    correction = day(0).corrected(17_000)
    tree = world.notarize(correction)
    tx = world.correct(correction, tree)
    assert world.certificate.balanceOf(world.buyer, day(0).id) == 20_000
    assert world.certificate.debtOf(1) == 3_000
    assert dict(tx.events["DebtIncurred"]) == {"id": day(0).id, "deviceId": 1, "amountWh": 3_000, "debtWh": 3_000}
    assert "Issued" not in tx.events and world.certificate.issuedFrom(tree.root) == 0


def test_correct_to_the_same_energy_moves_nothing(world, day):
    world.issue(day(0))
    tx = world.correct(day(0).corrected(20_000))
    assert set(tx.events.keys()) == {"Corrected"}
    assert standing(world, day(0)) == (1, 20_000)


def test_correct_again_follows_the_stored_energy(world, day):
    world.issue(day(0))
    first = day(0).corrected(23_000)
    world.correct(first)
    second = first.corrected(21_500)
    with refuses("PreviousEnergyMismatch", day(0).id, 23_000, 22_999):
        world.correct(second._replace(previous_wh=22_999))
    world.correct(second)
    assert standing(world, day(0)) == (2, 21_500)
    assert world.certificate.debtOf(1) == 1_500
    world.correct(second.corrected(24_000))
    assert world.certificate.debtOf(1) == 0 and balance(world, day(0)) == 23_000 + 2_500 - 1_500


def test_correct_replayed_is_refused(world, day):
    world.issue(day(0))
    correction = day(0).corrected(23_000)
    tree = world.notarize(correction)
    world.correct(correction, tree)
    with refuses("VersionDoesNotFollow", day(0).id, 1, 1):
        world.correct(correction, tree)


def test_correct_forked_is_refused(world, day):
    world.issue(day(0))
    world.correct(day(0).corrected(23_000))
    fork = day(0).corrected(99_000)
    with refuses("VersionDoesNotFollow", day(0).id, 1, 1):
        world.correct(fork)


@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_correct_with_a_version_that_does_not_follow_is_refused(world, day, version):
    world.issue(day(0))
    with refuses("VersionDoesNotFollow", day(0).id, 0, version):
        world.correct(day(0, version=version, energy_wh=21_000, previous_wh=20_000))


def test_correct_before_issue_issues_at_the_corrected_energy_and_closes_the_original(world, day):
    original = world.notarize(day(0))
    correction = day(0).corrected(23_000)
    tree = world.notarize(correction)
    tx = world.correct(correction, tree)
    assert balance(world, day(0)) == 23_000
    assert tx.events["Issued"]["energyWh"] == 23_000
    assert world.certificate.issuedFrom(tree.root) == 3_000
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        world.issue(day(0), original)
    ordered, proof, flags = original.multi_proof([day(0)])
    tx = world.certificate.issueMany(original.root, ordered, proof, flags, {"from": world.stranger})
    assert "SkippedCertified" in tx.events


def test_correct_before_issue_downwards_leaves_no_debt(world, day):
    world.notarize(day(0))
    world.correct(day(0).corrected(17_000))
    assert balance(world, day(0)) == 17_000 and world.certificate.debtOf(1) == 0


def test_correct_before_issue_to_nothing_closes_the_original(world, day):
    original = world.notarize(day(0))
    tx = world.correct(day(0).corrected(0))
    assert tx.events["Issued"]["energyWh"] == 0 and "TransferSingle" not in tx.events
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        world.issue(day(0), original)


def test_correct_before_issue_comes_in_order_of_versions(world, day):
    world.notarize(day(0))
    first = day(0).corrected(23_000)
    second = first.corrected(25_000)
    tree = world.notarize(second)
    with refuses("VersionDoesNotFollow", day(0).id, 0, 2):
        world.correct(second, tree)
    world.correct(first)
    world.correct(second, tree)
    assert balance(world, day(0)) == 25_000


def test_correct_after_a_stale_issue_makes_the_excess_debt(world, day):
    original = world.notarize(day(0))
    correction = day(0).corrected(12_000)
    tree = world.notarize(correction)
    world.issue(day(0), original)
    world.correct(correction, tree)
    assert world.certificate.debtOf(1) == 8_000


@pytest.mark.parametrize(
    ("start", "days"), [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 4), (-1, 4), (-1, 2), (2, 2), (-1, 5), (-1, 10)]
)
def test_correct_of_a_period_certified_otherwise_is_refused(world, day, start, days):
    """Certified are days 0 to 2 as one certificate and day 3 as another; no other period of them is an id."""
    world.issue(day(0, duration=3 * DAY, energy_wh=50_000))
    world.issue(day(3))
    other = day(start, duration=days * DAY, version=1, energy_wh=1, previous_wh=2)
    with refuses("SlotAlreadyCertified", 1, other.start):
        world.correct(other)
    world.correct(day(0, duration=3 * DAY, version=1, energy_wh=49_000, previous_wh=50_000))
    world.correct(day(3).corrected(19_000))
    assert world.certificate.debtOf(1) == 2_000


@pytest.mark.parametrize("offset", [126, 127, 128, 100])
def test_correct_over_word_borders_knows_its_period(world, offset):
    begin = (JULY_2016 // DAY // 128 + 1) * 128 * DAY + (offset - 128) * DAY
    period = Statement(1, begin, 30 * DAY)
    world.issue(period)
    world.issue(Statement(1, begin + 30 * DAY))
    for wrong in (
        period._replace(duration=29 * DAY),
        period._replace(duration=31 * DAY),
        period._replace(start=begin + DAY),
    ):
        with refuses("SlotAlreadyCertified", 1, wrong.start):
            world.correct(wrong.corrected(1))
    world.correct(period.corrected(19_999))
    assert world.certificate.debtOf(1) == 1


def test_correct_beyond_capacity_is_refused_on_both_sides(world, day):
    world.issue(day(0))
    with refuses("EnergyAboveCapacity", 1, LIMIT_WH + 1, LIMIT_WH):
        world.correct(day(0).corrected(LIMIT_WH + 1))
    with refuses("EnergyAboveCapacity", 1, LIMIT_WH + 1, LIMIT_WH):
        world.correct(day(0, version=1, energy_wh=0, previous_wh=LIMIT_WH + 1))
    with refuses("EnergyAboveCapacity", 1, LIMIT_WH + 1, LIMIT_WH):
        world.issue(day(1, previous_wh=LIMIT_WH + 1))


def test_correct_beyond_what_the_batch_notarized_is_refused(world, day):
    world.issue(day(0))
    correction = day(0).corrected(23_000)
    tree = world.notarize(correction, energy_wh=2_999)
    with refuses("BatchExhausted", tree.root, 3_000, 2_999):
        world.correct(correction, tree)


def test_correct_from_a_revoked_root_is_refused(world, day):
    world.issue(day(0))
    correction = day(0).corrected(23_000)
    tree = world.notarize(correction)
    world.notary.revoke(tree.root, "", {"from": world.guardian})
    with refuses("RootNotIssuable", tree.root):
        world.correct(correction, tree)


def test_correct_with_a_wrong_proof_is_refused(world, day):
    world.issue(day(0))
    tree = world.notarize(day(0).corrected(23_000), day(1))
    with refuses("ProofInvalid", tree.root):
        world.certificate.correct(tree.root, day(0).corrected(30_000), [], {"from": world.stranger})


def test_correct_of_an_issued_private_device_is_for_anyone(world):
    world.register(2, visibility=PRIVATE)
    statement = Statement(2, JULY_2016)
    world.issue(statement, sender=world.generator)
    world.correct(statement.corrected(15_000), sender=world.stranger)
    assert world.certificate.debtOf(2) == 5_000


def test_correct_of_an_unissued_private_device_is_for_its_account_only(world):
    world.register(2, visibility=PRIVATE)
    correction = Statement(2, JULY_2016).corrected(15_000)
    tree = world.notarize(correction)
    with refuses("NotEntitled", 2, world.stranger.address, world.generator.address):
        world.correct(correction, tree)
    world.correct(correction, tree, sender=world.generator)


def test_correct_to_a_receiver_that_refuses_reverts_whole(world):
    refuser = world.attacker("Refuser", 0)
    world.register(2, account=refuser.address)
    correction = Statement(2, JULY_2016).corrected(15_000)
    tree = world.notarize(correction)
    with pytest.raises(Exception, match="not wanted"):
        world.correct(correction, tree)
    assert not world.certificate.isCertified(2, JULY_2016, DAY)


def test_debts_of_several_corrections_add_up(world, day):
    for n in range(3):
        world.issue(day(n))
    for n in range(3):
        world.correct(day(n).corrected(20_000 - 1_000 * (n + 1)))
    assert world.certificate.debtOf(1) == 6_000
