"""Hostile receivers: whatever they do inside a receipt, caps hold and nothing is issued twice"""

import pytest
from brownie import accounts
from eth_utils import keccak

from tests.contracts.reference import DAY, Statement
from tests.contracts.signing import sign
from tests.contracts.world import HOLDER_KEY, JULY_2016, now

FIRST, SECOND = Statement(3, JULY_2016), Statement(3, JULY_2016 + DAY)
THIRD = Statement(3, JULY_2016 + 2 * DAY)
SIGNED = Statement(1, JULY_2016)  # what a signed retirement is about; the attacker only sends it


@pytest.fixture
def attacker(world):
    account = world.attacker("Reenterer")
    world.register(1)
    world.register(3, account=account.address)
    return account


def selector(text):
    return keccak(text=text)[:4]


def held(world, account, *statements):
    return [world.certificate.balanceOf(account, s.id) for s in statements]


def issue_data(world, tree, statement):
    return world.certificate.issue.encode_input(tree.root, statement, tree.proof(statement))


def test_issue_reentered_for_the_same_item_is_refused(world, attacker):
    tree = world.notarize(FIRST, SECOND)
    attacker.arm(world.certificate, issue_data(world, tree, FIRST), {"from": world.stranger})
    world.issue(FIRST, tree)
    assert attacker.attempted() and not attacker.succeeded()
    assert bytes(attacker.answer())[:4] == selector("SlotAlreadyCertified(uint64,uint40)")
    assert held(world, attacker, FIRST, SECOND) == [20_000, 0]
    assert world.certificate.issuedFrom(tree.root) == 20_000


def test_issue_reentered_for_another_item_counts_both(world, attacker):
    tree = world.notarize(FIRST, SECOND)
    attacker.arm(world.certificate, issue_data(world, tree, SECOND), {"from": world.stranger})
    world.issue(FIRST, tree)
    assert attacker.succeeded()
    assert held(world, attacker, FIRST, SECOND) == [20_000, 20_000]
    assert world.certificate.issuedFrom(tree.root) == 40_000


def test_issue_reentered_beyond_the_batch_is_refused(world, attacker):
    tree = world.notarize(FIRST, SECOND, energy_wh=39_999)
    attacker.arm(world.certificate, issue_data(world, tree, SECOND), {"from": world.stranger})
    world.issue(FIRST, tree)
    assert not attacker.succeeded()
    assert bytes(attacker.answer())[:4] == selector("BatchExhausted(bytes32,uint256,uint64)")
    assert world.certificate.issuedFrom(tree.root) == 20_000


@pytest.mark.parametrize("target", [FIRST, SECOND])
def test_issue_many_reentered_for_each_item_issues_once(world, attacker, target):
    tree = world.notarize(FIRST, SECOND)
    attacker.arm(world.certificate, issue_data(world, tree, target), {"from": world.stranger})
    tx = world.issue_many(tree)
    assert attacker.attempted()
    assert held(world, attacker, FIRST, SECOND) == [20_000, 20_000]
    assert world.certificate.issuedFrom(tree.root) == 40_000
    assert len(tx.events["Issued"]) == 2


def test_issue_many_reentered_by_issue_many_issues_once(world, attacker):
    statements = [FIRST, SECOND, Statement(1, JULY_2016)]
    tree = world.notarize(*statements)
    ordered, proof, flags = tree.multi_proof(statements)
    data = world.certificate.issueMany.encode_input(tree.root, ordered, proof, flags)
    attacker.arm(world.certificate, data, {"from": world.stranger})
    world.issue_many(tree)
    assert attacker.attempted()
    assert held(world, attacker, FIRST, SECOND) == [20_000, 20_000]
    assert held(world, world.generator, statements[2]) == [20_000]
    assert world.certificate.issuedFrom(tree.root) == 60_000


def test_issued_units_are_minted_before_a_receiver_looks(world, attacker):
    """Inside a receipt what was issued to others in the same call is theirs already."""
    others = [Statement(1, JULY_2016 + n * DAY) for n in range(4)]
    tree = world.notarize(FIRST, *others)
    ordered, _, _ = tree.multi_proof([FIRST, *others])
    before = ordered[: ordered.index(FIRST)]
    data = world.certificate.balanceOfBatch.encode_input([world.generator] * 4, [s.id for s in others])
    attacker.look(world.certificate, data, {"from": world.stranger})
    world.issue_many(tree)
    words = bytes(attacker.seen())[64:]
    seen = [int.from_bytes(words[i : i + 32], "big") for i in range(0, len(words), 32)]
    assert seen == [20_000 if s in before else 0 for s in others]


def test_correct_reentered_is_refused(world, attacker):
    world.issue(FIRST)
    correction = FIRST.corrected(23_000)
    tree = world.notarize(correction)
    data = world.certificate.correct.encode_input(tree.root, correction, tree.proof(correction))
    attacker.arm(world.certificate, data, {"from": world.stranger})
    world.correct(correction, tree)
    assert attacker.attempted() and not attacker.succeeded()
    assert bytes(attacker.answer())[:4] == selector("VersionDoesNotFollow(uint256,uint32,uint32)")
    assert held(world, attacker, FIRST) == [23_000]


def test_issue_reentered_by_its_correction_conserves(world, attacker):
    correction = FIRST.corrected(12_000)
    tree, corrected = world.notarize(FIRST), world.notarize(correction)
    data = world.certificate.correct.encode_input(corrected.root, correction, corrected.proof(correction))
    attacker.arm(world.certificate, data, {"from": world.stranger})
    world.issue(FIRST, tree)
    assert attacker.succeeded()
    assert held(world, attacker, FIRST) == [20_000] and world.certificate.debtOf(3) == 8_000


def test_issue_reentered_by_retire_and_convert_of_what_arrived(world, attacker):
    """A receiver may use at once what it has received, and no more."""
    world.publish()
    tree = world.notarize(FIRST)
    data = world.outcome.convert.encode_input([FIRST.id], [20_000], 0)
    attacker.arm(world.outcome, data, {"from": world.stranger})
    world.issue(FIRST, tree)
    assert attacker.succeeded()
    assert held(world, attacker, FIRST) == [0]
    assert world.outcome.balanceOf(attacker, 1 << 224 | 2016 << 208 | 0x5553 << 192) == 14_000


def test_convert_reentered_cannot_use_a_certificate_twice(world, attacker):
    world.publish()
    world.issue(FIRST)
    data = world.outcome.convert.encode_input([FIRST.id], [20_000], 0)
    attacker.arm(world.outcome, data, {"from": world.stranger})
    attacker.run(world.outcome, data, {"from": world.stranger})
    assert attacker.attempted() and not attacker.succeeded()
    assert bytes(attacker.answer())[:4] == selector("ERC1155InsufficientBalance(address,uint256,uint256,uint256)")
    assert world.outcome.balanceOf(attacker, 1 << 224 | 2016 << 208 | 0x5553 << 192) == 14_000


def test_convert_reentered_cannot_pass_the_authorised_cap(world, attacker):
    world.publish()
    world.authorise(7, cap_g=7_000, share_of_proceeds_bps=0, overall_mitigation_bps=0)
    world.issue(FIRST)
    data = world.outcome.convert.encode_input([FIRST.id], [10_000], 7)
    attacker.arm(world.outcome, data, {"from": world.stranger})
    attacker.run(world.outcome, data, {"from": world.stranger})
    assert attacker.attempted() and not attacker.succeeded()
    assert bytes(attacker.answer())[:4] == selector("AuthorisationCapExceeded(uint64,uint256,uint64)")
    assert world.outcome.authorisation(7)[8] == 7_000


def test_transfer_reentered_by_retire_takes_no_more_than_arrived(world, attacker):
    own = Statement(1, JULY_2016)
    world.issue(own)
    data = world.certificate.retire.encode_input(own.id, 500, world.details())
    attacker.arm(world.certificate, data, {"from": world.stranger})
    world.certificate.safeTransferFrom(world.generator, attacker, own.id, 500, b"", {"from": world.generator})
    assert attacker.succeeded()
    assert world.certificate.retiredOf(attacker, own.id) == 500 and held(world, attacker, own) == [0]


def test_issue_and_retire_calls_nobody(world, attacker):
    tree = world.notarize(FIRST)
    data = world.certificate.issueAndRetire.encode_input(tree.root, FIRST, [], world.details())
    attacker.arm(world.certificate, issue_data(world, tree, FIRST), {"from": world.stranger})
    attacker.run(world.certificate, data, {"from": world.stranger})
    assert not attacker.attempted()
    assert world.certificate.retiredOf(attacker, FIRST.id) == 20_000


def signed_retirement(world, kind, *what):
    account, deadline = accounts.add(HOLDER_KEY).address, now() + 3_600
    signature = sign(world, kind, (account, *what, world.details(), 0, deadline))
    function = world.certificate.retireBatchBySig if kind == "RetireBatch" else world.certificate.retireBySig
    return function.encode_input(account, *what, world.details(), deadline, signature)


def notarize_data(world):
    batch = world.batch([Statement(1, JULY_2016 + 5 * DAY)])
    return world.notary.notarize.encode_input(batch, world.signatures(batch))


ENTRIES = {
    "issue": lambda world, tree, details, attacker: issue_data(world, tree, tree.multi_proof([SECOND, THIRD])[0][1]),
    "issueMany": lambda world, tree, details, attacker: world.certificate.issueMany.encode_input(
        tree.root, *tree.multi_proof([SECOND, THIRD])
    ),
    "issueAndRetire": lambda world, tree, details, attacker: world.certificate.issueAndRetire.encode_input(
        tree.root, THIRD, tree.proof(THIRD), details
    ),
    "correct": lambda world, tree, details, attacker: world.certificate.correct.encode_input(
        tree.root, FIRST.corrected(23_000), tree.proof(FIRST.corrected(23_000))
    ),
    "settleDebt": lambda world, tree, details, attacker: world.certificate.settleDebt.encode_input(FIRST.id, 1_000),
    "retire": lambda world, tree, details, attacker: world.certificate.retire.encode_input(FIRST.id, 20_000, details),
    "retireBatch": lambda world, tree, details, attacker: world.certificate.retireBatch.encode_input(
        [FIRST.id, FIRST.id], [10_000, 10_000], details
    ),
    "safeTransferFrom": lambda world, tree, details, attacker: world.certificate.safeTransferFrom.encode_input(
        attacker, world.buyer, FIRST.id, 20_000, b""
    ),
    "consume": lambda world, tree, details, attacker: world.certificate.consume.encode_input(
        world.generator, [FIRST.id], [1]
    ),
    "issueItem": lambda world, tree, details, attacker: world.certificate.issueItem.encode_input(
        tree.root, 2**63, THIRD, (THIRD.id, world.buyer, False, 0, 1)
    ),
    "setApprovalForAll": lambda world, tree, details, attacker: world.certificate.setApprovalForAll.encode_input(
        world.stranger, True
    ),
    "safeBatchTransferFrom": lambda world, tree, details, attacker: (
        world.certificate.safeBatchTransferFrom.encode_input(
            attacker, world.buyer, [FIRST.id, FIRST.id], [10_000, 10_000], b""
        )
    ),
    "retireBySig": lambda world, tree, details, attacker: signed_retirement(world, "Retire", SIGNED.id, 20_000),
    "retireBatchBySig": lambda world, tree, details, attacker: signed_retirement(
        world, "RetireBatch", [SIGNED.id], [20_000]
    ),
    "cancelNonce": lambda world, tree, details, attacker: world.certificate.cancelNonce.encode_input(),
    "pause": lambda world, tree, details, attacker: world.certificate.pause.encode_input(),
    "notarize": lambda world, tree, details, attacker: notarize_data(world),
}
TARGETS = {"notarize": "notary"}  # all others are the certificate's; `convert` is re-entered from `issue` above
#: What an entry answers from inside a receipt, where it refuses.
REFUSED = {
    "consume": "OnlyConverter(address)",
    "issueItem": "OnlySelf(address)",
    "pause": "AccessManagedUnauthorized(address)",
    "issueMany": "GasTooLow(uint256,uint256)",  # of what one receiver gets, nothing is left for another
    "settleDebt": "NoDebt(uint64)",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_issue_many_reentered_in_every_entry_conserves(world, attacker, entry):
    """Whatever a receiver calls inside its receipt, what was issued is held, retired or gone to somebody, once."""
    world.issue(FIRST)
    world.issue(SIGNED)
    holder = accounts.add(HOLDER_KEY)
    world.certificate.safeTransferFrom(world.generator, holder, SIGNED.id, 20_000, b"", {"from": world.generator})
    correction = FIRST.corrected(23_000)
    tree = world.notarize(SECOND, THIRD, correction)
    data = ENTRIES[entry](world, tree, world.details(), attacker)
    attacker.arm(getattr(world, TARGETS.get(entry, "certificate")), data, {"from": world.stranger})
    tx = world.issue_many(tree, [SECOND, THIRD])
    assert attacker.attempted() and attacker.succeeded() == (entry not in REFUSED)
    if entry in REFUSED:
        assert bytes(attacker.answer())[:4] == selector(REFUSED[entry])
    issued = {FIRST.id: 20_000, SIGNED.id: 20_000}
    for event in tx.events["Issued"]:
        issued[event["id"]] = issued.get(event["id"], 0) + event["energyWh"]
    first_wh = 23_000 if entry == "correct" else 20_000
    assert issued == {FIRST.id: first_wh, SIGNED.id: 20_000, SECOND.id: 20_000, THIRD.id: 20_000}
    for id_, energy_wh in issued.items():
        those = (attacker, world.buyer, holder)
        balances = sum(world.certificate.balanceOf(account, id_) for account in those)
        retired = sum(world.certificate.retiredOf(account, id_) for account in those)
        assert balances + retired == energy_wh
    assert world.certificate.issuedFrom(tree.root) == (43_000 if entry == "correct" else 40_000)
