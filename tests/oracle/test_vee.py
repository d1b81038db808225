"""Validation rules at their thresholds, quality bits, and the sum that loses nothing."""

import csv
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest

from oracle.domain import DeviceKind, Quality
from oracle.formats import DaySlots
from oracle.protocol import pack_profile
from oracle.sites import Policy, ValidationPolicy, load_sites
from oracle.vee import RULES, frozen, slot_matrix, validate

START = 1_467_417_600  # 2016-07-02T00:00:00Z; at SERF 28 is local midnight, 76 is noon
WATT = 900_000_000  # microjoules of one watt in a slot
GOOD = Quality.MEASURED | Quality.CERTIFIED
SUSPECT = Quality.MEASURED | Quality.SUSPECT


@pytest.fixture(scope="module")
def device():
    """6 kW of solar: the tare band is 30 W, the bound 6,600 W."""
    return load_sites(Path(__file__).parents[2] / "scripts" / "demo_sites.yaml").device(1)


def day(values=None, rest=0, **changes):
    slots = [rest] * 96
    for slot, value in (values or {}).items():
        slots[slot] = value
    return DaySlots(START, tuple(slots), **changes)


def judge(device, slots, **thresholds):
    [(profile, report)] = validate([(device, slots)], Policy("test", ValidationPolicy(**thresholds)))
    pack_profile(profile)
    return profile, report


def fired(report):
    return {finding.rule: finding.slots for finding in report.findings}


@pytest.mark.parametrize(
    ("slot", "micro_j", "energy_wh", "quality", "rule"),
    [
        (76, -30 * WATT, 0, GOOD, "within_tare"),
        (76, -30 * WATT - 1, 0, SUSPECT, "negative"),
        (76, 20 * WATT, 5, GOOD, None),
        (28, 30 * WATT, 0, GOOD, "within_tare"),
        (28, 30 * WATT + 1, 7, SUSPECT, "night_generation"),
        (28, -30 * WATT, 0, GOOD, "within_tare"),
        (76, 6600 * WATT, 1650, GOOD, None),
        (76, 6600 * WATT + 1, 1650, SUSPECT, "above_capacity"),
        (76, None, 0, 0, "missing"),
    ],
)
def test_validate_slot_at_a_threshold_falls_on_its_side(device, slot, micro_j, energy_wh, quality, rule):
    profile, report = judge(device, day({slot: micro_j}))
    assert (profile.energy_wh[slot], profile.quality[slot]) == (energy_wh, quality)
    assert fired(report) == ({rule: (slot,)} if rule else {})
    assert report.complete is (micro_j is not None)


def test_validate_night_tare_does_not_apply_to_a_device_without_sun(device):
    wind = replace(device, fuel_code="F01050100")
    load = replace(device, kind=DeviceKind.CONSUMPTION)
    for one in (wind, load):
        profile, report = judge(one, day({28: 2000 * WATT, 29: 20 * WATT}))
        assert (profile.energy_wh[28:30], fired(report)) == ((500, 5), {})


def test_validate_conflicting_slot_is_suspect_and_keeps_the_smaller_value(device):
    profile, report = judge(device, day({70: 400 * WATT}, conflicts=frozenset({70})))
    assert (profile.energy_wh[70], profile.quality[70]) == (100, SUSPECT)
    assert fired(report) == {"duplicate_conflict": (70,)}
    assert profile.certified_wh == 0 == report.certified_wh


def test_validate_day_of_one_watt_loses_no_fraction(device):
    slots = dict.fromkeys(range(60, 96), WATT)
    profile, report = judge(device, day(slots), frozen_slots=0)
    # 36 quarter hours of 0.25 Wh: a whole watt-hour in every fourth slot, 9 in all.
    assert [slot for slot, wh in enumerate(profile.energy_wh) if wh] == list(range(63, 96, 4))
    assert report.energy_wh == report.certified_wh == 9


def test_validate_energy_of_suspect_slots_is_not_certified(device):
    _, report = judge(device, day({76: 8000 * WATT, 77: 4000 * WATT}))
    assert (report.energy_wh, report.certified_wh, report.suspect_slots) == (3000, 1000, 1)


@pytest.mark.parametrize(("run", "flagged"), [(3, 0), (4, 4), (9, 9)])
def test_validate_equal_values_are_frozen_from_one_hour_on(device, run, flagged):
    slots = {64 + n: (1000 + n) * WATT for n in range(30)} | {70 + n: 2345 * WATT for n in range(run)}
    _, report = judge(device, day(slots))
    assert len(fired(report).get("frozen", ())) == flagged
    if flagged:
        assert fired(report)["frozen"] == tuple(range(70, 70 + run))


def test_frozen_finds_the_labelled_stale_readings_of_a_real_inverter_and_no_others(device):
    """pvanalytics' labelled inverter 2173: normalised power, 245 readings marked stale, zeros at night."""
    with (resources.files("pvanalytics") / "data" / "ac_power_inv_2173_stale_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    days = {}
    for row in rows:
        at = int(datetime.fromisoformat(row["timestamp"]).timestamp())
        slots = days.setdefault(at - at % 86_400, ([None] * 96, [False] * 96))
        if row["value_normalized"]:
            slots[0][at % 86_400 // 900] = int(Decimal(row["value_normalized"]) * 6000 * WATT)
        slots[1][at % 86_400 // 900] = row["stale_data_mask"] == "True"
    matrix = slot_matrix(
        [(device, DaySlots(start, tuple(values))) for start, (values, _) in days.items()], ValidationPolicy()
    )
    labelled = {(start, slot) for start, (_, stale) in days.items() for slot in range(96) if stale[slot]}
    mask = frozen(matrix, ValidationPolicy())
    found = {(start, int(slot)) for row, start in enumerate(days) for slot in mask[row].nonzero()[0]}
    # A day is judged alone, so the last slot of a run that reaches over midnight goes unseen.
    assert (len(labelled), labelled - found, found - labelled) == (245, {(1_294_099_200, 0)}, set())


def test_validate_equal_zeros_and_tare_are_not_frozen(device):
    _, report = judge(device, day(rest=-3 * WATT))
    assert fired(report) == {"within_tare": tuple(range(96))}
    assert report.tare_zeroed_slots == 96


def test_validate_coarse_readings_are_bounded_over_their_whole_span(device):
    hours = dict.fromkeys(range(96), 0) | {76: 4 * 6600 * WATT, 80: 4 * 6600 * WATT + 1}
    profile, report = judge(device, day(hours, reading_seconds=3600))
    assert fired(report) == {"above_capacity": (80,)}
    assert profile.quality[76] == GOOD | Quality.COARSE
    assert profile.energy_wh[76:80] == (6600, 0, 0, 0)


def test_validate_coarse_reading_that_begins_before_sunrise_is_not_night(device):
    # The sun rises at 11:37 UTC; the hour from 11:00 holds both night and day.
    _, report = judge(device, day({44: 4 * 100 * WATT}, reading_seconds=3600))
    assert fired(report) == {}


def test_validate_many_days_at_once_gives_what_each_gives_alone(device):
    days = [(device, day({slot: slot * 70 * WATT})) for slot in range(40, 96, 5)]
    policy = Policy("test")
    assert validate(days, policy) == [validate([one], policy)[0] for one in days]


def test_validate_nothing_gives_nothing():
    assert validate([], Policy("test")) == []


def test_rules_each_give_a_mask_of_the_matrix_shape(device):
    matrix = slot_matrix([(device, day()), (device, day({3: None}))], ValidationPolicy())
    for rule in RULES:
        mask = rule.mask(matrix, ValidationPolicy())
        assert (mask.shape, mask.dtype) == ((2, 96), bool), rule.name
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_finding_names_the_figures_of_its_slots(device):
    _, report = judge(device, day({28: 100 * WATT, 29: 200 * WATT, 76: None}))
    found = {finding.rule: (finding.least_wh, finding.greatest_wh) for finding in report.findings}
    assert found == {"missing": (None, None), "night_generation": (25.0, 50.0)}
