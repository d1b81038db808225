"""Transfers and operators of both tokens, as ERC-1155 has them"""

import pytest

from tests.contracts.reference import ZERO_ADDRESS
from tests.contracts.world import refuses


@pytest.fixture(autouse=True)
def certificates(world, day):
    world.register(1)
    world.issue_many(world.notarize(day(0), day(1)))
    world.publish()
    world.outcome.convert([day(0).id], [5_000], 0, {"from": world.generator})


@pytest.fixture(params=["certificate", "outcome"])
def token(request, world, day):
    """A token and an id of it that the generator has."""
    contract = getattr(world, request.param)
    if request.param == "certificate":
        return contract, day(0).id
    outcome_id = world.outcome.convert.call([day(0).id], [1], 0, {"from": world.generator})[0][0]
    return contract, int(outcome_id)


def test_safe_transfer_from_moves_and_keeps_the_sum(world, token):
    contract, id_ = token
    before = contract.balanceOf(world.generator, id_)
    tx = contract.safeTransferFrom(world.generator, world.buyer, id_, 700, b"", {"from": world.generator})
    assert [int(n) for n in contract.balanceOfBatch([world.generator, world.buyer], [id_] * 2)] == [before - 700, 700]
    assert tx.events["TransferSingle"]["value"] == 700


def test_safe_transfer_from_more_than_the_balance_or_to_nobody_is_refused(world, token):
    contract, id_ = token
    held = int(contract.balanceOf(world.generator, id_))
    with refuses("ERC1155InsufficientBalance", world.generator.address, held, held + 1, id_):
        contract.safeTransferFrom(world.generator, world.buyer, id_, held + 1, b"", {"from": world.generator})
    with refuses("ERC1155InvalidReceiver", ZERO_ADDRESS):
        contract.safeTransferFrom(world.generator, ZERO_ADDRESS, id_, 1, b"", {"from": world.generator})


def test_safe_transfer_from_by_a_stranger_is_refused_and_by_an_operator_passes(world, token):
    contract, id_ = token
    with refuses("ERC1155MissingApprovalForAll", world.stranger.address, world.generator.address):
        contract.safeTransferFrom(world.generator, world.stranger, id_, 1, b"", {"from": world.stranger})
    tx = contract.setApprovalForAll(world.stranger, True, {"from": world.generator})
    assert tx.events["ApprovalForAll"]["approved"] and contract.isApprovedForAll(world.generator, world.stranger)
    contract.safeTransferFrom(world.generator, world.stranger, id_, 1, b"", {"from": world.stranger})
    contract.setApprovalForAll(world.stranger, False, {"from": world.generator})
    with refuses("ERC1155MissingApprovalForAll", world.stranger.address, world.generator.address):
        contract.safeTransferFrom(world.generator, world.stranger, id_, 1, b"", {"from": world.stranger})


def test_set_approval_for_all_of_nobody_is_refused(world, token):
    with refuses("ERC1155InvalidOperator", ZERO_ADDRESS):
        token[0].setApprovalForAll(ZERO_ADDRESS, True, {"from": world.generator})


def test_safe_batch_transfer_from_moves_all_or_nothing(world, day):
    contract, ids = world.certificate, [day(0).id, day(1).id]
    tx = contract.safeBatchTransferFrom(world.generator, world.buyer, ids, [1, 2], b"", {"from": world.generator})
    assert list(tx.events["TransferBatch"]["values"]) == [1, 2]
    assert [int(n) for n in contract.balanceOfBatch([world.buyer] * 2, ids)] == [1, 2]
    with refuses("ERC1155InsufficientBalance", world.buyer.address, 2, 3, ids[1]):
        contract.safeBatchTransferFrom(world.buyer, world.generator, ids, [1, 3], b"", {"from": world.buyer})
    assert [int(n) for n in contract.balanceOfBatch([world.buyer] * 2, ids)] == [1, 2]


def test_lists_of_unequal_length_are_refused(world, token):
    contract, id_ = token
    with refuses("ERC1155InvalidArrayLength", 2, 1):
        contract.safeBatchTransferFrom(world.generator, world.buyer, [id_] * 2, [1], b"", {"from": world.generator})
    with refuses("ERC1155InvalidArrayLength", 1, 2):
        contract.balanceOfBatch([world.buyer] * 2, [id_])
