"""RetirableToken.retireBySig: signed by the holder or its contract, sent by anyone"""

import pytest
from brownie import EnergyCertificate, web3

from tests.contracts import reference
from tests.contracts.reference import ZERO_ADDRESS
from tests.contracts.signing import by_sig, request, sign
from tests.contracts.world import now, plain, refuses, set_next_time


def test_retire_by_sig_is_sent_by_anyone_as_signed(world, day, holder):
    values = request(world, holder, day)
    tx = by_sig(world, values, sign(world, "Retire", values))
    assert tx.events["Retired"]["account"] == holder
    assert plain(tx.events["Retired"]["details"]) == plain(world.details())
    assert world.certificate.retiredOf(holder, day(0).id) == 500 and world.certificate.nonces(holder) == 1


def test_retire_by_sig_twice_is_refused(world, day, holder):
    values = request(world, holder, day)
    signature = sign(world, "Retire", values)
    by_sig(world, values, signature)
    with refuses("SignatureInvalid", holder.address):
        by_sig(world, values, signature)


@pytest.mark.parametrize(
    "change",
    [
        lambda v, w: (*v[:2], v[2] + 1, *v[3:]),
        lambda v, w: (v[0], v[1] + 1, *v[2:]),
        lambda v, w: (*v[:5], v[5] + 1),
        lambda v, w: (w.stranger.address, *v[1:]),
        lambda v, w: (*v[:3], v[3]._replace(beneficiary=w.stranger.address), *v[4:]),
        lambda v, w: (*v[:3], v[3]._replace(beneficiary_name="Mallory"), *v[4:]),
        lambda v, w: (*v[:3], v[3]._replace(purpose="mine"), *v[4:]),
        lambda v, w: (*v[:3], v[3]._replace(country=b"KP"), *v[4:]),
        lambda v, w: (*v[:3], v[3]._replace(location=""), *v[4:]),
        lambda v, w: (*v[:3], v[3]._replace(consumption_start=0), *v[4:]),
        lambda v, w: (*v[:3], v[3]._replace(consumption_end=2**40 - 1), *v[4:]),
    ],
)
def test_retire_by_sig_with_anything_changed_is_refused(world, day, holder, change):
    values = request(world, holder, day)
    signature = sign(world, "Retire", values)
    changed = change(values, world)
    with refuses("SignatureInvalid", changed[0]):
        by_sig(world, changed, signature)
    by_sig(world, values, signature)


def test_retire_by_sig_for_another_chain_deployment_token_or_request_is_refused(world, day, holder):
    values = request(world, holder, day)
    twin = world.deploy(EnergyCertificate, world.manager, world.registry, world.notary, "")
    foreign = [
        sign(world, "Retire", values, chain_id=web3.eth.chain_id + 1),
        sign(world, "Retire", values, contract=twin),
        sign(world, "Retire", values, contract=world.outcome),
        sign(world, "Retire", values, private_key=reference.key("thief")),
        sign(world, "RetireBatch", (values[0], [values[1]], [values[2]], *values[3:])),
    ]
    for signature in foreign:
        with refuses("SignatureInvalid", holder.address):
            by_sig(world, values, signature)


def test_retire_by_sig_malleable_or_compact_is_refused(world, day, holder):
    values = request(world, holder, day)
    good = sign(world, "Retire", values)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s, v = int.from_bytes(good[32:64], "big"), good[64]
    high = good[:32] + (order - s).to_bytes(32, "big") + bytes([55 - v])
    compact = good[:32] + (s | (v - 27) << 255).to_bytes(32, "big")
    for signature in (high, compact, b"", good + b"\0", bytes(65)):
        with refuses("SignatureInvalid", holder.address):
            by_sig(world, values, signature)


def test_retire_by_sig_for_nobody_is_refused(world, day):
    values = (ZERO_ADDRESS, day(0).id, 1, world.details(), 0, now() + 3_600)
    with refuses("SignatureInvalid", ZERO_ADDRESS):
        by_sig(world, values, bytes(64) + b"\x1b")


def test_retire_by_sig_in_the_last_second_passes_and_a_second_later_not(world, day, holder):
    last = now() + 50
    values = request(world, holder, day, deadline=last)
    set_next_time(last)
    by_sig(world, values, sign(world, "Retire", values))
    values = request(world, holder, day, nonce=1, deadline=last)
    set_next_time(last + 1)
    with refuses("SignatureExpired", last, last + 1):
        by_sig(world, values, sign(world, "Retire", values))


def test_retire_by_sig_of_a_contract_wallet_asks_the_wallet(world, day, holder):
    wallet = world.attacker("Wallet", 0, holder.address)
    world.certificate.safeTransferFrom(holder, wallet.address, day(0).id, 1_000, b"", {"from": holder})
    values = (wallet.address, day(0).id, 600, world.details(), 0, now() + 3_600)
    with refuses("SignatureInvalid", wallet.address):
        by_sig(world, values, sign(world, "Retire", values, private_key=reference.key("thief")))
    by_sig(world, values, sign(world, "Retire", values))
    assert world.certificate.retiredOf(wallet.address, day(0).id) == 600


@pytest.mark.parametrize("way", [1, 2, 3, 4, 5])
def test_retire_by_sig_of_a_misbehaving_wallet_is_refused(world, day, holder, way):
    wallet = world.attacker("Wallet", way, holder.address)
    world.certificate.safeTransferFrom(holder, wallet.address, day(0).id, 1_000, b"", {"from": holder})
    values = (wallet.address, day(0).id, 600, world.details(), 0, now() + 3_600)
    signature = sign(world, "Retire", values)
    with pytest.raises(Exception, match=r"SignatureInvalid|out of gas|OutOfGas"):
        world.certificate.retireBySig(
            *values[:4], values[5], signature, {"from": world.stranger, "gas_limit": 1_000_000}
        )
    assert world.certificate.retiredOf(wallet.address, day(0).id) == 0
