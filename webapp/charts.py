"""Geometry of the charts: figures in, coordinates out; templates draw them and style sheets colour them.

What stands there hundreds of times in a page (:func:`bars`, :func:`hits`, :func:`slot_rows`) is written here, because a template
escapes every number by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from oracle.domain import DAY_SECONDS, SLOT_SECONDS, Quality


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    state: str
    energy_wh: int
    time: str
    irradiance: int | None


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A day's chart in a box of ``width`` x ``height``; ``line`` is the SVG path of the irradiance, ``bound`` that of the most
    energy a slot can have under any sky; empty without one."""

    width: int
    height: int
    left: float
    right: float
    bottom: float
    bars: tuple[Bar, ...]
    line: str
    energy_ticks: tuple[Tick, ...]
    irradiance_ticks: tuple[Tick, ...]
    time_ticks: tuple[Tick, ...]
    bound: str = ""


#: Each minute of a UTC day as a clock writes it.
CLOCKS = tuple(f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(1_440))


@lru_cache(maxsize=256)
def slot_state(quality: int) -> str:
    """The one word a slot is coloured by; what keeps it from being certified comes first."""
    if not quality:
        return "missing"
    for bit, word in (
        (Quality.SUSPECT, "suspect"),
        (Quality.ESTIMATED, "estimated"),
        (Quality.EDITED, "edited"),
        (Quality.COARSE, "coarse"),
    ):
        if quality & bit:
            return word
    return "measured"


def axes(chart: Chart) -> Markup:
    """The grid of a day's chart and the figures at its edges as SVG."""
    parts = []
    for tick in chart.energy_ticks:
        parts.append(
            f'<line class="grid" x1="{chart.left}" x2="{chart.right}" y1="{tick.at}" y2="{tick.at}"/>'
            f'<text x="{chart.left - 8}" y="{tick.at + 4}" text-anchor="end">{tick.text}</text>'
        )
    parts += [f'<text x="{chart.right + 8}" y="{tick.at + 4}">{tick.text}</text>' for tick in chart.irradiance_ticks]
    parts += [
        f'<text x="{tick.at}" y="{chart.bottom + 19}" text-anchor="middle">{tick.text}</text>'
        for tick in chart.time_ticks
    ]
    return Markup("".join(parts))


def bars(chart: Chart) -> Markup:
    """The bars of a day's chart as SVG."""
    return Markup(
        "".join(
            f'<rect class="s-{bar.state}" x="{bar.x}" y="{bar.y}" width="{bar.width}" height="{bar.height}" rx="1.2"/>'
            for bar in chart.bars
            if bar.height
        )
    )


def hits(chart: Chart, words: Mapping[str, Any]) -> Markup:
    """A transparent area for each slot that carries its figures in words; ``words`` names the states."""
    told = {state: escape(words[state]) for state in {bar.state for bar in chart.bars}}
    return Markup(
        "".join(
            f'<rect class="hit" x="{bar.x}" y="0" width="{bar.width}" height="{chart.bottom}"'
            f' data-read="{bar.time} UTC · {bar.energy_wh} Wh · {told[bar.state]}'
            f'{"" if bar.irradiance is None else f" · {bar.irradiance:d} W/m²"}"/>'
            for bar in chart.bars
        )
    )


def slot_rows(profile: Mapping[str, Any], words: Mapping[str, Any]) -> Markup:
    """The rows of a day's table: slot, Wh, state and, where it is known, irradiance."""
    first = profile["start"] % DAY_SECONDS // SLOT_SECONDS
    told = {bits: escape(words[slot_state(bits)]) for bits in set(profile["quality"])}
    irradiance = profile["irradiance"]["w_m2"] if profile["irradiance"] else None
    rows = []
    for index, (wh, bits) in enumerate(zip(profile["energy_wh"], profile["quality"], strict=True)):
        hour, quarter = divmod(first + index, 4)
        last = ""
        if irradiance is not None:
            last = f'<td class="n">{"–" if irradiance[index] is None else format(irradiance[index], "d")}</td>'
        rows.append(
            f'<tr><td class="num">{hour:02d}:{quarter * 15:02d}</td><td class="n">{wh:d}</td><td>{told[bits]}</td>{last}</tr>'
        )
    return Markup("\n".join(rows))


def day_chart(
    start: int,
    energy_wh: Sequence[int],
    quality: Sequence[int],
    irradiance: Sequence[int | None] | None,
    *,
    width: int,
    height: int,
    bound_wh: Sequence[int] | None = None,
) -> Chart:
    """Bars of Wh per slot and a line of W/m2, each on its own axis; ``bound_wh`` is a line on that of the bars."""
    left, right = 46.0, width - (46.0 if irradiance else 12.0)
    top, bottom = 12.0, height - 26.0
    slots = len(energy_wh)
    step = (right - left) / max(slots, 1)
    top_wh = _nice(max([*energy_wh, *(bound_wh or ()), 0]))
    top_irradiance = _nice(max((value for value in irradiance or () if value is not None), default=0))
    places, wide = _places(left, right, slots)
    bars, points = [], []
    for index, (wh, bits) in enumerate(zip(energy_wh, quality, strict=True)):
        state = slot_state(bits)
        tall = (bottom - top) * wh / top_wh
        # A slot that has no reading, or must not be certified, stays visible where its energy is nil.
        tall = max(tall, 4.0) if state in ("missing", "suspect") else max(tall, 1.2 if wh else 0)
        clock = CLOCKS[(start + index * SLOT_SECONDS) % DAY_SECONDS // 60]
        at = irradiance[index] if irradiance and index < len(irradiance) else None
        x, centre = places[index]
        bars.append(Bar(x, round(bottom - tall, 2), wide, round(tall, 2), state, wh, clock, at))
        points.append(None if at is None else (centre, bottom - (bottom - top) * max(at, 0) / top_irradiance))
    hours = 3 if width > 600 else 6
    return Chart(
        width, height, left, right, bottom, tuple(bars), _path(points),
        tuple(Tick(round(bottom - (bottom - top) * i / 4, 2), _figure(top_wh * i, 4)) for i in range(5)),
        tuple(Tick(round(bottom - (bottom - top) * i / 4, 2), _figure(top_irradiance * i, 4)) for i in range(5)) if irradiance else (),
        tuple(Tick(round(left + (right - left) * h * 3600 / (slots * SLOT_SECONDS), 2),
                   CLOCKS[(start + h * 3600) % DAY_SECONDS // 60] if h < 24 else "24:00")
              for h in range(0, slots * SLOT_SECONDS // 3600 + 1, hours)),
        _path([(left + (index + 0.5) * step, bottom - (bottom - top) * wh / top_wh) for index, wh in enumerate(bound_wh or ())]),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _places(left: float, right: float, slots: int) -> tuple[tuple[tuple[float, float], ...], float]:
    """Where the bar of each slot begins and its middle is, and how wide a bar is."""
    step = (right - left) / max(slots, 1)
    whole = tuple((round(left + (n + 0.1) * step, 2), left + (n + 0.5) * step) for n in range(slots))
    return whole, round(step * 0.8, 2)


def _figure(value: int, parts: int) -> str:
    return f"{value / parts:g}"


def _nice(highest: int) -> int:
    """A round number not below ``highest`` that four ticks divide well."""
    scale = 1
    while True:
        for step in (4, 8, 12, 16, 20, 24, 32):
            if step * scale >= max(highest, 1):
                return step * scale
        scale *= 10


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    parts, drawing = [], False
    for point in points:
        if point is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{point[0]:.1f} {point[1]:.1f}")
        drawing = True
    return "".join(parts)


def calendar(days: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Months from the first to the last of ``days`` (which carry ``start``) as weeks from Monday; months without any are left out.

    Each month: ``first`` (a date) and ``weeks``, lists of seven entries: None outside the month, else ``{"date", "day"}``.
    """
    by_date = {datetime.fromtimestamp(d["start"] // DAY_SECONDS * DAY_SECONDS, UTC).date(): d for d in days}
    months = []
    for year, month in sorted({(d.year, d.month) for d in by_date}):
        first = date(year, month, 1)
        at = first - timedelta(days=first.weekday())
        weeks = []
        while at <= first or at.month == month:
            week = [at + timedelta(days=i) for i in range(7)]
            weeks.append([{"date": d, "day": by_date.get(d)} if d.month == month else None for d in week])
            at += timedelta(days=7)
        months.append({"first": first, "weeks": weeks})
    return months


#: Qualities of slots as they are stacked, the best at the bottom.
STACK = ("measured", "coarse", "edited", "estimated", "suspect")


def month_chart(days: Sequence[dict[str, Any]], *, width: int, height: int) -> dict[str, Any]:
    """A stack of Wh by quality for each day and a line of Wh/m2, each on its own axis: coordinates for the template.

    ``days`` carry ``start``, ``energy_wh`` by quality and ``irradiation_wh_m2`` (or None).
    """
    lit = [day["irradiation_wh_m2"] for day in days if day["irradiation_wh_m2"] is not None]
    left, right, top, bottom = 50.0, width - (46.0 if lit else 12.0), 12.0, height - 26.0
    step = (right - left) / max(len(days), 1)
    top_wh = _nice(max((sum(day["energy_wh"].values()) for day in days), default=0))
    top_lit = _nice(max(lit, default=0))
    bars, points = [], []
    for index, day in enumerate(days):
        x, y = left + index * step, bottom
        for state in STACK:
            tall = (bottom - top) * day["energy_wh"].get(state, 0) / top_wh
            if tall:
                y -= tall
                bars.append({"x": round(x + step * 0.12, 2), "y": round(y, 2), "width": round(step * 0.76, 2), "height": round(tall, 2), "state": state})  # fmt: skip
        seen = day["irradiation_wh_m2"]
        points.append(None if seen is None else (x + step / 2, bottom - (bottom - top) * seen / top_lit))
    every = 1 if width > 600 else 5
    return {
        "width": width, "height": height, "left": left, "right": right, "bottom": bottom, "bars": bars, "line": _path(points),
        "hits": [{"x": round(left + index * step, 2), "width": round(step, 2), "day": day} for index, day in enumerate(days)],
        "energy_ticks": [Tick(round(bottom - (bottom - top) * i / 4, 2), f"{top_wh * i / 4000:g}") for i in range(5)],
        "irradiance_ticks": [Tick(round(bottom - (bottom - top) * i / 4, 2), f"{top_lit * i / 4000:g}") for i in range(5)] if lit else [],
        "day_ticks": [
            Tick(round(left + (index + 0.5) * step, 2), str(datetime.fromtimestamp(day["start"], UTC).day))
            for index, day in enumerate(days) if index % every == 0
        ],
    }  # fmt: skip


def heat_map(days: Sequence[dict[str, Any]], *, width: int) -> dict[str, Any]:
    """A row for each day and a column for each quarter hour (UTC): runs of one state as rectangles."""
    left, row, slots = 34.0, 13.0, DAY_SECONDS // SLOT_SECONDS
    step = (width - left - 8) / slots
    rows = []
    for index, day in enumerate(days):
        y = index * row + 4
        cells = [{"x": round(left + run["first"] * step, 2), "width": round(run["slots"] * step, 2), "state": run["state"]} for run in day["runs"]]  # fmt: skip
        rows.append({"y": y, "day": day, "number": index + 1, "cells": cells})
    bottom = len(days) * row + 6
    every = 3 if width > 600 else 6
    hours = [Tick(round(left + hour * 4 * step, 2), f"{hour:02d}:00") for hour in range(0, 25, every)]
    return {"width": width, "height": bottom + 20, "left": left, "right": width - 8, "bottom": bottom, "row": row - 2, "rows": rows, "hours": hours}  # fmt: skip
