"""DeviceRegistry.setCapacity"""

import pytest

from tests.contracts.reference import DAY
from tests.contracts.world import CAPACITY_W, next_day, refuses


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def test_set_capacity_after_pending_account_comes_after_it(world):
    start = next_day()
    world.set_account(world.neighbour, start)
    world.set_capacity(7_000, start + DAY)
    assert world.terms(start) == (world.neighbour, CAPACITY_W)
    assert world.terms(start + DAY) == (world.neighbour, 7_000)


def test_set_capacity_at_the_same_time_joins_the_pending_account(world):
    start = next_day()
    world.set_account(world.neighbour, start)
    world.set_capacity(7_000, start)
    assert world.terms(start - 1) == (world.generator, CAPACITY_W)
    assert world.terms(start) == (world.neighbour, 7_000)


def test_set_capacity_is_told(world):
    start = next_day()
    tx = world.set_capacity(7_000, start)
    assert dict(tx.events["CapacitySet"]) == {"deviceId": 1, "capacityW": 7_000, "since": start}


def test_set_capacity_to_zero_is_refused(world):
    with refuses("DeviceFieldInvalid", 1, "capacityW"):
        world.set_capacity(0, next_day())


def test_set_capacity_off_the_grid_is_refused(world):
    since = next_day() + 3_600
    with refuses("NotOnGrid", 1, since, DAY):
        world.set_capacity(1, since)


def test_set_capacity_by_stranger_is_refused(world):
    with refuses("AccessManagedUnauthorized", world.generator.address):
        world.set_capacity(1, next_day(), sender=world.generator)
