"""RetirableToken.retireBatch: one retirement of several ids"""

from tests.contracts.world import refuses


def test_retire_batch_is_one_retirement_of_several_ids(world, day, holder):
    ids, amounts = [day(0).id, day(2).id], [100, 20_000]
    tx = world.certificate.retireBatch(ids, amounts, world.details(), {"from": holder})
    event = tx.events["RetiredBatch"]
    assert (event["number"], event["account"], list(event["ids"]), list(event["amounts"])) == (1, holder, ids, amounts)
    assert [world.certificate.retiredOf(holder, token) for token in ids] == amounts
    assert world.certificate.balanceOf(holder, day(2).id) == 0 and world.certificate.retirementCount() == 1


def test_retire_batch_with_an_id_twice_counts_both(world, day, holder):
    world.certificate.retireBatch([day(0).id] * 2, [15_000, 5_000], world.details(), {"from": holder})
    assert world.certificate.retiredOf(holder, day(0).id) == 20_000
    with refuses("ERC1155InsufficientBalance", holder.address, 5_000, 15_000, day(1).id):
        world.certificate.retireBatch([day(1).id] * 2, [15_000] * 2, world.details(), {"from": holder})


def test_retire_batch_with_unequal_lists_or_no_amount_is_refused(world, day, holder):
    with refuses("LengthsDiffer", 2, 1):
        world.certificate.retireBatch([day(0).id, day(1).id], [1], world.details(), {"from": holder})
    for ids, amounts in (([], []), ([day(0).id, day(1).id], [1, 0])):
        with refuses("AmountZero"):
            world.certificate.retireBatch(ids, amounts, world.details(), {"from": holder})
