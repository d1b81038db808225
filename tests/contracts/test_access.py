"""The AccessManager over our contracts: setTargetClosed, and what it does not stop"""

import pytest

from tests.contracts.world import refuses


@pytest.fixture
def managed(world):
    return (world.registry, world.notary, world.certificate, world.factors, world.outcome)


def test_set_target_closed_stops_the_role_table_and_nothing_else(world, day, managed):
    world.register(1)
    tree = world.notarize(day(0), day(1))
    world.issue(day(0), tree)
    for contract in managed:
        world.manager.setTargetClosed(contract, True, {"from": world.admin})
        assert world.manager.isTargetClosed(contract)
    with refuses("AccessManagedUnauthorized", world.registrar.address):
        world.register(2)
    with refuses("AccessManagedUnauthorized", world.guardian.address):
        world.notary.pause({"from": world.guardian})
    with refuses("AccessManagedUnauthorized", world.publisher.address):
        world.publish()
    with refuses("AccessManagedUnauthorized", world.authoriser.address):
        world.authorise()
    world.issue(day(1), tree)
    world.notarize(day(2))
    world.certificate.safeTransferFrom(world.generator, world.buyer, day(0).id, 500, b"", {"from": world.generator})
    world.certificate.retire(day(0).id, 500, world.details(), {"from": world.buyer})
    assert world.certificate.retiredOf(world.buyer, day(0).id) == 500


def test_set_target_closed_by_anyone_else_is_refused(world, managed):
    for account in (world.guardian, world.registrar, world.stranger):
        with refuses("AccessManagerUnauthorizedAccount", account.address, 0):
            world.manager.setTargetClosed(world.certificate, True, {"from": account})


def test_is_consuming_scheduled_op_outside_a_scheduled_act_is_nothing(world, managed):
    for contract in managed:
        assert bytes(contract.isConsumingScheduledOp()) == bytes(4)


def test_closing_a_contract_in_the_access_manager_stops_no_holder(world, day):
    world.register(1)
    world.issue(day(0))
    world.publish()
    for contract in (world.certificate, world.outcome, world.registry, world.factors, world.notary):
        world.manager.setTargetClosed(contract, True, {"from": world.admin})
    with refuses("AccessManagedUnauthorized", world.guardian.address):
        world.certificate.pause({"from": world.guardian})
    world.certificate.safeTransferFrom(world.generator, world.buyer, day(0).id, 2_000, b"", {"from": world.generator})
    world.certificate.retire(day(0).id, 1_000, world.details(), {"from": world.buyer})
    world.outcome.convert([day(0).id], [1_000], 0, {"from": world.buyer})
