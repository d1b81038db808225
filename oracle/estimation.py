"""Estimation: what a device probably measured in slots that have no reading. For reports; measured slots never change.

A short gap between two readings is filled on a straight line. A longer one takes the device's own like days, scaled to
what the day itself shows; with too few of them a solar device takes the shape of a clear sky. Each slot names
its method. By default nothing estimated is certified; a policy that says ``certify_estimated`` certifies short gaps alone,
because only they depend on nothing but the day itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from statistics import median
from typing import Any

import numpy as np

from .corroboration import clear_sky_w
from .domain import DAY_SECONDS, MAX_SLOT_WH, SLOT_SECONDS, Profile, Quality
from .sites import DeviceConfig
from .sun import sun_day

#: Like days that are averaged, and the fewest that say anything.
LIKE_DAYS, LEAST_LIKE_DAYS = 6, 3
#: A like day of a solar device lies this near, because the sun's path changes; another's has the same kind of weekday.
NEAR_SECONDS = 15 * DAY_SECONDS
#: Scaling to the day itself stays within these, in per cent.
_SCALE_PERCENT = (10, 300)


class Method(str, Enum):
    """How an estimated slot was found."""

    LINEAR = "linear"
    LIKE_DAY = "like-day"
    CLEAR_SKY = "clear-sky"


@dataclass(frozen=True, slots=True)
class EstimatedDay:
    """A UTC day with its gaps filled where something is known: ``methods`` by slot (0 to 95) of those that were estimated.

    Estimated slots carry ESTIMATED alone in ``profile``, and CERTIFIED only by policy; a slot for which nothing is known
    stays missing.
    """

    profile: Profile
    methods: Mapping[int, Method]

    @property
    def estimated_wh(self) -> int:
        return sum(self.profile.energy_wh[slot] for slot in self.methods)

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.profile.start,
            "estimated_wh": self.estimated_wh,
            "slots": [
                {"slot": slot, "energy_wh": self.profile.energy_wh[slot], "method": method.value}
                for slot, method in sorted(self.methods.items())
            ],
        }


def gaps(profile: Profile) -> list[range]:
    """Runs of slots without a reading, in order."""
    missing = [slot for slot, quality in enumerate(profile.quality) if not quality]
    runs: list[range] = []
    for slot in missing:
        runs[-1:] = (
            [range(runs[-1].start, slot + 1)] if runs and runs[-1].stop == slot else [*runs[-1:], range(slot, slot + 1)]
        )
    return runs


def fill_short_gaps(profile: Profile, most_slots: int, *, certified: bool = False) -> EstimatedDay:
    """Fill gaps of at most ``most_slots`` between two readings of the day on a straight line, rounded down to whole Wh.

    Source: usual VEE practice, two hours. A day of readings coarser than a slot is left alone.
    """
    energy, methods = list(profile.energy_wh), dict[int, Method]()
    coarse = any(quality & Quality.COARSE for quality in profile.quality)
    for gap in gaps(profile):
        if len(gap) > most_slots or coarse or gap.start == 0 or gap.stop == len(energy):
            continue
        before, after, steps = energy[gap.start - 1], energy[gap.stop], len(gap) + 1
        for number, slot in enumerate(gap, 1):
            energy[slot] = (before * (steps - number) + after * number) // steps
            methods[slot] = Method.LINEAR
    return EstimatedDay(_filled(profile, energy, methods, certified), methods)


def estimate(device: DeviceConfig, profile: Profile, others: Iterable[Profile] = ()) -> EstimatedDay:
    """Fill what can be filled of a UTC day. ``others``: further days of the device, of which like ones are chosen.

    Deterministic: the order of ``others`` changes nothing, and measured slots are never touched.
    """
    day = fill_short_gaps(profile, device.policy.validation.linear_slots)
    left = [slot for gap in gaps(day.profile) for slot in gap]
    if not left:
        return day
    energy, methods = list(day.profile.energy_wh), dict(day.methods)
    for slot, wh in _by_like_days(device, profile, like_days(device, profile.start, others), left).items():
        energy[slot], methods[slot] = wh, Method.LIKE_DAY
    dark = [slot for slot in left if slot not in methods]
    if device.is_solar and dark:
        for slot, wh in _by_clear_sky(device, profile, dark).items():
            energy[slot], methods[slot] = wh, Method.CLEAR_SKY
    return EstimatedDay(_filled(profile, energy, methods, False), methods)


def like_days(device: DeviceConfig, start: int, others: Iterable[Profile]) -> list[Profile]:
    """The nearest days that resemble the one at ``start``: for the sun those around it, else those of its kind of weekday."""

    def is_like(day: Profile) -> bool:
        if day.start == start:
            return False
        if device.is_solar:
            return abs(day.start - start) <= NEAR_SECONDS
        return _is_weekend(day.start) == _is_weekend(start)

    fitting = {day.start: day for day in others if is_like(day)}
    nearest = sorted(fitting, key=lambda one: (abs(one - start), one))[:LIKE_DAYS]
    return [fitting[one] for one in nearest]


def usual_day_wh(days: Iterable[Profile]) -> tuple[int, ...]:
    """Median energy in Wh of the whole days of each month, January first, 0 where there is none: ``usual_day`` of the sites file."""
    months: list[list[int]] = [[] for _ in range(12)]
    for day in days:
        if all(quality & Quality.MEASURED for quality in day.quality):
            months[datetime.fromtimestamp(day.start, UTC).month - 1].append(sum(day.energy_wh))
    return tuple(int(median(month)) if month else 0 for month in months)


def _is_weekend(start: int) -> bool:
    return datetime.fromtimestamp(start, UTC).weekday() >= 5


def _by_like_days(
    device: DeviceConfig, profile: Profile, days: Sequence[Profile], slots: Sequence[int]
) -> dict[int, int]:
    """Average of the like days in each slot, times what the day shows of their average where both were measured."""
    if len(days) < LEAST_LIKE_DAYS:
        return {}
    here = there = 0
    for slot, quality in enumerate(profile.quality):
        known = [day.energy_wh[slot] for day in days if day.quality[slot] & Quality.MEASURED]
        if quality & Quality.MEASURED and len(known) == len(days):
            here, there = here + profile.energy_wh[slot] * len(days), there + sum(known)
    least, most = (there * percent // 100 for percent in _SCALE_PERCENT)
    here, there = (min(max(here, least), most), there) if there else (1, 1)
    filled = {}
    for slot in slots:
        known = [day.energy_wh[slot] for day in days if day.quality[slot] & Quality.MEASURED]
        if len(known) >= LEAST_LIKE_DAYS:
            filled[slot] = min(sum(known) * here // (len(known) * there), _most_wh(device))
    return filled


def _by_clear_sky(device: DeviceConfig, profile: Profile, slots: Sequence[int]) -> dict[int, int]:
    """Clear-sky energy in each slot, times what the day shows of it where it was measured, else the device's performance."""
    site = device.site
    clear = clear_sky_w(device, sun_day(site.latitude, site.longitude, site.altitude_m, profile.start))
    measured = np.array([bool(quality & Quality.MEASURED) for quality in profile.quality])
    shines = float(clear[measured].sum()) * SLOT_SECONDS / 3600
    if shines > device.capacity_w:
        scale = min(float(np.array(profile.energy_wh)[measured].sum()) / shines, 1.0)
    else:
        scale = device.performance.ratio if device.performance else device.policy.corroboration.assumed_performance
    return {slot: min(int(clear[slot] * scale * SLOT_SECONDS / 3600), _most_wh(device)) for slot in slots}


def _most_wh(device: DeviceConfig) -> int:
    return min(device.capacity_w * SLOT_SECONDS // 3600, MAX_SLOT_WH)


def _filled(profile: Profile, energy: Sequence[int], methods: Mapping[int, Method], certified: bool) -> Profile:
    bits = int(Quality.ESTIMATED | (Quality.CERTIFIED if certified else 0))
    quality = tuple(bits if slot in methods else profile.quality[slot] for slot in range(len(energy)))
    return Profile(profile.start, tuple(energy), quality)
