"""The judgement of real days of SERF East and West, and of the same days tampered with."""

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from oracle.assessment import assess, clock_shifts, device_days, irradiance_days
from oracle.corroboration import expected_w
from oracle.domain import CorroborationResult, DayState
from oracle.formats import ClockCorrection, DaySlots, StationDay, read
from oracle.sites import load_sites, source_folder
from oracle.sun import sun_day

CORROBORATED, UNCORROBORATED, CONTRADICTED = CorroborationResult


class Demo:
    """The demo's files, read once: days by device, irradiance by station."""

    def __init__(self):
        self.config = load_sites(Path(__file__).parents[2] / "scripts" / "demo_sites.yaml")
        folder = source_folder(self.config.folder)

        def files(source):
            return [read((folder / name).read_bytes(), source, name) for name in source.files]

        self.days = {device.device_id: device_days(device, files(device.source)) for device in self.config.devices}
        self.irradiance = {one.name: irradiance_days(one, files(one.source)) for one in self.config.stations}

    def assess(self, device_id, date, slots=None, stations=None):
        device, start = self.config.device(device_id), day_start(date)
        slots = slots if slots is not None else self.days[device_id][start]
        named = [(self.config.station(name), self.irradiance[name]) for name in device.stations]
        given = [(station, days[start]) for station, days in named if start in days] if stations is None else stations
        return assess(device, slots, given)

    def tampered(self, device_id, date, change):
        slots = self.days[device_id][day_start(date)]
        return replace(slots, micro_j=tuple(change(list(slots.micro_j))))


def day_start(date):
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


def figures(assessment):
    return assessment.corroboration.stations[0].figures


@pytest.fixture(scope="module")
def demo():
    return Demo()


# -- untouched --------------------------------------------------------------------------------------


def test_assess_serf_east_holds_three_of_its_103_whole_days(demo):
    dates = [datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d") for start in demo.days[1]]
    assert (dates[0], dates[-1], len(dates)) == ("2016-07-01", "2016-10-13", 105)
    judged = {date: demo.assess(1, date) for date in dates}
    whole = {date: one for date, one in judged.items() if one.report.complete}
    assert len(whole) == 103
    assert Counter(one.state for one in whole.values()) == {DayState.ACCEPTED: 100, DayState.HELD: 3}
    assert {date: one.corroboration.result for date, one in whole.items() if one.state is DayState.HELD} == {
        "2016-09-29": CONTRADICTED,
        "2016-10-06": CONTRADICTED,
        "2016-10-12": CONTRADICTED,
    }
    assert [date for date in dates if date not in whole] == ["2016-07-01", "2016-10-13"]
    assert all(judged[date].reasons[0].startswith("incomplete") for date in ("2016-07-01", "2016-10-13"))


def test_assess_serf_west_accepts_the_days_its_weather_station_covers(demo):
    judged = {date: demo.assess(2, date) for date in [f"2022-01-0{day}" for day in range(2, 8)]}
    assert {date: one.corroboration.result for date, one in judged.items() if one.report.complete} == {
        "2022-01-03": CORROBORATED,
        "2022-01-04": CORROBORATED,
        "2022-01-05": UNCORROBORATED,
        "2022-01-06": UNCORROBORATED,
    }
    assert [date for date, one in judged.items() if one.state is DayState.ACCEPTED] == ["2022-01-03", "2022-01-04"]
    # Three and four night values below -30 W, seen in the file; they hold no energy and stay uncertified.
    assert [judged[date].report.suspect_slots for date in ("2022-01-03", "2022-01-04")] == [3, 4]
    assert judged["2022-01-03"].corroboration.stations[0].kind == "measured"


def test_assess_twice_gives_the_same_json(demo):
    one, other = demo.assess(1, "2016-08-14"), Demo().assess(1, "2016-08-14")
    assert json.dumps(one.to_json(), allow_nan=False) == json.dumps(other.to_json(), allow_nan=False)
    assert one.to_json()["certified_wh"] == sum(one.profile.energy_wh)


def test_performance_ratio_in_the_configuration_is_the_median_of_july_and_august(demo):
    assert demo.config.device(1).performance.ratio == 0.86
    days = [start for start in demo.days[1] if day_start("2016-07-02") <= start < day_start("2016-09-01")]
    ratios = [
        figures(demo.assess(1, datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d")))["energy_ratio"]
        for start in days
    ]
    assert len(days) == demo.config.device(1).performance.history_days == 61
    assert np.median(ratios) == pytest.approx(1.0, abs=0.005)


# -- tampered ---------------------------------------------------------------------------------------


def test_assess_two_days_exchanged_contradicts_both(demo):
    clear, dull = "2016-08-20", "2016-08-24"
    for date, other in ((clear, dull), (dull, clear)):
        assert demo.assess(1, date).state is DayState.ACCEPTED
        swapped = demo.tampered(1, date, lambda _, other=other: demo.days[1][day_start(other)].micro_j)
        assessment = demo.assess(1, date, swapped)
        assert (assessment.state, assessment.corroboration.result) == (DayState.HELD, CONTRADICTED)
        assert any("day energy" in reason for reason in assessment.reasons)


def shift_day(demo, date, hours):
    """A day whose readings come so many hours late."""
    start = day_start(date)
    readings = {at + 900 * slot: value for at, day in demo.days[1].items() for slot, value in enumerate(day.micro_j)}
    shifted = DaySlots(start, tuple(readings[start + 900 * slot - 3600 * hours] for slot in range(96)))
    return demo.assess(1, date, shifted)


@pytest.mark.parametrize("hours", [-2, 2])
def test_assess_day_shifted_by_two_hours_is_named_a_clock_shift_of_that_size(demo, hours):
    assessment = shift_day(demo, "2016-08-20", hours)
    assert assessment.corroboration.clock_shift_minutes == figures(assessment)["clock_shift_minutes"]
    assert (assessment.state, assessment.corroboration.result) == (DayState.HELD, UNCORROBORATED)
    # One slot either way: readings and satellite model agree no better than that on their time.
    assert abs(figures(assessment)["clock_shift_minutes"] - 60 * hours) <= 15
    side = "late" if hours > 0 else "early"
    assert any("clock shift" in reason and f"min {side}" in reason for reason in assessment.reasons)


def shifted_files(demo, minutes):
    """SERF East's file with every stamp later by so many minutes, as a fast clock writes them."""
    device = demo.config.device(1)
    text = (source_folder(demo.config.folder) / device.source.files[0]).read_text()
    return re.sub(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
        lambda found: str(datetime.fromisoformat(found[0]) + timedelta(minutes=minutes)),
        text,
        flags=re.MULTILINE,
    ).encode()


def judged_file(demo, source, data, dates):
    days = device_days(demo.config.device(1), [read(data, source, "shifted.csv")])
    return [demo.assess(1, date, days[day_start(date)]) for date in dates], days


@pytest.mark.parametrize("minutes", [-60, 45, 90])
def test_clock_shifts_constant_lag_is_named_and_its_correction_mends_the_days(demo, minutes):
    source = demo.config.device(1).source
    data = shifted_files(demo, minutes)
    dates = [f"2016-08-{number:02d}" for number in range(1, 21)]
    wrong, _ = judged_file(demo, source, data, dates)
    [shift] = clock_shifts(wrong)
    assert (shift.minutes, shift.start, shift.end) == (minutes, day_start(dates[0]), day_start("2016-08-21"))
    assert shift.corrected > shift.correlation + 0.05
    entry = shift.to_json()["correction"]
    assert entry["seconds"] == 60 * minutes and "20 days" in entry["evidence"]
    assert datetime.fromisoformat(entry["from"]) == datetime(2016, 8, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    # The whole file is late, days that were not looked at as well.
    correction = ClockCorrection(0, None, entry["seconds"], entry["evidence"])
    mended, days = judged_file(demo, replace(source, clock_corrections=(correction,)), data, dates)
    assert [one.state for one in mended] == [DayState.ACCEPTED] * 20
    assert clock_shifts(mended) == []
    assert all(days[day_start(date)].micro_j == demo.days[1][day_start(date)].micro_j for date in dates)


def test_clock_shifts_untouched_days_name_none(demo):
    starts = list(demo.days[1])[1:-1]
    days = [demo.assess(1, datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d")) for start in starts]
    assert len(days) == 103 and clock_shifts(days) == []
    assert clock_shifts(days[:6]) == [] == clock_shifts([])


def test_clock_shifts_a_clock_that_is_set_right_ends_the_shift(demo):
    dates = [f"2016-08-{number:02d}" for number in range(1, 29)]
    late, _ = judged_file(demo, demo.config.device(1).source, shifted_files(demo, 90), dates[:14])
    right = [demo.assess(1, date) for date in dates[14:]]
    [shift] = clock_shifts([*right, *late])
    assert shift.minutes == 90 and shift.start == day_start("2016-08-01")
    # A week is looked at together, so the end is known to a few days.
    assert abs(shift.end - day_start("2016-08-15")) <= 4 * 86_400


@pytest.mark.parametrize("percent", [50, 150, 200, 100_000])
def test_assess_day_scaled_is_contradicted(demo, percent):
    scaled = demo.tampered(1, "2016-08-14", lambda values: [value * percent // 100 for value in values])
    assessment = demo.assess(1, "2016-08-14", scaled)
    assert (assessment.state, assessment.corroboration.result) == (DayState.HELD, CONTRADICTED)
    assert figures(assessment)["energy_ratio"] == pytest.approx(1.005 * percent / 100, rel=0.01)


def test_assess_day_frozen_for_two_hours_is_held(demo):
    def freeze(values):
        values[68:76] = [values[68]] * 8
        return values

    assessment = demo.assess(1, "2016-08-14", demo.tampered(1, "2016-08-14", freeze))
    assert assessment.state is DayState.HELD
    assert assessment.reasons[0].startswith("suspect: 8 slots (frozen 8)")


def test_assess_generation_without_sun_is_held(demo):
    def by_night(values):
        values[20:40] = values[68:88]
        return values

    assessment = demo.assess(1, "2016-08-14", demo.tampered(1, "2016-08-14", by_night))
    assert assessment.state is DayState.HELD
    assert assessment.reasons[0].startswith("suspect: 20 slots (night_generation 20)")


def test_assess_sun_without_generation_is_contradicted(demo):
    assessment = demo.assess(1, "2016-08-14", demo.tampered(1, "2016-08-14", lambda values: [0] * 96))
    assert assessment.corroboration.result is CONTRADICTED
    assert figures(assessment)["energy_ratio"] == 0


def test_assess_morning_above_what_a_clear_sky_allows_is_contradicted(demo):
    def early(values):
        values[51:55] = [(4500 + n) * 900_000_000 for n in range(4)]
        return values

    assessment = demo.assess(1, "2016-08-14", demo.tampered(1, "2016-08-14", early))
    assert figures(assessment)["slots_above_clear_sky"] == 4
    assert assessment.reasons == (
        "contradicted: 4 slots are above what a clear sky allows; at most 3 may be (psm3, modelled)",
    )


def test_assess_day_with_one_reading_missing_is_held_as_incomplete(demo):
    hole = demo.tampered(1, "2016-08-14", lambda values: [None, *values[1:]])
    assessment = demo.assess(1, "2016-08-14", hole)
    assert assessment.reasons == ("incomplete: 1 of 96 slots have no reading",)
    assert assessment.corroboration.result is CORROBORATED


# -- stations ---------------------------------------------------------------------------------------


def test_assess_without_irradiance_is_uncorroborated(demo):
    assessment = demo.assess(1, "2016-08-14", stations=[])
    assert (assessment.state, assessment.corroboration.result) == (DayState.HELD, UNCORROBORATED)


def test_assess_ignores_stations_the_device_does_not_name(demo):
    start = day_start("2016-08-14")
    foreign = [(replace(demo.config.station("psm3"), name="elsewhere"), demo.irradiance["psm3"][start])]
    assert demo.assess(1, "2016-08-14", stations=foreign).corroboration.result is UNCORROBORATED


@pytest.mark.parametrize(("kept", "result"), [(80, CORROBORATED), (74, UNCORROBORATED)])
def test_assess_irradiance_with_holes_must_cover_most_of_the_daylight(demo, kept, result):
    # Daylight at SERF begins in slot 48 on that day; the evening before reaches slot 6.
    day = demo.irradiance["psm3"][day_start("2016-08-14")]
    holed = replace(day, ghi_w_m2=tuple(value if slot < kept else None for slot, value in enumerate(day.ghi_w_m2)))
    missing = sum(sun > 5 for sun in sun_day(39.742, -105.1727, 1829, day.start).elevation[kept:])
    daylight = sum(sun > 5 for sun in sun_day(39.742, -105.1727, 1829, day.start).elevation)
    assessment = demo.assess(1, "2016-08-14", stations=[(demo.config.station("psm3"), holed)])
    assert figures(assessment)["compared_slots"] == daylight - missing
    assert (assessment.corroboration.result is UNCORROBORATED) == (1 - missing / daylight < 0.8)


def test_assess_implausible_irradiance_proves_nothing(demo):
    day = demo.irradiance["psm3"][day_start("2016-08-14")]
    wild = replace(day, ghi_w_m2=tuple(3 * value for value in day.ghi_w_m2))
    assessment = demo.assess(1, "2016-08-14", stations=[(demo.config.station("psm3"), wild)])
    assert assessment.corroboration.result is UNCORROBORATED
    assert "QCRad" in assessment.reasons[0]


def test_assess_measured_station_outweighs_a_modelled_one(demo):
    start = day_start("2016-08-14")
    psm3, true = demo.config.station("psm3"), demo.irradiance["psm3"][start]
    measured = replace(psm3, name="pyranometer", kind="measured")
    dull = replace(true, ghi_w_m2=tuple(value / 4 for value in true.ghi_w_m2))
    device = replace(demo.config.device(1), stations=("psm3", "pyranometer"))
    slots = demo.days[1][start]
    both = assess(device, slots, [(psm3, dull), (measured, true)])
    assert both.corroboration.result is CORROBORATED
    assert [finding.result for finding in both.corroboration.stations] == [CONTRADICTED, CORROBORATED]
    assert assess(device, slots, [(psm3, true), (measured, dull)]).corroboration.result is CONTRADICTED


def test_assess_two_measured_stations_one_contradiction_outweighs(demo):
    start = day_start("2016-08-14")
    psm3, true = replace(demo.config.station("psm3"), kind="measured"), demo.irradiance["psm3"][start]
    dull = replace(true, ghi_w_m2=tuple(value / 4 for value in true.ghi_w_m2))
    device = replace(demo.config.device(1), stations=("psm3", "second"))
    pairs = [(psm3, true), (replace(psm3, name="second"), dull)]
    for order in (pairs, pairs[::-1]):
        assert assess(device, demo.days[1][start], order).corroboration.result is CONTRADICTED


def test_expected_power_of_a_flat_unknown_array_follows_horizontal_irradiance(demo):
    device = replace(demo.config.device(1), orientation=None)
    sun = sun_day(39.742, -105.1727, 1829, day_start("2016-08-14"))
    power = expected_w(device, np.array([500.0] * 95 + [np.nan]), np.zeros(96), sun)
    assert power[0] == 3000.0
    assert np.isnan(power[95])


def test_sun_stands_highest_at_local_solar_noon():
    # Longitude 105.1727 W and an equation of time of -4.6 min put solar noon at 19:05 UTC; 90 - 39.742 + 14.2 degrees.
    elevation = sun_day(39.742, -105.1727, 1829, day_start("2016-08-14")).elevation
    assert int(np.argmax(elevation)) == 76
    assert elevation.max() == pytest.approx(64.5, abs=0.3)


def test_assess_day_without_any_reading_is_held(demo):
    empty = DaySlots(day_start("2016-08-14"), (None,) * 96)
    assessment = demo.assess(1, "2016-08-14", empty)
    assert assessment.state is DayState.HELD
    assert assessment.profile.energy_wh == (0,) * 96 == assessment.profile.quality


def test_station_day_of_another_date_is_not_used(demo):
    other: StationDay = demo.irradiance["psm3"][day_start("2016-08-15")]
    assert demo.assess(1, "2016-08-14", stations=[(demo.config.station("psm3"), other)]).corroboration.stations == ()
