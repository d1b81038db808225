"""Notary.pause and EnergyCertificate.pause, by the guardian at once"""

from tests.contracts.world import refuses


def test_pause_stops_notarizing(world, day):
    tx = world.notary.pause({"from": world.guardian})
    assert tx.events["NotarizingPaused"]["by"] == world.guardian and world.notary.paused()
    batch = world.batch([day(0)])
    with refuses("Paused"):
        world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    with refuses("Paused"):
        world.notary.pause({"from": world.guardian})


def test_pause_by_anyone_else_is_refused(world):
    for contract in (world.notary, world.certificate):
        for account in (world.admin, world.stranger):
            with refuses("AccessManagedUnauthorized", account.address):
                contract.pause({"from": account})


def test_pause_stops_issuing_and_correcting_only(world, day):
    world.register(1)
    issued = day(0)
    tree = world.notarize(issued, day(1), day(2))
    ordered, proof, flags = tree.multi_proof([day(1)])
    correction = issued.corrected(19_000)
    world.issue(issued, tree)
    corrected = world.notarize(correction)
    tx = world.certificate.pause({"from": world.guardian})
    assert tx.events["IssuingPaused"]["by"] == world.guardian and world.certificate.paused()
    with refuses("Paused"):
        world.issue(day(1), tree)
    with refuses("Paused"):
        world.certificate.issueMany(tree.root, ordered, proof, flags, {"from": world.stranger})
    with refuses("Paused"):
        world.correct(correction, corrected)
    with refuses("Paused"):
        world.certificate.issueAndRetire(
            tree.root, day(1), tree.proof(day(1)), world.details(), {"from": world.generator}
        )
    with refuses("Paused"):
        world.certificate.pause({"from": world.guardian})
    world.certificate.safeTransferFrom(world.generator, world.buyer, issued.id, 10, b"", {"from": world.generator})
    world.certificate.retire(issued.id, 10, world.details(), {"from": world.buyer})
    world.publish()
    world.outcome.convert([issued.id], [10], 0, {"from": world.generator})
