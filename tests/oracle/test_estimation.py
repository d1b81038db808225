"""Estimation never touches what was measured, names its method a slot, and certifies nothing unless a policy says so."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.assessment import assess
from oracle.domain import DayState, DeviceKind, Profile, Quality
from oracle.estimation import Method, estimate, fill_short_gaps, gaps, like_days, usual_day_wh
from oracle.formats import DaySlots
from oracle.policies import CLASSES
from oracle.protocol import pack_profile
from oracle.sites import load_sites

START = 1_467_417_600  # Saturday, 2016-07-02T00:00:00Z; at SERF 76 is noon
DAY = 86_400
GOOD = int(Quality.MEASURED | Quality.CERTIFIED)


@pytest.fixture(scope="module")
def solar():
    return load_sites(Path(__file__).parents[2] / "scripts" / "demo_sites.yaml").device(1)


@pytest.fixture(scope="module")
def load(solar):
    return replace(solar, kind=DeviceKind.CONSUMPTION, policy=CLASSES["consumption"])


def profile(values, start=START):
    """Wh by slot, None where there is no reading."""
    return Profile(start, tuple(value or 0 for value in values), tuple(0 if v is None else GOOD for v in values))


def without(values, *missing):
    return profile([None if slot in missing else value for slot, value in enumerate(values)])


SLOTS = st.lists(st.one_of(st.none(), st.integers(0, 2_000)), min_size=96, max_size=96)


@settings(max_examples=60, deadline=None)
@given(values=SLOTS, others=st.lists(SLOTS, max_size=5), as_load=st.booleans())
def test_estimate_any_day_keeps_every_reading_and_invents_no_certified_energy(solar, load, values, others, as_load):
    device = load if as_load else solar
    day = profile(values)
    rest = [profile(other, START + 7 * DAY * number) for number, other in enumerate(others, 1)]
    done = estimate(device, day, rest)
    for slot, value in enumerate(values):
        if value is not None:
            assert (done.profile.energy_wh[slot], done.profile.quality[slot]) == (value, GOOD)
            assert slot not in done.methods
        elif slot in done.methods:
            assert done.profile.quality[slot] == Quality.ESTIMATED
            wh = done.profile.energy_wh[slot]
            assert type(wh) is int and 0 <= wh <= max(device.capacity_w // 4, 2_000)
        else:
            assert (done.profile.energy_wh[slot], done.profile.quality[slot]) == (0, 0)
    assert done.profile.certified_wh == day.certified_wh
    pack_profile(done.profile)
    assert estimate(device, day, rest[::-1]) == done
    if not as_load:
        # Of a solar array something is known of every slot: there is always a clear sky.
        assert all(done.profile.quality)


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 5_000), last=st.integers(0, 5_000), length=st.integers(1, 8))
def test_fill_short_gaps_lies_between_the_readings_beside_the_gap(first, last, length):
    values = [7] * 40 + [first] + [None] * length + [last] + [7] * (54 - length)
    done = fill_short_gaps(profile(values), 8)
    filled = done.profile.energy_wh[41 : 41 + length]
    assert all(min(first, last) <= wh <= max(first, last) for wh in filled)
    assert list(filled) == sorted(filled, reverse=first > last)
    assert set(done.methods.values()) == {Method.LINEAR} and len(done.methods) == length


def test_fill_short_gaps_follows_a_straight_line_rounded_down():
    # Between 100 and 210: 127.5, 155, 182.5.
    done = fill_short_gaps(profile([100] * 50 + [None] * 3 + [210] * 43), 8)
    assert done.profile.energy_wh[50:53] == (127, 155, 182)
    assert done.estimated_wh == 464
    assert done.to_json()["slots"][0] == {"slot": 50, "energy_wh": 127, "method": "linear"}


@pytest.mark.parametrize("missing", [range(3), range(93, 96), range(40, 49)])
def test_fill_short_gaps_leaves_long_ones_and_those_at_midnight(missing):
    assert fill_short_gaps(without([5] * 96, *missing), 8).methods == {}


def test_fill_short_gaps_leaves_coarse_readings_alone():
    day = profile([4, 0, 0, 0] * 24)
    hourly = Profile(START, day.energy_wh, tuple(GOOD | Quality.COARSE for _ in range(96)))
    hourly = replace(hourly, quality=(*hourly.quality[:40], 0, 0, 0, 0, *hourly.quality[44:]))
    assert fill_short_gaps(hourly, 8).methods == {}


def test_estimate_long_gap_takes_like_days_scaled_to_what_the_day_shows(load):
    # Three Saturdays and Sundays of 10, 20 and 30 Wh a slot; the day itself shows 40 where it was read: twice their average.
    others = [profile([wh] * 96, START + days * DAY) for wh, days in ((10, 1), (20, 7), (30, 8))]
    weekdays = [profile([999] * 96, START + days * DAY) for days in (2, 3, 4, 5, 6)]
    done = estimate(load, without([40] * 96, *range(30, 50)), [*weekdays, *others])
    assert done.profile.energy_wh[30:50] == (40,) * 20
    assert set(done.methods.values()) == {Method.LIKE_DAY}
    assert [day.start for day in like_days(load, START, [*weekdays, *others])] == [one.start for one in others]


def test_estimate_long_gap_of_a_load_with_too_few_like_days_stays_missing(load):
    done = estimate(load, without([40] * 96, *range(30, 50)), [profile([9] * 96, START + DAY)] * 5)
    assert done.methods == {}


def test_estimate_long_gap_of_an_array_without_like_days_takes_a_clear_sky(solar):
    done = estimate(solar, profile([None] * 96))
    assert set(done.methods.values()) == {Method.CLEAR_SKY}
    energy = done.profile.energy_wh
    # Noon at SERF is slot 76, local midnight slot 28; a clear day of 6 kW at 0.86 lies between 30 and 40 kWh in July.
    assert max(range(96), key=energy.__getitem__) in range(70, 78) and energy[28] == 0
    assert 30_000 < sum(energy) < 40_000


def test_assess_certifies_short_gaps_only_where_the_policy_says_so(solar):
    relaxed = replace(solar.policy, corroboration=replace(solar.policy.corroboration, required=False))
    slots = [0] * 96
    slots[60:70] = [1_000 * 3_600_000_000 + n * n for n in range(10)]
    short = tuple(None if slot in (64, 65) else value for slot, value in enumerate(slots))
    held = assess(replace(solar, policy=relaxed), DaySlots(START, short))
    assert (held.state, held.estimated) == (DayState.HELD, None)
    assert "estimated" not in held.to_json()
    certifying = replace(relaxed, validation=replace(relaxed.validation, certify_estimated=True))
    device = replace(solar, policy=certifying)
    done = assess(device, DaySlots(START, short))
    assert done.state is DayState.ACCEPTED
    assert done.profile.quality[64] == Quality.ESTIMATED | Quality.CERTIFIED
    assert done.profile.certified_wh == held.profile.certified_wh + 2_000 == done.report.certified_wh
    assert [one["method"] for one in done.to_json()["estimated"]["slots"]] == ["linear", "linear"]
    long = tuple(None if slot in range(60, 70) else value for slot, value in enumerate(slots))
    assert assess(device, DaySlots(START, long)).state is DayState.HELD


def test_gaps_are_runs_of_missing_slots():
    assert gaps(without([1] * 96, 0, 5, 6, 95)) == [range(1), range(5, 7), range(95, 96)]


def test_usual_day_is_the_median_of_whole_days_of_each_month():
    days = [profile([wh] * 96, START + number * DAY) for number, wh in enumerate((1, 2, 30))]
    torn = without([50] * 96, 3)
    assert usual_day_wh([*days, torn]) == (0,) * 6 + (192,) + (0,) * 5
