"""EnergyCertificate.settleDebt"""

import pytest

from tests.contracts.reference import Statement
from tests.contracts.world import JULY_2016, refuses


@pytest.fixture(autouse=True)
def device(world):
    world.register(1)


def test_settle_debt_uses_up_the_holders_certificates(world, day):
    world.issue(day(0))
    world.indebt(1, 5_000)
    world.certificate.safeTransferFrom(world.generator, world.buyer, day(0).id, 6_000, b"", {"from": world.generator})
    tx = world.certificate.settleDebt(day(0).id, 2_000, {"from": world.buyer})
    assert dict(tx.events["Settled"]) == {"id": day(0).id, "account": world.buyer, "amountWh": 2_000, "debtWh": 3_000}
    assert world.certificate.balanceOf(world.buyer, day(0).id) == 4_000
    world.certificate.settleDebt(day(0).id, 3_000, {"from": world.generator})
    assert world.certificate.debtOf(1) == 0 and world.certificate.balanceOf(world.generator, day(0).id) == 11_000


def test_settle_debt_beyond_the_debt_is_refused(world, day):
    world.issue(day(0))
    world.indebt(1, 5_000)
    with refuses("AmountExceedsDebt", 1, 5_001, 5_000):
        world.certificate.settleDebt(day(0).id, 5_001, {"from": world.generator})
    with refuses("AmountExceedsDebt", 1, 2**256 - 1, 5_000):
        world.certificate.settleDebt(day(0).id, 2**256 - 1, {"from": world.generator})


def test_settle_debt_without_debt_or_amount_or_balance_is_refused(world, day):
    world.issue(day(0))
    with refuses("NoDebt", 1):
        world.certificate.settleDebt(day(0).id, 1, {"from": world.generator})
    with refuses("AmountZero"):
        world.certificate.settleDebt(day(0).id, 0, {"from": world.generator})
    world.indebt(1, 5_000)
    with refuses("ERC1155InsufficientBalance", world.stranger.address, 0, 1, day(0).id):
        world.certificate.settleDebt(day(0).id, 1, {"from": world.stranger})


def test_settle_debt_with_another_devices_certificates_is_refused(world, day):
    world.register(2)
    other = Statement(2, JULY_2016)
    world.issue(other)
    world.indebt(1, 5_000)
    with refuses("NoDebt", 2):
        world.certificate.settleDebt(other.id, 1, {"from": world.generator})
