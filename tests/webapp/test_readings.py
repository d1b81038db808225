"""Days that are not notarized come from the oracle's database: for display, never over what the chain proves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from oracle.domain import DayState, Profile
from oracle.protocol import pack_profile
from oracle.store import DeviceDay, Store


@pytest.fixture
def database(tmp_path, w) -> Path:
    """An oracle's database with a held day, one that it calls issued, and one that is notarized as well."""
    path = tmp_path / "oracle.db"
    packed = pack_profile(Profile(w.FIRST_DAY, (7,) * 96, (1,) * 96))
    assessment = {
        "corroboration": {
            "result": "contradicted",
            "reasons": ["<b>too much</b>"],
            "stations": [
                {"station": "psm3", "kind": "modelled", "ghi_w_m2": [5] * 96, "figures": {"correlation": 0.11}}
            ],
        }
    }
    store = Store.open(f"sqlite:///{path}")
    with store.session() as session:
        for number, state in ((0, DayState.HELD), (1, DayState.HELD), (2, DayState.ISSUED)):
            session.add(
                DeviceDay(
                    device_id=1, start=w.FIRST_DAY + number * w.DAY, state=state, reason="contradicted: <b>too much</b>" if number else "",
                    profile=packed, energy_wh=672, evidence=[], assessment=assessment,
                )
            )  # fmt: skip
    store.engine.dispose()
    return path


def test_device_page_shows_held_days_and_believes_the_chain_first(fresh_world, app_of, w, database):
    fresh_world.register(1)
    fresh_world.issue(fresh_world.notarize([w.day_record(1, w.FIRST_DAY)]), 1, w.FIRST_DAY)
    fresh_world.anvil.mine(70)
    before = hashlib.sha256(database.read_bytes()).digest()
    client = app_of(fresh_world, oracle_database_url=f"sqlite:///{database}").test_client()
    states = [day["state"] for day in client.get("/devices/1.json").json["days"]]
    # Held says the database of the first, but the chain has it; issued says it of the third, but the chain has not.
    assert states == ["final", "held", "sealed"]
    answer = client.get("/devices/1?day=2016-07-02")
    page = BeautifulSoup(answer.data, "html.parser")
    assert "contradicted: <b>too much</b>" in page.get_text() and "Contradicted" in page.get_text()
    assert "From the operator's own database: not evidence" in page.get_text()
    assert "not evidence" not in client.get("/devices/1?day=2016-07-01").text
    assert page.select_one("a.cell.d-held") and len(page.select("svg.chart.wide rect.s-measured")) == 96
    assert client.get("/checks.json").json["rows"][0]["start"] == w.FIRST_DAY  # held days are no statements
    assert len(client.get("/checks.json").json["rows"]) == 1
    assert hashlib.sha256(database.read_bytes()).digest() == before


def test_device_page_without_a_readable_database_shows_what_is_notarized(fresh_world, app_of, w, tmp_path):
    fresh_world.register(1)
    fresh_world.notarize([w.day_record(1, w.FIRST_DAY)])
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    for name in ("missing.db", "broken.db"):
        client = app_of(fresh_world, oracle_database_url=f"sqlite:///{tmp_path / name}").test_client()
        assert [day["state"] for day in client.get("/devices/1.json").json["days"]] == ["notarized"], name
    assert not (tmp_path / "missing.db").exists()
