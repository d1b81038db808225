"""DeviceRegistry.setAccount, setCapacity and termsAt: terms over time"""

import pytest
from brownie import chain
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


def terms(world, time):
    account, _, capacity_w = world.registry.termsAt(1, time)
    return account, capacity_w


def set_account(world, account, since, sender=None):
    return world.registry.setAccount(1, account, since, {"from": sender or world.registrar})


def set_capacity(world, capacity_w, since, sender=None):
    return world.registry.setCapacity(1, capacity_w, since, {"from": sender or world.registrar})


def test_set_account_for_later_holds_from_then_on(world):
    start = next_day()
    tx = set_account(world, world.neighbour, start)
    assert dict(tx.events["AccountSet"]) == {"deviceId": 1, "account": world.neighbour, "since": start}
    assert terms(world, 0) == (world.generator, CAPACITY_W)
    assert terms(world, start - 1) == (world.generator, CAPACITY_W)
    assert terms(world, start) == (world.neighbour, CAPACITY_W)
    assert terms(world, FOREVER) == (world.neighbour, CAPACITY_W)


def test_set_account_at_this_very_second_is_allowed(world):
    start = next_day()
    set_next_time(start)
    set_account(world, world.neighbour, start)
    assert chain[-1].timestamp == start
    assert terms(world, start) == (world.neighbour, CAPACITY_W)
    assert terms(world, start - 1) == (world.generator, CAPACITY_W)


def test_set_account_then_capacity_keeps_both_changes_to_come(world):
    start = next_day()
    set_account(world, world.neighbour, start + 5 * DAY)
    set_capacity(world, 7_000, start)
    assert terms(world, start - 1) == (world.generator, CAPACITY_W)
    assert terms(world, start) == (world.generator, 7_000)
    assert terms(world, start + 5 * DAY) == (world.neighbour, 7_000)


def test_set_capacity_after_pending_account_comes_after_it(world):
    start = next_day()
    set_account(world, world.neighbour, start)
    set_capacity(world, 7_000, start + DAY)
    assert terms(world, start) == (world.neighbour, CAPACITY_W)
    assert terms(world, start + DAY) == (world.neighbour, 7_000)


def test_set_capacity_at_the_same_time_joins_the_pending_account(world):
    start = next_day()
    set_account(world, world.neighbour, start)
    set_capacity(world, 7_000, start)
    assert terms(world, start - 1) == (world.generator, CAPACITY_W)
    assert terms(world, start) == (world.neighbour, 7_000)


def test_set_account_anew_overwrites_the_pending_one_only(world):
    start = next_day()
    set_capacity(world, 7_000, start)
    set_account(world, world.neighbour, start)
    set_account(world, world.buyer, start + 2 * DAY)
    assert terms(world, start) == (world.generator, 7_000)
    assert terms(world, start + DAY) == (world.generator, 7_000)
    assert terms(world, start + 2 * DAY) == (world.buyer, 7_000)


def test_set_account_back_to_the_present_one_withdraws_the_pending_one(world):
    start = next_day()
    set_account(world, world.neighbour, start + DAY)
    set_account(world, world.generator, start)
    assert terms(world, FOREVER) == (world.generator, CAPACITY_W)


def test_terms_at_over_many_changes_finds_each(world):
    start = next_day()
    expected = [(0, CAPACITY_W)]
    for i in range(9):
        since = start + i * 3 * DAY
        set_capacity(world, 1_000 + i, since)
        expected.append((since, 1_000 + i))
        travel(since + 1)
    for (since, capacity_w), (until, _) in zip(expected, [*expected[1:], (FOREVER, 0)], strict=True):
        assert terms(world, since) == (world.generator, capacity_w)
        assert terms(world, until - 1) == (world.generator, capacity_w)


def test_issue_after_a_change_pays_the_account_at_the_start(world):
    start = next_day()
    set_account(world, world.neighbour, start)
    before, after = Statement(1, start - DAY), Statement(1, start)
    travel(start + DAY)
    world.issue(before)
    world.issue(after)
    assert world.certificate.balanceOf(world.generator, before.id) == before.energy_wh
    assert world.certificate.balanceOf(world.neighbour, after.id) == after.energy_wh


@pytest.mark.parametrize("change", [set_account, set_capacity])
def test_change_off_the_grid_is_refused(world, change):
    since = next_day() + 3_600
    with refuses("NotOnGrid", 1, since, DAY):
        change(world, world.buyer if change is set_account else 1, since)


def test_set_account_in_the_past_is_refused(world):
    with pytest.raises(Exception, match=f"ChangeInThePast: 1, {JULY_2016}, "):
        set_account(world, world.buyer, JULY_2016)
    assert terms(world, FOREVER) == (world.generator, CAPACITY_W)


def test_set_account_before_the_device_is_active_is_refused(world):
    begin = next_day() + 30 * DAY
    world.register(2, active_from=begin)
    with refuses("ChangeInThePast", 2, begin - DAY, begin):
        world.registry.setAccount(2, world.buyer, begin - DAY, {"from": world.registrar})


def test_set_account_of_ended_device_is_refused(world):
    end = next_day()
    world.registry.deactivate(1, end, {"from": world.registrar})
    with refuses("DeviceInactive", 1, end):
        set_account(world, world.buyer, end)


def test_set_account_of_unknown_device_is_refused(world):
    with refuses("DeviceUnknown", 5):
        world.registry.setAccount(5, world.buyer, next_day(), {"from": world.registrar})


def test_set_account_to_nobody_is_refused(world):
    with refuses("DeviceFieldInvalid", 1, "account"):
        set_account(world, ZERO_ADDRESS, next_day())


def test_set_capacity_is_told(world):
    start = next_day()
    tx = set_capacity(world, 7_000, start)
    assert dict(tx.events["CapacitySet"]) == {"deviceId": 1, "capacityW": 7_000, "since": start}


def test_set_capacity_to_zero_is_refused(world):
    with refuses("DeviceFieldInvalid", 1, "capacityW"):
        set_capacity(world, 0, next_day())


def test_set_account_under_debt_is_refused(world):
    world.indebt(1, 4_321)
    with refuses("DeviceInDebt", 1, 4_321):
        set_account(world, world.buyer, next_day())
    set_capacity(world, 7_000, next_day())


@pytest.mark.parametrize("change", [set_account, set_capacity])
def test_change_by_stranger_is_refused(world, change):
    with refuses("AccessManagedUnauthorized", world.generator.address):
        change(world, world.buyer if change is set_account else 1, next_day(), sender=world.generator)


@pytest.mark.parametrize("view", ["device", "zoneOf", "termsAt", "granularityOf", "admit"])
def test_view_of_unknown_device_says_so(world, view):
    arguments = {"termsAt": (77, 0), "admit": (77, JULY_2016, DAY, 1)}.get(view, (77,))
    with refuses("DeviceUnknown", 77):
        getattr(world.registry, view)(*arguments)


def test_admit_answers_the_account_at_the_start_visibility_and_grid(world):
    start = next_day()
    set_account(world, world.neighbour, start)
    travel(start + DAY)
    assert plain(world.registry.admit(1, start - DAY, DAY, 1)) == (world.generator.address, False, DAY)
    assert plain(world.registry.admit(1, start, DAY, 1)) == (world.neighbour.address, False, DAY)
    world.register(2, visibility=PRIVATE, granularity=900)
    assert plain(world.registry.admit(2, JULY_2016, 900, 0)) == (world.generator.address, True, 900)
    assert world.registry.granularityOf(2) == 900


def test_device_of_meter_nobody_registered_is_zero(world):
    assert world.registry.deviceOfMeter(keccak(b"nobody's")) == 0
