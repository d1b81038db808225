"""The pipeline on this machine: real SERF files out of the pvanalytics wheel, and small files written by hand."""

import contextlib
import csv
import io
import json
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pvanalytics
import pytest
import yaml
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from oracle import decisions, intake, pipeline, reports, review, sealing
from oracle.archive import read_archive, roots_in
from oracle.config import OracleConfig
from oracle.domain import DayState, Quality, Visibility
from oracle.errors import RefusedInput, StoreError
from oracle.keys import create_device_key
from oracle.protocol import statement_leaf, unpack_profile
from oracle.store import DeviceDay, RawFile, RefusedRow, ReviewDecision, SealedBatch, Store
from oracle.units import utc_date
from tests.oracle import databases

ROOT = Path(__file__).resolve().parents[2]
SERF = Path(pvanalytics.__file__).parent / "data"
DAY = 86_400
FIRST = 1_654_041_600  # 2022-06-01
REVIEWER = Account.from_key("0x" + "11" * 32)
NOBODY = Account.from_key("0x" + "22" * 32)

SITES = {
    "folder": ".",
    "sites": {
        "lab": {
            "name": "Laboratory",
            "latitude": 39.742,
            "longitude": -105.17,
            "altitude_m": 1_800,
            "timezone": "America/Denver",
            "country": "US",
            "grid_zone": "RMPA",
            "basis": "known",
            "source": "survey",
        }
    },
    # Corroboration has tests of its own; here a day is accepted when it is complete.
    "policies": {"plain": {"corroboration": {"required": False}}},
    "devices": [],
}


def device(device_id, **changes):
    fact = {"basis": "known", "source": "label"}
    return {
        "id": device_id,
        "name": f"meter {device_id}",
        "site": "lab",
        "kind": "generation",
        "visibility": "public",
        "fuel_code": "F01040100",
        "technology_code": "T010100",
        "capacity": {"watts": 10_000, **fact},
        "granularity_seconds": DAY,
        "meter": {"identity": f"lab-{device_id}", **fact},
        "active_from": "2022-01-01T00:00:00Z",
        "policy": "plain",
        "stations": [],
        "file": {
            "format": "csv",
            "names": [f"meter-{device_id}*.csv"],
            "stamp_columns": ["time"],
            "interval_seconds": 900,
            "stamped": "start",
            "channels": {"energy": {"column": "Wh", "quantity": "energy", "unit": "Wh"}},
            **fact,
        },
        **changes,
    }


def configure(folder, *devices, sites_file=None):
    folder.mkdir(parents=True, exist_ok=True)
    if sites_file is None:
        sites_file = folder / "sites.yaml"
        sites_file.write_text(yaml.safe_dump({**SITES, "devices": list(devices)}))
    document = {
        "sites": str(sites_file),
        "database": databases.url(folder),
        "raw_folder": "raw",
        "archive_folder": "archive",
        "device_keys_folder": "keys",
        "network": {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "addresses": "1.json"},
        "reviewers": [REVIEWER.address],
    }
    (folder / "wattmark.yaml").write_text(yaml.safe_dump(document))
    config = OracleConfig.load(folder / "wattmark.yaml")
    return config, Store.open(config.database_url)


def day_rows(day=0, slot_wh=100, slots=range(96)):
    """06:00 to 18:00 local (13:00 to 01:00 UTC) is daylight there; energy flows from 15:00 to 21:00 UTC: 24 slots."""
    rows = []
    for slot in slots:
        stamp = datetime.fromtimestamp(FIRST + day * DAY + slot * 900, UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
        # A meter's least digits move, so that no run of equal values looks frozen.
        rows.append(f"{stamp},{slot_wh + slot % 2 if 60 <= slot < 84 else 0}")
    return rows


def write(folder, name, *days, header="time,Wh"):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("\n".join([header, *(row for day in days for row in day)]) + "\n")
    return file


def kept_files(config):
    """Raw files, without the labels that hold their names."""
    return [file for file in config.raw_folder.iterdir() if not file.suffix]


def rows_of(store):
    with store.session() as session:
        return {(row.device_id, row.start): row for row in session.query(DeviceDay)}


def states(store):
    return {key: row.state for key, row in rows_of(store).items()}


@pytest.fixture
def plain(tmp_path):
    """One device with three whole days; 24 daylight slots of 100 or 101 Wh are 2412 Wh a day."""
    config, store = configure(tmp_path / "oracle", device(1))
    create_device_key(config.device_keys_folder, 1)
    file = write(tmp_path, "meter-1.csv", day_rows(0), day_rows(1), day_rows(2))
    return config, store, file


# -- ingest -----------------------------------------------------------------------------------------


def test_ingest_whole_days_are_accepted_with_their_energy(plain):
    config, store, file = plain
    report = pipeline.ingest(config, store, [file])
    [taken] = report.files
    assert (taken.used, taken.refused, taken.refusal, taken.known) == (288, (), None, False)
    assert (taken.devices, taken.slots, taken.energy_wh) == ((1,), 288, 3 * 2_412)
    assert states(store) == {(1, FIRST + n * DAY): DayState.ACCEPTED for n in range(3)}
    assert {row.energy_wh for row in rows_of(store).values()} == {2_412}
    kept = config.raw_folder / taken.sha256
    assert kept.read_bytes() == file.read_bytes()
    assert (config.raw_folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    assert all(row.evidence == [taken.sha256] for row in rows_of(store).values())


def test_tared_small_negative_values_are_counted_for_their_device(tmp_path):
    """10 kW over 900 s are 2500 Wh, so that the tare band of 5 per mille ends at 12.5 Wh: -12 counts as 0, -13 is suspect."""
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    rows = [row.replace(",0", ",-12") if 3 <= at < 10 else row for at, row in enumerate(day_rows(0))]
    rows[20] = rows[20].replace(",0", ",-13")
    files = [write(tmp_path, "meter-1.csv", rows, day_rows(1)), write(tmp_path, "meter-2.csv", day_rows(0, 70))]
    report = pipeline.ingest(config, store, files)
    assert reports.tared(store) == {1: 7, 2: 0}
    assert reports.status(store)["tared_slots"] == {"1": 7, "2": 0}
    assert [file["tared_slots"] for file in report.to_json()["files"]] == [7, 0]


def test_ingest_same_content_again_changes_nothing(plain, tmp_path):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    before = {key: (row.updated_at, row.profile) for key, row in rows_of(store).items()}
    copy = tmp_path / "meter-1-copy.csv"
    shutil.copy(file, copy)
    report = pipeline.ingest(config, store, [file, copy])
    assert [taken.known for taken in report.files] == [True, True]
    assert report.assessed.changed == 0
    assert {key: (row.updated_at, row.profile) for key, row in rows_of(store).items()} == before
    with store.session() as session:
        assert session.query(RawFile).count() == 1
    assert len(kept_files(config)) == 1


def test_ingest_two_meters_with_the_same_dark_day_are_two_meters(tmp_path):
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    files = [write(tmp_path, f"meter-{n}.csv", [row.rpartition(",")[0] + ",0" for row in day_rows()]) for n in (1, 2)]
    report = pipeline.ingest(config, store, files)
    assert [file.known for file in report.files] == [False, False]
    assert report.files[0].sha256 == report.files[1].sha256
    assert states(store) == {(1, FIRST): DayState.ACCEPTED, (2, FIRST): DayState.ACCEPTED}
    assert reports.status(store)["files"] == 1
    assert pipeline.ingest(config, store, files).assessed.changed == 0


def test_ingest_copy_of_another_meters_readings_is_held_on_both(tmp_path):
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    one = write(tmp_path, "meter-1.csv", day_rows(0), day_rows(1))
    other = write(tmp_path, "meter-2.csv", day_rows(0), day_rows(1, slot_wh=50))
    pipeline.ingest(config, store, [one, other])
    rows = rows_of(store)
    assert {key: row.state for key, row in rows.items()} == {
        (1, FIRST): DayState.HELD,
        (2, FIRST): DayState.HELD,
        (1, FIRST + DAY): DayState.ACCEPTED,
        (2, FIRST + DAY): DayState.ACCEPTED,
    }
    assert rows[1, FIRST].reason == "copied: every reading is that of device 2"


def test_ingest_one_file_with_two_meters_is_read_by_both(tmp_path):
    both = [device(1), device(2)]
    for one, column in zip(both, ("left", "right"), strict=True):
        one["file"] = {
            **one["file"],
            "names": ["both.csv"],
            "channels": {"energy": {"column": column, "quantity": "energy", "unit": "Wh"}},
        }
    config, store = configure(tmp_path / "oracle", *both)
    rows = [f"{row},{100 * int(row.split(',')[1])}" for row in day_rows(slot_wh=3)]
    rows[7] = rows[7].split(",")[0] + ",x,0"
    report = pipeline.ingest(config, store, [write(tmp_path, "both.csv", rows, header="time,left,right")])
    [file] = report.files
    assert (file.devices, file.used, file.slots, len(file.refused)) == ((1, 2), 191, 191, 1)
    assert {key: (row.state, row.energy_wh) for key, row in rows_of(store).items()} == {
        (1, FIRST): (DayState.HELD, 84),
        (2, FIRST): (DayState.ACCEPTED, 8_400),
    }


def test_ingest_files_in_any_order_and_cut_give_the_same_profiles(tmp_path):
    rows = [*day_rows(0), *day_rows(1), *day_rows(2)]
    results = []
    for trial in range(4):
        config, store = configure(tmp_path / f"oracle-{trial}", device(1))
        shuffled = rows[:]
        random.Random(trial).shuffle(shuffled)
        cut = 96 + 31 * trial
        pieces = [shuffled[:cut], shuffled[cut - 20 * trial :]]  # pieces overlap with equal values
        files = [write(tmp_path / f"in-{trial}", f"meter-1-{n}.csv", piece) for n, piece in enumerate(pieces)]
        for file in files if trial % 2 else files[::-1]:
            pipeline.ingest(config, store, [file])
        results.append({key: (row.profile, row.state) for key, row in rows_of(store).items()})
    assert results[0] == results[1] == results[2] == results[3]
    assert len(results[0]) == 3


def test_ingest_refused_row_is_kept_with_line_and_reason(plain, tmp_path):
    config, store, _ = plain
    rows = day_rows(0)
    rows[5] = "2022-06-01T01:15:00+00:00,many"
    report = pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", rows)])
    [refused] = report.files[0].refused
    assert (refused.line, refused.text) == (7, rows[5])
    with store.session() as session:
        [kept] = session.query(RefusedRow).all()
        [file] = session.query(RawFile).all()
    assert (kept.line, kept.text, kept.reason) == (7, rows[5], refused.reason)
    assert (file.rows_used, file.rows_refused) == (95, 1)
    assert states(store) == {(1, FIRST): DayState.HELD}
    assert rows_of(store)[1, FIRST].reason.startswith("incomplete: 1 of 96")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("meter-1.csv", b"time,kWh\n2022-06-01,1\n", "'Wh'"),
        ("meter-1.csv", b"", "empty"),
        ("meter-1.csv", b"\xff\xfe\x00\x01", "not utf-8"),
        ("meter-9.csv", b"time,Wh\n", "no source takes a file of this name"),
    ],
)
def test_ingest_refused_file_leaves_no_trace_and_the_others_go_on(plain, tmp_path, name, content, reason):
    config, store, good = plain
    bad = tmp_path / "bad" / name
    bad.parent.mkdir()
    bad.write_bytes(content)
    report = pipeline.ingest(config, store, [bad, good])
    assert reason in report.files[0].refusal
    assert name in report.files[0].refusal
    assert report.files[1].refusal is None
    assert len(kept_files(config)) == 1
    assert len(rows_of(store)) == 3


def test_ingest_folder_takes_its_files_and_not_hidden_ones(plain, tmp_path):
    config, store, _ = plain
    folder = tmp_path / "inbox"
    write(folder, "meter-1-b.csv", day_rows(1))
    write(folder, "meter-1-a.csv", day_rows(0))
    write(folder, ".meter-1-c.csv.part", day_rows(2))
    report = pipeline.ingest(config, store, [folder])
    assert [file.name for file in report.files] == ["meter-1-a.csv", "meter-1-b.csv"]


def test_ingest_crash_between_raw_file_and_database_is_mended_by_running_again(plain, monkeypatch):
    config, store, file = plain
    record = intake._record_file
    monkeypatch.setattr(intake, "_record_file", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        pipeline.ingest(config, store, [file])
    assert len(kept_files(config)) == 1 and not rows_of(store)
    monkeypatch.setattr(intake, "_record_file", record)
    report = pipeline.ingest(config, store, [file])
    assert not report.files[0].known
    assert len(rows_of(store)) == 3


def test_ingest_day_between_first_and_last_without_data_is_held_as_missing(plain, tmp_path):
    config, store, _ = plain
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0), day_rows(2))])
    row = rows_of(store)[1, FIRST + DAY]
    assert (row.state, row.energy_wh, row.evidence) == (DayState.HELD, 0, [])
    assert row.reason == pipeline.NO_DATA
    assert row.profile == bytes(480)


def test_ingest_late_rest_of_a_held_day_makes_it_whole(plain, tmp_path):
    config, store, _ = plain
    pipeline.ingest(config, store, [write(tmp_path, "meter-1-a.csv", day_rows(0, slots=range(70)))])
    assert states(store) == {(1, FIRST): DayState.HELD}
    pipeline.ingest(config, store, [write(tmp_path, "meter-1-b.csv", day_rows(0, slots=range(70, 96)))])
    row = rows_of(store)[1, FIRST]
    assert (row.state, row.energy_wh, row.reason) == (DayState.ACCEPTED, 2_412, "")
    assert len(row.evidence) == 2


@pytest.mark.parametrize("off", [-DAY, DAY])
def test_ingest_clock_of_the_machine_a_day_off_certifies_the_same_later(plain, tmp_path, off):
    """A day and a half of readings at noon of the second day, by a clock that is wrong, and the rest by a right one."""
    config, store, _ = plain
    noon = FIRST + DAY + DAY // 2
    pipeline.ingest(
        config, store, [write(tmp_path, "meter-1-a.csv", day_rows(0), day_rows(1, slots=range(48)))], now=noon + off
    )
    early = off < 0
    assert states(store)[1, FIRST] == (DayState.HELD if early else DayState.ACCEPTED)
    assert states(store)[1, FIRST + DAY] == DayState.HELD
    assert ("untimely" if early else "incomplete") in rows_of(store)[1, FIRST + DAY].reason
    pipeline.ingest(
        config, store, [write(tmp_path, "meter-1-b.csv", day_rows(1, slots=range(48, 96)))], now=FIRST + 2 * DAY
    )
    assert {key: (row.state, row.energy_wh) for key, row in rows_of(store).items()} == {
        (1, FIRST + day * DAY): (DayState.ACCEPTED, 2_412) for day in (0, 1)
    }


def test_inspect_file_reports_without_keeping_anything(plain, tmp_path):
    config, store, file = plain
    found = intake.inspect(config, file)
    assert (found.format, found.devices, found.slots, found.energy_wh, found.refused) == ("csv", (1,), 288, 7_236, ())
    assert not config.raw_folder.exists() and not rows_of(store)
    with pytest.raises(RefusedInput, match="no source takes"):
        intake.inspect(config, write(tmp_path, "other.csv", day_rows()))


# -- assess -----------------------------------------------------------------------------------------


def test_assess_all_changed_raw_file_names_it_and_what_rests_on_it(plain):
    config, store, file = plain
    [taken] = pipeline.ingest(config, store, [file]).files
    kept = config.raw_folder / taken.sha256
    kept.write_bytes(kept.read_bytes().replace(b",100", b",900", 1))
    with pytest.raises(StoreError, match=f"{taken.sha256}.*device 1 2022-06-01, device 1 2022-06-02"):
        pipeline.assess_all(config, store)
    pipeline.ingest(config, store, [file])  # the same content again restores it
    assert kept.read_bytes() == file.read_bytes()


def test_assess_all_device_gone_from_the_sites_file_stays_visible(plain):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    config.sites_file.write_text(yaml.safe_dump({**SITES, "devices": [device(2)]}))
    pipeline.assess_all(config, store)
    assert {row.state for row in rows_of(store).values()} == {DayState.HELD}
    assert all("no longer in the sites file" in gap.reason for gap in reports.gaps(config, store))
    assert sealing.seal(config, store) == []


def test_assess_all_newer_data_never_change_a_sealed_day_and_are_shown_beside_it(plain, tmp_path):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    sealing.seal(config, store)
    before = rows_of(store)
    # Another value for 18:00 of the second day: the smaller of two stands, as a conflict.
    report = pipeline.ingest(config, store, [write(tmp_path, "meter-1-late.csv", [day_rows(1, slot_wh=40)[72]])])
    after = rows_of(store)
    assert (report.assessed.pending, report.assessed.changed) == (1, 1)
    day = after[1, FIRST + DAY]
    assert (day.state, day.profile, day.energy_wh) == (DayState.SEALED, before[1, FIRST + DAY].profile, 2_412)
    assert day.pending == "newer data differ in 1 slots: 2312 Wh certifiable instead of the sealed 2412 Wh"
    assert [gap.pending for gap in reports.gaps(config, store)] == ["", day.pending, ""]
    assert sealing.seal(config, store) == []


def test_assess_all_absurd_stamps_are_held_and_make_no_days_between(plain, tmp_path):
    config, store, file = plain
    early = "1969-12-31T23:45:00+00:00,1"
    late = "9998-06-01T12:00:00+00:00,1"
    pipeline.ingest(config, store, [file, write(tmp_path, "meter-1-odd.csv", [early, late])])
    odd = {key[1]: row for key, row in rows_of(store).items() if not FIRST <= key[1] <= FIRST + 2 * DAY}
    assert [(utc_date(start), row.state) for start, row in sorted(odd.items())] == [
        ("1969-12-31", DayState.HELD),
        ("9998-06-01", DayState.HELD),
    ]
    assert "active only from 2022-01-01" in odd[-DAY].reason and "not over yet" in odd[max(odd)].reason
    for start in odd:
        with pytest.raises(review.ReviewError, match="cannot be accepted: untimely"):
            decisions.decide(config, store, REVIEWER, 1, start, "accept", "x")
    assert [gap.start for gap in reports.gaps(config, store)] == sorted([*odd, FIRST, FIRST + DAY, FIRST + 2 * DAY])


# -- review -----------------------------------------------------------------------------------------


@pytest.fixture
def held(plain, tmp_path):
    """A day of which two dark slots are missing: held, 2412 Wh measured."""
    config, store, _ = plain
    slots = [slot for slot in range(96) if slot not in (10, 11)]
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0, slots=slots))])
    assert states(store) == {(1, FIRST): DayState.HELD}
    return config, store


def test_decide_accept_certifies_the_measured_slots_of_a_held_day(held):
    config, store = held
    decisions.decide(config, store, REVIEWER, 1, FIRST, "accept", "logger restarted at night")
    row = rows_of(store)[1, FIRST]
    assert row.state is DayState.ACCEPTED
    assert "logger restarted at night" in row.reason and "incomplete: 2 of 96" in row.reason
    assert pipeline.assess_all(config, store).changed == 0
    [archive] = sealing.seal(config, store)
    [record] = archive.records
    assert record.statement.energy_wh == 2_412
    quality = unpack_profile(FIRST, record.profile).quality
    assert [quality[slot] for slot in (9, 10, 11, 12)] == [33, 0, 0, 33]
    [entry] = archive.manifest["reviewTrail"]
    review.verify(entry, [REVIEWER.address])
    assert entry["profileHash"] == "0x" + record.statement.profile_hash.hex()


def test_decide_reject_keeps_a_day_out_until_it_is_accepted(held):
    config, store = held
    decisions.decide(config, store, REVIEWER, 1, FIRST, "reject", "doubtful", now=datetime(2022, 7, 1, 12, tzinfo=UTC))
    assert states(store) == {(1, FIRST): DayState.REJECTED}
    assert sealing.seal(config, store) == []
    decisions.decide(config, store, REVIEWER, 1, FIRST, "accept", "explained", now=datetime(2022, 7, 1, 13, tzinfo=UTC))
    pipeline.assess_all(config, store)
    assert states(store) == {(1, FIRST): DayState.ACCEPTED}


def test_decide_about_other_figures_does_not_count_any_more(held, tmp_path):
    config, store = held
    decisions.decide(config, store, REVIEWER, 1, FIRST, "accept", "fine")
    pipeline.ingest(config, store, [write(tmp_path, "meter-1-late.csv", day_rows(0, slots=[10]))])
    row = rows_of(store)[1, FIRST]
    assert row.state is DayState.HELD
    assert "an earlier decision was about other figures" in row.reason


def test_decide_unknown_reviewer_refuses_and_stores_nothing(held):
    config, store = held
    with pytest.raises(review.ReviewError, match="not among the configured reviewers"):
        decisions.decide(config, store, NOBODY, 1, FIRST, "accept", "trust me")
    with store.session() as session:
        assert session.query(ReviewDecision).count() == 0


def test_decide_forged_row_in_the_database_does_not_count(held):
    config, store = held
    decisions.decide(config, store, REVIEWER, 1, FIRST, "reject", "doubtful")
    with store.session() as session:
        session.query(ReviewDecision).one().decision = "accept"
    assert pipeline.trail(config, store) == []
    pipeline.assess_all(config, store)
    assert states(store) == {(1, FIRST): DayState.HELD}


def test_decide_what_cannot_be_decided_says_why(held, tmp_path):
    config, store = held
    with pytest.raises(review.ReviewError, match="there is no device-day device 7 2022-06-01"):
        decisions.decide(config, store, REVIEWER, 7, FIRST, "accept", "x")
    pipeline.ingest(config, store, [write(tmp_path, "meter-1-more.csv", day_rows(2))])
    with pytest.raises(review.ReviewError, match="no measured, unsuspected energy"):
        decisions.decide(config, store, REVIEWER, 1, FIRST + DAY, "accept", "x")
    sealing.seal(config, store)
    with pytest.raises(review.ReviewError, match="is sealed in 0x"):
        decisions.decide(config, store, REVIEWER, 1, FIRST + 2 * DAY, "reject", "x")


# -- seal and propose -------------------------------------------------------------------------------


def test_seal_accepted_days_make_one_batch_with_its_archive(plain, tmp_path):
    config, store, file = plain
    part = write(tmp_path, "meter-1-part.csv", day_rows(4, slots=range(50)))
    pipeline.ingest(config, store, [file, part, write(tmp_path, "meter-1-last.csv", day_rows(5))])
    [archive] = sealing.seal(config, store)
    assert [(r.statement.device_id, r.statement.start, r.statement.energy_wh) for r in archive.records] == [
        (1, FIRST + day * DAY, 2_412) for day in (0, 1, 2, 5)
    ]
    assert [(held["deviceId"], held["start"]) for held in archive.manifest["withheld"]] == [
        (1, FIRST + 3 * DAY),
        (1, FIRST + 4 * DAY),
    ]
    assert archive.manifest["policy"]["devices"]["1"]["capacity_w"] == 10_000
    with store.session() as session:
        [batch] = session.query(SealedBatch).all()
    assert (batch.start, batch.end, batch.statements, batch.energy_wh) == (FIRST, FIRST + 6 * DAY, 4, 4 * 2_412)
    assert batch.archive_hash == "0x" + archive.archive_hash.hex()
    read = read_archive(config.archive_folder, archive.root)
    assert read.problem is None
    assert all(record.recomputed_profile_hash() == record.statement.profile_hash for record in read.records)
    assert {gap.state.value for gap in reports.gaps(config, store)} == {"sealed", "held"}


def test_seal_again_with_nothing_new_does_nothing(plain):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    assert len(sealing.seal(config, store)) == 1
    files = sorted(path.name for path in config.archive_folder.iterdir())
    assert sealing.seal(config, store) == []
    assert sorted(path.name for path in config.archive_folder.iterdir()) == files


def test_seal_crash_between_archive_and_database_is_harmless(plain, monkeypatch):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    write_archive = sealing.write_archive

    def crash(*arguments, **options):
        write_archive(*arguments, **options)
        raise OSError("power cut")

    monkeypatch.setattr(sealing, "write_archive", crash)
    with pytest.raises(OSError, match="power cut"):
        sealing.seal(config, store)
    [root] = roots_in(config.archive_folder)
    assert set(states(store).values()) == {DayState.ACCEPTED}
    monkeypatch.setattr(sealing, "write_archive", write_archive)
    [archive] = sealing.seal(config, store)
    assert archive.root == root
    assert set(states(store).values()) == {DayState.SEALED}


def test_seal_public_and_private_devices_never_share_a_batch(tmp_path):
    config, store = configure(tmp_path / "oracle", device(1), device(2, visibility="private"))
    for device_id in (1, 2):
        create_device_key(config.device_keys_folder, device_id)
    pipeline.ingest(config, store, [write(tmp_path, f"meter-{n}.csv", day_rows(slot_wh=100 * n)) for n in (1, 2)])
    archives = sealing.seal(config, store)
    assert [(a.manifest["visibility"], [r.statement.device_id for r in a.records]) for a in archives] == [
        ("public", [1]),
        ("private", [2]),
    ]
    assert list(archives[0].manifest["policy"]["devices"]) == ["1"]


def test_assess_all_while_another_process_takes_a_file_writes_nothing_older(plain, tmp_path, monkeypatch):
    """What was judged before the other file came would accept the day again, and seal it as it never was."""
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    other = [row.rsplit(",", 1)[0] + ",7" if slot == 70 else row for slot, row in enumerate(day_rows(1))]
    judge = pipeline.assess_raw

    def overtaken(*arguments, **options):
        monkeypatch.setattr(pipeline, "assess_raw", judge)
        old = judge(*arguments, **options)
        pipeline.ingest(config, Store.open(config.database_url), [write(tmp_path, "meter-1-other.csv", other)])
        return old

    monkeypatch.setattr(pipeline, "assess_raw", overtaken)
    pipeline.assess_all(config, store)
    row = rows_of(store)[1, FIRST + DAY]
    assert row.state is DayState.HELD and row.reason.startswith("conflict")


def test_seal_while_a_day_changes_seals_it_as_it_is_then(plain, tmp_path, monkeypatch):
    """Another process takes a file, and yet another one seals, after the days were read and before they are sealed."""
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    other = [row.rsplit(",", 1)[0] + ",7" if slot == 70 else row for slot, row in enumerate(day_rows(1))]
    policy = sealing.clocks_of

    def overtaken(*arguments):
        monkeypatch.setattr(sealing, "clocks_of", policy)
        pipeline.ingest(config, Store.open(config.database_url), [write(tmp_path, "meter-1-other.csv", other)])
        return policy(*arguments)

    monkeypatch.setattr(sealing, "clocks_of", overtaken)
    [archive] = sealing.seal(config, store)
    assert [record.statement.start for record in archive.records] == [FIRST, FIRST + 2 * DAY]
    [withheld] = archive.manifest["withheld"]
    assert withheld["start"] == FIRST + DAY and withheld["reason"].startswith("conflict")


def test_seal_by_two_processes_at_once_seals_each_day_once_and_neither_fails(plain, monkeypatch):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    read, both = sealing.clocks_of, threading.Barrier(2)

    def together(*arguments):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(20)
        return read(*arguments)

    monkeypatch.setattr(sealing, "clocks_of", together)
    with ThreadPoolExecutor() as pool:
        sealed = list(pool.map(lambda _: sealing.seal(config, Store.open(config.database_url)), range(2)))
    assert sorted(len(one) for one in sealed) == [0, 1]
    assert {row.state for row in rows_of(store).values()} == {DayState.SEALED}


def test_ingest_same_bytes_of_two_meters_at_once_keeps_both_names(tmp_path, monkeypatch):
    """Without the name under which it came, `rebuild` would not know whose it is."""
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    files = [write(tmp_path, f"meter-{number}.csv", day_rows()) for number in (1, 2)]
    read, both = intake.names_of, threading.Barrier(2)

    def together(kept):
        names = read(kept)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return names

    monkeypatch.setattr(intake, "names_of", together)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda one: intake.take(config, Store.open(config.database_url), [one]), files))
    [kept] = [one for one in config.raw_folder.iterdir() if len(one.name) == 64]
    assert set(read(kept)) == {"meter-1.csv", "meter-2.csv"}
    with store.session() as session:
        assert {row.source for row in session.query(RawFile)} == {"device:1", "device:2"}


def test_unseal_disputed_day_is_held_until_a_reviewer_decides(plain):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    [first] = sealing.seal(config, store)
    root, reason = "0x" + first.root.hex(), "refused by witnesses: leaf differs"
    assert not sealing.unseal(config, store, root, {(1, FIRST + DAY)}, reason, lambda session: False)
    assert rows_of(store)[1, FIRST + DAY].state is DayState.SEALED
    assert sealing.unseal(config, store, root, {(1, FIRST + DAY)}, reason, lambda session: True)
    assert not sealing.unseal(config, store, root, {(1, FIRST)}, reason, lambda session: True)
    pipeline.assess_all(config, store)
    row = rows_of(store)[1, FIRST + DAY]
    assert (row.state, row.reason, row.root) == (DayState.HELD, "refused by witnesses: leaf differs", None)
    [second] = sealing.seal(config, store)
    assert [r.statement.start for r in second.records] == [FIRST, FIRST + 2 * DAY]
    assert second.manifest["withheld"] == [
        {"deviceId": 1, "start": FIRST + DAY, "reason": "refused by witnesses: leaf differs"}
    ]
    decisions.decide(config, store, REVIEWER, 1, FIRST + DAY, "accept", "witness had an old file")
    pipeline.assess_all(config, store)
    [third] = sealing.seal(config, store)
    assert [r.statement.start for r in third.records] == [FIRST + DAY]


def test_propose_another_machine_with_the_same_files_reaches_the_same_root(held, tmp_path):
    """A witness: own database and folders, the same raw files, sites file and device keys, and the signed decisions."""
    config, store = held
    pipeline.ingest(config, store, [write(tmp_path, "meter-1-more.csv", day_rows(1), day_rows(3))])
    decisions.decide(config, store, REVIEWER, 1, FIRST, "accept", "fine")
    trail = pipeline.trail(config, store)
    [archive] = sealing.seal(config, store)
    other, other_store = configure(tmp_path / "witness", sites_file=config.sites_file)
    shutil.copytree(config.device_keys_folder, other.device_keys_folder)
    pipeline.ingest(other, other_store, [tmp_path / "meter-1-more.csv", tmp_path / "meter-1.csv"])
    window = {"visibility": Visibility.PUBLIC, "start": FIRST, "end": FIRST + 4 * DAY}
    records = sealing.propose(other, other_store, decisions=trail, **window)
    assert sorted(records, key=lambda r: r.statement.start) == list(archive.records)
    assert sealing.policy_of(other, [1]) == archive.manifest["policy"]
    # Without the decision the held day is not there, and it is the one that is named.
    theirs = [(r.statement.device_id, r.statement.start, 0, statement_leaf(r.statement)) for r in archive.records]
    assert sealing.differing_days(records, theirs) == []
    undecided = sealing.propose(other, other_store, decisions=[], **window)
    assert sealing.differing_days(undecided, theirs) == [(1, FIRST)]
    left = sealing.propose(other, other_store, decisions=trail, leave_out={(1, FIRST + DAY)}, **window)
    assert [r.statement.start for r in left] == [FIRST, FIRST + 3 * DAY]
    narrow = sealing.propose(
        other, other_store, decisions=trail, visibility=Visibility.PUBLIC, start=FIRST + DAY, end=FIRST + 2 * DAY
    )
    assert [r.statement.start for r in narrow] == [FIRST + DAY]


def test_propose_one_changed_byte_names_the_device_day(plain, tmp_path):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    [archive] = sealing.seal(config, store)
    other, other_store = configure(tmp_path / "witness", sites_file=config.sites_file)
    shutil.copytree(config.device_keys_folder, other.device_keys_folder)
    altered = tmp_path / "altered" / "meter-1.csv"
    altered.parent.mkdir()
    altered.write_text(file.read_text().replace("2022-06-02T18:00:00+00:00,100", "2022-06-02T18:00:00+00:00,110"))
    pipeline.ingest(other, other_store, [altered])
    records = sealing.propose(
        other, other_store, visibility=Visibility.PUBLIC, start=FIRST, end=FIRST + 3 * DAY, decisions=[]
    )
    theirs = [(r.statement.device_id, r.statement.start, 0, statement_leaf(r.statement)) for r in archive.records]
    assert sealing.differing_days(records, theirs) == [(1, FIRST + DAY)]


def test_propose_forged_decision_refuses(held):
    config, store = held
    decisions.decide(config, store, REVIEWER, 1, FIRST, "reject", "doubtful")
    [entry] = pipeline.trail(config, store)
    with pytest.raises(review.ReviewError):
        sealing.propose(
            config,
            store,
            visibility=Visibility.PUBLIC,
            start=FIRST,
            end=FIRST + DAY,
            decisions=[{**entry, "decision": "accept"}],
        )


# -- reports ----------------------------------------------------------------------------------------


def test_gaps_every_day_stands_once_in_one_state(plain, tmp_path):
    config, store, file = plain
    pipeline.ingest(config, store, [file, write(tmp_path, "meter-1-far.csv", day_rows(9, slots=range(20)))])
    report = reports.gaps(config, store)
    assert [gap.start for gap in report] == [FIRST + day * DAY for day in range(10)]
    assert [gap.missing_slots for gap in report] == [0] * 3 + [96] * 6 + [76]
    assert all(gap.reason for gap in report if gap.state is DayState.HELD)


@given(st.text(max_size=40), st.sampled_from("=+-@\t\r|%"))
def test_harmless_text_that_starts_a_formula_gets_an_apostrophe(text, lead):
    assert reports.harmless(lead + text) == "'" + lead + text
    assert reports.harmless(" " + lead + text) == "' " + lead + text
    plain = "a" + text
    assert reports.harmless(plain) == plain


def test_gaps_csv_hostile_device_name_is_no_formula(tmp_path):
    config, store = configure(tmp_path / "oracle", device(1, name='=HYPERLINK("http://evil","x")'))
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows())])
    [_, line] = list(csv.reader(io.StringIO(reports.gaps_csv(reports.gaps(config, store)))))
    assert line[1] == '\'=HYPERLINK("http://evil","x")'
    assert (line[2], line[3], line[4]) == ("2022-06-01", "accepted", "2412")


def test_status_counts_what_happened(plain):
    config, store, file = plain
    assert reports.status(store)["files"] == 0
    pipeline.ingest(config, store, [file])
    [archive] = sealing.seal(config, store)
    facts = json.loads(json.dumps(reports.status(store)))
    assert (facts["files"], facts["rows_used"], facts["rows_refused"]) == (1, 288, 0)
    assert facts["device_days"] == {"sealed": 3}
    assert facts["last_batch"]["root"] == "0x" + archive.root.hex()
    assert facts["last_batch"]["energy_wh"] == 7_236


def test_export_slots_come_out_of_the_archives(plain):
    config, store, file = plain
    pipeline.ingest(config, store, [file])
    sealing.seal(config, store)
    slots = list(reports.export_slots(config))
    assert len(slots) == 288
    assert sum(slot["energy_wh"] for slot in slots if slot["certified"]) == 7_236
    assert slots[60] == {
        **slots[60],
        "device_id": 1,
        "slot_start": "2022-06-01T15:00:00+00:00",
        "energy_wh": 100,
        "quality": 33,
    }
    lines = list(csv.reader(io.StringIO("".join(reports.export_csv(slots)))))
    assert (len(lines), lines[0][:3]) == (289, ["device_id", "slot_start", "energy_wh"])
    assert list(reports.export_slots(config, 2)) == []


# -- real data --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serf(database, tmp_path_factory):
    """SERF East and West with their irradiance, as the demo takes them."""
    config, store = configure(tmp_path_factory.mktemp("serf"), sites_file=ROOT / "scripts" / "demo_sites.yaml")
    for device_id in (1, 2):
        create_device_key(config.device_keys_folder, device_id)
    names = ("serf_east_15min_ac_power.csv", "serf_east_psm3_data.csv", "serf_west_15min.csv", "rmis_weather_data.csv")
    report = pipeline.ingest(config, store, [SERF / name for name in names])
    return config, store, report


def test_ingest_serf_every_row_ends_up_somewhere(serf):
    _, _, report = serf
    for file in report.files:
        with (SERF / file.name).open(encoding="utf-8-sig", newline="") as source:
            rows = sum(1 for row in csv.reader(source) if row) - 1
        assert file.used + len(file.refused) == rows
    assert {file.name: file.slots for file in report.files if file.devices} == {
        "serf_east_15min_ac_power.csv": 10_000,
        "serf_west_15min.csv": 480,
    }


def test_ingest_serf_day_energy_is_the_sum_of_its_powers(serf):
    """2016-07-20 UTC, from the file's text: W over 900 s, local standard time UTC-07:00, small night values as nothing."""
    _, store, _ = serf
    from decimal import Decimal

    start = int(datetime(2016, 7, 20, tzinfo=UTC).timestamp())
    total = Decimal(0)
    with (SERF / "serf_east_15min_ac_power.csv").open(encoding="utf-8-sig", newline="") as source:
        for row in csv.DictReader(source):
            stamp = datetime.fromisoformat(row["measured_on"])
            moment = stamp if stamp.tzinfo else datetime.fromisoformat(row["measured_on"] + "-07:00")
            if start <= moment.timestamp() < start + DAY:
                power = next(Decimal(value) for name, value in row.items() if "power" in name)
                total += max(power, Decimal(0)) / 4
    row = rows_of(store)[1, start]
    assert row.state is DayState.ACCEPTED
    measured = sum(unpack_profile(start, row.profile).energy_wh)
    assert abs(measured - total) < 1 + Decimal("0.005") * total
    assert total > 10_000


def test_tared_serf_east_is_about_half_of_its_rows(serf):
    """At the least every small negative value of the file (6 kW: up to 30 W), read from its text."""
    _, store, _ = serf
    with (SERF / "serf_east_15min_ac_power.csv").open(encoding="utf-8-sig", newline="") as source:
        powers = [float(next(v for k, v in row.items() if "power" in k) or 0) for row in csv.DictReader(source)]
    small = sum(-30 <= power < 0 for power in powers)
    assert 4_000 < small <= reports.tared(store)[1] < 5_500


def test_seal_serf_holds_partial_days_and_certifies_the_rest(serf):
    config, store, _ = serf
    [archive] = sealing.seal(config, store)
    accepted = {(r.statement.device_id, utc_date(r.statement.start)) for r in archive.records}
    held = {(gap.device_id, gap.day): gap.reason for gap in reports.gaps(config, store) if gap.state is DayState.HELD}
    assert len(accepted) + len(held) == len(rows_of(store)) == 111
    assert (1, "2016-07-01") in held and (1, "2016-07-02") in accepted
    assert {(2, "2022-01-03"), (2, "2022-01-04")} <= accepted
    assert all(held.values())
    for record in archive.records:
        quality = unpack_profile(record.statement.start, record.profile).quality
        assert all(one & Quality.MEASURED for one in quality)
        assert record.evidence
    assert sum(record.statement.energy_wh for record in archive.records) == sum(
        slot["energy_wh"] for slot in reports.export_slots(config) if slot["certified"]
    )
