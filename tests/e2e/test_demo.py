"""The main job as a newcomer runs it, killed in the middle and taken up again."""

import csv
import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from pathlib import Path

import pvanalytics
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(pvanalytics.__file__).parent / "data"

pytestmark = pytest.mark.slow


def start(state):
    command = [sys.executable, "scripts/demo.py", "--once", "--json", "--state", str(state)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, cwd=ROOT, text=True, start_new_session=True, env={**os.environ, "COLUMNS": "200"}, **pipes
    )


def killed_at(state, words):
    """Kill the demo without a warning as soon as it says ``words``."""
    process = start(state)
    for line in process.stderr:
        if words in line:
            break
    else:
        pytest.fail(f"the demo never said {words!r}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    process.stderr.close()


def report_of(state):
    process = start(state)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def energy_of_day_wh(day):
    """By hand from the package's file: mean power stamped at the end of each quarter hour, noise below 0 left out."""
    first = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    total = Fraction(0)
    with (DATA / "serf_east_15min_ac_power.csv").open() as file:
        for row in csv.DictReader(file):
            if first < datetime.fromisoformat(row["measured_on"]) <= first + timedelta(days=1):
                total += max(Fraction(0), Fraction(row["ac_power"])) / 4
    return floor(total)


def test_demo_killed_twice_ends_with_the_same_figures_and_sends_nothing_again(tmp_path):
    state = tmp_path / "demo"
    killed_at(state, "registering devices")
    killed_at(state, "issuing")
    done = report_of(state)
    assert done["second_run"] == 0
    # docs/validation.md counts the days; the rows are those of the package's files.
    assert (done["readings"], done["irradiance_rows"], done["refused"]) == (10_480, 11_147, 4)
    assert (done["statements"], done["held"], done["corroborated"]) == (102, 9, 103)
    assert done["checks"] == {"verified": 102}
    assert [len(batch["signers"]) >= 2 for batch in done["batches"]] == [True]
    assert done["issued_wh"] == done["batches"][0]["energy_wh"] > done["transferred_wh"] > done["converted_wh"] > 0
    # 620,423 g/MWh, each certificate rounded down to whole grams.
    exact_g = done["converted_wh"] * 620_423 / 1_000_000
    assert exact_g - 10 < done["co2e_g"] <= exact_g

    root = done["batches"][0]["root"][2:]
    rows = pq.read_table(state / "archives" / f"{root}.parquet").to_pylist()
    assert sum(row["energy_wh"] for row in rows) == done["issued_wh"]
    for day in ("2016-07-14", "2016-09-13"):
        start_ = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
        [archived] = [row["energy_wh"] for row in rows if (row["device_id"], row["start"]) == (1, start_)]
        assert archived == energy_of_day_wh(day)

    again = report_of(state)
    assert (again["transactions_sent"], again["second_run"]) == (0, 0)
    changing = {"seconds", "transactions_sent"}
    assert {k: v for k, v in again.items() if k not in changing} == {k: v for k, v in done.items() if k not in changing}
