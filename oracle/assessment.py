"""The judgement of one device-day: the one function that the oracle and every witness call alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import correlation, median_low
from typing import Any

from .corroboration import Corroboration, StationFinding, corroborate, gain
from .domain import DAY_SECONDS, SLOT_SECONDS, SLOTS_PER_DAY, CorroborationResult, DayState, Profile, Quality
from .estimation import EstimatedDay, fill_short_gaps
from .formats import ClockCorrection, DaySlots, Parsed, StationDay, day_slots, register_spans, station_days
from .sites import DeviceConfig, StationConfig
from .vee import DayReport, Effect, validate


@dataclass(frozen=True, slots=True)
class DayAssessment:
    """A device-day after validation and corroboration: ACCEPTED, or HELD for the reasons given.

    The profile is what would be certified; a held one waits for a collaborator's decision. ``estimated`` is there where the
    policy certifies estimated slots and some were. ``to_json`` holds integers, texts and figures rounded to fixed
    digits only.
    """

    device_id: int
    start: int
    state: DayState
    reasons: tuple[str, ...]
    profile: Profile
    report: DayReport
    corroboration: Corroboration
    estimated: EstimatedDay | None = None

    def to_json(self) -> dict[str, Any]:
        estimated = {"estimated": self.estimated.to_json()} if self.estimated else {}
        return {
            "device_id": self.device_id,
            "start": self.start,
            "state": self.state.value,
            "reasons": list(self.reasons),
            "energy_wh": list(self.profile.energy_wh),
            "quality": list(self.profile.quality),
            "certified_wh": self.profile.certified_wh,
            "report": self.report.to_json(),
            "corroboration": self.corroboration.to_json(),
            **estimated,
        }


def device_days(device: DeviceConfig, files: Iterable[Parsed]) -> dict[int, DaySlots]:
    """UTC days of a device out of all its files as parsed, keyed and ordered by day start; see :func:`oracle.formats.day_slots`."""
    files = list(files)
    days = day_slots(parsed.channel(device.channel.name) for parsed in files)
    if device.check_register is None:
        return days
    name = device.check_register.name
    spans = register_spans(parsed.channel(name) for parsed in files)
    return {start: replace(slots, register=spans.get(start)) for start, slots in days.items()}


def irradiance_days(station: StationConfig, files: Iterable[Parsed]) -> dict[int, StationDay]:
    """UTC days of an irradiance station out of all its files as parsed, keyed and ordered by day start."""
    files = list(files)
    temperatures = [parsed.channel(station.temp_air) for parsed in files] if station.temp_air else []
    return station_days(station.name, [parsed.channel(station.ghi) for parsed in files], temperatures)


def assess(
    device: DeviceConfig, slots: DaySlots, irradiance: Sequence[tuple[StationConfig, StationDay]] = ()
) -> DayAssessment:
    """Judge one UTC day of one device by its own policy.

    ``irradiance``: the day's station data, of the stations the device names (others are ignored). Depends on nothing but its
    arguments, so machines that hold the same files and configuration agree.
    """
    [(profile, report)] = validate([(device, slots)], device.policy)
    thresholds, estimated = device.policy.validation, None
    if thresholds.certify_estimated:
        filled = fill_short_gaps(profile, thresholds.linear_slots, certified=True)
        estimated = filled if filled.methods else None
        profile = filled.profile
        report = replace(report, energy_wh=sum(profile.energy_wh), certified_wh=profile.certified_wh)
    usable = [
        (station, day) for station, day in irradiance if station.name in device.stations and day.start == slots.start
    ]
    corroboration = corroborate(device, profile, usable)
    reasons = tuple(_held(device, profile, report, corroboration))
    return DayAssessment(
        device.device_id,
        slots.start,
        DayState.HELD if reasons else DayState.ACCEPTED,
        reasons,
        profile,
        report,
        corroboration,
        estimated,
    )


def _held(device: DeviceConfig, profile: Profile, report: DayReport, corroboration: Corroboration) -> list[str]:
    """Why the day may not be certified without a collaborator's decision; empty if it may."""
    reasons = []
    missing = sum(not quality for quality in profile.quality)
    if missing:
        reasons.append(f"incomplete: {missing} of {SLOTS_PER_DAY} slots have no reading")
    if report.suspect_slots > device.policy.validation.max_suspect_slots:
        rules = ", ".join(
            f"{finding.rule} {len(finding.slots)}" for finding in report.findings if finding.effect is Effect.SUSPECT
        )
        reasons.append(
            f"suspect: {report.suspect_slots} slots ({rules}); at most {device.policy.validation.max_suspect_slots} may be"
        )
    for finding in report.findings:
        if finding.effect is Effect.HOLD:
            figures = ", ".join(f"{name} {value}" for name, value in finding.figures.items())
            reasons.append(f"{finding.rule}: {finding.says} ({figures})")
    if device.policy.corroboration.required and corroboration.result is not CorroborationResult.CORROBORATED:
        reasons.extend(f"{corroboration.result.value}: {reason}" for reason in corroboration.reasons)
    return reasons


# -- a clock that is constantly wrong ---------------------------------------------------------------

#: Days in a row that are looked at together, so that one day's clouds do not pass for a clock.
SHIFT_DAYS = 7
#: The least lag, in slots, and the least gain on Fisher's z scale, that a constant shift is named for.
_SHIFT_SLOTS, _SHIFT_GAIN, _MOST_SLOTS = 2, 0.1, 12


@dataclass(frozen=True, slots=True)
class ClockShift:
    """A device's clock was wrong by the same ``minutes`` (positive: fast, readings late) from ``start`` to ``end``, UTC seconds.

    ``correlation`` of all readings of that time with what irradiance leads to expect as they are stamped, ``corrected``
    the same after the correction. ``correction`` is what the device's source needs (``clock_corrections``, docs/formats.md).
    """

    device_id: int
    minutes: int
    start: int
    end: int
    correlation: float
    corrected: float

    @property
    def clock_correction(self) -> ClockCorrection:
        """Goes by what the stamps said, so that a fast clock's day begins and ends later."""
        off = self.minutes * 60
        days = (self.end - self.start) // DAY_SECONDS
        evidence = (
            f"readings of {days} days come {abs(self.minutes)} min {'late' if off > 0 else 'early'}: "
            f"correlation with irradiance {self.corrected:.3f} instead of {self.correlation:.3f}"
        )
        return ClockCorrection(self.start + off, self.end + off, off, evidence)

    @property
    def correction(self) -> dict[str, str | int]:
        """The same as a sites file has it."""
        one = self.clock_correction
        until = _iso(self.end + one.seconds)
        return {"from": _iso(one.start), "until": until, "seconds": one.seconds, "evidence": one.evidence}

    def to_json(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id,
            "minutes": self.minutes,
            "start": self.start,
            "end": self.end,
            "correlation": self.correlation,
            "corrected": self.corrected,
            "correction": self.correction,
        }


def clock_shifts(days: Iterable[DayAssessment]) -> list[ClockShift]:
    """Constant clock shifts of 30 minutes or more, from all days of each device, seven in a row and more at a time.

    One day cannot tell a clock from clouds; a week can. The correction is offered to a reviewer, with its figures; nothing is
    corrected by itself, and no verdict changes before it is.
    """
    found: list[ClockShift] = []
    by_device: dict[int, list[DayAssessment]] = {}
    for day in sorted(days, key=lambda one: (one.device_id, one.start)):
        if compared(day) is not None:
            by_device.setdefault(day.device_id, []).append(day)
    for device_id, known in by_device.items():
        run: list[DayAssessment] = []
        lags: list[int] = []
        for at in range(len(known) - SHIFT_DAYS + 1):
            window = known[at : at + SHIFT_DAYS]
            best, as_stamped, moved = _pooled_lag(window)
            if run and best and abs(best - median_low(lags)) <= 1:
                run.append(window[-1])
                lags.append(best)
                continue
            found += _shift(run, lags)
            run, lags = [], [best]
            if abs(best) >= _SHIFT_SLOTS and gain(as_stamped, moved) >= _SHIFT_GAIN:
                past = found[-1].end if found and found[-1].device_id == device_id else 0
                run = [day for day in window if day.start >= past]
        found += _shift(run, lags)
    return found


def _shift(run: Sequence[DayAssessment], lags: Sequence[int]) -> list[ClockShift]:
    """The shift of a run of days whose weeks see these lags; none where the run is what a longer one has left of a week."""
    if len(run) < SHIFT_DAYS:
        return []
    energy, expected = _compared_slots(run)
    lag = median_low(lags)
    as_stamped, moved = _correlation(energy, expected, 0), _correlation(energy, expected, lag)
    minutes = lag * SLOT_SECONDS // 60
    return [ClockShift(run[0].device_id, minutes, run[0].start, run[-1].start + DAY_SECONDS, as_stamped, moved)]


def compared(day: DayAssessment) -> StationFinding | None:
    """The station that knows most about the time of a day: a measured one before a modelled one."""
    useful = [one for one in day.corroboration.stations if any(one.expected_wh)]
    return min(useful, key=lambda one: (one.kind != "measured", one.station), default=None)


def _pooled_lag(days: Sequence[DayAssessment]) -> tuple[int, float, float]:
    """Best common lag of these days in slots, and the correlation without and with it."""
    energy, expected = _compared_slots(days)
    by_lag = {lag: _correlation(energy, expected, lag) for lag in range(-_MOST_SLOTS, _MOST_SLOTS + 1)}
    best = max(by_lag, key=lambda lag: (by_lag[lag], -abs(lag)))
    return best, by_lag[0], by_lag[best]


def _compared_slots(days: Sequence[DayAssessment]) -> tuple[dict[int, int], dict[int, float]]:
    """Wh measured, and expected in daylight, by slot of UTC (seconds / 900)."""
    energy: dict[int, int] = {}
    expected: dict[int, float] = {}
    for day in days:
        station = compared(day)
        for slot in range(SLOTS_PER_DAY):
            at = day.start // SLOT_SECONDS + slot
            if day.profile.quality[slot] & Quality.MEASURED:
                energy[at] = day.profile.energy_wh[slot]
            wh = station.expected_wh[slot] if station else None
            if wh:
                expected[at] = wh
    return energy, expected


def _correlation(energy: Mapping[int, int], expected: Mapping[int, float], lag: int) -> float:
    pairs = [(energy[at + lag], wh) for at, wh in expected.items() if at + lag in energy]
    if len({one for one, _ in pairs}) < 2 or len({other for _, other in pairs}) < 2:
        return 0.0
    return round(correlation(*zip(*pairs, strict=True)), 3)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
