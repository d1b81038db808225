"""What a week of a solar device shows and no day can: energy that is constantly above or below what irradiance leads to expect.

A factor of a current transformer, a string that went, a unit slightly off: of one day clouds explain as much. What
is too much holds the days that end such a week, because too much would be certified; what is too little is reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .assessment import DayAssessment, compared
from .domain import DAY_SECONDS, Quality
from .sites import DeviceConfig

#: Days that are looked at together, and the time within which they must lie.
WEEK_DAYS, WITHIN_DAYS = 7, 14


@dataclass(frozen=True, slots=True)
class EnergyDrift:
    """Daylight energy of the days from ``start`` to ``end`` (UTC seconds) is ``ratio`` times what is expected.

    Expected is what irradiance leads to by the device's own performance ratio. ``days`` are those that could be compared;
    ``usual`` are the policy's bounds of the ratio.
    """

    device_id: int
    start: int
    end: int
    days: int
    measured_wh: int
    expected_wh: int
    usual: tuple[float, float]

    @property
    def ratio(self) -> float:
        return round(self.measured_wh / self.expected_wh, 3)

    @property
    def side(self) -> int:
        """1 above the bounds, -1 below them, 0 within."""
        return (self.ratio > self.usual[1]) - (self.ratio < self.usual[0])

    @property
    def reason(self) -> str:
        low, high = self.usual
        return (
            f"drift: the energy of {self.days} days up to this one is {self.ratio:.2f} of what its own history leads to expect; "
            f"{low:g} to {high:g} is usual"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id,
            "start": self.start,
            "end": self.end,
            "days": self.days,
            "measured_wh": self.measured_wh,
            "expected_wh": self.expected_wh,
            "ratio": self.ratio,
            "usual": list(self.usual),
            "holds": self.side > 0,
        }


def weeks(device: DeviceConfig, days: Iterable[DayAssessment]) -> list[EnergyDrift]:
    """Each :data:`WEEK_DAYS` comparable days of a device in a row, usual or not, in order of their last day.

    None for a device without a history of its own (``min_history_days``): an assumed performance says nothing about a few
    per cent.
    """
    policy, performance = device.policy.corroboration, device.performance
    if performance is None or performance.history_days < policy.min_history_days:
        return []
    known = [(day.start, *pair) for day in sorted(days, key=lambda one: one.start) if (pair := _daylight_wh(day))]
    found = []
    for at in range(WEEK_DAYS, len(known) + 1):
        week = known[at - WEEK_DAYS : at]
        start, end = week[0][0], week[-1][0] + DAY_SECONDS
        if end - start <= WITHIN_DAYS * DAY_SECONDS:
            measured, expected = sum(wh for _, wh, _ in week), round(sum(wh for _, _, wh in week))
            found.append(EnergyDrift(device.device_id, start, end, WEEK_DAYS, measured, expected, policy.week_ratio))
    return found


def drifts(device: DeviceConfig, days: Iterable[DayAssessment]) -> list[EnergyDrift]:
    """Times in which every week of a device lay on the same side of its policy's bounds; for reports."""
    days = list(days)
    pairs = {day.start: pair for day in days if (pair := _daylight_wh(day))}
    runs: list[list[EnergyDrift]] = []
    before = 0
    for week in weeks(device, days):
        if week.side and week.side == before:
            runs[-1].append(week)
        elif week.side:
            runs.append([week])
        before = week.side
    found = []
    for run in runs:
        start, end = run[0].start, run[-1].end
        inside = [pair for day, pair in pairs.items() if start <= day < end]
        measured, expected = sum(wh for wh, _ in inside), round(sum(wh for _, wh in inside))
        found.append(EnergyDrift(device.device_id, start, end, len(inside), measured, expected, run[0].usual))
    return found


def held_by_drift(devices: Iterable[DeviceConfig], days: Iterable[DayAssessment]) -> dict[tuple[int, int], str]:
    """Reasons to hold device-days (device id, day start): those at the end of a week with too much energy."""
    known = by_device(days)
    return {
        (device.device_id, week.end - DAY_SECONDS): week.reason
        for device in devices
        for week in weeks(device, known.get(device.device_id, ()))
        if week.side > 0
    }


def by_device(days: Iterable[DayAssessment]) -> dict[int, list[DayAssessment]]:
    """Days of several devices apart, by device id."""
    found: dict[int, list[DayAssessment]] = {}
    for day in days:
        found.setdefault(day.device_id, []).append(day)
    return found


def _daylight_wh(day: DayAssessment) -> tuple[int, float] | None:
    """Wh measured and expected in the daylight slots that have both; None where the day's irradiance judges nothing."""
    station = compared(day)
    if station is None or station.figures.get("energy_ratio") is None:
        return None
    both = [
        (day.profile.energy_wh[slot], wh)
        for slot, wh in enumerate(station.expected_wh)
        if wh and day.profile.quality[slot] & Quality.MEASURED
    ]
    return (sum(wh for wh, _ in both), sum(wh for _, wh in both)) if both else None
