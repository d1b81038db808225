"""DeviceRegistry.deactivate"""

import pytest
from brownie import DeviceRegistry

from tests.contracts.reference import DAY, Statement
from tests.contracts.world import JULY_2016, next_day, refuses, travel


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def deactivate(world, until, sender=None):
    return world.registry.deactivate(1, until, {"from": sender or world.registrar})


def test_deactivate_lets_earlier_periods_issue_and_no_later_ones(world):
    end = next_day()
    tx = deactivate(world, end)
    assert dict(tx.events["DeviceDeactivated"]) == {"deviceId": 1, "activeUntil": end}
    travel(end + 2 * DAY)
    world.issue(Statement(1, end - DAY))
    for late in (Statement(1, end), Statement(1, end - DAY, 2 * DAY)):
        with refuses("PeriodOutsideActivity", 1, late.start, late.start + late.duration):
            world.issue(late)


def test_deactivate_sooner_is_allowed_and_later_refused(world):
    end = next_day()
    deactivate(world, end + 10 * DAY)
    with refuses("DeviceInactive", 1, end + 10 * DAY):
        deactivate(world, end + 11 * DAY)
    deactivate(world, end)
    assert world.registry.device(1)[9] == end


def test_deactivate_in_the_past_is_refused(world):
    with pytest.raises(Exception, match=f"ChangeInThePast: 1, {JULY_2016}, "):
        deactivate(world, JULY_2016)


def test_deactivate_off_the_grid_is_refused(world):
    with refuses("NotOnGrid", 1, next_day() + 1, DAY):
        deactivate(world, next_day() + 1)


def test_deactivate_under_debt_is_refused_until_it_is_settled(world):
    world.indebt(1, 900)
    with refuses("DeviceInDebt", 1, 900):
        deactivate(world, next_day())
    paid = Statement(1, JULY_2016)
    world.issue(paid)
    assert world.certificate.debtOf(1) == 0
    deactivate(world, next_day())


def test_deactivate_by_stranger_is_refused(world):
    with refuses("AccessManagedUnauthorized", world.admin.address):
        deactivate(world, next_day(), sender=world.admin)


def test_debts_cannot_be_asked_before_the_certificate_is_bound(world):
    registry = world.deploy(DeviceRegistry, world.manager)
    selectors = [registry.signatures[name] for name in ("register", "setAccount", "deactivate")]
    world.manager.setTargetFunctionRole(registry, selectors, 1, {"from": world.admin})
    registry.register(1, world.device(), {"from": world.registrar})
    with refuses("CertificateNotBound"):
        registry.setAccount(1, world.buyer, next_day(), {"from": world.registrar})
    with refuses("CertificateNotBound"):
        registry.deactivate(1, next_day(), {"from": world.registrar})
