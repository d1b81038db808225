"""Attackers with large numbers, deep trees and crowded batches"""

import pytest
from eth_utils import keccak

from tests.contracts.reference import DAY, Statement
from tests.contracts.world import JULY_2016, refuses

MAX_64, MAX_56, MAX_40 = 2**64 - 1, 2**56 - 1, 2**40 - 1


def deep(world, *leaves: Statement):
    """Notarize a tree of 2^20 leaves of which only the path is made: root, and the siblings above `leaves`' own node."""
    node, siblings = leaves[0].leaf, []
    if len(leaves) == 2:
        node = keccak(b"".join(sorted(one.leaf for one in leaves)))
    for level in range(20 - (len(leaves) - 1)):
        siblings.append(keccak(text=f"sibling {level}"))
        node = keccak(b"".join(sorted((node, siblings[-1]))))
    batch = world.batch(list(leaves), root=node, statements=2**20)
    world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    return node, siblings


def test_issue_with_a_proof_of_20_levels_passes_and_one_of_19_or_21_not(world, day):
    world.register(1)
    root, proof = deep(world, day(0))
    for wrong in (proof[:-1], [*proof, keccak(b"one more")], proof[::-1]):
        with refuses("ProofInvalid", root):
            world.certificate.issue(root, day(0), wrong, {"from": world.stranger})
    world.certificate.issue(root, day(0), proof, {"from": world.stranger})
    assert world.certificate.balanceOf(world.generator, day(0).id) == 20_000


def test_issue_many_with_a_multi_proof_of_20_levels_passes(world, day):
    world.register(1)
    pair = (day(0), day(1))
    root, proof = deep(world, *pair)
    flags = [True] + [False] * 19
    with refuses("ProofInvalid", root):
        world.certificate.issueMany(root, [pair[0], pair[0]], proof, flags, {"from": world.stranger})
    world.certificate.issueMany(root, pair, proof, flags, {"from": world.stranger})
    assert world.certificate.issuedFrom(root) == 40_000


def test_issue_many_with_a_leaf_twice_is_refused(world, day):
    world.register(1)
    statements = [day(n) for n in range(4)]
    tree = world.notarize(*statements)
    ordered, proof, flags = tree.multi_proof(statements)
    for bad in ([*ordered[:3], ordered[2]], [ordered[0], *ordered[2:], ordered[1]]):
        with refuses("ProofInvalid", tree.root):
            world.certificate.issueMany(tree.root, bad, proof, flags, {"from": world.stranger})
    with refuses("MerkleProofInvalidMultiproof"):
        world.certificate.issueMany(tree.root, [*ordered, ordered[0]], proof, flags, {"from": world.stranger})


def test_issue_many_of_a_tree_with_one_leaf_twice_certifies_it_once(world, day):
    """Witnesses refuse such a tree; if k of them signed one all the same, its slot is certified once."""
    world.register(1)
    root = keccak(day(0).leaf * 2)
    batch = world.batch([day(0)], root=root, statements=2, energy_wh=40_000)
    world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})
    world.certificate.issueMany(root, [day(0), day(0)], [], [True], {"from": world.stranger})
    assert world.certificate.issuedFrom(root) == world.certificate.balanceOf(world.generator, day(0).id) == 20_000


def test_issue_of_an_inner_node_as_a_statement_is_refused(world, day):
    """Second pre-image: the 64 bytes under an inner node are no statement, whichever way they are put into one."""
    world.register(1)
    statements = [day(n) for n in range(4)]
    tree = world.notarize(*statements)
    left = keccak(b"".join(sorted((tree.nodes[3], tree.nodes[4]))))
    assert left in tree.nodes
    words = int.from_bytes(tree.nodes[3], "big"), tree.nodes[4]
    forged = Statement(1, JULY_2016, DAY, 0, words[0] % 2**64, 0, words[1])
    for proof in ([tree.nodes[2]], [tree.nodes[1]], []):
        with refuses("ProofInvalid", tree.root):
            world.certificate.issue(tree.root, forged, proof, {"from": world.stranger})


def test_register_and_issue_with_the_greatest_numbers_passes(world):
    """The largest capacity, device id and month that fit are issued without an overflow, and one Wh more than is notarized is not."""
    device_id = MAX_64
    world.register(device_id, capacity_w=MAX_56, granularity=900)
    limit = MAX_56 * 31 * DAY * 11 // 36_000
    month = Statement(device_id, JULY_2016, 31 * DAY, energy_wh=min(limit, MAX_64))
    assert month.energy_wh == MAX_64
    world.issue(month)
    assert world.certificate.balanceOf(world.generator, month.id) == MAX_64
    later = Statement(device_id, JULY_2016 + 31 * DAY, 900, energy_wh=1)
    tree = world.notarize(later, energy_wh=0)
    with refuses("BatchExhausted", tree.root, 1, 0):
        world.issue(later, tree)
    assert world.certificate.isCertified(device_id, JULY_2016, 1) and not world.certificate.isCertified(
        device_id, MAX_40, 1
    )


def test_correct_debts_beyond_64_bits_are_refused_and_lose_nothing(world):
    world.register(MAX_64, capacity_w=MAX_56, granularity=900)
    months = [Statement(MAX_64, JULY_2016 + n * 31 * DAY, 31 * DAY, energy_wh=MAX_64) for n in range(2)]
    for month in months:
        world.issue(month)
    world.correct(months[0].corrected(0))
    assert world.certificate.debtOf(MAX_64) == MAX_64
    with pytest.raises(Exception, match="Integer overflow|revert"):
        world.correct(months[1].corrected(0))
    assert world.certificate.debtOf(MAX_64) == MAX_64
    assert world.certificate.correctionOf(months[1].id)[0] == 0


def test_admit_at_the_end_of_time_is_refused_by_name(world):
    world.register(1, granularity=900)
    start = MAX_40 // 900 * 900
    with refuses("PeriodInvalid", 1, start, 900, 900):
        world.registry.admit(1, start, 900, 0)
    with refuses("PeriodInvalid", 1, JULY_2016, 2**32 - 1, 900):
        world.registry.admit(1, JULY_2016, 2**32 - 1, 0)


def test_retire_by_the_greatest_amount_is_refused(world, day):
    world.register(1)
    world.issue(day(0))
    with refuses("ERC1155InsufficientBalance", world.generator.address, 20_000, 2**256 - 1, day(0).id):
        world.certificate.retire(day(0).id, 2**256 - 1, world.details(), {"from": world.generator})


@pytest.mark.parametrize("grams_per_mwh", [1, MAX_56])
def test_convert_with_the_least_and_greatest_factor_rounds_down(world, grams_per_mwh):
    world.register(MAX_64, capacity_w=MAX_56, granularity=900)
    month = Statement(MAX_64, JULY_2016, 31 * DAY, energy_wh=MAX_64)
    world.issue(month)
    world.publish(grams_per_mwh=grams_per_mwh)
    tx = world.outcome.convert([month.id], [MAX_64], 0, {"from": world.generator})
    assert tx.events["Converted"]["co2eG"] == MAX_64 * grams_per_mwh // 10**6
