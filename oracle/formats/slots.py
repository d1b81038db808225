"""Series of any interval to the 96 slots of UTC days, exactly for energy and as means for weather."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..domain import DAY_SECONDS, SLOT_SECONDS, SLOTS_PER_DAY
from .base import Quantity, Series

#: Microjoules (microwatt-seconds) in a watt-hour: what slot energies are counted in before whole Wh.
MICRO_J_PER_WH = 3_600_000_000


@dataclass(frozen=True, slots=True)
class DaySlots:
    """What the files hold of one device and UTC day, before any judgement.

    ``start`` UTC seconds of midnight. ``micro_j``: per slot integer microjoules, None where missing.
    ``conflicts``: slots for which two different values were delivered (the smaller is kept).
    ``reading_seconds``: span of one reading; above 900 the whole energy stands in its first slot and the
    following ones hold 0.
    """

    start: int
    micro_j: tuple[int | None, ...]
    conflicts: frozenset[int] = frozenset()
    reading_seconds: int = SLOT_SECONDS


@dataclass(frozen=True, slots=True)
class StationDay:
    """One irradiance station's UTC day: per slot the mean of its samples, None where there is none.

    ``ghi_w_m2`` global horizontal irradiance, ``temp_air_c`` air temperature in degrees Celsius.
    """

    station: str
    start: int
    ghi_w_m2: tuple[float | None, ...]
    temp_air_c: tuple[float | None, ...]


def day_slots(series: Iterable[Series]) -> dict[int, DaySlots]:
    """Merge any number of series of one device into UTC days, keyed and ordered by day start.

    Equal values for the same interval are one value; different ones are a conflict whatever their order. Readings
    finer than a slot are summed, and a slot of which one is missing is missing; a coarser reading is never spread.
    Raises ValueError where intervals differ or neither divide nor are divided by a slot.
    """
    series = list(series)
    intervals = {one.interval_seconds for one in series}
    if not intervals:
        return {}
    if len(intervals) > 1:
        raise ValueError(f"one device's readings have intervals of {sorted(intervals)} s; they must be alike")
    interval = intervals.pop()
    if SLOT_SECONDS % interval and interval % SLOT_SECONDS or DAY_SECONDS % interval:
        raise ValueError(f"an interval of {interval} s neither divides nor is divided by {SLOT_SECONDS} s")

    energy: dict[int, int] = {}
    conflicts: set[int] = set()
    for one in series:
        if not one.channel.quantity.is_exact:
            raise ValueError(f"channel {one.channel.name} is {one.channel.quantity.value}, not power or energy")
        seconds = interval if one.channel.quantity is Quantity.POWER else 3_600
        conflicts.update(one.conflicts)
        for start, value in zip(one.starts, one.values, strict=True):
            micro_j = int(value) * seconds
            before = energy.setdefault(start, micro_j)
            if before != micro_j:
                conflicts.add(start)
                energy[start] = min(before, micro_j)

    days: dict[int, list[int | None]] = {}
    clashes: dict[int, set[int]] = {}
    parts: dict[int, int] = {}
    for start, micro_j in energy.items():
        day = start - start % DAY_SECONDS
        slots = days.setdefault(day, [None] * SLOTS_PER_DAY)
        first = (start - day) // SLOT_SECONDS
        if start in conflicts:
            clashes.setdefault(day, set()).add(first)
        if interval >= SLOT_SECONDS:
            slots[first : first + interval // SLOT_SECONDS] = [micro_j] + [0] * (interval // SLOT_SECONDS - 1)
        else:
            slot_start = start - start % SLOT_SECONDS
            parts[slot_start] = parts.get(slot_start, 0) + 1
            slots[first] = (slots[first] or 0) + micro_j
    for slot_start, count in parts.items():
        if count * interval != SLOT_SECONDS:
            day = slot_start - slot_start % DAY_SECONDS
            days[day][(slot_start - day) // SLOT_SECONDS] = None
    return {
        day: DaySlots(day, tuple(days[day]), frozenset(clashes.get(day, ())), max(interval, SLOT_SECONDS))
        for day in sorted(days)
    }


def station_days(station: str, ghi: Iterable[Series], temp_air: Iterable[Series] = ()) -> dict[int, StationDay]:
    """Mean irradiance (and air temperature) per slot and UTC day of one station, from any number of files."""
    irradiance, temperature = _means(ghi), _means(temp_air)
    return {
        day: StationDay(station, day, irradiance[day], temperature.get(day, (None,) * SLOTS_PER_DAY))
        for day in sorted(irradiance)
    }


def _means(series: Iterable[Series]) -> dict[int, tuple[float | None, ...]]:
    samples: dict[int, dict[int, float]] = {}
    for one in series:
        for start, value in zip(one.starts, one.values, strict=True):
            if not math.isnan(value):
                samples.setdefault(start - start % DAY_SECONDS, {}).setdefault(start, float(value))
    means = {}
    for day, values in samples.items():
        slots: list[list[float]] = [[] for _ in range(SLOTS_PER_DAY)]
        for start in sorted(values):
            slots[(start - day) // SLOT_SECONDS].append(values[start])
        means[day] = tuple(round(math.fsum(slot) / len(slot), 3) if slot else None for slot in slots)
    return means
