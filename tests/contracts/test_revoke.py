"""Notary.revoke"""

from eth_utils import keccak

from tests.contracts.reference import REVOKED
from tests.contracts.world import refuses


def test_revoke_open_batch_is_told_and_final(world, day):
    tree = world.notarize(day(0))
    tx = world.notary.revoke(tree.root, "wrong meter", {"from": world.guardian})
    event = tx.events["Revoked"]
    assert (bytes(event["root"]), event["by"], event["reason"]) == (tree.root, world.guardian, "wrong meter")
    assert world.notary.notarization(tree.root)[6] == REVOKED
    with refuses("RootAlreadyRevoked", tree.root):
        world.notary.revoke(tree.root, "again", {"from": world.guardian})
    with refuses("RootAlreadyNotarized", tree.root):
        world.notarize(day(0))


def test_revoke_unknown_root_is_refused(world):
    with refuses("RootNotNotarized", keccak(b"?")):
        world.notary.revoke(keccak(b"?"), "", {"from": world.guardian})


def test_revoke_by_anyone_else_is_refused(world, day):
    tree = world.notarize(day(0))
    for account in (world.stranger, world.admin):
        with refuses("AccessManagedUnauthorized", account.address):
            world.notary.revoke(tree.root, "", {"from": account})
