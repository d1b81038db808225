"""Series of any interval to the 96 slots of UTC days, exactly for energy and as means for weather."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..domain import DAY_SECONDS, SLOT_SECONDS, SLOTS_PER_DAY, Quality
from ..units import ENERGY_UNITS, MICRO
from .base import Quantity, Series

#: Microjoules (microwatt-seconds) in a watt-hour: what slot energies are counted in before whole Wh.
MICRO_J_PER_WH = 3_600_000_000


@dataclass(frozen=True, slots=True)
class RegisterSpan:
    """What a register moved by over slots ``first`` up to (not including) ``end`` of a UTC day, in microjoules."""

    first: int
    end: int
    micro_j: int


@dataclass(frozen=True, slots=True)
class DaySlots:
    """What the files hold of one device and UTC day, before any judgement.

    ``start`` UTC seconds of midnight. ``micro_j``: per slot integer microjoules, None where missing.
    ``conflicts``: slots for which two different values were delivered (the smaller is kept).
    ``reading_seconds``: span of one reading; above 900 the whole energy stands in its first slot and the
    following ones hold 0. ``quality``: what the files themselves say of a slot, bits ESTIMATED, EDITED and SUSPECT;
    slots simply measured are not in it. ``breaks``: slots that are missing because a register fell or its meter was
    exchanged. ``register``: what a register read beside the intervals moved by, None where there is none.
    """

    start: int
    micro_j: tuple[int | None, ...]
    conflicts: frozenset[int] = frozenset()
    reading_seconds: int = SLOT_SECONDS
    quality: Mapping[int, Quality] = field(default_factory=dict)
    breaks: frozenset[int] = frozenset()
    register: RegisterSpan | None = None


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

    for one in series:
        if not one.channel.quantity.is_exact:
            raise ValueError(f"channel {one.channel.name} is {one.channel.quantity.value}, not power or energy")
    registers = {one.channel.quantity is Quantity.REGISTER for one in series}
    if len(registers) > 1:
        raise ValueError("one device's readings are registers in one file and not in another; they must be alike")
    energy = _from_registers(series, interval) if registers.pop() else _from_intervals(series, interval)

    days: dict[int, list[int | None]] = {}
    parts: dict[int, int] = {}
    for start, micro_j in energy.micro_j.items():
        day = start - start % DAY_SECONDS
        slots = days.setdefault(day, [None] * SLOTS_PER_DAY)
        first = (start - day) // SLOT_SECONDS
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

    clashes, breaks = _slots_by_day(energy.conflicts), _slots_by_day(energy.breaks)
    quality: dict[int, dict[int, Quality]] = {}
    for start, bits in energy.quality.items():
        day = start - start % DAY_SECONDS
        for start_of_slot in range(start - start % SLOT_SECONDS, start + interval, SLOT_SECONDS):
            of_day, slot = quality.setdefault(day, {}), (start_of_slot - day) // SLOT_SECONDS
            if day in days and days[day][slot] is not None:
                of_day[slot] = of_day.get(slot, Quality(0)) | bits
    return {
        day: DaySlots(
            start=day,
            micro_j=tuple(days[day]),
            conflicts=frozenset(clashes.get(day, ())),
            reading_seconds=max(interval, SLOT_SECONDS),
            quality=quality.get(day, {}),
            breaks=frozenset(breaks.get(day, ())),
        )
        for day in sorted(days)
    }


@dataclass(frozen=True, slots=True)
class _Energy:
    """Microjoules by start of interval, starts with two values, starts without one for a register's sake, quality bits."""

    micro_j: dict[int, int]
    conflicts: set[int]
    breaks: set[int]
    quality: dict[int, Quality]


def _slots_by_day(starts: Iterable[int]) -> dict[int, set[int]]:
    days: dict[int, set[int]] = {}
    for start in starts:
        days.setdefault(start - start % DAY_SECONDS, set()).add(start % DAY_SECONDS // SLOT_SECONDS)
    return days


def _quality(series: Iterable[Series]) -> dict[int, Quality]:
    merged: dict[int, Quality] = {}
    for one in series:
        for start, bits in one.quality.items():
            merged[start] = merged.get(start, Quality(0)) | bits
    return merged


def _from_intervals(series: Sequence[Series], interval: int) -> _Energy:
    energy: dict[int, int] = {}
    conflicts: set[int] = set()
    for one in series:
        seconds = interval if one.channel.quantity is Quantity.POWER else 3_600
        conflicts.update(one.conflicts)
        for start, value in zip(one.starts, one.values, strict=True):
            micro_j = int(value) * seconds
            before = energy.setdefault(start, micro_j)
            if before != micro_j:
                conflicts.add(start)
                energy[start] = min(before, micro_j)
    return _Energy(energy, conflicts, set(), _quality(series))


@dataclass(frozen=True, slots=True)
class _Register:
    """Count in micro-watt-hours and meter by start of the interval it was read at the end of, and the starts in doubt."""

    readings: dict[int, tuple[int, str]]
    conflicts: set[int]
    width: int

    def moved(self, before: int, after: int) -> int | None:
        """Micro-watt-hours between two readings; None where the register was reset or its meter exchanged.

        A register that falls has rolled over if it says where it does and moved by no more than a tenth of its width.
        """
        (count_before, serial_before), (count, serial) = self.readings[before], self.readings[after]
        moved = count - count_before
        if moved < 0 and 10 * (moved + self.width) <= self.width:
            moved += self.width
        return None if moved < 0 or serial != serial_before else moved


def _register(series: Sequence[Series]) -> _Register:
    readings: dict[int, tuple[int, str]] = {}
    conflicts: set[int] = set()
    widths = {_width_micro_wh(one) for one in series}
    if len(widths) > 1:
        raise ValueError("one device's registers roll over at different counts; they must be alike")
    width = widths.pop()
    for one in series:
        conflicts.update(one.conflicts)
        for start, value, serial in zip(one.starts, one.values, one.serials or [""] * len(one.starts), strict=True):
            reading = (int(value), serial)
            known = readings.setdefault(start, reading)
            if known != reading:
                conflicts.add(start)
                readings[start] = min(known, reading)
    return _Register(readings, conflicts, width)


def _from_registers(series: Sequence[Series], interval: int) -> _Energy:
    """What a register moved by between two readings one interval apart; over a longer gap nothing is spread.

    An interval in which it was reset, or another meter took its place, is missing.
    """
    register = _register(series)
    conflicts = register.conflicts
    micro_j: dict[int, int] = {}
    breaks: set[int] = set()
    for before, start in pairwise(sorted(register.readings)):
        if start - before != interval:
            continue
        moved = register.moved(before, start)
        if moved is None:
            breaks.add(start)
        else:
            micro_j[start] = moved * 3_600
    # A doubtful reading makes the differences on both its sides doubtful.
    conflicts |= {start + interval for start in conflicts}
    quality = _quality(series)
    for start, bits in list(quality.items()):
        quality[start + interval] = quality.get(start + interval, Quality(0)) | bits
    return _Energy(micro_j, conflicts & micro_j.keys(), breaks, quality)


def register_spans(series: Iterable[Series]) -> dict[int, RegisterSpan]:
    """What a register moved by within each UTC day, from its first to its last reading on a slot's edge.

    A day on which it was reset, or its meter exchanged, gives the longest stretch without that. Readings in doubt are left out.
    """
    series = [one for one in series if one.starts]
    if not series:
        return {}
    register, interval = _register(series), series[0].interval_seconds
    days: dict[int, list[int]] = {}
    for start in sorted(register.readings):
        read_at = start + interval
        if read_at % SLOT_SECONDS == 0 and start not in register.conflicts:
            for day in {read_at - read_at % DAY_SECONDS, (read_at - 1) - (read_at - 1) % DAY_SECONDS}:
                days.setdefault(day, []).append(start)
    spans = {}
    for day, starts in days.items():
        best, first, total = RegisterSpan(0, 0, 0), starts[0], 0
        for before, start in pairwise(starts):
            moved = register.moved(before, start)
            first, total = (start, 0) if moved is None else (first, total + moved)
            span = RegisterSpan(
                (first + interval - day) // SLOT_SECONDS, (start + interval - day) // SLOT_SECONDS, total * 3_600
            )
            best = max(best, span, key=lambda one: one.end - one.first)
        if best.end > best.first:
            spans[day] = best
    return spans


def _width_micro_wh(series: Series) -> int:
    if series.channel.rolls_over_at is None:
        return 0
    return int(series.channel.rolls_over_at * ENERGY_UNITS[series.channel.unit] * MICRO)


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
