"""The confusion tables of docs/validation.md, reached again: how many real days are held when each is tampered with.

Thresholds were fixed on July and August of SERF East; what counts is September and October, which this computes in full.
``python tests/oracle/test_confusion.py`` prints both pairs of columns.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from oracle import corroboration
from oracle.assessment import assess, device_days, irradiance_days
from oracle.domain import DayState
from oracle.formats import read
from oracle.sites import load_sites, source_folder

ROOT = Path(__file__).parents[2]
PARTS = {"Jul-Aug": ("2016-07-02", "2016-09-01"), "Sep-Oct": ("2016-09-01", "2016-10-13")}
RATIOS = (1.1, 1.3, 1.6, 2.5, float("inf"))


def _start(date):
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


class Days:
    """SERF East's whole days of a part of the season, and the same days tampered with."""

    def __init__(self, part):
        config = load_sites(ROOT / "scripts" / "demo_sites.yaml")
        folder = source_folder(config.folder)
        self.device, self.station = config.device(1), config.station("psm3")

        def files(source):
            return [read((folder / name).read_bytes(), source, name) for name in source.files]

        self.all = device_days(self.device, files(self.device.source))
        self.sky = irradiance_days(self.station, files(self.station.source))
        first, end = map(_start, PARTS[part])
        self.starts = [start for start in self.all if first <= start < end]
        self.readings = {
            start + 900 * slot: value for start, day in self.all.items() for slot, value in enumerate(day.micro_j)
        }

    def held(self, start, micro_j):
        slots = replace(self.all[start], micro_j=tuple(micro_j))
        return assess(self.device, slots, [(self.station, self.sky[start])]).state is DayState.HELD

    def share(self, change):
        return round(100 * sum(self.held(start, change(self, start)) for start in self.starts) / len(self.starts))

    def swapped(self):
        """By the ratio of two days' energies: pairs, those of which one is held at least, those of which both are."""
        energy = {start: sum(max(value, 0) for value in self.all[start].micro_j) for start in self.starts}
        rows = [[0, 0, 0] for _ in RATIOS]
        for one, other in combinations(self.starts, 2):
            ratio = max(energy[one], energy[other]) / min(energy[one], energy[other])
            row = rows[next(at for at, bound in enumerate(RATIOS) if ratio <= bound)]
            held = [self.held(one, self.all[other].micro_j), self.held(other, self.all[one].micro_j)]
            row[0], row[1], row[2] = row[0] + 1, row[1] + any(held), row[2] + all(held)
        return [(round(100 * either / pairs), round(100 * both / pairs), pairs) for pairs, either, both in rows]


def late(minutes):
    return lambda days, start: [days.readings[start + 900 * slot - 60 * minutes] for slot in range(96)]


def scaled(percent):
    return lambda days, start: [value * percent // 100 for value in days.all[start].micro_j]


def stuck(slots):
    """From the quarter hour at which SERF's noon falls."""

    def change(days, start):
        values = list(days.all[start].micro_j)
        values[76 : 76 + slots] = [values[76]] * slots
        return values

    return change


ALTERED = {
    "none (false alarms)": scaled(100),
    "readings 15 min late": late(15),
    "30 min late": late(30),
    "45 min late": late(45),
    "60 min late": late(60),
    "60 min early": late(-60),
    "120 min late": late(120),
    "120 min early": late(-120),
    "energy × 0.5": scaled(50),
    "× 0.7": scaled(70),
    "× 0.8": scaled(80),
    "× 0.9": scaled(90),
    "× 1.1": scaled(110),
    "× 1.2": scaled(120),
    "× 1.3": scaled(130),
    "× 1.5": scaled(150),
    "× 2": scaled(200),
    "× 1000 (kWh taken for Wh)": scaled(100_000),
    "30 min frozen": stuck(2),
    "1 h frozen": stuck(4),
    "2 h frozen": stuck(8),
    "4 h frozen": stuck(16),
}


def quoted():
    text = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    altered = re.findall(r"^\| ([^|]+) \| (\d+) % \| (\d+) % \|$", text, re.MULTILINE)
    swapped = re.findall(
        r"^\| [^|]+ \| (\d+) / (\d+) % of (\d+) \| (\d+) / (\d+) % of (\d+) \|$", text, re.MULTILINE
    )  # fmt: skip
    return {name: (int(one), int(other)) for name, one, other in altered}, [tuple(map(int, row)) for row in swapped]


def cached_model(patch):
    """Expected power depends on device, irradiance and sun alone, and the same days come again and again."""
    model, clear = corroboration.expected_w, corroboration._haurwitz
    kept, skies = {}, {}

    def expected_w(device, ghi, temp_air, sun):
        key = (id(sun), ghi.tobytes(), np.asarray(temp_air).tobytes())
        if key not in kept:
            kept[key] = (sun, model(device, ghi, temp_air, sun))
        return kept[key][1]

    def haurwitz(sun):
        return skies.setdefault(id(sun), (sun, clear(sun)))[1]

    patch.setattr(corroboration, "expected_w", expected_w)
    patch.setattr(corroboration, "_haurwitz", haurwitz)


@pytest.fixture(scope="module")
def autumn():
    with pytest.MonkeyPatch.context() as patch:
        cached_model(patch)
        yield Days("Sep-Oct")


def test_quoted_table_names_every_alteration():
    altered, swapped = quoted()
    assert list(altered) == list(ALTERED) and len(swapped) == len(RATIOS)


@pytest.mark.slow
def test_assess_altered_days_of_autumn_are_held_as_often_as_quoted(autumn):
    altered, _ = quoted()
    assert {name: autumn.share(change) for name, change in ALTERED.items()} == {
        name: share for name, (_, share) in altered.items()
    }


@pytest.mark.slow
def test_assess_exchanged_days_of_autumn_are_held_as_often_as_quoted(autumn):
    _, swapped = quoted()
    assert autumn.swapped() == [row[3:] for row in swapped]


def main():
    with pytest.MonkeyPatch.context() as patch:
        cached_model(patch)
        parts = [Days(part) for part in PARTS]
        for name, change in ALTERED.items():
            print(f"| {name} | " + " | ".join(f"{days.share(change)} %" for days in parts) + " |", flush=True)
        for rows in zip(*(days.swapped() for days in parts), strict=True):
            print("| | " + " | ".join("{} / {} % of {}".format(*row) for row in rows) + " |", flush=True)


if __name__ == "__main__":
    main()
