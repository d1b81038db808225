"""ERC-1155 safeTransferFrom of both tokens"""

from tests.contracts.reference import ZERO_ADDRESS
from tests.contracts.world import refuses


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
