"""Notary.setSigners and the views on epochs"""

import pytest
from brownie import Notary

from tests.contracts import reference
from tests.contracts.world import address, now, plain, refuses, set_next_time


def new_signers(count):
    return sorted((address(reference.key(f"new {i}")) for i in range(count)), key=lambda one: int(one, 16))


def test_set_signers_starts_an_epoch(world, signers):
    given = new_signers(4)
    tx = world.notary.setSigners(given, 2, {"from": world.admin})
    assert dict(tx.events["SignersSet"]) == {"epoch": 2, "threshold": 2, "signers": given}
    assert world.notary.signerEpoch() == 2
    new, threshold, since, until = world.notary.signerSet(2)
    assert (list(new), threshold, since, until) == (given, 2, tx.timestamp, 0)
    old, threshold, _, until = world.notary.signerSet(1)
    assert (list(old), threshold, until) == (signers, 3, tx.timestamp)
    assert world.notary.isSigner(2, given[0]) and not world.notary.isSigner(1, given[0])
    assert world.notary.isSigner(1, signers[0]) and not world.notary.isSigner(2, signers[0])


def test_epoch_at_tells_who_counted_when(world):
    first = world.notary.signerSet(1)[2]
    assert world.notary.epochAt(first - 1) == 0
    assert world.notary.epochAt(first) == 1
    set_next_time(first + 1_000)
    tx = world.notary.setSigners(new_signers(2), 1, {"from": world.admin})
    assert world.notary.epochAt(tx.timestamp - 1) == 1
    assert world.notary.epochAt(tx.timestamp) == 2
    assert world.notary.epochAt(2**40 - 1) == 2


def test_epoch_at_in_a_second_with_two_epochs_is_the_later(world):
    second = now() + 10
    set_next_time(second)
    tx = world.manager.multicall(
        [
            world.manager.execute.encode_input(world.notary, world.notary.setSigners.encode_input(new_signers(2), 1)),
            world.manager.execute.encode_input(world.notary, world.notary.setSigners.encode_input(new_signers(3), 1)),
        ],
        {"from": world.admin},
    )
    assert tx.timestamp == second
    assert world.notary.epochAt(second) == 3
    assert plain(world.notary.signerSet(2)[2:]) == (second, second)


@pytest.mark.parametrize(("count", "threshold"), [(0, 0), (0, 1), (3, 0), (3, 4), (33, 3)])
def test_set_signers_with_impossible_threshold_is_refused(world, count, threshold):
    with refuses("SignerSetInvalid", count, threshold):
        world.notary.setSigners(new_signers(count), threshold, {"from": world.admin})


def test_set_signers_takes_32(world):
    world.notary.setSigners(new_signers(32), 32, {"from": world.admin})


def test_set_signers_unsorted_or_twice_is_refused(world):
    one, two = new_signers(2)
    with refuses("SignersNotSorted", two, one):
        world.notary.setSigners([two, one], 1, {"from": world.admin})
    with refuses("SignersNotSorted", one, one):
        world.notary.setSigners([one, one], 1, {"from": world.admin})
    with refuses("SignersNotSorted", reference.ZERO_ADDRESS, reference.ZERO_ADDRESS):
        world.notary.setSigners([reference.ZERO_ADDRESS, one], 1, {"from": world.admin})
    with refuses("SignerSetInvalid", 0, 1):
        world.deploy(Notary, world.manager, [], 1)


def test_set_signers_by_guardian_is_refused(world):
    for account in (world.guardian, world.stranger):
        with refuses("AccessManagedUnauthorized", account.address):
            world.notary.setSigners(new_signers(3), 1, {"from": account})
