"""Notary.notarize, and verify with the other views of batches"""

import pytest
from brownie import Notary, web3
from eth_utils import keccak

from tests.contracts import reference
from tests.contracts.reference import DAY, FINAL, INTERIM, OPEN, ZERO_ADDRESS, ZERO_HASH, Tree
from tests.contracts.world import JULY_2016, address, now, plain, refuses, set_next_time

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def send(world, batch, signatures=None, notary=None):
    signatures = world.signatures(batch) if signatures is None else signatures
    return (notary or world.notary).notarize(batch, signatures, {"from": world.stranger})


def test_notarize_final_batch_is_kept_chained_and_told(world, day):
    batch = world.batch([day(0), day(1)])
    tx = send(world, batch)
    signed = reference.digest(world.message(batch))
    head = keccak(ZERO_HASH + signed)
    assert bytes(world.notary.digest(batch)) == signed
    assert bytes(world.notary.head()) == head
    event = tx.events["Notarized"]
    assert (bytes(event["root"]), bytes(event["newHead"])) == (batch.root, head)
    assert plain(event["batch"]) == plain(batch)
    assert list(event["signers"]) == [address(key) for key in world.witnesses[:3]]
    record = (tx.timestamp, batch.start, batch.end, 2, batch.energy_wh, FINAL, OPEN, 1)
    assert plain(world.notary.notarization(batch.root)) == record


def test_notarize_record_lies_in_one_slot(world, day):
    root = world.notarize(day(0)).root
    starts = [int.from_bytes(keccak(root + position.to_bytes(32, "big")), "big") for position in range(12)]
    words = [[int(web3.eth.get_storage_at(world.notary.address, at + n).hex(), 16) for n in (0, 1)] for at in starts]
    assert sorted(bool(first) for first, _ in words) == [False] * 11 + [True]
    assert not any(second for _, second in words)


def test_notarize_second_batch_builds_on_the_first(world, day):
    send(world, world.batch([day(0)]))
    first = bytes(world.notary.head())
    second = world.batch([day(1)])
    send(world, second)
    assert bytes(world.notary.head()) == keccak(first + reference.digest(world.message(second)))


def test_notarize_interim_batch_stands_beside_the_chain(world, day):
    send(world, world.batch([day(0)]))
    head = world.notary.head()
    batch = world.batch([day(1)], kind=INTERIM)
    tx = send(world, batch)
    assert world.notary.head() == head
    assert bytes(tx.events["Notarized"]["newHead"]) == ZERO_HASH
    assert world.notary.notarization(batch.root)[5] == INTERIM


def test_notarize_without_energy_is_allowed(world, day):
    world.notarize(day(0, energy_wh=0))


def test_notarize_root_known_already_is_refused(world, day):
    world.notarize(day(0))
    batch = world.batch([day(0)])
    with refuses("RootAlreadyNotarized", batch.root):
        send(world, batch)
    with refuses("RootAlreadyNotarized", batch.root):
        send(world, world.batch([day(0)], kind=INTERIM))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("kind", {"kind": 0, "head": ZERO_HASH}),
        ("root", {"root": ZERO_HASH}),
        ("statements", {"statements": 0}),
        ("start", {"end": JULY_2016}),
    ],
)
def test_notarize_bad_field_is_refused_by_name(world, day, field, changes):
    with refuses("BatchInvalid", field):
        send(world, world.batch([day(0)], **changes))


def test_notarize_unknown_kind_is_refused(world, day):
    batch = world.batch([day(0)])
    with pytest.raises(Exception, match="revert"):
        send(world, batch._replace(kind=3), world.signatures(batch))


def test_notarize_on_another_head_is_refused(world, day):
    world.notarize(day(0))
    with refuses("HeadMismatch", bytes(world.notary.head()), ZERO_HASH):
        send(world, world.batch([day(1)], head=ZERO_HASH))
    with refuses("HeadMismatch", ZERO_HASH, bytes(world.notary.head())):
        send(world, world.batch([day(1)], kind=INTERIM, head=bytes(world.notary.head())))


def test_notarize_one_of_two_rival_batches_wins(world, day):
    one, other = world.batch([day(0)]), world.batch([day(1)])
    send(world, one)
    with refuses("HeadMismatch", bytes(world.notary.head()), other.head):
        send(world, other)


def test_notarize_in_the_last_second_passes_and_a_second_later_not(world, day):
    last = now() + 100
    batch, late = world.batch([day(0)], deadline=last), world.batch([day(1)], deadline=last)
    set_next_time(last)
    send(world, batch)
    set_next_time(last + 1)
    late = late._replace(head=bytes(world.notary.head()))
    with refuses("DeadlinePassed", last, last + 1):
        send(world, late)


def test_notarize_before_the_period_ended_is_refused(world, day):
    end = now() + 1_000
    batch = world.batch([day(0)], end=end, deadline=end + DAY)
    set_next_time(end - 1)
    with refuses("PeriodNotEnded", end, end - 1):
        send(world, batch)


def test_notarize_with_too_few_signatures_is_refused(world, day):
    batch = world.batch([day(0)])
    for count in range(world.threshold):
        with refuses("TooFewSignatures", count, world.threshold):
            send(world, batch, world.signatures(batch, world.witnesses[:count]))


def test_notarize_with_all_signatures_passes(world, day):
    batch = world.batch([day(0)])
    tx = send(world, batch, world.signatures(batch, world.witnesses))
    assert len(tx.events["Notarized"]["signers"]) == 5


def test_notarize_with_one_signature_twice_is_refused(world, day):
    batch = world.batch([day(0)])
    one, two = world.witnesses[:2]
    with refuses("SignersNotSorted", address(two).lower(), address(two).lower()):
        send(world, batch, world.signatures(batch, [one, two, two]))


def test_notarize_with_unsorted_signatures_is_refused(world, day):
    batch = world.batch([day(0)])
    one, two, three = world.witnesses[:3]
    with refuses("SignersNotSorted", address(three), address(two)):
        send(world, batch, world.signatures(batch, [one, three, two]))


def test_notarize_with_a_stranger_among_the_signers_is_refused(world, day):
    batch = world.batch([day(0)])
    keys = sorted([*world.witnesses, reference.key("nobody")], key=lambda key: int(address(key), 16))
    with refuses("SignerNotAuthorised", 1, address(reference.key("nobody"))):
        send(world, batch, world.signatures(batch, keys))


def test_notarize_with_a_signature_over_something_else_is_refused(world, day):
    batch = world.batch([day(0)])
    signatures = world.signatures(batch._replace(energy_wh=batch.energy_wh + 1))
    with pytest.raises(Exception, match="SignersNotSorted|SignerNotAuthorised"):
        send(world, batch, signatures)


def test_notarize_with_malformed_signatures_is_refused(world, day):
    batch = world.batch([day(0)])
    good = world.signatures(batch)
    r, s, v = good[0][:32], int.from_bytes(good[0][32:64], "big"), good[0][64]
    high_s = r + (SECP256K1_ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    with refuses("ECDSAInvalidSignatureS", high_s[32:64]):
        send(world, batch, [high_s, *good[1:]])
    compact = r + (s | (v - 27) << 255).to_bytes(32, "big")
    with refuses("ECDSAInvalidSignatureLength", 64):
        send(world, batch, [compact, *good[1:]])
    with refuses("ECDSAInvalidSignatureLength", 0):
        send(world, batch, [b"", *good[1:]])
    with refuses("ECDSAInvalidSignature"):
        send(world, batch, [bytes(64) + b"\x1b", *good[1:]])
    for parity in (0, 1):
        with refuses("ECDSAInvalidSignature"):
            send(world, batch, [good[0][:64] + bytes([parity]), *good[1:]])


def test_notarize_signatures_for_another_chain_or_deployment_are_refused(world, day):
    batch = world.batch([day(0)])
    twin = world.deploy(Notary, world.manager, [address(key) for key in world.witnesses], 3)
    for contract, chain_id in ((twin.address, None), (None, web3.eth.chain_id + 1)):
        message = world.message(batch, contract, chain_id)
        signatures = [reference.sign(message, key) for key in world.witnesses[:3]]
        with pytest.raises(Exception, match="SignersNotSorted|SignerNotAuthorised"):
            send(world, batch, signatures)
    with pytest.raises(Exception, match="SignersNotSorted|SignerNotAuthorised"):
        send(world, batch, notary=twin)
    send(world, batch)


def test_notarize_signatures_of_an_old_epoch_are_refused(world, day):
    batch = world.batch([day(0)])
    world.notary.setSigners([address(key) for key in world.witnesses], 3, {"from": world.admin})
    with refuses("EpochNotCurrent", 2, 1):
        send(world, batch)
    with pytest.raises(Exception, match="SignersNotSorted|SignerNotAuthorised"):
        send(world, batch._replace(signer_epoch=2), world.signatures(batch))
    send(world, batch._replace(signer_epoch=2))


def test_verify_tells_members_of_open_batches_only(world, day):
    statements = [day(n) for n in range(5)]
    tree = world.notarize(*statements)
    for statement in statements:
        assert world.notary.verify(tree.root, statement, tree.proof(statement))
    one = statements[0]
    assert not world.notary.verify(tree.root, one._replace(energy_wh=one.energy_wh + 1), tree.proof(one))
    assert not world.notary.verify(tree.root, one, tree.proof(statements[1]))
    assert not world.notary.verify(tree.root, one, [])
    assert not world.notary.verify(Tree([day(9)]).root, day(9), [])
    world.notary.revoke(tree.root, "meter tampered with", {"from": world.guardian})
    assert not world.notary.verify(tree.root, one, tree.proof(one))


def test_verify_single_statement_needs_no_proof(world, day):
    tree = world.notarize(day(0))
    assert world.notary.verify(tree.root, day(0), [])


def test_notarization_of_unknown_root_is_all_zero(world):
    assert plain(world.notary.notarization(keccak(b"?"))) == (0,) * 8
    assert world.notary.signerSet(99)[0] == () and ZERO_ADDRESS not in world.notary.signerSet(1)[0]


def test_issuable_tells_the_bounds_of_open_final_batches_only(world, day):
    tree = world.notarize(day(0), day(3))
    assert plain(world.notary.issuable(tree.root)) == (day(0).start, day(3).start + DAY, 40_000)
    interim = world.notarize(day(5), kind=INTERIM)
    world.notary.revoke(tree.root, "wrong meter", {"from": world.guardian})
    for root in (tree.root, interim.root, keccak(b"nobody's")):
        with refuses("RootNotIssuable", root):
            world.notary.issuable(root)
