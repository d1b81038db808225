"""ERC-1155 safeBatchTransferFrom and balanceOfBatch"""

from tests.contracts.world import refuses


def test_safe_batch_transfer_from_moves_all_or_nothing(world, day, certificates):
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


def test_safe_batch_transfer_from_by_a_stranger_is_refused(world, token):
    contract, id_ = token
    with refuses("ERC1155MissingApprovalForAll", world.stranger.address, world.generator.address):
        contract.safeBatchTransferFrom(world.generator, world.stranger, [id_], [1], b"", {"from": world.stranger})
