"""EmissionFactors.publish, factor and currentFactor"""

import pytest
from eth_utils import keccak

from tests.contracts.reference import ZERO_HASH
from tests.contracts.world import GRID_ZONE, plain, refuses

HASH = keccak(b"document")


def test_publish_is_kept_and_told(world):
    tx = world.factors.publish(GRID_ZONE, 2016, 617_000, True, HASH, "EPA eGRID2016", {"from": world.publisher})
    assert tx.return_value == 1
    kept = (GRID_ZONE, 2016, 617_000, True, 0, world.publisher.address, HASH, "EPA eGRID2016")
    assert plain(world.factors.factor(1)) == kept
    event = tx.events["FactorPublished"]
    assert (event["factorId"], bytes(event["gridZone"]), event["year"]) == (1, GRID_ZONE, 2016)
    assert plain(event["factor"]) == kept
    assert plain(world.factors.currentFactor(GRID_ZONE, 2016)) == (1, 617_000)


def test_publish_numbers_run_and_zones_and_years_stand_apart(world):
    world.publish(2016, 1)
    world.publish(2017, 2)
    world.publish(2016, 3, zone=b"ERCT".ljust(16, b"\0"))
    assert plain(world.factors.currentFactor(GRID_ZONE, 2017)) == (2, 2)
    assert plain(world.factors.currentFactor(b"ERCT".ljust(16, b"\0"), 2016)) == (3, 3)


def test_publish_a_second_time_is_refused(world):
    world.publish(2016)
    with refuses("FactorAlreadyPublished", GRID_ZONE, 2016, 1):
        world.publish(2016)


@pytest.mark.parametrize(
    ("field", "at", "value"),
    [
        ("gridZone", 0, bytes(16)),
        ("year", 1, 0),
        ("gramsPerMWh", 2, 0),
        ("sourceHash", 4, ZERO_HASH),
        ("source", 5, ""),
    ],
)
def test_publish_bad_field_is_refused_by_name(world, field, at, value):
    arguments = [GRID_ZONE, 2016, 1, False, HASH, "source"]
    arguments[at] = value
    with refuses("FactorInvalid", field):
        world.factors.publish(*arguments, {"from": world.publisher})


def test_publish_by_a_stranger_is_refused(world):
    with refuses("AccessManagedUnauthorized", world.stranger.address):
        world.factors.publish(GRID_ZONE, 2016, 1, False, HASH, "source", {"from": world.stranger})
