"""Validation rules at their thresholds, quality bits, and the sum that loses nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from oracle.assessment import assess
from oracle.domain import DayState, DeviceKind, Quality
from oracle.formats import DaySlots, RegisterSpan
from oracle.policies import CLASSES, Policy, ValidationPolicy
from oracle.protocol import pack_profile
from oracle.sites import Basis, Provenance, UsualDay, load_sites
from oracle.vee import RULES, Effect, slot_matrix, validate

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
    # A slot alone in an empty day is a spike; that rule has its own tests.
    thresholds = {"spike_per_mille": 0} | thresholds
    [(profile, report)] = validate([(device, slots)], Policy("test", ValidationPolicy(**thresholds)))
    pack_profile(profile)
    return profile, report


def fired(report, notes=False):
    return {one.rule: one.slots for one in report.findings if notes or one.effect is not Effect.NOTE}


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
    found = {one.rule: (one.least_wh, one.greatest_wh, one.figures) for one in report.findings}
    assert found == {
        "missing": (None, None, {}),
        "night_generation": (25.0, 50.0, {"tare_wh": 7, "night_elevation_deg": -2.5}),
    }


# -- rules over a whole day -------------------------------------------------------------------------


def bell(**others):
    """A day of 12 hours: 0 to 5,300 W and back in uneven steps."""
    slots = {48 + n: (5_300 - (n - 20) ** 2 * 13) * WATT + n**3 * 1_000_003 for n in range(41)}
    return day(slots | {int(key[1:]): value for key, value in others.items()})


def test_validate_ordinary_day_has_no_finding(device):
    _, report = judge(device, bell(), spike_per_mille=1_800)
    assert fired(report, notes=True) == {}


@pytest.mark.parametrize(("watts", "flagged"), [(2_800, ()), (2_801, (60,))])
def test_validate_spike_is_what_exceeds_the_third_highest_by_more_than_180_percent(device, watts, flagged):
    # Third highest 1,000 W: (2800 - 1000) / 1000 is 1.8, which may be.
    slots = day({60: watts * WATT, 61: 1_100 * WATT, 62: 1_000 * WATT, 63: 900 * WATT})
    profile, report = judge(device, slots, spike_per_mille=1_800)
    assert fired(report).get("spike", ()) == flagged
    assert bool(profile.quality[60] & Quality.SUSPECT) is bool(flagged)
    if flagged:
        [finding] = [one for one in report.findings if one.rule == "spike"]
        assert finding.figures == {"third_highest_wh": 250, "tolerance_per_mille": 1_800}


def test_validate_spike_of_a_huge_device_does_not_overflow(device):
    huge = replace(device, capacity_w=2**37)
    values = {60: (1 << 62) - 1, 61: 1 << 60, 62: 1 << 60}
    _, report = judge(huge, day(values), spike_per_mille=1_800)
    assert fired(report)["spike"] == (60,)


def test_validate_straight_line_is_interpolated_and_its_ends_belong_to_it(device):
    # 48 + 12 to 48 + 20 lie on a line between two real readings.
    slots = list(bell().micro_j)
    first, last = slots[60], slots[68]
    for n in range(1, 8):
        slots[60 + n] = first + (last - first) * n // 8
    _, report = judge(device, DaySlots(START, tuple(slots)))
    assert fired(report) == {"interpolated": tuple(range(60, 69))}
    assert report.suspect_slots == 9


def test_validate_equal_values_are_frozen_and_no_line(device):
    slots = list(bell().micro_j)
    slots[60:68] = [slots[60]] * 8
    _, report = judge(device, DaySlots(START, tuple(slots)))
    assert fired(report) == {"frozen": tuple(range(60, 68))}


def test_validate_line_of_four_slots_or_in_coarse_steps_is_chance(device):
    line = {60 + n: (1_000 + 100 * n) * WATT + 7 for n in range(4)}
    assert fired(judge(device, day(line))[1]) == {}
    # A meter that counts in 10 Wh: seven equal steps mean nothing.
    coarse = {60 + n: (1_000 + 40 * n) * WATT for n in range(8)}
    assert fired(judge(device, day(coarse))[1]) == {}
    assert fired(judge(device, day(coarse | {59: 900 * WATT + 1}))[1]) == {"interpolated": tuple(range(60, 68))}


def test_validate_plateau_at_the_top_is_noted_and_certified(device):
    top = {60 + n: (5_400 * WATT + n * n % 7 * 1_000_000_007) for n in range(5)}
    profile, report = judge(device, day(top | {55: 2_000 * WATT, 56: 3_000 * WATT}), outlier_window=0)
    assert fired(report, notes=True) == {"clipped": (60, 61, 62, 63, 64)}
    assert profile.quality[62] == GOOD
    # The same form at a third of capacity is a cloudy day.
    low = {slot: value * 2 // 5 for slot, value in top.items()}
    assert "clipped" not in fired(judge(device, day(low), outlier_window=0)[1], notes=True)


def test_validate_outlier_is_noted_where_its_neighbours_are_smooth(device):
    profile, report = judge(device, bell(_68=1_000 * WATT))
    assert fired(report, notes=True) == {"outlier": (68,)}
    assert profile.quality[68] == GOOD


@pytest.mark.parametrize(("register_wh", "held"), [(9_801, True), (9_802, False), (10_202, False), (10_203, True)])
def test_validate_sum_of_intervals_is_held_against_the_register(device, register_wh, held):
    """40 quarter hours of 250 Wh. 9801 + 1 % + 100 is 9999.01, 9802 + 1 % + 100 is 10000.02; 10202 - 1 % - 100 is 9999.98."""
    slots = day(dict.fromkeys(range(48, 88), 250 * 3_600_000_000))
    one = replace(slots, register=RegisterSpan(44, 92, register_wh * 3_600_000_000))
    _, report = judge(device, one, frozen_slots=0)
    found = {finding.rule: finding for finding in report.findings}
    assert ("sum_check" in found) is held
    if held:
        assert found["sum_check"].slots == tuple(range(44, 92))
        figures = found["sum_check"].figures
        assert (figures["intervals_wh"], figures["register_wh"]) == (10_000, register_wh)
        assert figures["tolerance_wh"] == 100 + register_wh // 100


def test_validate_sum_check_is_not_asked_over_a_missing_slot(device):
    slots = [250 * 3_600_000_000] * 96
    slots[50] = None
    one = DaySlots(START, tuple(slots), register=RegisterSpan(0, 96, 1))
    assert "sum_check" not in fired(judge(device, one)[1])


def usual(device, wh):
    return replace(device, usual_day=UsualDay((0,) * 6 + (wh,) + (0,) * 5, 60, Provenance(Basis.FITTED, "test")))


@pytest.mark.parametrize(
    ("day_wh", "rule"), [(1_999, "low"), (2_000, None), (30_000, None), (30_001, "high")]
)  # fmt: skip
def test_validate_day_is_held_against_the_usual_day_of_its_month(device, day_wh, rule):
    # Usual in July: 10,000 Wh. 20 % and 300 % of it are still usual.
    one = day({60: day_wh * 3_600_000_000})
    thresholds = {"capacity_percent": 10_000}
    _, report = judge(usual(device, 10_000), one, **thresholds)
    assert list(fired(report)) == ([rule] if rule else [])
    if rule:
        [finding] = [found for found in report.findings if found.rule == rule]
        assert finding.effect is Effect.HOLD
        assert finding.figures == {"day_wh": day_wh, "usual_wh": 10_000, "percent": day_wh // 100}
    assert fired(judge(device, one, **thresholds)[1]) == {}


def test_validate_day_without_energy_is_noted(device):
    _, report = judge(device, day(rest=-3 * WATT))
    assert fired(report, notes=True)["zero_day"] == tuple(range(96))
    assert "zero_day" not in fired(judge(device, day({60: 31 * WATT}))[1], notes=True)


def test_validate_what_the_file_says_is_reported_and_counts_as_suspect(device):
    said = {50: Quality.SUSPECT, 51: Quality.SUSPECT, 52: Quality.ESTIMATED}
    profile, report = judge(device, day({n: 1_000 * WATT + n for n in range(50, 54)}, quality=said))
    assert fired(report) == {"source_suspect": (50, 51)}
    assert fired(report, notes=True)["source_estimated"] == (52,)
    assert report.suspect_slots == 2
    assert [bool(profile.quality[slot] & Quality.CERTIFIED) for slot in range(50, 54)] == [False, False, False, True]


def test_assess_day_of_which_the_file_doubts_more_than_four_slots_is_held(device):
    said = dict.fromkeys(range(60, 65), Quality.SUSPECT)
    free = replace(device, policy=Policy("t", corroboration=replace(device.policy.corroboration, required=False)))
    held = assess(free, replace(bell(), quality=said))
    assert (held.state, held.reasons) == (
        DayState.HELD,
        ("suspect: 5 slots (source_suspect 5); at most 4 may be",),
    )
    assert assess(free, bell()).state is DayState.ACCEPTED


def test_assess_day_held_by_a_rule_says_which_and_its_figures(device):
    free = replace(device, policy=Policy("t", corroboration=replace(device.policy.corroboration, required=False)))
    energy_wh = sum(bell().micro_j) // 3_600_000_000
    one = replace(bell(), register=RegisterSpan(0, 96, 2 * energy_wh * 3_600_000_000))
    assessment = assess(free, one)
    assert assessment.state is DayState.HELD
    [reason] = assessment.reasons
    assert reason.startswith("sum_check: ") and f"intervals_wh {energy_wh}, register_wh {2 * energy_wh}" in reason
    assert assessment.to_json()["report"]["findings"][-1]["effect"] == "hold"


def test_validate_register_that_was_reset_is_named(device):
    one = replace(bell(), micro_j=(*bell().micro_j[:60], None, *bell().micro_j[61:]), breaks=frozenset({60}))
    assert fired(judge(device, one)[1]) == {"missing": (60,), "register_break": (60,)}


def test_class_of_a_load_does_not_ask_what_only_the_sun_answers(device):
    load = replace(device, kind=DeviceKind.CONSUMPTION, policy=CLASSES["consumption"])
    steady = day(rest=500 * WATT)
    assert assess(load, steady).state is DayState.ACCEPTED
    assert CLASSES["solar"].validation == ValidationPolicy()
