"""EmissionFactors.supersede: a factor is replaced, never edited"""

from eth_utils import keccak

from tests.contracts.world import GRID_ZONE, plain, refuses

HASH = keccak(b"document")


def test_supersede_leaves_the_old_one_readable(world):
    world.publish(2016, 600_000)
    tx = world.factors.supersede(1, 610_000, False, HASH, "second edition", {"from": world.publisher})
    assert tx.return_value == 2
    assert dict(tx.events["FactorSuperseded"]) == {"factorId": 1, "supersededBy": 2}
    assert tx.events["FactorPublished"]["factorId"] == 2
    assert plain(world.factors.factor(1))[2:5] == (600_000, False, 2)
    assert plain(world.factors.currentFactor(GRID_ZONE, 2016)) == (2, 610_000)
    with refuses("FactorAlreadyPublished", GRID_ZONE, 2016, 2):
        world.publish(2016)


def test_supersede_twice_is_refused(world):
    world.publish(2016)
    world.factors.supersede(1, 1, False, HASH, "two", {"from": world.publisher})
    with refuses("FactorNotCurrent", 1, 2):
        world.factors.supersede(1, 1, False, HASH, "three", {"from": world.publisher})


def test_unknown_factors_are_refused(world):
    for factor_id in (0, 1):
        with refuses("FactorUnknown", factor_id):
            world.factors.factor(factor_id)
        with refuses("FactorUnknown", factor_id):
            world.factors.supersede(factor_id, 1, False, HASH, "source", {"from": world.publisher})
    with refuses("FactorMissing", GRID_ZONE, 2016):
        world.factors.currentFactor(GRID_ZONE, 2016)


def test_supersede_by_a_stranger_is_refused(world):
    world.publish()
    with refuses("AccessManagedUnauthorized", world.stranger.address):
        world.factors.supersede(1, 1, False, HASH, "source", {"from": world.stranger})
