"""ERC1888Adapter, and EnergyCertificate.isIssued under it"""

import pytest
from brownie import ERC1888Adapter, web3
from eth_abi import decode

from tests.contracts.reference import DAY, Statement
from tests.contracts.world import GRID_ZONE, JULY_2016, refuses


@pytest.fixture
def adapter(world, day):
    world.register(1)
    world.issue(day(0, duration=2 * DAY))
    return world.deploy(ERC1888Adapter, world.certificate)


def test_claimed_balance_is_what_is_retired(world, day, adapter):
    token = day(0, duration=2 * DAY).id
    world.certificate.retire(token, 700, world.details(), {"from": world.generator})
    assert adapter.claimedBalanceOf(world.generator, token) == 700
    people, ids = [world.generator, world.buyer, world.generator], [token, token, 5]
    assert list(adapter.claimedBalanceOfBatch(people, ids)) == [700, 0, 0]
    with refuses("LengthsDiffer", 1, 2):
        adapter.claimedBalanceOfBatch([world.buyer], [1, 2])


def test_get_certificate_tells_what_it_is_and_how_to_ask_for_its_validity(world, day, adapter):
    token = day(0, duration=2 * DAY).id
    issuer, topic, validity, data = adapter.getCertificate(token)
    assert (issuer, topic) == (world.certificate, 1_040_100)
    assert int.from_bytes(web3.eth.call({"to": issuer, "data": validity}), "big") == 1
    assert decode(["uint64", "uint40", "uint40", "bytes16", "bytes2", "uint32"], bytes(data)) == (
        1, JULY_2016, JULY_2016 + 2 * DAY, GRID_ZONE, b"US", 10_100,
    )  # fmt: skip


def test_get_certificate_that_was_not_issued_is_refused(world, day, adapter):
    for other in (day(0), day(1), day(2), day(0, duration=3 * DAY)):
        with refuses("CertificateUnknown", other.id):
            adapter.getCertificate(other.id)


def test_is_issued_knows_exact_periods_only(world, day, adapter):
    issued = day(0, duration=2 * DAY)
    assert world.certificate.isIssued(issued.id)
    for wrong in (
        issued.id + 1,
        day(0, duration=0).id,
        day(0).id,
        issued._replace(start=JULY_2016 + 1).id,
        issued._replace(duration=2 * DAY + 1).id,
        day(5).id,
    ):
        assert not world.certificate.isIssued(wrong)
    with refuses("DeviceUnknown", 9):
        world.certificate.isIssued(Statement(9, JULY_2016).id)
    world.certificate.retire(issued.id, 20_000, world.details(), {"from": world.generator})
    assert world.certificate.isIssued(issued.id)
