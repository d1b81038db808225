"""Versions of a day's statement from the chain, and what only the operator says of a day, told apart from it."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from oracle.domain import BatchKind, DayState, Profile
from oracle.protocol import pack_profile, statement_fields, statement_leaf
from oracle.store import Correction, DeviceDay, KeptReport, Store, utc_now

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def corrected(fresh_world, w):
    """The first day certified and corrected downwards; INTERIM statements of the first and the second day."""
    world = fresh_world
    world.register(1)
    first = w.day_record(1, w.FIRST_DAY)
    world.notarize([w.day_record(1, w.FIRST_DAY, peak_wh=200)], kind=BatchKind.INTERIM)
    world.issue(world.notarize([first]), 1, w.FIRST_DAY)
    world.transfer(1, 2, w.token_id(1, w.FIRST_DAY, w.DAY), first.statement.energy_wh)
    second = w.day_record(1, w.FIRST_DAY, peak_wh=900, version=1, previous_wh=first.statement.energy_wh)
    archive = world.notarize([second])
    proof = archive.tree.proof(statement_leaf(second.statement))
    world.send("EnergyCertificate", "correct", archive.root, statement_fields(second.statement), proof)
    world.notarize([w.day_record(1, w.FIRST_DAY + w.DAY, peak_wh=300)], kind=BatchKind.INTERIM)
    return world, first.statement.energy_wh, second.statement.energy_wh


def test_versions_of_a_day_tell_old_new_and_debt_and_interim_apart(corrected, app_of, w):
    world, before_wh, now_wh = corrected
    client = app_of(world).test_client()
    told = client.get("/devices/1.json?day=2016-07-01").json
    finals = [one for one in told["versions"] if one["kind"] == 1]
    assert [(one["version"], one["energy_wh"], one["previous_wh"], one["debt_wh"]) for one in finals] == [
        (0, before_wh, 0, None), (1, now_wh, before_wh, before_wh - now_wh),
    ]  # fmt: skip
    assert world.call("EnergyCertificate", "debtOf", 1) == before_wh - now_wh
    assert [one["kind"] for one in told["versions"]] == [1, 1, 2]
    # The day is what its newest FINAL version says, whatever INTERIM statements there are.
    assert told["day"]["profile"]["certified_wh"] == now_wh
    assert told["day"]["known"]["energy_wh"] == now_wh and told["day"]["known"]["state"] == "issued"
    # A day with nothing but INTERIM evidence is not certified.
    assert [day["state"] for day in told["days"]] == ["issued", "metered"]
    page = BeautifulSoup(client.get("/devices/1?day=2016-07-01").data, "html.parser")
    assert "Versions of this day's statement" in page.get_text() and "Interim: evidence only" in page.get_text()
    old = "0x" + world.archives[1].root.hex()
    checked = client.get(f"/checks/{old}/1/{w.FIRST_DAY}.json").json
    assert [one["version"] for one in checked["newer"]] == [1]
    assert "Newer version" in client.get(f"/checks/{old}/1/{w.FIRST_DAY}").text
    interim = "0x" + world.archives[0].root.hex()
    page = BeautifulSoup(client.get(f"/checks/{interim}/1/{w.FIRST_DAY}").data, "html.parser")
    assert page.select_one("dl.facts .pill.none").get_text(strip=True) == "Interim: evidence only"
    assert client.get(f"/checks/{interim}/1/{w.FIRST_DAY}.json").json["newer"] == []


def test_operator_says_is_marked_as_no_evidence_and_hostile_reports_stay_text(corrected, app_of, w, tmp_path):
    world, _, now_wh = corrected
    store = Store.open(f"sqlite:///{tmp_path / 'oracle.db'}")
    packed = pack_profile(Profile(w.FIRST_DAY, (7,) * 96, (33,) * 96))
    common = {"device_id": 1, "start": w.FIRST_DAY, "profile": packed, "evidence": [], "assessment": {}}
    balance = {
        "name": f"roof {HOSTILE}", "start": w.FIRST_DAY, "devices": [1, 3], "in_wh": 10_000, "out_wh": 8_000, "loss_per_mille": 200,
        "judged": True, "unusual": True, "effect": "hold", "reason": HOSTILE,
    }  # fmt: skip
    estimate = {
        "device_id": 1, "start": w.FIRST_DAY, "estimated_wh": 1_234, "unknown_slots": 1, "day": "2016-07-01",
        "slots": [{"slot": 1, "energy_wh": 1_234, "method": "like-day"}],
    }  # fmt: skip
    shift = {"device_id": 1, "minutes": -45, "start": w.FIRST_DAY, "end": w.FIRST_DAY + 7 * w.DAY}
    with store.session() as session:
        session.add(
            DeviceDay(**common, state=DayState.FINAL, energy_wh=now_wh, reason="", pending=f"newer data {HOSTILE}")
        )
        session.add(
            Correction(**common, version=2, state=DayState.HELD, energy_wh=500, previous_wh=now_wh, reason=HOSTILE)
        )
        for name, content in (
            ("clocks", [shift, HOSTILE, {"minutes": "x"}]),
            ("balances", [balance, {}]),
            ("estimates", [estimate, {"device_id": 1}]),
        ):
            session.add(KeptReport(name=name, content=content, made_at=utc_now()))
    client = app_of(world, oracle_database_url=f"sqlite:///{tmp_path / 'oracle.db'}").test_client()
    said = client.get("/devices/1.json?day=2016-07-01").json["said"]
    assert [(one["version"], one["state"], one["energy_wh"], one["previous_wh"]) for one in said["corrections"]] == [
        (2, "held", 500, now_wh)
    ]
    assert [one["minutes"] for one in said["clock_shifts"]] == [-45]
    assert [(one["loss_per_mille"], one["effect"]) for one in said["balances"]] == [(200, "hold")]
    assert said["estimate"] == {"estimated_wh": 1_234, "slots": 1, "unknown_slots": 1, "methods": "like-day"}
    for language, words in (("en", "not evidence"), ("es", ""), ("ru", "")):
        page = BeautifulSoup(client.get(f"/devices/1?day=2016-07-01&lang={language}").data, "html.parser")
        assert words in page.get_text() and HOSTILE in page.get_text() and not page.select("main img")
    page = BeautifulSoup(client.get("/devices/1?day=2016-07-01&lang=en").data, "html.parser")
    for words in ("What the operator says of this day", "45 min slow", "loss 20.0 %", "Unusual: its days are held", "Estimated, not certified", "like days"):  # fmt: skip
        assert words in page.get_text(), words
    other = client.get("/devices/1.json?day=2016-07-20").json["said"]
    assert (other["clock_shifts"], other["balances"], other["estimate"], other["pending"]) == ([], [], None, "")
