"""EnergyCertificate.issue and what it checks; isCertified"""

import pytest
from eth_utils import keccak

from tests.contracts.reference import CONSUMPTION, DAY, INTERIM, PRIVATE, Statement, Tree
from tests.contracts.world import ACTIVE_FROM, CAPACITY_W, JULY_2016, now, refuses, set_next_time

LIMIT_WH = CAPACITY_W * 24 * 11 // 10
HOUR = 3_600


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def test_issue_mints_the_energy_to_the_account(world, day):
    statement = day(0)
    tree = world.notarize(statement, day(1))
    tx = world.issue(statement, tree)
    assert tx.return_value == statement.id
    event = tx.events["Issued"]
    assert (event["id"], bytes(event["root"]), event["account"]) == (statement.id, tree.root, world.generator)
    assert (event["energyWh"], bytes(event["profileHash"])) == (20_000, statement.profile_hash)
    assert world.certificate.balanceOf(world.generator, statement.id) == 20_000
    assert world.certificate.issuedFrom(tree.root) == 20_000
    assert world.certificate.isCertified(1, statement.start, DAY)
    assert not world.certificate.isCertified(1, statement.start + DAY, DAY)


def test_issue_twice_is_refused(world, day):
    tree = world.notarize(day(0), day(1))
    world.issue(day(0), tree)
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        world.issue(day(0), tree)


def test_issue_same_slot_from_another_batch_is_refused(world, day):
    world.issue(day(0))
    again = day(0, profile_hash=keccak(b"another"))
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        world.issue(again)


@pytest.mark.parametrize(("start", "days"), [(-1, 3), (0, 1), (1, 1), (1, 2), (-1, 2), (2, 2), (-5, 31)])
def test_issue_period_that_overlaps_is_refused(world, day, start, days):
    world.issue(day(0, duration=3 * DAY, energy_wh=50_000))
    overlapping = day(start, duration=days * DAY, energy_wh=1)
    with refuses("SlotAlreadyCertified", 1, overlapping.start):
        world.issue(overlapping)
    world.issue(day(-1, energy_wh=1) if start != -1 else day(3, energy_wh=1))


@pytest.mark.parametrize("first", [127, 128, 96, 0])
def test_issue_hourly_month_over_word_borders_takes_each_slot_once(world, first):
    world.register(2, granularity=HOUR, active_from=0)
    start = 128 * 1000 * HOUR + first * HOUR
    month = Statement(2, start, 31 * DAY, energy_wh=1)
    world.issue(month)
    for edge in (start - HOUR, start + 31 * DAY):
        assert not world.certificate.isCertified(2, edge, HOUR)
        world.issue(Statement(2, edge, HOUR, energy_wh=1))
    for hour in {0, 1, 127 - first % 128, 128 - first % 128, 743}:
        taken = Statement(2, start + hour * HOUR, HOUR, energy_wh=2)
        assert world.certificate.isCertified(2, taken.start, HOUR)
        with refuses("SlotAlreadyCertified", 2, taken.start):
            world.issue(taken)


def test_issue_without_energy_certifies_and_mints_nothing(world, day):
    tx = world.issue(day(0, energy_wh=0))
    assert tx.events["Issued"]["energyWh"] == 0
    assert "TransferSingle" not in tx.events
    with refuses("SlotAlreadyCertified", 1, JULY_2016):
        world.issue(day(0, energy_wh=5))


def test_issue_unknown_or_interim_or_revoked_root_is_refused(world, day):
    root = Tree([day(0)]).root
    with refuses("RootNotIssuable", root):
        world.issue(day(0), Tree([day(0)]))
    world.notarize(day(0), kind=INTERIM)
    with refuses("RootNotIssuable", root):
        world.issue(day(0), Tree([day(0)]))
    final = world.notarize(day(1), day(2))
    world.issue(day(1), final)
    world.notary.revoke(final.root, "", {"from": world.guardian})
    with refuses("RootNotIssuable", final.root):
        world.issue(day(2), final)


def test_issue_statement_that_is_not_in_the_batch_is_refused(world, day):
    tree = world.notarize(day(0), day(1))
    for wrong in (day(0, energy_wh=20_001), day(0, duration=2 * DAY), day(0, profile_hash=bytes(32)), day(2)):
        with refuses("ProofInvalid", tree.root):
            world.certificate.issue(tree.root, wrong, tree.proof(day(0)), {"from": world.stranger})
    with refuses("ProofInvalid", tree.root):
        world.certificate.issue(tree.root, day(0), [], {"from": world.stranger})


def test_issue_inner_node_passed_for_a_statement_is_refused(world, day):
    statements = [day(n) for n in range(4)]
    tree = world.notarize(*statements)
    proof = tree.proof(statements[0])
    with refuses("ProofInvalid", tree.root):
        world.certificate.issue(tree.root, statements[0], proof[1:], {"from": world.stranger})


def test_issue_deep_proof_of_a_tree_of_a_million_leaves(world, day):
    node, proof = day(0).leaf, [keccak(text=f"level {level}") for level in range(20)]
    for sibling in proof:
        node = keccak(b"".join(sorted((node, sibling))))
    batch = world.batch([day(0)], root=node, statements=2**20)
    world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    world.certificate.issue(node, day(0), proof, {"from": world.stranger})
    assert world.certificate.balanceOf(world.generator, day(0).id) == 20_000


def test_issue_correction_is_refused(world, day):
    with refuses("VersionNotZero", 1):
        world.issue(day(0).corrected(21_000))


def test_issue_of_consumption_is_refused(world):
    world.register(2, kind=CONSUMPTION)
    with refuses("NotGeneration", 2):
        world.issue(Statement(2, JULY_2016))


def test_issue_of_unknown_device_is_refused(world):
    with refuses("DeviceUnknown", 2):
        world.issue(Statement(2, JULY_2016))


@pytest.mark.parametrize(
    ("offset", "duration"), [(0, 0), (0, 32 * DAY), (HOUR, DAY), (0, DAY + HOUR), (-HOUR, DAY), (0, 2**32 - 1)]
)
def test_issue_period_off_the_grid_or_too_long_is_refused(world, offset, duration):
    statement = Statement(1, JULY_2016 + offset, duration, energy_wh=0)
    tree = world.notarize(statement, start=JULY_2016, end=now() - 1)
    with refuses("PeriodInvalid", 1, JULY_2016 + offset, duration, DAY):
        world.issue(statement, tree)


def test_issue_period_beyond_40_bits_is_refused(world):
    start = (2**40 // DAY) * DAY
    statement = Statement(1, start)
    tree = world.notarize(statement, start=JULY_2016, end=now() - 1)
    with refuses("PeriodInvalid", 1, start, DAY, DAY):
        world.issue(statement, tree)


def test_issue_before_the_device_is_active_is_refused(world):
    statement = Statement(1, ACTIVE_FROM - DAY)
    with refuses("PeriodOutsideActivity", 1, statement.start, ACTIVE_FROM):
        world.issue(statement)
    world.issue(Statement(1, ACTIVE_FROM))


@pytest.mark.parametrize(("start", "end"), [(1, DAY), (0, DAY - 1)])
def test_issue_period_outside_the_batch_is_refused(world, day, start, end):
    tree = world.notarize(day(0), start=JULY_2016 + start, end=JULY_2016 + end)
    with refuses("PeriodOutsideBatch", tree.root, JULY_2016, JULY_2016 + DAY):
        world.issue(day(0), tree)


def test_issue_before_the_period_ended_is_refused(world):
    today = now() // DAY * DAY + DAY
    statement = Statement(1, today)
    tree = world.notarize(statement, start=JULY_2016, end=now() - 1)
    set_next_time(today + DAY - 1)
    with refuses("PeriodNotEnded", today + DAY, today + DAY - 1):
        world.issue(statement, tree)


def test_issue_at_capacity_passes_and_one_more_wh_not(world, day):
    with refuses("EnergyAboveCapacity", 1, LIMIT_WH + 1, LIMIT_WH):
        world.issue(day(0, energy_wh=LIMIT_WH + 1))
    world.issue(day(1, energy_wh=LIMIT_WH))


def test_issue_more_than_the_batch_notarized_is_refused(world, day):
    tree = world.notarize(day(0), day(1), energy_wh=39_999)
    world.issue(day(0), tree)
    with refuses("BatchExhausted", tree.root, 40_000, 39_999):
        world.issue(day(1), tree)
    assert not world.certificate.isCertified(1, day(1).start, DAY)


def test_issue_greatest_numbers_passes(world):
    world.register(2**64 - 1, capacity_w=2**56 - 1, granularity=DAY)
    statement = Statement(2**64 - 1, JULY_2016, 31 * DAY, energy_wh=2**64 - 1)
    world.issue(statement)
    assert world.certificate.balanceOf(world.generator, statement.id) == 2**64 - 1


def test_issue_private_device_is_for_its_account_only(world):
    world.register(2, visibility=PRIVATE)
    statement = Statement(2, JULY_2016)
    tree = world.notarize(statement)
    with refuses("NotEntitled", 2, world.stranger.address, world.generator.address):
        world.issue(statement, tree)
    world.issue(statement, tree, sender=world.generator)


def test_issue_under_debt_nets_it_first(world, day):
    world.indebt(1, 25_000)
    tx = world.issue(day(0))
    assert dict(tx.events["Settled"]) == {
        "id": day(0).id,
        "account": world.generator,
        "amountWh": 20_000,
        "debtWh": 5_000,
    }
    assert tx.events["Issued"]["energyWh"] == 20_000 and "TransferSingle" not in tx.events
    tx = world.issue(day(1))
    assert dict(tx.events["Settled"]) == {"id": day(1).id, "account": world.generator, "amountWh": 5_000, "debtWh": 0}
    assert world.certificate.balanceOf(world.generator, day(1).id) == 15_000
    tx = world.issue(day(2))
    assert "Settled" not in tx.events


def test_issue_front_run_by_a_stranger_changes_nothing(world, day):
    tree = world.notarize(day(0))
    world.issue(day(0), tree, sender=world.stranger)
    assert world.certificate.balanceOf(world.generator, day(0).id) == 20_000
    assert world.certificate.balanceOf(world.stranger, day(0).id) == 0


@pytest.mark.parametrize("way", range(5))
def test_issue_to_an_account_that_refuses_reverts_whole(world, way):
    refuser = world.attacker("Refuser", way)
    world.register(2, account=refuser.address)
    statement = Statement(2, JULY_2016)
    tree = world.notarize(statement)
    with pytest.raises(Exception, match=r"revert|ERC1155InvalidReceiver|not wanted|out of gas|OutOfGas"):
        world.certificate.issue(tree.root, statement, [], {"from": world.stranger, "gas_limit": 3_000_000})
    assert not world.certificate.isCertified(2, JULY_2016, DAY) and world.certificate.issuedFrom(tree.root) == 0


def test_is_certified_rounds_outwards_on_the_grid(world, day):
    world.issue(day(0))
    assert world.certificate.isCertified(1, JULY_2016 + DAY - 1, 1)
    assert world.certificate.isCertified(1, JULY_2016 - 10, 11)
    assert not world.certificate.isCertified(1, JULY_2016 - 10, 10)
    assert not world.certificate.isCertified(1, JULY_2016, 0)
    assert world.certificate.isCertified(1, JULY_2016 - 300 * DAY, 600 * DAY)
    with refuses("DeviceUnknown", 9):
        world.certificate.isCertified(9, 0, 1)
