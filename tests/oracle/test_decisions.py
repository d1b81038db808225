"""Decisions that were signed elsewhere and come as files: taken, refused with a reason, or tried again."""

import hashlib
import json
import time
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from oracle import decisions, pipeline, review, sealing
from oracle.domain import DayState, DecisionState
from oracle.keys import create_device_key
from oracle.protocol import unpack_profile
from oracle.review import MAX_DECISION_BYTES, MAX_EVIDENCE_BYTES
from oracle.store import ReceivedDecision, ReviewDecision
from tests.oracle import databases
from tests.oracle.test_pipeline import FIRST, NOBODY, REVIEWER, configure, day_rows, device, rows_of, states, write

NOW = 1_700_000_000


class Desk:
    """An oracle with one held day, two dark slots of which are missing, and the folder in which decisions come."""

    def __init__(self, folder):
        config, self.store = configure(folder / "oracle", device(1))
        self.config = replace(config, decisions_folder=folder / "decisions")
        create_device_key(self.config.device_keys_folder, 1)
        self.folder = self.config.decisions_folder
        (self.folder / "evidence").mkdir(parents=True)
        slots = [slot for slot in range(96) if slot not in (10, 11)]
        pipeline.ingest(self.config, self.store, [write(folder, "meter-1.csv", day_rows(0, slots=slots))])

    def facts(self, **changes):
        """What the web app signs: built from the database alone, which names the hash that a decision needs."""
        row = rows_of(self.store)[1, FIRST]
        facts = {
            "deviceId": 1,
            "start": FIRST,
            "version": 0,
            "decision": "accept",
            "reason": "logger restarted at night",
            "profileHash": row.for_review["profileHash"],
            "decidedAt": NOW,
        }
        if row.for_review["conflict"]:
            facts["conflict"] = row.for_review["conflict"]
        return facts | changes

    def put(self, facts, account=REVIEWER, **changes):
        """Sign as a wallet does (personal_sign over canonical JSON) and lay the file down; returns its path."""
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        signature = account.sign_message(encode_defunct(text=text)).signature
        return self.lay(
            json.dumps({**facts, "reviewer": account.address, "signature": "0x" + signature.hex(), **changes})
        )

    def lay(self, text):
        file = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        file.write_text(text)
        return file

    def evidence(self, content=b"a photograph of the meter"):
        sha256 = hashlib.sha256(content).hexdigest()
        (self.folder / "evidence" / sha256).write_bytes(content)
        return sha256

    def take(self):
        return decisions.import_decisions(self.config, self.store, self.folder)

    @property
    def state(self):
        return states(self.store)[1, FIRST]

    def kept(self):
        with self.store.session() as session:
            return {row.sha256: (row.state, row.reason) for row in session.query(ReceivedDecision)}


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    assert made.state is DayState.HELD
    return made


@databases.both
def test_import_signed_accept_certifies_the_day_and_travels_with_the_batch(desk):
    file = desk.put(desk.facts())
    [one] = desk.take()
    assert (one.state, one.sha256, one.known) == (DecisionState.TAKEN, file.stem, False)
    assert pipeline.assess_all(desk.config, desk.store).changed == 0
    [archive] = sealing.seal(desk.config, desk.store)
    assert archive.records[0].statement.energy_wh == 2_412
    [entry] = archive.manifest["reviewTrail"]
    assert entry == json.loads(file.read_text())
    # Sealed since: the file that lies there still is known, not refused.
    [again] = desk.take()
    assert (again.state, again.known) == (DecisionState.TAKEN, True)


def test_import_again_and_under_another_name_changes_nothing(desk):
    file = desk.put(desk.facts())
    desk.take()
    (desk.folder / "copy.json").write_bytes(file.read_bytes())
    assert {(one.state, one.known) for one in desk.take()} == {(DecisionState.TAKEN, True)}
    with desk.store.session() as session:
        assert session.query(ReviewDecision).count() == 1
    assert desk.kept() == {file.stem: (DecisionState.TAKEN, "")}


def test_import_after_a_crash_between_decision_and_note_is_taken_once(desk):
    desk.put(desk.facts())
    desk.take()
    with desk.store.session() as session:
        session.query(ReceivedDecision).delete()
    [one] = desk.take()
    assert (one.state, one.known) == (DecisionState.TAKEN, False)
    with desk.store.session() as session:
        assert session.query(ReviewDecision).count() == 1


@pytest.mark.parametrize(
    ("facts", "account", "changes", "said"),
    [
        ({}, REVIEWER, {"reason": "another reason"}, "is signed by"),
        ({}, REVIEWER, {"signature": "0x" + "00" * 65}, "not readable"),
        ({}, REVIEWER, {"reviewer": NOBODY.address}, "is signed by"),
        ({}, NOBODY, {}, "not among the configured reviewers"),
        (
            {"profileHash": "0x" + "00" * 32},
            REVIEWER,
            {},
            "the data of device 1 2022-06-01 changed since it was signed",
        ),
        ({"version": 1}, REVIEWER, {}, "about version 1 of device 1 2022-06-01; version 0 is open"),
        ({"conflict": "ab" * 32}, REVIEWER, {}, "files say other things"),
        ({"start": FIRST + 5 * 86_400}, REVIEWER, {}, "there is no device-day"),
        ({"decidedAt": 4_000_000_000}, REVIEWER, {}, "still to come"),
        ({"decidedAt": FIRST + 3_600}, REVIEWER, {}, "this day is not over yet"),
        ({"decision": "maybe"}, REVIEWER, {}, "a decision is 'accept'"),
        ({"decision": "edit", "edits": [[61, 100, 90]]}, REVIEWER, {}, "does not hold the 100 Wh"),
        ({"decision": "edit", "edits": [[95, 7, 90]]}, REVIEWER, {}, "does not hold the 7 Wh"),
        ({"reason": "nul \0 in it"}, REVIEWER, {}, "needs a reason"),
    ],
)
def test_import_what_decide_would_refuse_is_refused_and_kept_with_its_reason(desk, facts, account, changes, said):
    facts = desk.facts(**facts)
    if facts["decision"] == "edit":
        facts["evidence"] = desk.evidence()
    file = desk.put(facts, account, **changes)
    [one] = desk.take()
    assert one.state is DecisionState.REFUSED and said in one.reason
    assert desk.kept() == {file.stem: (DecisionState.REFUSED, one.reason)}
    assert desk.state is DayState.HELD
    [again] = desk.take()
    assert (again.reason, again.known) == (one.reason, True)
    with desk.store.session() as session:
        assert session.query(ReviewDecision).count() == 0


@pytest.mark.parametrize("text", ["", "[]", "null", '{"a":' * 2_000, '{"deviceId": 1}', "\ud7ff not json"])
def test_import_what_is_no_decision_is_refused(desk, text):
    desk.lay(text)
    [one] = desk.take()
    assert one.state is DecisionState.REFUSED and one.reason


@databases.both
def test_import_half_written_file_waits_and_is_taken_once_whole(desk):
    file = desk.put(desk.facts())
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    [one] = desk.take()
    assert (one.state, one.known) == (DecisionState.WAITING, False) and "not wholly written" in one.reason
    file.write_bytes(whole)
    [one] = desk.take()
    assert one.state is DecisionState.TAKEN
    assert desk.kept() == {file.stem: (DecisionState.TAKEN, "")}


def test_import_huge_file_is_refused_unread(desk):
    (desk.folder / "huge.json").write_bytes(b" " * (MAX_DECISION_BYTES + 1))
    [one] = desk.take()
    assert one.state is DecisionState.REFUSED and "larger than a decision can be" in one.reason
    with desk.store.session() as session:
        assert session.query(ReceivedDecision).one().content is None


def test_import_takes_no_links_nor_hidden_files(desk, tmp_path):
    file = desk.put(desk.facts())
    (desk.folder / ".part-1.json").write_text("{")
    elsewhere = tmp_path / "elsewhere.json"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert desk.take() == []


def test_import_edit_needs_its_evidence_and_keeps_it(desk):
    content = b"a photograph of the meter"
    sha256 = hashlib.sha256(content).hexdigest()
    desk.put(desk.facts(decision="edit", edits=[[10, 0, 7], [61, 101, 90]], evidence=sha256))
    [one] = desk.take()
    assert one.state is DecisionState.WAITING and sha256 in one.reason
    (desk.folder / "evidence" / sha256).write_bytes(content[:-1])
    [one] = desk.take()
    assert one.state is DecisionState.WAITING and "does not hash to" in one.reason
    assert not (desk.config.raw_folder / "evidence").exists()
    desk.evidence(content)
    [one] = desk.take()
    assert one.state is DecisionState.TAKEN
    assert (desk.config.raw_folder / "evidence" / sha256).read_bytes() == content
    row = rows_of(desk.store)[1, FIRST]
    profile = unpack_profile(FIRST, row.profile)
    assert (profile.energy_wh[10], profile.energy_wh[61]) == (7, 90)
    assert row.energy_wh == 2_412 + 7 - 11
    assert pipeline.assess_all(desk.config, desk.store).changed == 0


def test_import_edit_with_evidence_too_large_is_refused(desk):
    sha256 = desk.evidence(b"\0" * (MAX_EVIDENCE_BYTES + 1))
    desk.put(desk.facts(decision="edit", edits=[[10, 0, 7]], evidence=sha256))
    [one] = desk.take()
    assert one.state is DecisionState.REFUSED and "larger than" in one.reason


def test_import_decision_about_data_that_changed_since_is_refused_as_stale(desk, tmp_path):
    desk.put(desk.facts())
    pipeline.ingest(desk.config, desk.store, [write(tmp_path, "meter-1-late.csv", day_rows(0, slots=[10]))])
    [one] = desk.take()
    assert one.state is DecisionState.REFUSED and "changed since it was signed: look again" in one.reason


def test_import_later_decision_counts_in_any_order_of_arrival(desk):
    desk.put(desk.facts(decision="reject", reason="doubtful", decidedAt=NOW + 60))
    desk.take()
    assert desk.state is DayState.REJECTED
    desk.put(desk.facts(decidedAt=NOW))
    [late] = [one for one in desk.take() if not one.known]
    assert late.state is DecisionState.REFUSED and f"a later decision of {REVIEWER.address}" in late.reason
    desk.put(desk.facts(decidedAt=NOW + 120))
    desk.take()
    assert desk.state is DayState.ACCEPTED
    assert pipeline.assess_all(desk.config, desk.store).changed == 0


def test_import_choice_in_a_conflict_rests_on_the_raw_file(desk, tmp_path):
    said_otherwise = [row.replace(",101", ",50") for row in day_rows(0, slots=[61])]
    file = write(tmp_path, "meter-1-second.csv", said_otherwise)
    pipeline.ingest(desk.config, desk.store, [file])
    sides = {one["name"]: one for one in rows_of(desk.store)[1, FIRST].for_review["said"]}
    assert {name: one["slots"] for name, one in sides.items()} == {"meter-1.csv": [[61, 101]], file.name: [[61, 50]]}
    assert sides[file.name]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    held = unpack_profile(FIRST, rows_of(desk.store)[1, FIRST].profile).energy_wh[61]
    edits = [[61, held, 50]]
    desk.put(desk.facts(decision="edit", edits=edits, evidence=sides[file.name]["sha256"]))
    [one] = desk.take()
    assert (one.state, one.reason) == (DecisionState.TAKEN, "")
    assert unpack_profile(FIRST, rows_of(desk.store)[1, FIRST].profile).energy_wh[61] == 50


def test_import_without_the_device_key_waits_for_it(desk):
    desk.put(desk.facts())
    [key] = desk.config.device_keys_folder.iterdir()
    content = key.read_bytes()
    key.unlink()
    [one] = desk.take()
    assert one.state is DecisionState.WAITING
    key.write_bytes(content)
    key.chmod(0o600)
    [one] = desk.take()
    assert one.state is DecisionState.TAKEN


@databases.both
def test_import_two_at_once_take_a_decision_once(desk):
    from concurrent.futures import ThreadPoolExecutor

    desk.put(desk.facts())
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: desk.take(), range(2)))
    assert {one.state for [one] in outcomes} == {DecisionState.TAKEN}
    with desk.store.session() as session:
        assert session.query(ReviewDecision).count() == 1


def test_take_waiting_tells_only_news(desk):
    desk.put(desk.facts())
    assert [one.state for one in decisions.take_waiting(desk.config, desk.store)] == [DecisionState.TAKEN]
    assert decisions.take_waiting(desk.config, desk.store) == []
    assert decisions.take_waiting(replace(desk.config, decisions_folder=None), desk.store) == []
    assert decisions.take_waiting(replace(desk.config, decisions_folder=desk.folder / "none"), desk.store) == []


def test_draft_clock_of_nonsense_is_refused():
    sound = {"device_id": 1, "start": 0, "end": 900, "seconds": -900, "reason": "x", "decided_at": int(time.time())}
    account = Account.create()
    review.verify(review.sign(account, review.draft_clock(**sound)), [account.address])
    for changes in ({"seconds": 0}, {"seconds": 86_401}, {"end": 0}, {"reason": " "}, {"start": -1}):
        with pytest.raises(review.ReviewError):
            review.draft_clock(**sound | changes)
