"""RetirableToken.retire, uri and the views of both tokens"""

import pytest
from brownie import web3

from tests.contracts.reference import ZERO_ADDRESS, Details
from tests.contracts.world import plain, refuses


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
