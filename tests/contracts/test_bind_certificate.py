"""DeviceRegistry.bindCertificate, once"""

import pytest
from brownie import DeviceRegistry, EnergyCertificate

from tests.contracts.world import refuses


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
