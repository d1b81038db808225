"""EnergyCertificate.bindConverter, once"""

import pytest
from brownie import EnergyCertificate, MitigationOutcome, accounts

from tests.contracts.world import now, refuses, travel


def test_bind_converter_happens_once(world):
    assert world.certificate.converter() == world.outcome
    with refuses("ConverterAlreadyBound", world.outcome.address):
        world.certificate.bindConverter(world.outcome, {"from": world.admin})
    with refuses("AccessManagedUnauthorized", world.stranger.address):
        world.certificate.bindConverter(world.outcome, {"from": world.stranger})


def test_bind_converter_of_another_certificate_is_refused(world):
    certificate = world.deploy(EnergyCertificate, world.manager, world.registry, world.notary, "")
    with refuses("ConverterInvalid", world.outcome.address):
        certificate.bindConverter(world.outcome, {"from": world.admin})
    with pytest.raises(Exception, match="revert"):
        certificate.bindConverter(world.stranger, {"from": world.admin})
    with refuses("OnlyConverter", world.stranger.address):
        certificate.consume(world.generator, [1], [1], {"from": world.stranger})
    own = world.deploy(MitigationOutcome, world.manager, certificate, world.factors, "")
    assert (own.certificate(), own.registry(), own.factors()) == (certificate, world.registry, world.factors)
    tx = certificate.bindConverter(own, {"from": world.admin})
    assert tx.events["ConverterBound"]["converter"] == own


def test_bind_after_setup_cannot_be_done_again_by_a_scheduled_act(world):
    """Not even the administrator's delay passed makes a second binding."""
    world.manager.grantRole(0, world.admin, 60, {"from": world.admin})
    twin = world.deploy(EnergyCertificate, world.manager, world.registry, world.notary, "")
    other = world.deploy(MitigationOutcome, world.manager, world.certificate, world.factors, "")
    for target, call, bound in (
        (world.registry, world.registry.bindCertificate.encode_input(twin), world.certificate),
        (world.certificate, world.certificate.bindConverter.encode_input(other), world.outcome),
    ):
        world.manager.schedule(target, call, 0, {"from": world.admin})
        travel(now() + 61)
        with pytest.raises(Exception, match="AlreadyBound"):
            world.manager.execute(target, call, {"from": world.admin})
        assert bound in (world.registry.certificate(), world.certificate.converter())
    with refuses("OnlyConverter", other.address):
        world.certificate.consume(
            world.generator, [1], [1], {"from": accounts.at(other.address, force=True), "gas_price": 0}
        )
