"""The two bindings, bindCertificate and bindConverter, and consume, which the second one opens"""

import pytest
from brownie import DeviceRegistry, EnergyCertificate, MitigationOutcome, accounts

from tests.contracts.world import now, refuses, travel


def test_bind_certificate_happens_once(world):
    assert world.registry.certificate() == world.certificate
    with refuses("CertificateAlreadyBound", world.certificate.address):
        world.registry.bindCertificate(world.certificate, {"from": world.admin})


def test_bind_certificate_of_another_registry_is_refused(world):
    registry = world.deploy(DeviceRegistry, world.manager)
    with refuses("CertificateInvalid", world.certificate.address):
        registry.bindCertificate(world.certificate, {"from": world.admin})
    with pytest.raises(Exception, match="revert"):
        registry.bindCertificate(world.stranger, {"from": world.admin})
    own = world.deploy(EnergyCertificate, world.manager, registry, world.notary, "")
    tx = registry.bindCertificate(own, {"from": world.admin})
    assert tx.events["CertificateBound"]["certificate"] == own


def test_bind_certificate_by_stranger_is_refused(world):
    with refuses("AccessManagedUnauthorized", world.registrar.address):
        world.registry.bindCertificate(world.certificate, {"from": world.registrar})


def test_consume_by_anyone_but_the_converter_is_refused(world, day):
    for account in (world.generator, world.admin, world.stranger):
        with refuses("OnlyConverter", account.address):
            world.certificate.consume(world.generator, [day(0).id], [1], {"from": account})


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
