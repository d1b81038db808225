import itertools
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from oracle import review
from oracle.domain import Profile, Quality
from oracle.review import ReviewError, draft, sign, standing, verify

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
    return sign(account, draft(**{**facts, **changes}))


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


# -- edits ------------------------------------------------------------------------------------------

EVIDENCE = "ab" * 32


def edit(**changes):
    facts = {
        "device_id": 1,
        "start": 1_654_041_600,
        "version": 0,
        "decision": "edit",
        "reason": "read by hand",
        "profile_hash": b"\x01" * 32,
        "decided_at": 1_700_000_000,
        "edits": [(1, 100, 90), (2, 0, 7)],
        "evidence": EVIDENCE,
    }
    return review.sign(EDITOR, draft(**{**facts, **changes}))


EDITOR = Account.from_key("0x" + "33" * 32)


def test_edited_slots_are_certified_as_edited_and_the_rest_stays():
    suspect, measured = Quality.MEASURED | Quality.SUSPECT | Quality.COARSE, Quality.MEASURED | Quality.CERTIFIED
    before = Profile(1_654_041_600, (5, 100, 0, 4), (int(measured), int(suspect), 0, int(suspect)))
    entry = edit()
    review.verify(entry, [EDITOR.address])
    after = review.edited(before, entry)
    assert after.energy_wh == (5, 90, 7, 4)
    edited = Quality.EDITED | Quality.CERTIFIED
    assert after.quality == (measured, edited | Quality.COARSE, edited, suspect)
    assert after.certified_wh == 5 + 90 + 7
    with pytest.raises(review.ReviewError, match="slot 1 .* does not hold the 100 Wh"):
        review.edited(replace(before, energy_wh=(5, 99, 0, 4)), entry)


@pytest.mark.parametrize(
    "changes",
    [
        {"edits": []},
        {"edits": [(2, 0, 7), (1, 100, 90)]},
        {"edits": [(1, 100, 90), (1, 100, 91)]},
        {"edits": [(96, 0, 1)]},
        {"edits": [(1, 100, -1)]},
        {"edits": [(1, 100, 2**32)]},
        {"edits": [(1, 100, 1.5)]},
        {"edits": [(1, 100, True)]},
        {"evidence": ""},
        {"evidence": EVIDENCE.upper()},
        {"conflict": "none"},
    ],
)
def test_sign_edit_that_is_malformed_is_refused(changes):
    with pytest.raises(review.ReviewError):
        edit(**changes)


@pytest.mark.parametrize("name", ["edits", "evidence", "conflict"])
def test_verify_edit_whose_figures_were_changed_afterwards_is_refused(name):
    entry = edit(conflict="cd" * 32)
    review.verify(entry, [EDITOR.address])
    other = {"edits": [[1, 100, 91], [2, 0, 7]], "evidence": "cd" * 32, "conflict": "ef" * 32}[name]
    with pytest.raises(review.ReviewError, match="is signed by"):
        review.verify({**entry, name: other}, [EDITOR.address])
    with pytest.raises(review.ReviewError):
        review.verify({key: value for key, value in entry.items() if key != name}, [EDITOR.address])
