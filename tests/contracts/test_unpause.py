"""Notary.unpause and EnergyCertificate.unpause, by the administrator only"""

from tests.contracts.world import refuses


def test_unpause_lets_notarizing_go_on(world, day):
    world.notary.pause({"from": world.guardian})
    batch = world.batch([day(0)])
    with refuses("AccessManagedUnauthorized", world.guardian.address):
        world.notary.unpause({"from": world.guardian})
    tx = world.notary.unpause({"from": world.admin})
    assert tx.events["NotarizingResumed"]["by"] == world.admin and not world.notary.paused()
    world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    with refuses("NotPaused"):
        world.notary.unpause({"from": world.admin})


def test_unpause_lets_issuing_go_on(world, day):
    world.register(1)
    tree = world.notarize(day(1))
    world.certificate.pause({"from": world.guardian})
    with refuses("AccessManagedUnauthorized", world.guardian.address):
        world.certificate.unpause({"from": world.guardian})
    tx = world.certificate.unpause({"from": world.admin})
    assert tx.events["IssuingResumed"]["by"] == world.admin and not world.certificate.paused()
    world.issue(day(1), tree)
    with refuses("NotPaused"):
        world.certificate.unpause({"from": world.admin})
