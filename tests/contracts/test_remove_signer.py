"""Notary.removeSigner"""

from tests.contracts.world import address, refuses


def test_remove_signer_takes_one_out_at_once(world, signers, day):
    batch = world.batch([day(0)])
    tx = world.notary.removeSigner(signers[1], "key lost", {"from": world.guardian})
    rest = [one for one in signers if one != signers[1]]
    assert dict(tx.events["SignerRemoved"]) == {"epoch": 2, "signer": signers[1], "reason": "key lost"}
    assert dict(tx.events["SignersSet"]) == {"epoch": 2, "threshold": 3, "signers": rest}
    assert list(world.notary.signerSet(2)[0]) == rest
    with refuses("EpochNotCurrent", 2, 1):
        world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    batch = world.batch([day(0)])
    with refuses("SignerNotAuthorised", 2, signers[1]):
        world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    keys = [key for key in world.witnesses if address(key) != signers[1]][:3]
    world.notary.notarize(batch, world.signatures(batch, keys), {"from": world.stranger})


def test_remove_signer_below_the_threshold_stops_notarizing(world, signers, day):
    for signer in signers[:3]:
        world.notary.removeSigner(signer, "", {"from": world.guardian})
    batch = world.batch([day(0)])
    with refuses("TooFewSignatures", 2, 3):
        world.notary.notarize(batch, world.signatures(batch, world.witnesses[3:]), {"from": world.stranger})
    for signer in signers[3:]:
        world.notary.removeSigner(signer, "", {"from": world.guardian})
    batch = world.batch([day(0)])
    with refuses("TooFewSignatures", 0, 3):
        world.notary.notarize(batch, [], {"from": world.stranger})


def test_remove_signer_who_is_none_is_refused(world, signers):
    with refuses("SignerNotAuthorised", 1, world.stranger.address):
        world.notary.removeSigner(world.stranger, "", {"from": world.guardian})
    world.notary.removeSigner(signers[0], "", {"from": world.guardian})
    with refuses("SignerNotAuthorised", 2, signers[0]):
        world.notary.removeSigner(signers[0], "", {"from": world.guardian})


def test_remove_signer_by_anyone_else_is_refused(world, signers):
    for account in (world.admin, world.stranger):
        with refuses("AccessManagedUnauthorized", account.address):
            world.notary.removeSigner(signers[0], "", {"from": account})
