"""A week's energy against irradiance, on real days of SERF East: untouched, and scaled as a wrong current transformer would."""

import re
from dataclasses import replace

import pytest
import yaml

from oracle import pipeline
from oracle.assessment import assess
from oracle.config import OracleConfig
from oracle.domain import DayState
from oracle.drift import drifts, held_by_drift, weeks
from oracle.findings import drift_report, keep
from oracle.sites import source_folder
from oracle.store import DeviceDay, KeptReport, Store
from tests.oracle import databases
from tests.oracle.test_confusion import ROOT, Days, cached_model

DAY = 86_400


@pytest.fixture(scope="module")
def serf():
    """July to October, and what judges a day of it whose energy is a share (per cent) of what was measured."""
    with pytest.MonkeyPatch.context() as patch:
        cached_model(patch)
        summer, autumn = Days("Jul-Aug"), Days("Sep-Oct")

        def judged(starts, percent):
            def scaled(slots):
                return replace(slots, micro_j=tuple(value * percent // 100 for value in slots.micro_j))

            pairs = [(start, scaled(summer.all[start])) for start in starts]
            return [assess(summer.device, slots, [(summer.station, summer.sky[start])]) for start, slots in pairs]

        yield summer, autumn, judged


def test_drifts_untouched_days_show_none(serf):
    summer, autumn, judged = serf
    july = judged(summer.starts, 100)
    seen = weeks(summer.device, july)
    assert len(seen) == len(summer.starts) - 6
    # What fixed the bounds: July and August lie within 0.95 and 1.07.
    assert (min(week.ratio for week in seen), max(week.ratio for week in seen)) == (0.95, 1.068)
    assert drifts(summer.device, july + judged(autumn.starts, 100)) == []


def test_weeks_that_show_a_scaling_are_as_many_as_quoted(serf):
    summer, autumn, judged = serf
    text = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| (\d\.\d+) \| (\d+) of (\d+) \| (\d+) of (\d+) \|$", text, re.MULTILINE)
    assert [row[0] for row in quoted] == ["1.00", "0.80", "0.85", "0.90", "1.10", "1.15", "1.20"]
    for share, *counts in quoted:
        seen = [weeks(part.device, judged(part.starts, round(100 * float(share)))) for part in (summer, autumn)]
        assert [int(one) for one in counts] == [
            one for part in seen for one in (sum(bool(week.side) for week in part), len(part))
        ], share


@pytest.mark.parametrize("percent", [80, 120])
def test_drifts_scaled_autumn_is_one_time_with_its_size(serf, percent):
    _, autumn, judged = serf
    days = judged(autumn.starts, percent)
    [found] = drifts(autumn.device, days)
    assert (found.start, found.end, found.days) == (autumn.starts[0], autumn.starts[-1] + DAY, len(days))
    assert found.ratio == pytest.approx(percent / 100, abs=0.03)
    held = held_by_drift([autumn.device], days)
    # Too much is held from the seventh day on; too little is told.
    assert list(held) == ([(1, start) for start in autumn.starts[6:]] if percent > 100 else [])
    assert found.to_json()["holds"] is (percent > 100)


def test_drifts_device_without_history_of_its_own_says_nothing(serf):
    summer, _, judged = serf
    young = replace(summer.device, performance=replace(summer.device.performance, history_days=19))
    assert weeks(young, judged(summer.starts[:14], 200)) == []


def test_weeks_of_days_far_apart_are_none(serf):
    summer, _, judged = serf
    assert weeks(summer.device, judged(summer.starts[:42:3], 100)) == []


def test_ingest_a_week_of_too_much_energy_holds_its_last_days(tmp_path):
    document = yaml.safe_load((ROOT / "scripts" / "demo_sites.yaml").read_text(encoding="utf-8"))
    data = source_folder(document["folder"])
    header, *rows = (data / "serf_east_15min_ac_power.csv").read_text(encoding="utf-8").splitlines()
    kept = [row.rpartition(",") for row in rows if "2016-08-01 18" <= row[:13] < "2016-08-10 18"]
    scaled = [f"{stamp},{float(power) * 1.15:.6f}" for stamp, _, power in kept]
    (tmp_path / "serf_east_15min_ac_power.csv").write_text("\n".join([header, *scaled]) + "\n", encoding="utf-8")
    document["devices"] = document["devices"][:1]
    (tmp_path / "sites.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    network = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "addresses": "1.json"}
    settings = {"sites": "sites.yaml", "database": databases.url(tmp_path), "raw_folder": "raw", "network": network}
    settings |= {"archive_folder": "archive", "device_keys_folder": "keys"}
    (tmp_path / "wattmark.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = OracleConfig.load(tmp_path / "wattmark.yaml")
    store = Store.open(config.database_url)
    pipeline.ingest(config, store, [tmp_path / "serf_east_15min_ac_power.csv", data / "serf_east_psm3_data.csv"])
    with store.session() as session:
        days = list(session.query(DeviceDay).order_by(DeviceDay.start))
    drifting = [number for number, day in enumerate(days) if day.reason.startswith("drift: the energy of 7 days")]
    # The first and the last are torn; each of the others is accepted by itself, the weeks that end on two of them are not.
    assert [number for number, day in enumerate(days) if day.state is DayState.ACCEPTED] == [1, 2, 3, 4, 5, 8]
    assert drifting == [6, 7]
    [found] = drift_report(config, store)
    assert (found.end, found.ratio > 1.12) == (days[7].start + DAY, True)
    keep(config, store)
    with store.session() as session:
        assert session.get_one(KeptReport, "drifts").content == [found.to_json()]
