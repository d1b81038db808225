"""setAuthority of every contract: the AccessManager's alone, by updateAuthority"""

import pytest

from scripts.roles import ADMIN_DELAY_SECONDS
from tests.contracts.world import now, refuses, travel


def test_authority_is_changed_by_the_access_manager_only(world):
    for account in (world.admin, world.guardian, world.stranger):
        for contract in (world.registry, world.notary, world.certificate, world.factors, world.outcome):
            with refuses("AccessManagedUnauthorized", account.address):
                contract.setAuthority(world.manager, {"from": account})


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
