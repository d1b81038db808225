"""The AccessManager over our contracts: setAuthority by updateAuthority, setTargetClosed; and what neither stops"""

import pytest

from scripts.roles import ADMIN_DELAY_SECONDS
from tests.contracts.world import now, refuses, travel


@pytest.fixture
def managed(world):
    return (world.registry, world.notary, world.certificate, world.factors, world.outcome)


def test_authority_is_changed_by_the_access_manager_only(world):
    for account in (world.admin, world.guardian, world.stranger):
        for contract in (world.registry, world.notary, world.certificate, world.factors, world.outcome):
            with refuses("AccessManagedUnauthorized", account.address):
                contract.setAuthority(world.manager, {"from": account})


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


def test_update_authority_waits_and_then_the_new_one_decides(world):
    with refuses("AccessManagerUnauthorizedAccount", world.stranger.address, 0):
        world.manager.updateAuthority(world.notary, world.stranger, {"from": world.stranger})
    other = world.another_manager(world.stranger)
    data = world.manager.updateAuthority.encode_input(world.notary, other)
    world.manager.grantRole(0, world.admin, ADMIN_DELAY_SECONDS, {"from": world.admin})
    with pytest.raises(Exception, match="AccessManagerUnauthorizedCall|AccessManagerNotScheduled"):
        world.manager.updateAuthority(world.notary, other, {"from": world.admin})
    world.manager.schedule(world.manager, data, 0, {"from": world.admin})
    travel(now() + ADMIN_DELAY_SECONDS + 60)
    tx = world.manager.execute(world.manager, data, {"from": world.admin})
    assert tx.events["AuthorityUpdated"]["authority"] == other
    assert world.notary.authority() == other
    with refuses("AccessManagedUnauthorized", world.guardian.address):
        world.notary.pause({"from": world.guardian})
    world.notary.pause({"from": world.stranger})


def test_update_authority_to_what_has_no_code_is_refused(world):
    with pytest.raises(Exception, match="AccessManagedInvalidAuthority"):
        world.manager.updateAuthority(world.notary, world.buyer, {"from": world.admin})
    assert world.notary.authority() == world.manager


def test_is_consuming_scheduled_op_outside_a_scheduled_act_is_nothing(world, managed):
    for contract in managed:
        assert bytes(contract.isConsumingScheduledOp()) == bytes(4)
