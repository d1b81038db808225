"""The 15-minute shape of a certificate outlives its splits, its transfers and its retirement.

Where a registry keeps hours beside certificates, the first split or sale loses them. Here nothing has to be kept: chain
and archive lead from any retired Wh back to the slots in which it was generated.
"""

from dataclasses import replace
from fractions import Fraction

import pytest

from oracle.archive import read_archive
from oracle.domain import Quality
from oracle.protocol import day_hash, profile_hash, statement_fields, statement_leaf, unpack_profile
from scripts.addresses import artifact
from tests.oracle import nodes

# A sunny day whose afternoon is not its morning's mirror.
SLOTS_WH = [(slot - 23) * (72 - slot) + slot if 24 <= slot < 72 else 0 for slot in range(96)]


def sunny_day():
    flat = nodes.day_statement(1, 0)
    quality = int(Quality.MEASURED | Quality.CERTIFIED)
    packed = b"".join(wh.to_bytes(4, "big") + bytes([quality]) for wh in SLOTS_WH)
    hashed = profile_hash([day_hash(flat.salts, packed)])
    return replace(
        flat, statement=replace(flat.statement, energy_wh=sum(SLOTS_WH), profile_hash=hashed), profile=packed
    )


def certificates(node, chain):
    return node.w3.eth.contract(address=chain.address("EnergyCertificate"), abi=artifact("EnergyCertificate")["abi"])


def hours_of(node, chain, folder, retirement):
    """Wh in each UTC hour of what a retirement ended, from the chain's events and the archive alone."""
    token = certificates(node, chain)
    hours: dict[int, Fraction] = {}
    for id_, amount_wh in zip(retirement["ids"], retirement["amounts"], strict=True):
        (issued,) = token.events.Issued().get_logs(from_block=0, argument_filters={"id": id_})
        archive = read_archive(folder, bytes(issued["args"]["root"]))
        assert archive.problem is None
        record = archive.record(id_ >> 192, id_ >> 152 & 2**40 - 1)
        assert record.recomputed_profile_hash() == bytes(issued["args"]["profileHash"]), "not the readings issued from"
        profile = unpack_profile(record.statement.start, record.profile)
        for slot, energy_wh in enumerate(profile.energy_wh):
            part = Fraction(int(energy_wh) * amount_wh, issued["args"]["energyWh"])
            hours[slot // 4] = hours.get(slot // 4, Fraction(0)) + part
    return hours


@pytest.fixture(scope="module")
def sold(tmp_path_factory):
    """A day's certificate, split by two transfers; each of the three holders retires what it has. Node, chain, folder."""
    folder = tmp_path_factory.mktemp("shape")
    with nodes.anvil(folder) as node:
        chain, accounts = node.chain(), node.w3.eth.accounts[1:4]
        nodes.register_device(node, 1, accounts[0])
        record = sunny_day()
        batch = nodes.sealed_batch(chain, folder / "archive", [record, nodes.day_statement(1, 1)])
        nodes.notarize(node, chain, batch)
        archive = read_archive(folder / "archive", batch.root)
        proof = archive.tree.proof(statement_leaf(record.statement))
        node.act("EnergyCertificate", "issue", batch.root, statement_fields(record.statement), proof)
        id_ = record.statement.device_id << 192 | record.statement.start << 152 | record.statement.duration << 120
        for giver, taker, amount in ((0, 1, 10_001), (1, 2, 777)):
            act = ("safeTransferFrom", accounts[giver], accounts[taker], id_, amount, b"")
            node.act("EnergyCertificate", *act, sender=accounts[giver])
        for account in accounts:
            held = chain.call("EnergyCertificate", "balanceOf", account, id_)
            details = (account, "", "24/7 matching", b"US", "", 0, 0)
            node.act("EnergyCertificate", "retireBatch", [id_], [held], details, sender=account)
        yield node, chain, folder / "archive"


def retirements(node, chain):
    token = certificates(node, chain)
    return [one["args"] for one in token.events.RetiredBatch().get_logs(from_block=0)]


def test_shape_after_splits_and_retirement_is_told_from_chain_and_archive(sold):
    node, chain, folder = sold
    found = retirements(node, chain)
    assert [one["amounts"] for one in found] == [[sum(SLOTS_WH) - 10_001], [10_001 - 777], [777]]
    totals = [sum(SLOTS_WH[4 * hour : 4 * hour + 4]) for hour in range(24)]
    everything = dict.fromkeys(range(24), Fraction(0))
    for one in found:
        hours = hours_of(node, chain, folder, one)
        assert sum(hours.values()) == sum(one["amounts"])
        assert hours == {h: Fraction(totals[h] * one["amounts"][0], sum(SLOTS_WH)) for h in range(24)}
        everything = {h: everything[h] + hours[h] for h in everything}
    assert everything == dict(enumerate(totals)), "the parts make up the whole day, hour by hour"


def test_shape_from_other_readings_of_the_same_energy_is_refused(sold):
    """The readings are bound to the certificate by their hash, not by their sum."""
    node, chain, folder = sold
    (issued,) = certificates(node, chain).events.Issued().get_logs(from_block=0)
    record = read_archive(folder, bytes(issued["args"]["root"])).record(1, nodes.FIRST_DAY)
    assert record.recomputed_profile_hash() == bytes(issued["args"]["profileHash"])
    backwards = b"".join(record.profile[5 * slot : 5 * slot + 5] for slot in reversed(range(96)))
    assert replace(record, profile=backwards).recomputed_profile_hash() != bytes(issued["args"]["profileHash"])
