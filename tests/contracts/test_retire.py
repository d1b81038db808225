"""RetirableToken: retire, retireBatch, their signed forms, cancelNonce, uri"""

import pytest
from brownie import EnergyCertificate, accounts, web3

from tests.contracts import reference
from tests.contracts.reference import ZERO_ADDRESS, Details
from tests.contracts.world import now, plain, refuses, set_next_time

HOLDER_KEY = reference.key("holder")


@pytest.fixture(scope="module")
def holder():
    return accounts.add(HOLDER_KEY)


@pytest.fixture(autouse=True)
def certificates(world, day, holder):
    """Days 0 to 2 are the holder's, 20,000 Wh each."""
    world.register(1, account=holder.address)
    world.issue_many(world.notarize(*[day(n) for n in range(3)]))


def sign(world, kind, values, private_key=HOLDER_KEY, **domain):
    return reference.sign(world.request(kind, values, **domain), private_key)


def request(world, holder, day, amount=500, nonce=0, deadline=None, details=None):
    return (holder.address, day(0).id, amount, details or world.details(), nonce, deadline or now() + 3_600)


def by_sig(world, values, signature, sender=None):
    account, token, amount, details, _, deadline = values
    return world.certificate.retireBySig(
        account, token, amount, details, deadline, signature, {"from": sender or world.stranger}
    )


def test_retire_ends_tokens_for_a_beneficiary(world, day, holder):
    details = world.details()
    tx = world.certificate.retire(day(0).id, 7_500, details, {"from": holder})
    assert tx.return_value == 1 and world.certificate.retirementCount() == 1
    event = tx.events["Retired"]
    assert (event["number"], event["account"], event["id"], event["amount"]) == (1, holder, day(0).id, 7_500)
    assert plain(event["details"]) == plain(details)
    assert world.certificate.balanceOf(holder, day(0).id) == 12_500
    assert world.certificate.retiredOf(holder, day(0).id) == 7_500
    world.certificate.retire(day(0).id, 12_500, details, {"from": holder})
    assert world.certificate.retiredOf(holder, day(0).id) == 20_000 and world.certificate.retirementCount() == 2


def test_retire_more_than_the_balance_is_refused(world, day, holder):
    with refuses("ERC1155InsufficientBalance", holder.address, 20_000, 20_001, day(0).id):
        world.certificate.retire(day(0).id, 20_001, world.details(), {"from": holder})


def test_retire_nothing_is_refused(world, day, holder):
    with refuses("AmountZero"):
        world.certificate.retire(day(0).id, 0, world.details(), {"from": holder})


def test_retired_tokens_cannot_be_moved(world, day, holder):
    world.certificate.retire(day(0).id, 20_000, world.details(), {"from": holder})
    with refuses("ERC1155InsufficientBalance", holder.address, 0, 1, day(0).id):
        world.certificate.safeTransferFrom(holder, world.buyer, day(0).id, 1, b"", {"from": holder})


def test_retire_of_anothers_tokens_is_refused_even_for_an_operator(world, day, holder):
    world.certificate.setApprovalForAll(world.stranger, True, {"from": holder})
    with refuses("ERC1155InsufficientBalance", world.stranger.address, 0, 1, day(0).id):
        world.certificate.retire(day(0).id, 1, world.details(), {"from": world.stranger})


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("beneficiary", {"beneficiary": ZERO_ADDRESS, "beneficiary_name": ""}),
        ("purpose", {"purpose": ""}),
        ("consumptionStart", {"consumption_start": 2, "consumption_end": 1}),
    ],
)
def test_retire_with_details_that_say_nothing_is_refused(world, day, holder, field, changes):
    with refuses("DetailsInvalid", field):
        world.certificate.retire(day(0).id, 1, world.details(**changes), {"from": holder})
    with refuses("DetailsInvalid", field):
        world.certificate.retireBatch([day(0).id], [1], world.details(**changes), {"from": holder})


def test_retire_for_a_name_or_an_address_alone_passes(world, day, holder):
    world.certificate.retire(day(0).id, 1, world.details(beneficiary=ZERO_ADDRESS), {"from": holder})
    world.certificate.retire(day(0).id, 1, world.details(beneficiary_name=""), {"from": holder})


def test_retire_keeps_hostile_text_as_it_is(world, day, holder):
    text = "<script>alert(1)</script>\u202e=cmd|' /C calc'!A0\0" + "x" * 5_000
    tx = world.certificate.retire(day(0).id, 1, world.details(beneficiary_name=text), {"from": holder})
    assert plain(tx.events["Retired"]["details"])[1] == text


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


def test_cancel_nonce_makes_a_signed_request_void(world, day, holder):
    values = request(world, holder, day)
    signature = sign(world, "Retire", values)
    tx = world.certificate.cancelNonce({"from": holder})
    assert dict(tx.events["NonceCancelled"]) == {"account": holder, "nonce": 0}
    with refuses("SignatureInvalid", holder.address):
        by_sig(world, values, signature)
    values = request(world, holder, day, nonce=1)
    by_sig(world, values, sign(world, "Retire", values))


def test_retire_batch_by_sig_is_sent_by_anyone_as_signed(world, day, holder):
    ids, amounts, deadline = [day(0).id, day(1).id], [100, 200], now() + 3_600
    values = (holder.address, ids, amounts, world.details(), 0, deadline)
    signature = sign(world, "RetireBatch", values)

    def send(ids, amounts, details):
        arguments = (holder, ids, amounts, details, deadline, signature)
        return world.certificate.retireBatchBySig(*arguments, {"from": world.stranger})

    for changed in (
        (ids[::-1], amounts, world.details()),
        (ids, amounts[::-1], world.details()),
        (ids, amounts, world.details(purpose="mine")),
        ([*ids, *amounts], [], world.details()),
        (ids[:1], amounts[:1], world.details()),
    ):
        with refuses("SignatureInvalid", holder.address):
            send(*changed)
    tx = send(ids, amounts, world.details())
    assert list(tx.events["RetiredBatch"]["amounts"]) == amounts
    with refuses("SignatureInvalid", holder.address):
        send(ids, amounts, world.details())


def test_retire_batch_by_sig_too_late_is_refused(world, day, holder):
    last = now() - 10
    values = (holder.address, [day(0).id], [1], world.details(), 0, last)
    signature = sign(world, "RetireBatch", values)
    with pytest.raises(Exception, match=f"SignatureExpired: {last}, "):
        world.certificate.retireBatchBySig(*values[:4], last, signature, {"from": world.stranger})


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


def test_retire_copied_by_a_front_runner_takes_nothing(world, day, holder):
    data = world.certificate.retire.encode_input(day(0).id, 500, world.details())
    with refuses("ERC1155InsufficientBalance", world.stranger.address, 0, 500, day(0).id):
        world.stranger.transfer(world.certificate, data=data)


def test_uri_is_the_base_with_the_ids_place(world):
    assert world.certificate.uri(1) == "https://w.example/c/{id}.json"
    assert world.outcome.uri(2**255) == "https://w.example/o/{id}.json"


def test_domain_and_interfaces_are_told(world):
    fields, name, version, chain_id, contract, salt, extensions = world.certificate.eip712Domain()
    assert (name, version, int(chain_id), contract) == (
        "Wattmark Energy Certificate",
        "1",
        web3.eth.chain_id,
        world.certificate.address,
    )
    assert (bytes(fields), bytes(salt), list(extensions)) == (b"\x0f", bytes(32), [])
    for interface in ("0x01ffc9a7", "0xd9b67a26", "0x0e89341c"):
        assert world.certificate.supportsInterface(interface)
    assert not world.certificate.supportsInterface("0xffffffff")
    assert isinstance(world.details(), Details)
