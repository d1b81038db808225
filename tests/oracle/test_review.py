import itertools

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from oracle.review import ReviewError, sign, standing, verify

REVIEWER = Account.from_key("0x" + "11" * 32)
OTHER = Account.from_key("0x" + "22" * 32)
KNOWN = (REVIEWER.address,)
PROFILE_HASH = bytes(range(32))


def entry(account=REVIEWER, **changes):
    facts = {
        "device_id": 1,
        "start": 1_467_331_200,
        "version": 0,
        "decision": "accept",
        "reason": "logger exchanged, readings sound",
        "profile_hash": PROFILE_HASH,
        "decided_at": 1_700_000_000,
    }
    return sign(account, **{**facts, **changes})


def test_sign_decision_is_a_personal_message_over_canonical_json():
    made = entry()
    text = (
        '{"decidedAt":1700000000,"decision":"accept","deviceId":1,"profileHash":"0x' + PROFILE_HASH.hex() + '",'
        '"reason":"logger exchanged, readings sound","start":1467331200,"version":0}'
    )
    assert Account.recover_message(encode_defunct(text=text), signature=made["signature"]) == REVIEWER.address
    verify(made, KNOWN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("deviceId", 2),
        ("start", 1_467_417_600),
        ("version", 1),
        ("decision", "reject"),
        ("reason", "another reason"),
        ("profileHash", "0x" + "00" * 32),
        ("decidedAt", 1_700_000_001),
        ("reviewer", OTHER.address),
    ],
)
def test_verify_any_changed_fact_refuses(field, value):
    with pytest.raises(ReviewError, match="is signed by"):
        verify({**entry(), field: value}, (*KNOWN, OTHER.address))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"deviceId": "1"}, "deviceId"),
        ({"deviceId": True}, "deviceId"),
        ({"start": -1}, "start"),
        ({"decision": "maybe"}, "'accept', 'edit' or 'reject'"),
        ({"reason": " "}, "needs a reason"),
        ({"reason": "x" * 2_001}, "needs a reason"),
        ({"signature": "0x12"}, "not readable"),
        ({"signature": None}, "not readable"),
        ({"more": 1}, "has the fields"),
        ({"profileHash": None}, "profileHash"),
    ],
)
def test_verify_malformed_entry_refuses(changes, named):
    with pytest.raises(ReviewError, match=named):
        verify({**entry(), **changes}, KNOWN)


def test_verify_unknown_reviewer_refuses():
    with pytest.raises(ReviewError, match="not among the configured reviewers"):
        verify(entry(OTHER), KNOWN)


def test_standing_latest_decision_counts_in_any_order():
    trail = [
        entry(),
        entry(decision="reject", decided_at=1_700_000_050),
        entry(decided_at=1_700_000_020),
        entry(decision="reject", profile_hash=b"\x01" * 32),
    ]
    for order in itertools.permutations(trail):
        latest = standing(order, KNOWN)
        assert latest[1, 1_467_331_200, 0, "0x" + PROFILE_HASH.hex()] == trail[1]
        assert latest[1, 1_467_331_200, 0, "0x" + "01" * 32] == trail[3]


def test_standing_two_decisions_in_one_second_is_the_same_for_every_order():
    trail = [entry(), entry(decision="reject")]
    assert standing(trail, KNOWN) == standing(trail[::-1], KNOWN)


def test_standing_one_bad_signature_refuses_the_trail():
    with pytest.raises(ReviewError):
        standing([entry(), {**entry(), "reason": "changed"}], KNOWN)
