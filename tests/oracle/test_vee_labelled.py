"""Rules against the data that pvanalytics' authors labelled: the confusion table of docs/validation.md."""

import re
from datetime import datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
from pvanalytics.features import clipping
from pvanalytics.quality import gaps, outliers

from oracle.formats import DaySlots
from oracle.policies import ValidationPolicy
from oracle.sites import load_sites
from oracle.vee import above_capacity, clipped, frozen, interpolated, negative, outlier, slot_matrix, spike

ROOT = Path(__file__).parents[2]
WATT = 900_000_000
POLICY = ValidationPolicy()


@pytest.fixture(scope="module")
def device():
    return load_sites(ROOT / "scripts" / "demo_sites.yaml").device(1)


class Labelled:
    """A labelled file: normalised power as days of a 6 kW device, and what its authors marked."""

    def __init__(self, device, file, label):
        with (resources.files("pvanalytics") / "data" / file).open() as opened:
            table = pd.read_csv(opened, dtype=str, keep_default_na=False)
        self.power = pd.Series(
            [float(value or "nan") for value in table["value_normalized"]],
            index=pd.DatetimeIndex(table["timestamp"]),
        )
        days, self.labels, self.keys = {}, set(), []
        for stamp, value, mark in zip(table["timestamp"], table["value_normalized"], table[label], strict=True):
            at = int(datetime.fromisoformat(stamp).timestamp())
            key = (at - at % 86_400, at % 86_400 // 900)
            self.keys.append(key)
            slots = days.setdefault(key[0], [None] * 96)
            slots[key[1]] = int(Decimal(value) * 6000 * WATT) if value else None
            if mark.upper() == "TRUE":
                self.labels.add(key)
        self.days = {start: DaySlots(start, tuple(values)) for start, values in days.items()}
        self.matrix = slot_matrix([(device, one) for one in self.days.values()], POLICY)

    def found(self, rule):
        mask = rule(self.matrix, POLICY)
        return {(start, int(slot)) for row, start in enumerate(self.days) for slot in mask[row].nonzero()[0]}

    def marked(self, series):
        """What a pvanalytics function marks in the whole series."""
        return {key for key, mark in zip(self.keys, series, strict=True) if mark}

    def above(self, share):
        """Slots with more than a share of capacity."""
        return {key for key, value in zip(self.keys, self.power, strict=True) if value > share}

    def confusion(self, found, among=None):
        labels, keys = self.labels, set(self.keys)
        if among is not None:
            labels, found, keys = labels & among, found & among, keys & among
        return len(labels & found), len(labels - found), len(found - labels), len(keys - labels - found)


def quoted():
    """The rows of the table in docs/validation.md: name to (found, missed, false, right to say nothing)."""
    text = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) \|", text, re.MULTILINE)
    return {name: tuple(int(one.replace(",", "")) for one in figures) for name, *figures in rows}


def test_frozen_finds_the_labelled_stale_readings_and_no_others(device):
    data = Labelled(device, "ac_power_inv_2173_stale_data.csv", "stale_data_mask")
    found = data.found(frozen)
    # A day is judged alone, so the last slot of a run that reaches over midnight goes unseen.
    assert data.labels - found == {(1_294_099_200, 0)}
    assert data.confusion(found) == quoted()["frozen"] == (244, 1, 0, 2755)


def test_interpolated_finds_the_labelled_lines_by_day(device):
    data = Labelled(device, "ac_power_inv_2173_interpolated_data.csv", "interpolated_data_mask")
    # The label calls the zeros of a night a line, too; above the tare band 739 are left.
    day = data.above(0.005)
    ours = data.confusion(data.found(interpolated) | data.found(frozen), day)
    theirs = data.confusion(data.marked(gaps.interpolation_diff(data.power, window=5, mark="all")), day)
    assert ours == theirs == quoted()["interpolated"] == (738, 1, 9, 636)


def test_clipped_finds_the_labelled_plateaus(device):
    data = Labelled(device, "ac_power_inv_7539.csv", "label")
    ours = data.confusion(data.found(clipped))
    by_day = [
        clipping.geometric(one.asfreq("15min"), freq="15min").reindex(one.index).fillna(False).astype(bool)
        for _, one in data.power.groupby(data.power.index.floor("D"))
    ]
    assert data.confusion(data.marked(pd.concat(by_day))) == (39, 0, 4, 457)
    assert ours == quoted()["clipped"] == (39, 0, 2, 459)


def test_outlier_and_its_neighbours_find_the_labelled_outliers(device):
    data = Labelled(device, "ac_power_inv_7539_outliers.csv", "outlier")
    assert data.confusion(data.found(outlier)) == quoted()["outlier"] == (4, 2, 5, 489)
    assert data.confusion(data.marked(outliers.hampel(data.power, 9, 4))) == (4, 2, 6, 488)
    hard = data.found(negative) | data.found(above_capacity) | data.found(spike)
    assert data.confusion(hard) == (5, 1, 0, 494)
    # What nothing finds is a dip to a twelfth among clouds.
    assert data.confusion(hard | data.found(outlier))[:2] == (5, 1)
