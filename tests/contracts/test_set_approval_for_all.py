"""ERC-1155 setApprovalForAll of both tokens"""

from tests.contracts.reference import ZERO_ADDRESS
from tests.contracts.world import refuses


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
