"""The auditor's export: figures worked out by hand, identities that hold, and break when a figure is wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import zipfile
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup

DAY_WH = 23_099  # day_record with a peak of 1,000 Wh: 24,000 less slot 70 (917, estimated) and what rounding down takes


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def correction(w, record, energy_wh: int, version: int = 1):
    """The same period stated anew with another energy. Its profile no longer fits, which is not asked here."""
    return replace(record, statement=replace(record.statement, version=version, energy_wh=energy_wh, previous_wh=record.statement.energy_wh))  # fmt: skip


def correct(world, archive, record) -> None:
    from oracle.protocol import statement_fields, statement_leaf

    proof = archive.tree.proof(statement_leaf(record.statement))
    world.send("EnergyCertificate", "correct", archive.root, statement_fields(record.statement), proof)


@pytest.fixture(scope="module")
def busy(tmp_path_factory, w):
    """Seven days of one device, each with another fate; a client that asks about them and what was done."""
    from webapp import create_app

    conftest = __import__("sys").modules["wattmark_world"]
    folder = tmp_path_factory.mktemp("busy")
    anvil = conftest.Anvil(folder)
    world = conftest.deploy(anvil, folder)
    world.register(1)
    records = [w.day_record(1, w.FIRST_DAY + day * w.DAY) for day in range(7)]
    archives = [world.notarize([record]) for record in records]
    issued = world.issue(archives[0], 1, records[0].statement.start)
    world.retire(1, issued, 1_000)
    world.issue(archives[1], 1, records[1].statement.start)
    more = correction(w, records[1], DAY_WH + 500)
    correct(world, world.notarize([more]), more)
    world.issue(archives[2], 1, records[2].statement.start)
    less = correction(w, records[2], DAY_WH - 300)
    correct(world, world.notarize([less]), less)
    closed = correction(w, records[3], DAY_WH - 99)
    correct(world, world.notarize([closed]), closed)
    world.send("Notary", "revoke", archives[4].root, "the meter was moved")
    pending = correction(w, records[5], DAY_WH + 1)
    world.notarize([pending])
    app = create_app(_config(world, tmp_path_factory.mktemp("web")))
    app.extensions["wattmark"].refresh()
    yield world, app.test_client()
    anvil.stop()


def _config(world, state):
    from oracle.config import NetworkConfig
    from webapp import WebConfig

    network = NetworkConfig(
        "Test chain", (world.anvil.url,), world.w3.eth.chain_id, world.addresses_path, timeout_seconds=3
    )
    return WebConfig(archive_folder=world.archive_folder, state_folder=state, network=network)


def test_totals_of_every_fate_are_those_worked_out_by_hand(busy):
    _, client = busy
    found = client.get("/auditor.json").json
    totals = found["totals"]
    assert totals["statements"] == 11
    assert totals["notarized_wh"] == 7 * DAY_WH + 500 + 1
    # Day 1, day 2 with its 500 Wh more, day 3, and day 4 at its corrected value.
    assert totals["issued_wh"] == 4 * DAY_WH + 500 - 99
    assert totals["held_back_wh"] == DAY_WH
    assert totals["closed_wh"] == 99
    assert totals["not_yet_issued_wh"] == 2 * DAY_WH + 1
    assert totals["retired_wh"] == 1_000
    assert totals["debt_wh"] + totals["settled_wh"] == 300
    assert [identity["holds"] for identity in found["identities"]] == [True, True, True]


def test_rows_say_what_became_of_each_statement(busy):
    _, client = busy
    rows = rows_of(client.get("/auditor/statements.csv").data)
    states = [(row["start"], row["version"], row["state"]) for row in rows]
    fates = [state for _, version, state in states if version == "0"]
    assert fates == ["issued", "issued", "issued", "closed", "held back", "not yet issued", "not yet issued"]
    assert [state for _, version, state in states if version == "1"] == ["issued", "issued", "issued", "not yet issued"]


def test_totals_with_a_wrong_figure_are_shown_not_to_agree(busy, monkeypatch):
    _, client = busy
    from webapp import audit

    kept = audit._uses
    monkeypatch.setattr(audit, "_uses", lambda *given: {**kept(*given), "live_wh": kept(*given)["live_wh"] + 7})
    found = client.get("/auditor.json").json
    assert [(one["holds"], one["difference_wh"]) for one in found["identities"]] == [(True, 0), (False, -7), (True, 0)]
    page = BeautifulSoup(client.get("/auditor?lang=en").data, "html.parser")
    assert "Differs by -0.007 kWh" in page.select_one('[data-identity="issued_wh"]').get_text()


@pytest.mark.parametrize(("fault", "differences"), [
    # An event of issuing tells 7 Wh less than the statement entitles to; a certificate is held that no event issued.
    ("UPDATE issuance SET energy_wh = energy_wh - 7 WHERE event = 'Issued' AND version IS NULL AND start = {third}", [7, -7, 0]),
    ("DELETE FROM issuance WHERE start = {third}", [0, -DAY_WH, 0]),
])  # fmt: skip
def test_totals_of_an_index_that_lost_something_are_shown_not_to_agree(busy, w, fault, differences):
    _, client = busy
    third = w.FIRST_DAY + 2 * w.DAY
    path = client.application.extensions["wattmark"].index.path
    db = sqlite3.connect(path)
    rows = db.execute("SELECT * FROM issuance WHERE start = ?", (third,)).fetchall()
    try:
        with db:
            assert db.execute(fault.format(third=third)).rowcount > 0
        found = client.get("/auditor.json").json
        assert [one["difference_wh"] for one in found["identities"]] == differences
    finally:
        with db:
            db.execute("DELETE FROM issuance WHERE start = ?", (third,))
            db.executemany(f"INSERT INTO issuance VALUES ({', '.join('?' * len(rows[0]))})", rows)
        db.close()
    assert all(one["holds"] for one in client.get("/auditor.json").json["identities"])


def test_judge_of_one_version_in_two_batches_counts_it_once():
    from webapp.audit import _judge

    def row(version, energy_wh, gain_wh, state):
        return {
            "certificate_id": "c",
            "version": version,
            "energy_wh": energy_wh,
            "notarized_wh": gain_wh,
            "state": state,
        }

    rows = [row(0, 900, 900, "issued"), row(0, 900, 900, "not yet issued"), row(1, 950, 50, "not yet issued")]
    # 900 Wh issued, 900 closed because the day has its certificate, 50 to come by the correction.
    assert _judge(rows, {"c": 900}) == {"issued_wh": 900, "held_back_wh": 0, "closed_wh": 900, "not_yet_issued_wh": 50}
    assert [one["state"] for one in rows] == ["issued", "closed", "not yet issued"]
    never = [
        row(0, 1_000, 1_000, "not yet issued"),
        row(1, 1_100, 100, "not yet issued"),
        row(2, 700, 0, "not yet issued"),
    ]
    assert _judge(never, {}) == {"issued_wh": 0, "held_back_wh": 0, "closed_wh": 400, "not_yet_issued_wh": 700}


def test_period_takes_the_days_in_it_alone(busy):
    _, client = busy
    found = client.get("/auditor.json?from=2016-07-01&to=2016-07-02").json
    assert (found["totals"]["statements"], found["totals"]["notarized_wh"]) == (3, 2 * DAY_WH + 500)
    assert all(identity["holds"] for identity in found["identities"])
    assert client.get("/auditor.json?from=2020-01-01&to=2020-02-01").json["totals"]["notarized_wh"] == 0


def test_sample_is_drawn_by_seed_and_leaf_alone(busy):
    _, client = busy
    found = client.get("/auditor.json?sample=3&seed=lottery").json
    leaves = [row["leaf"] for row in rows_of(client.get("/auditor/statements.csv").data)]
    expected = sorted(leaves, key=lambda leaf: hashlib.sha256(b"lottery" + leaf.encode()).hexdigest())[:3]
    assert [row["leaf"] for row in found["sample"]] == expected
    other = client.get("/auditor.json?sample=3&seed=other").json
    assert [row["leaf"] for row in other["sample"]] != expected


def test_seed_left_out_is_the_hash_of_the_last_notarizing_block(busy):
    world, client = busy
    events = world.contracts["Notary"].events.Notarized().get_logs(from_block=0)
    assert client.get("/auditor.json").json["seed"] == "0x" + bytes(events[-1]["blockHash"]).hex()


def test_export_holds_the_same_in_every_form(busy):
    _, client = busy
    content = client.get("/auditor.zip?seed=s&sample=2").data
    assert content == client.get("/auditor.zip?seed=s&sample=2").data
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    rows = rows_of(parts["statements.csv"])
    table = pq.read_table(io.BytesIO(parts["statements.parquet"])).to_pylist()
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in table] == rows
    totals = json.loads(parts["totals.json"])["totals"]
    assert totals["notarized_wh"] == sum(int(row["notarized_wh"]) for row in rows)
    assert parts["statements.csv"] == client.get("/auditor/statements.csv").data
    assert len(rows_of(parts["sample.csv"])) == 2


@pytest.mark.parametrize("query", [
    "from=2016-02-30", "from=yesterday", "to=2015-01-01", "from=1970-01-01&to=2016-07-01", "sample=0", "sample=1001", "sample=x",
])  # fmt: skip
def test_period_that_makes_no_sense_is_refused(busy, query):
    _, client = busy
    answer = client.get(f"/auditor.json?{query}")
    assert answer.status_code == 400 and answer.json["error"]["detail"]


def test_batch_whose_archive_is_gone_is_named_apart(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, w.FIRST_DAY)])
    world.notarize([w.day_record(1, w.FIRST_DAY + w.DAY)])
    for suffix in ("json", "parquet"):
        (world.archive_folder / f"{archive.root.hex()}.{suffix}").unlink()
    found = app_of(world).test_client().get("/auditor.json?from=2016-07-01&to=2016-07-02").json["totals"]
    assert (found["notarized_wh"], found["unlisted_wh"]) == (DAY_WH, DAY_WH)


def test_gaps_of_the_operators_database_are_listed_with_reasons(fresh_world, app_of, w, tmp_path):
    from sqlalchemy.orm import Session

    from oracle.domain import DayState
    from oracle.store import DeviceDay, Store

    world = fresh_world
    world.register(1)
    world.notarize([w.day_record(1, w.FIRST_DAY)])
    url = f"sqlite:///{tmp_path / 'oracle.sqlite3'}"
    store = Store.open(url)
    with Session(store.engine) as session:
        for day, state, reason in ((1, DayState.HELD, "=cmd|' /C calc'!A0"), (3, DayState.METERED, "")):
            session.add(DeviceDay(device_id=1, start=w.FIRST_DAY + day * w.DAY, state=state, reason=reason, energy_wh=500 + day,
                                  profile=b"", assessment={}, evidence=[],))  # fmt: skip
        session.commit()
    client = app_of(world, oracle_database_url=url).test_client()
    found = client.get("/auditor.json?from=2016-07-01&to=2016-07-06").json
    assert [(gap["day"], gap["state"]) for gap in found["gaps"]] == [("2016-07-02", "held"), ("2016-07-03", "missing"), ("2016-07-04", "metered")]  # fmt: skip
    assert (found["totals"]["held_days"], found["totals"]["held_wh"], found["totals"]["gap_days"]) == (1, 501, 1)
    gaps = rows_of(client.get("/auditor/gaps.csv?from=2016-07-01&to=2016-07-06").data)
    assert gaps[0]["reason"] == "'=cmd|' /C calc'!A0"
