"""The review queue on a real oracle's state: what is held, what is signed, and what the oracle makes of it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup
from eth_account.messages import encode_defunct

from oracle import pipeline, review, sealing
from oracle.domain import DayState, DecisionState
from oracle.store import DeviceDay, KeptReport
from webapp.abi import artifacts
from webapp.pages.audit_trail import ACTS

REVIEWER, STRANGER = 7, 3


def _module(name: str, file: str) -> Any:
    """A module of helpers beside this file: tests are not a package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


ops = _module("wattmark_operators", "operators.py")
held_module = _module("wattmark_held", "held.py")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An oracle's folder to copy: taking in files costs more than the tests do."""
    folder = tmp_path_factory.mktemp("held") / "oracle"
    held_module.held_oracle(folder, ops.key_of(REVIEWER).address).store.engine.dispose()
    return folder


@pytest.fixture
def desk(world, app_of, template, tmp_path):
    """The app on an oracle that holds three days, a reviewer signed in, and the oracle's hand that takes decisions."""
    if not world.call("AccessManager", "hasRole", 7, world.account(REVIEWER))[0]:
        ops.grant(world, 7, REVIEWER)
    held = held_module.opened(Path(shutil.copytree(template, tmp_path / "oracle")))
    app = app_of(world, oracle_database_url=held.config.database_url, decisions_folder=held.config.decisions_folder)
    client = app.test_client()
    token = ops.sign_in(client, ops.key_of(REVIEWER))
    return SimpleNamespace(held=held, app=app, client=client, headers=ops.posting(token), world=world)


def page(answer):
    assert answer.status_code == 200, answer.text[:300]
    return BeautifulSoup(answer.data, "html.parser")


def drafted(desk, **asked):
    asked = {"device_id": 1, "day": "2022-06-01", "decision": "accept", "reason": "logger restarted at night", **asked}
    return desk.client.post("/operators/reviews/draft.json", json=asked, headers=desk.headers)


def sent(desk, message, account=None):
    signature = (account or ops.key_of(REVIEWER)).sign_message(encode_defunct(text=message)).signature.hex()
    body = {"message": message, "signature": "0x" + signature}
    return desk.client.post("/operators/reviews/decision.json", json=body, headers=desk.headers)


def decided(desk, **asked):
    answer = drafted(desk, **asked)
    assert answer.status_code == 200, answer.text
    answer = sent(desk, answer.json["message"])
    assert answer.status_code == 200, answer.text
    return answer.json["sha256"]


def progress(desk, sha256):
    return desk.client.get(f"/operators/reviews/decisions/{sha256}.json").json


def test_queue_lists_what_is_held_with_reason_age_and_filters(desk):
    shown = page(desk.client.get("/operators/reviews"))
    days = [link.text for link in shown.select('td a[href^="/operators/reviews/"]')]
    assert sorted(days) == ["2022-06-01", "2022-06-02", "2022-06-03"]
    assert "incomplete: 2 of 96 slots have no reading" in shown.get_text()
    assert {option.text for option in shown.select("select[name=kind] option")} == {"All", "conflict", "incomplete"}
    for query, expected in (
        ({"kind": "conflict"}, ["2022-06-02"]),
        ({"q": "3 OF 96"}, ["2022-06-03"]),
        ({"device": "2"}, []),
        ({"page": "9"}, []),
        ({"page": "x", "sort": "-age"}, sorted(days)),
    ):
        found = page(desk.client.get("/operators/reviews", query_string=query))
        assert sorted(link.text for link in found.select('td a[href^="/operators/reviews/"]')) == expected, query
    home = page(desk.client.get("/operators"))
    assert home.select_one('a.card[href="/operators/reviews"] .v').text == "3"


def test_case_shows_profile_findings_files_and_both_sides_of_a_conflict(desk):
    shown = page(desk.client.get("/operators/reviews/1/2022-06-02"))
    text = shown.get_text(" ")
    assert len(shown.select("svg.chart.wide rect.hit")) == 96
    assert "meter-1.csv" in text and "meter-1-second.csv" in text
    assert "101 Wh" in text and "50 Wh" in text
    assert len(shown.select("input[data-slot]")) == 96
    assert [one["value"] for one in shown.select("input[name=decision]")] == [
        "accept",
        "edit",
        "choose",
        "choose",
        "reject",
    ]
    assert not shown.select_one("fieldset[disabled]")
    for language in ("es", "ru"):
        assert desk.client.get(f"/operators/reviews/1/2022-06-02?lang={language}").status_code == 200
    for address in (
        "/operators/reviews/1/2022-06-09",
        "/operators/reviews/1/nonsense",
        f"/operators/reviews/{1 << 70}/2022-06-01",
    ):
        assert desk.client.get(address).status_code == 404, address


def test_signed_accept_is_taken_by_the_oracle_and_certified(desk):
    answer = drafted(desk)
    message = answer.json["message"]
    # The very bytes that the oracle will check: canonical JSON of facts, and nothing else.
    facts = json.loads(message)
    assert message == json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert (facts["deviceId"], facts["version"], facts["decision"]) == (1, 0, "accept")
    sha256 = sent(desk, message).json["sha256"]
    [file] = desk.held.config.decisions_folder.glob("*.json")
    assert file.stem == sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert progress(desk, sha256)["progress"] == "signed"
    assert "Signed, waits for the oracle" in page(desk.client.get("/operators/reviews")).get_text()
    [one] = desk.held.take()
    assert one.state is DecisionState.TAKEN
    assert progress(desk, sha256) == {"progress": "taken", "words": "Taken by the oracle", "refusal": ""}
    [archive] = sealing.seal(desk.held.config, desk.held.store)
    assert [(r.statement.start, r.statement.energy_wh) for r in archive.records] == [(held_module.FIRST, 2_412)]
    assert archive.manifest["reviewTrail"] == [json.loads(file.read_text())]
    assert desk.client.get("/operators/reviews/1/2022-06-01").status_code == 404  # in a batch now
    assert progress(desk, sha256)["progress"] == "taken"


def test_edit_with_evidence_reaches_the_oracle_with_its_figures(desk):
    refused = drafted(desk, decision="edit", edits=[[10, 7]], evidence="ab" * 32)
    assert refused.status_code == 400 and "send it first" in refused.json["error"]["detail"]
    content = b"a photograph of the meter"
    given = desk.client.post("/operators/reviews/evidence.json", data=content, headers=desk.headers).json["sha256"]
    assert given == hashlib.sha256(content).hexdigest()
    sha256 = decided(desk, decision="edit", edits=[[61, 90], [10, 7]], evidence=given)
    [one] = desk.held.take()
    assert (one.state, one.reason) == (DecisionState.TAKEN, "")
    assert (desk.held.config.raw_folder / "evidence" / given).read_bytes() == content
    with desk.held.store.session() as session:
        row = session.get(DeviceDay, (1, held_module.FIRST))
        assert (row.state, row.energy_wh) == (DayState.ACCEPTED, 2_412 + 7 - 11)
    assert progress(desk, sha256)["progress"] == "taken"
    assert "10: 0 → 7 Wh, 61: 101 → 90 Wh" in page(desk.client.get("/operators/reviews/1/2022-06-01")).get_text()


def test_choice_in_a_conflict_and_rejection_reach_the_oracle(desk):
    with desk.held.store.session() as session:
        said = session.get(DeviceDay, (1, held_module.FIRST + 86_400)).for_review["said"]
    [side] = [one for one in said if one["name"] == "meter-1-second.csv"]
    assert drafted(desk, day="2022-06-02", decision="choose", file="ab" * 32).status_code == 400
    decided(desk, day="2022-06-02", decision="choose", file=side["sha256"], reason="read again at the meter")
    decided(desk, day="2022-06-03", decision="reject", reason="the meter was out")
    assert {one.state for one in desk.held.take()} == {DecisionState.TAKEN}
    with desk.held.store.session() as session:
        states = {row.start: row.state for row in session.query(DeviceDay)}
    assert states[held_module.FIRST + 86_400] is DayState.ACCEPTED
    assert states[held_module.FIRST + 2 * 86_400] is DayState.REJECTED


def test_decision_about_data_that_changed_is_refused_here_and_by_the_oracle(desk, tmp_path):
    message, signed = drafted(desk).json["message"], decided(desk, reason="an earlier look")
    desk.held.ingest_late(tmp_path)
    answer = sent(desk, message)
    assert answer.status_code == 409 and "Load the page again" in answer.json["error"]["detail"]
    [one] = desk.held.take()
    assert one.state is DecisionState.REFUSED
    told = progress(desk, signed)
    assert told["progress"] == "refused" and "changed since it was signed" in told["refusal"]


def test_what_is_sent_must_be_what_was_signed_in_canonical_form(desk):
    message = drafted(desk).json["message"]
    signature = "0x" + ops.key_of(REVIEWER).sign_message(encode_defunct(text=message)).signature.hex()
    other = message.replace('"accept"', '"reject"', 1)
    body = {"message": other, "signature": signature}
    assert desk.client.post("/operators/reviews/decision.json", json=body, headers=desk.headers).status_code == 400
    for spoiled in (
        message.replace(",", ", ", 1), "not json", "[]", message.replace('"version":0', '"version":0.0'), message[:-1] + ',"more":1}',
    ):  # fmt: skip
        assert spoiled != message and sent(desk, spoiled).status_code == 400, spoiled
    assert not list(desk.held.config.decisions_folder.glob("*.json"))


def test_signature_of_another_account_and_malformed_bodies_are_refused(desk):
    message = drafted(desk).json["message"]
    assert sent(desk, message, ops.key_of(STRANGER)).status_code == 400
    for body in (
        {},
        [],
        {"message": 1, "signature": "0x"},
        {"message": message},
        {"message": message, "signature": "0x12"},
    ):
        assert desk.client.post("/operators/reviews/decision.json", json=body, headers=desk.headers).status_code == 400
    for asked in (
        {"reason": " "}, {"reason": "x" * 2_001}, {"decision": "edit", "edits": "no"}, {"decision": "maybe"},
        {"device_id": "1"}, {"decision": "clock", "start": 1},
    ):  # fmt: skip
        assert drafted(desk, **asked).status_code == 400, asked
    assert drafted(desk, day="2022-06-09").status_code == 404
    empty = desk.client.post("/operators/reviews/evidence.json", data=b"", headers=desk.headers)
    huge = desk.client.post("/operators/reviews/evidence.json", data=b"0" * ((16 << 20) + 1), headers=desk.headers)
    assert (empty.status_code, huge.status_code) == (400, 413)


def test_nobody_but_a_reviewer_sees_or_decides(desk):
    anonymous, other = desk.app.test_client(), desk.app.test_client()
    token = ops.sign_in(other, ops.key_of(STRANGER))
    for address in ("/operators/reviews", "/operators/reviews/1/2022-06-01", "/operators/reviews/decisions/ab.json"):
        assert anonymous.get(address).status_code == 401 and other.get(address).status_code == 403, address
    for name in ("draft", "decision", "evidence"):
        address = f"/operators/reviews/{name}.json"
        assert anonymous.post(address, json={}).status_code in (401, 403)
        assert other.post(address, json={}, headers=ops.posting(token)).status_code == 403
        assert desk.client.post(address, json={}, headers={"Origin": ops.ORIGIN}).status_code == 403
        assert (
            desk.client.post(address, json={}, headers={**desk.headers, "Origin": "https://evil.example"}).status_code
            == 403
        )


def test_hostile_reasons_are_shown_as_text_everywhere(desk):
    hostile = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\u202e{{ 7*7 }}'
    sha256 = decided(desk, decision="reject", reason=hostile)
    # Whoever can write into the folder may write anything.
    folder = desk.held.config.decisions_folder
    for number, content in enumerate((
        {"deviceId": {"a": hostile}, "reason": [1], "decision": hostile, "reviewer": 5, "edits": [[hostile, 1, 2]], "decidedAt": "x"},
        {"deviceId": 1, "start": 10**30, "decision": "edit", "edits": hostile, "evidence": hostile, "reason": hostile}, [], hostile,
    )):  # fmt: skip
        text = json.dumps(content).encode()
        (folder / f"{hashlib.sha256(text).hexdigest()}.json").write_bytes(text)
        (folder / f"{number:064x}.json").write_bytes(text)
    for _ in range(2):
        for address in ("/operators/reviews", "/operators/reviews/1/2022-06-01", "/operators/audit"):
            shown = page(desk.client.get(address))
            assert not shown.select("img") and all("alert" not in script.text for script in shown.select("script")), (
                address
            )
            assert "<script>alert(1)</script>" in shown.get_text() and "\u202e" not in shown.get_text(), address
        desk.held.take()
    assert progress(desk, sha256)["progress"] == "taken"


def test_clock_correction_is_drafted_from_the_report_alone(desk):
    shift = {
        "device_id": 1,
        "minutes": 60,
        "start": held_module.FIRST,
        "end": held_module.FIRST + 8 * 86_400,
        "correction": {"evidence": "late"},
    }
    with desk.held.store.session() as session:
        session.merge(KeptReport(name="clocks", content=[shift, {"hostile": 1}, "x"]))
    shown = page(desk.client.get("/operators/reviews"))
    form = shown.select_one("form[data-clock]")
    assert (form["data-clock"], form["data-start"]) == (
        "1",
        str(held_module.FIRST),
    ) and "60 min fast" in shown.get_text()
    asked = {"decision": "clock", "device_id": 1, "start": held_module.FIRST, "reason": "summer time"}
    message = desk.client.post("/operators/reviews/draft.json", json=asked, headers=desk.headers).json["message"]
    facts = json.loads(message)
    assert (facts["seconds"], facts["from"], facts["until"]) == (
        3_600,
        held_module.FIRST + 3_600,
        held_module.FIRST + 8 * 86_400 + 3_600,
    )
    sha256 = sent(desk, message).json["sha256"]
    # The oracle looks at its readings again, which show no such shift.
    [one] = desk.held.take()
    assert one.state is DecisionState.WAITING and "clock_decisions" in one.reason
    assert progress(desk, sha256)["progress"] == "waiting"


def test_without_folder_or_database_nothing_can_be_decided_and_pages_say_so(world, app_of, desk):
    app = app_of(world)
    client = app.test_client()
    token = ops.sign_in(client, ops.key_of(REVIEWER))
    assert "names no oracle database" in page(client.get("/operators/reviews")).get_text()
    answer = client.post("/operators/reviews/evidence.json", data=b"x", headers=ops.posting(token))
    assert answer.status_code == 503


def test_day_without_the_devices_key_says_that_it_must_wait(desk):
    [key] = desk.held.config.device_keys_folder.iterdir()
    key.unlink()
    pipeline.assess_all(desk.held.config, desk.held.store)
    shown = page(desk.client.get("/operators/reviews/1/2022-06-01"))
    assert shown.select_one("fieldset[disabled]") and "lacks the key of this device" in shown.get_text()
    assert drafted(desk).status_code == 400


def test_decision_signed_by_a_contract_wallet_says_why_it_does_not_count(desk):
    message = drafted(desk).json["message"]
    body = {"message": message, "signature": "0x" + "11" * 96}
    answer = desk.client.post("/operators/reviews/decision.json", json=body, headers=desk.headers)
    assert answer.status_code == 400 and "contract wallets cannot review" in answer.json["error"]["detail"]
    assert desk.held.take() == []


# -- the audit trail --------------------------------------------------------------------------------


def test_audit_trail_of_notarized_archives_names_batch_hash_and_signature(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    record = w.day_record(1, w.FIRST_DAY)
    account = ops.key_of(REVIEWER)
    facts = review.draft(
        device_id=1, start=w.FIRST_DAY, version=0, decision="accept", reason="=snow, seen on the camera",
        profile_hash=record.statement.profile_hash, decided_at=1_700_000_000,
    )  # fmt: skip
    sound = review.sign(account, facts)
    forged = {**review.sign(account, {**facts, "decidedAt": 1_700_000_001}), "reason": "<script>alert(1)</script>"}
    archive = world.notarize([record], review_trail=[sound, forged])
    app = app_of(world)
    client = app.test_client()
    answer = client.get("/audit.json").json
    assert answer["count"] == 2
    by_reason = {row["reason"]: row for row in answer["rows"]}
    row = by_reason["=snow, seen on the camera"]
    assert (row["root"], row["archive_hash"]) == ("0x" + archive.root.hex(), "0x" + archive.archive_hash.hex())
    assert (row["signature_holds"], row["manifest_is_notarized"], row["reviewer"]) == (True, True, account.address)
    assert by_reason["<script>alert(1)</script>"]["signature_holds"] is False
    assert client.get("/api/v1/audit").json == answer
    shown = page(client.get("/audit"))
    assert "Signature does not hold" in shown.get_text() and not [
        s for s in shown.select("script") if "alert" in s.text
    ]
    lines = client.get("/audit.csv").text.splitlines()
    assert len(lines) == 3 and ",'=snow" in lines[2].replace('"', "") and "2016-07-01" in lines[2]
    for query, count in (
        ({"decision": "reject"}, 0),
        ({"device": "1"}, 2),
        ({"reviewer": account.address.lower()}, 2),
        ({"page": "-1"}, 2),
    ):
        assert client.get("/audit.json", query_string=query).json["count"] == count
    # Whoever alters the manifest afterwards is seen.
    manifest = world.archive_folder / f"{archive.root.hex()}.json"
    manifest.write_text(manifest.read_text().replace("snow", "rain"))
    [row] = [row for row in client.get("/audit.json").json["rows"] if "rain" in row["reason"]]
    assert (row["signature_holds"], row["manifest_is_notarized"]) == (False, False)
    manifest.write_text("no longer JSON")
    assert client.get("/audit.json").json["count"] == 0


def test_operators_audit_tells_decisions_under_way_acts_and_to_the_administrator_sign_ins(desk):
    decided(desk, decision="reject", reason="doubtful")
    told = desk.client.get("/operators/audit.json").json
    assert [(row["progress"], row["reason"]) for row in told["decisions"]] == [("signed", "doubtful")]
    assert told["sign_ins"] is None
    granted = [act for act in told["acts"] if act["name"] == "RoleGranted"]
    assert desk.world.account(REVIEWER) in {act["args"]["account"] for act in granted}
    assert "doubtful" in desk.client.get("/operators/audit/decisions.csv").text
    assert "RoleGranted" in desk.client.get("/operators/audit/acts.csv").text
    assert desk.client.get("/operators/audit/nothing.csv").status_code == 404
    admin = desk.app.test_client()
    ops.sign_in(admin, ops.key_of(0))
    assert {one["address"] for one in admin.get("/operators/audit.json").json["sign_ins"]} == {
        desk.world.account(REVIEWER),
        desk.world.account(0),
    }
    assert "Sign-ins that hold" in page(admin.get("/operators/audit")).get_text()
    other = desk.app.test_client()
    assert other.get("/operators/audit").status_code == 401
    ops.sign_in(other, ops.key_of(STRANGER))
    assert other.get("/operators/audit").status_code == 403


def test_audit_trail_has_every_event_that_is_not_a_holders_or_a_witnesss():
    """A new event of a contract must be put on one side or the other."""
    everybodys = {
        "TransferSingle", "TransferBatch", "ApprovalForAll", "URI", "Retired", "RetiredBatch", "Issued", "SkippedCertified",
        "SkippedRefused", "Corrected", "DebtIncurred", "Settled", "Consumed", "Converted", "LeviesTaken", "NonceCancelled",
        "EIP712DomainChanged", "Notarized",
    }  # fmt: skip
    events = {entry["name"] for abi in artifacts().abis.values() for entry in abi if entry["type"] == "event"}
    assert set(ACTS) == events - everybodys


def test_audit_trail_tells_who_stopped_and_started_what(fresh_world, app_of):
    world = fresh_world
    world.register(1)
    ops.take_office(world)
    world.send("Notary", "pause", sender=ops.OFFICES["guardian"])
    world.send("Notary", "unpause")
    world.send("EnergyCertificate", "pause", sender=ops.OFFICES["guardian"])
    guardian, administrator = world.account(ops.OFFICES["guardian"]), world.account(0)
    client = app_of(world).test_client()
    ops.sign_in(client, ops.key_of(ops.OFFICES["guardian"]))
    told = [act for act in client.get("/operators/audit.json").json["acts"] if act["contract"] != "AccessManager"]
    assert [(act["contract"], act["name"], act["sender"]) for act in told][:4] == [
        ("EnergyCertificate", "IssuingPaused", guardian), ("Notary", "NotarizingResumed", administrator),
        ("Notary", "NotarizingPaused", guardian), ("DeviceRegistry", "DeviceRegistered", administrator),
    ]  # fmt: skip
    shown = page(client.get("/operators/audit")).get_text()
    assert "Issuing stopped" in shown and "Notarizing started again" in shown
    [row] = [line for line in client.get("/operators/audit/acts.csv").text.splitlines() if ",NotarizingPaused," in line]
    assert row.count(guardian) == 2
