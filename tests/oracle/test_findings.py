"""Reports over all days: a file whose clock is an hour fast, a day with holes, a feeder; through the command line."""

import contextlib
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from eth_account import Account
from eth_account.messages import encode_defunct

from oracle import findings, sealing
from oracle.archive import read_archive
from oracle.cli import cli
from oracle.config import OracleConfig
from oracle.domain import Visibility
from oracle.keys import create_device_key
from oracle.review import ReviewError
from oracle.sites import source_folder
from oracle.store import KeptReport, Store
from tests.oracle import databases, test_pipeline

REVIEWER = Account.from_key("0x" + "11" * 32)
DEMO = Path(__file__).parents[2] / "scripts" / "demo_sites.yaml"


@pytest.fixture(scope="module")
def oracle(database, tmp_path_factory):
    """An oracle that has taken ten days of SERF East an hour late, with three hours gone on one of them, as two devices of a feeder."""
    folder = tmp_path_factory.mktemp("oracle")
    document = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    data = source_folder(document["folder"])
    text = (data / "serf_east_15min_ac_power.csv").read_text(encoding="utf-8")
    header, *rows = text.splitlines()
    rows = [row for row in rows if "2016-08-01" <= row[:10] <= "2016-08-11"]
    gone = range(*[next(n for n, row in enumerate(rows) if row.startswith(f"2016-08-05 {hour}")) for hour in (10, 13)])

    def late(row):
        stamp = re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row)[0]
        return str(datetime.fromisoformat(stamp) + timedelta(hours=1)) + row.removeprefix(stamp)

    kept = [late(row) for n, row in enumerate(rows) if n not in gone]
    (folder / "east.csv").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    twin = document["devices"][0] | {
        "id": 3,
        "name": "feeder",
        "meter": document["devices"][0]["meter"] | {"identity": "f"},
    }
    document["devices"] = [document["devices"][0], twin]
    for device in document["devices"]:
        device["file"] = device["file"] | {"names": ["east.csv"]}
    known = {"basis": "known", "source": "test"}
    document["balances"] = {
        "roof": {"feeder": 3, "children": [1], "flow": "collects", "min_loss_per_mille": 1, **known}
    }
    document["clock_decisions"] = "clocks.json"
    (folder / "sites.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    network = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "addresses": "1.json"}
    settings = {"sites": "sites.yaml", "database": databases.url(folder), "raw_folder": "raw"}
    settings |= {"archive_folder": "archive", "device_keys_folder": "keys", "network": network}
    settings |= {"reviewers": [REVIEWER.address], "decisions_folder": "decisions"}
    settings |= {"review_key": {"keystore": "reviewer.json", "password_file": "reviewer.password"}}
    (folder / "reviewer.password").write_text("a password")
    (folder / "reviewer.json").write_text(json.dumps(REVIEWER.encrypt("a password", iterations=2)))
    for secret in folder.glob("reviewer.*"):
        secret.chmod(0o600)
    (folder / "wattmark.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for device_id in (1, 3):
        create_device_key(folder / "keys", device_id)

    def run(*arguments, exit_code=0):
        run.done = done = CliRunner().invoke(cli, ["--config", str(folder / "wattmark.yaml"), *arguments])
        assert done.exit_code == exit_code, done.output
        return done.stdout

    run.folder = folder

    run("ingest", str(folder / "east.csv"), str(data / "serf_east_psm3_data.csv"))
    return run


def test_clocks_names_the_shift_and_prints_the_entry_of_the_source(oracle):
    found = json.loads(oracle("clocks", "--json"))
    assert [(one["device_id"], one["minutes"]) for one in found] == [(1, 60), (3, 60)]
    assert found[0]["correction"]["seconds"] == 3600
    text = oracle("clocks")
    entry = yaml.safe_load(text[text.index("  - from") : text.index("device 3,")])
    assert entry == [found[0]["correction"]]


def test_estimates_fill_the_hole_by_like_days_and_name_the_method(oracle):
    days = {(day["device_id"], day["day"]): day for day in json.loads(oracle("estimates", "--device", "1", "--json"))}
    # 10:00 to 13:00 local, an hour late: 18:00 to 21:00 UTC, of readings stamped at their end.
    day = days[1, "2016-08-05"]
    assert [slot["slot"] for slot in day["slots"]] == list(range(71, 83))
    assert {slot["method"] for slot in day["slots"]} == {"like-day"}
    assert day["unknown_slots"] == 0
    # The twelve readings that were taken out hold 7,383 Wh; days around it were cloudier.
    assert 0.6 * 7_383 < day["estimated_wh"] < 1.4 * 7_383
    assert "like-day 12" in oracle("estimates", "--device", "1")


def test_balance_reports_every_day_of_the_feeder(oracle):
    days = json.loads(oracle("balance", "--json"))
    whole = [day for day in days if day["judged"]]
    assert len(whole) >= 9
    # Feeder and child are one meter here: nothing is lost, where at least 0.1 % was said to be.
    assert all(day["loss_wh"] == 0 and day["unusual"] and day["effect"] == "flag" for day in whole)
    assert "0.1 to 5 % is usual" in oracle("balance").replace("\n", " ")


# The last tests of this file: they mend the clocks, one at the command line and one by a decision that comes as a file.


def test_review_clock_signs_the_correction_and_the_readings_move(oracle):
    before = {one["device_id"]: one for one in json.loads(oracle("clocks", "--json"))}
    oracle("review", "clock", "1", "--reason", "logger ran on summer time")
    assert [one["device_id"] for one in json.loads(oracle("clocks", "--json"))] == [3]
    [entry] = json.loads((oracle.folder / "clocks.json").read_text())
    assert (entry["seconds"], entry["deviceId"], entry["reviewer"]) == (3_600, 1, REVIEWER.address)
    moment = datetime.fromisoformat(before[1]["correction"]["from"]).timestamp()
    assert entry["from"] == moment
    oracle("review", "clock", "1", "--reason", "once more", exit_code=1)


def test_import_clock_correction_takes_effect_and_another_size_is_refused(oracle):
    [shift] = json.loads(oracle("clocks", "--json"))
    facts = {
        "deviceId": 3,
        "from": int(datetime.fromisoformat(shift["correction"]["from"]).timestamp()),
        "until": int(datetime.fromisoformat(shift["correction"]["until"]).timestamp()),
        "decision": "clock",
        "reason": "seen at the site",
        "decidedAt": 1_700_000_000,
    }

    def lay(seconds):
        signed = facts | {"seconds": seconds}
        text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
        signature = "0x" + REVIEWER.sign_message(encode_defunct(text=text)).signature.hex()
        (oracle.folder / "decisions").mkdir(exist_ok=True)
        file = oracle.folder / "decisions" / f"{seconds}.json"
        file.write_text(json.dumps(signed | {"reviewer": REVIEWER.address, "signature": signature}))
        return file

    lay(1_800)
    [one] = json.loads(oracle("review", "import", "--json", exit_code=7))
    assert one["state"] == "refused" and "do not show" in one["reason"]
    file = lay(3_600)
    [one] = json.loads(oracle("review", "import", str(file), "--json"))
    assert (one["state"], one["known"]) == ("taken", False)
    assert json.loads(oracle("clocks", "--json")) == []
    assert {entry["deviceId"] for entry in json.loads((oracle.folder / "clocks.json").read_text())} == {1, 3}
    [one] = json.loads(oracle("review", "import", str(file), "--json"))
    assert (one["state"], one["known"]) == ("taken", True)


def test_clock_correction_that_was_altered_after_it_was_signed_stops_every_judgement(oracle):
    file = oracle.folder / "clocks.json"
    kept = file.read_text()
    altered = json.loads(kept)
    altered[0]["seconds"] = 1_800
    file.write_text(json.dumps(altered))
    oracle("seal", exit_code=1)
    fault = oracle.done.exception
    assert (
        isinstance(fault, ReviewError) and "clocks.json" in str(fault) and f"not by '{REVIEWER.address}'" in str(fault)
    )
    file.write_text(kept)


def test_seal_puts_the_corrections_of_clocks_into_the_batch_and_a_witness_checks_their_signatures(oracle):
    # All days are held, because both devices have the same readings.
    oracle("review", "accept", "1", "2016-08-03", "--reason", "the feeder has one child")
    [sealed] = json.loads(oracle("seal", "--json"))
    config = OracleConfig.load(oracle.folder / "wattmark.yaml")
    archive = read_archive(config.archive_folder, bytes.fromhex(sealed["root"][2:]))
    trail = archive.manifest["reviewTrail"]
    assert [entry["decision"] for entry in trail] == ["accept", "clock", "clock"]
    assert trail[1:] == json.loads((oracle.folder / "clocks.json").read_text())

    def proposed(decisions):
        store = Store.open(config.database_url)
        start = archive.records[0].statement.start
        return sealing.propose(
            config, store, visibility=Visibility.PUBLIC, start=start, end=start + 86_400, decisions=decisions
        )

    assert [record.statement for record in proposed(trail)] == [record.statement for record in archive.records]
    with pytest.raises(ReviewError, match="not by"):
        proposed([*trail[:2], {**trail[2], "seconds": 1_800}])


def test_keep_by_two_watchers_at_once_keeps_one_report_of_each_kind(tmp_path, monkeypatch):
    """The first day of both: neither finds a report to put its own in place of."""
    config, store = test_pipeline.configure(tmp_path, test_pipeline.device(1))
    now, both = findings.utc_now, threading.Barrier(2)

    def together():
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return now()

    monkeypatch.setattr(findings, "utc_now", together)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: findings.keep(config, Store.open(config.database_url)), range(2)))
    with store.session() as session:
        assert {row.name for row in session.query(KeptReport)} == {"clocks", "drifts", "balances", "estimates"}
