"""DeviceRegistry.setAccount and termsAt: terms over time, with capacities between them"""

import pytest
from brownie import chain, web3
from eth_utils import keccak

from tests.contracts.reference import DAY, PRIVATE, ZERO_ADDRESS, Statement
from tests.contracts.world import (
    CAPACITY_W,
    FOREVER,
    JULY_2016,
    next_day,
    plain,
    refuses,
    set_next_time,
    travel,
)


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def test_set_account_for_later_holds_from_then_on(world):
    start = next_day()
    tx = world.set_account(world.neighbour, start)
    assert dict(tx.events["AccountSet"]) == {"deviceId": 1, "account": world.neighbour, "since": start}
    assert world.terms(0) == (world.generator, CAPACITY_W)
    assert world.terms(start - 1) == (world.generator, CAPACITY_W)
    assert world.terms(start) == (world.neighbour, CAPACITY_W)
    assert world.terms(FOREVER) == (world.neighbour, CAPACITY_W)


def test_set_account_at_this_very_second_is_allowed(world):
    start = next_day()
    set_next_time(start)
    world.set_account(world.neighbour, start)
    assert chain[-1].timestamp == start
    assert world.terms(start) == (world.neighbour, CAPACITY_W)
    assert world.terms(start - 1) == (world.generator, CAPACITY_W)


def test_set_account_then_capacity_keeps_both_changes_to_come(world):
    start = next_day()
    world.set_account(world.neighbour, start + 5 * DAY)
    world.set_capacity(7_000, start)
    assert world.terms(start - 1) == (world.generator, CAPACITY_W)
    assert world.terms(start) == (world.generator, 7_000)
    assert world.terms(start + 5 * DAY) == (world.neighbour, 7_000)


def test_set_account_anew_overwrites_the_pending_one_only(world):
    start = next_day()
    world.set_capacity(7_000, start)
    world.set_account(world.neighbour, start)
    world.set_account(world.buyer, start + 2 * DAY)
    assert world.terms(start) == (world.generator, 7_000)
    assert world.terms(start + DAY) == (world.generator, 7_000)
    assert world.terms(start + 2 * DAY) == (world.buyer, 7_000)


def test_set_account_back_to_the_present_one_withdraws_the_pending_one(world):
    start = next_day()
    world.set_account(world.neighbour, start + DAY)
    world.set_account(world.generator, start)
    assert world.terms(FOREVER) == (world.generator, CAPACITY_W)


def test_terms_at_over_many_changes_finds_each(world):
    start = next_day()
    expected = [(0, CAPACITY_W)]
    for i in range(9):
        since = start + i * 3 * DAY
        world.set_capacity(1_000 + i, since)
        expected.append((since, 1_000 + i))
        travel(since + 1)
    for (since, capacity_w), (until, _) in zip(expected, [*expected[1:], (FOREVER, 0)], strict=True):
        assert world.terms(since) == (world.generator, capacity_w)
        assert world.terms(until - 1) == (world.generator, capacity_w)


def test_issue_after_a_change_pays_the_account_at_the_start(world):
    start = next_day()
    world.set_account(world.neighbour, start)
    before, after = Statement(1, start - DAY), Statement(1, start)
    travel(start + DAY)
    world.issue(before)
    world.issue(after)
    assert world.certificate.balanceOf(world.generator, before.id) == before.energy_wh
    assert world.certificate.balanceOf(world.neighbour, after.id) == after.energy_wh


def test_set_account_off_the_grid_is_refused(world):
    since = next_day() + 3_600
    with refuses("NotOnGrid", 1, since, DAY):
        world.set_account(world.buyer, since)


def test_set_account_in_the_past_is_refused(world):
    with pytest.raises(Exception, match=f"ChangeInThePast: 1, {JULY_2016}, "):
        world.set_account(world.buyer, JULY_2016)
    assert world.terms(FOREVER) == (world.generator, CAPACITY_W)


def test_set_account_before_the_device_is_active_is_refused(world):
    begin = next_day() + 30 * DAY
    world.register(2, active_from=begin)
    with refuses("ChangeInThePast", 2, begin - DAY, begin):
        world.set_account(world.buyer, begin - DAY, device_id=2)


def test_set_account_of_ended_device_is_refused(world):
    end = next_day()
    world.registry.deactivate(1, end, {"from": world.registrar})
    with refuses("DeviceInactive", 1, end):
        world.set_account(world.buyer, end)


def test_set_account_of_unknown_device_is_refused(world):
    with refuses("DeviceUnknown", 5):
        world.set_account(world.buyer, next_day(), device_id=5)


def test_set_account_to_nobody_is_refused(world):
    with refuses("DeviceFieldInvalid", 1, "account"):
        world.set_account(ZERO_ADDRESS, next_day())


def test_set_account_under_debt_is_refused(world):
    world.indebt(1, 4_321)
    with refuses("DeviceInDebt", 1, 4_321):
        world.set_account(world.buyer, next_day())
    world.set_capacity(7_000, next_day())


def test_set_account_by_stranger_is_refused(world):
    with refuses("AccessManagedUnauthorized", world.generator.address):
        world.set_account(world.buyer, next_day(), sender=world.generator)


@pytest.mark.parametrize("view", ["device", "zoneOf", "termsAt", "granularityOf", "admit"])
def test_view_of_unknown_device_says_so(world, view):
    arguments = {"termsAt": (77, 0), "admit": (77, JULY_2016, DAY, 1)}.get(view, (77,))
    with refuses("DeviceUnknown", 77):
        getattr(world.registry, view)(*arguments)


def test_admit_answers_the_account_at_the_start_visibility_and_grid(world):
    start = next_day()
    world.set_account(world.neighbour, start)
    travel(start + DAY)
    assert plain(world.registry.admit(1, start - DAY, DAY, 1)) == (world.generator.address, False, DAY)
    assert plain(world.registry.admit(1, start, DAY, 1)) == (world.neighbour.address, False, DAY)
    world.register(2, visibility=PRIVATE, granularity=900)
    assert plain(world.registry.admit(2, JULY_2016, 900, 0)) == (world.generator.address, True, 900)
    assert world.registry.granularityOf(2) == 900


def test_admit_reads_history_for_statements_before_the_last_change_only(world):
    """However many changes there were: what is older costs reads, what is in force none beyond those of a new device."""

    def reads(start):
        call = {"to": world.registry.address, "data": world.registry.admit.encode_input(1, start, DAY, 1)}
        answer = web3.provider.make_request("eth_createAccessList", [call, "latest"])
        return sum(len(entry["storageKeys"]) for entry in answer["result"]["accessList"])

    unchanged = reads(JULY_2016)
    start = next_day()
    for n, account in enumerate([world.neighbour, world.buyer, world.generator] * 2):
        world.set_account(account, start + n * DAY)
        travel(start + n * DAY)
    travel(start + 9 * DAY)
    assert reads(start + 7 * DAY) == unchanged == 2
    assert reads(JULY_2016) > unchanged


def test_device_of_meter_nobody_registered_is_zero(world):
    assert world.registry.deviceOfMeter(keccak(b"nobody's")) == 0
