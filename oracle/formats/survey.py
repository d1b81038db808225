"""A look into a file that no source describes: what it holds, and what had to be assumed to say so.

For people who set up a source and for `ingest --dry-run` without one; nothing here is ever certified.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import RefusedInput
from ..units import whole_wh
from . import FORMATS, read, sniff
from .base import MAX_BYTES, Channel, Parsed, Quantity, RefusedRow, Series, SourceConfig
from .containers import unpack
from .slots import MICRO_J_PER_WH, day_slots

#: Settings that may be given, as in a source of the sites file.
TEXTS = ("decimal_mark", "delimiter", "encoding", "stamp_format", "stamped", "timezone", "unit", "utc_offset")
NUMBERS = ("interval_seconds", "max_bytes", "skip_lines", "stamp_offset_seconds", "stamp_tolerance_seconds")
#: What stands for a setting that was not given, and is then said to be assumed.
_ASSUMED = {
    "timezone": "stamps are UTC",
    "stamped": "stamps mark the end of their interval",
    "decimal_mark": "decimal mark '.'",
    "encoding": "text is UTF-8",
    "unit": "units are those of the format's description: kWh, W",
}
_ORDER = (Quantity.ENERGY, Quantity.REGISTER, Quantity.POWER)


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column of a file: readings in it, and for power and energy the 15-minute slots and Wh they make.

    ``is_counted``: it is the one of its device that the totals take.
    """

    column: str
    quantity: Quantity
    unit: str
    interval_seconds: int
    readings: int
    slots: int = 0
    energy_wh: int = 0
    is_counted: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds. ``assumed`` says in words what it does not state; ``energy_wh`` before any check of it."""

    format: str
    columns: tuple[FoundColumn, ...]
    used: int
    skipped: int
    refused: tuple[RefusedRow, ...]
    assumed: tuple[str, ...]

    @property
    def counted(self) -> tuple[FoundColumn, ...]:
        return tuple(column for column in self.columns if column.is_counted)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(_device(column.column) for column in self.counted)


def survey(data: bytes, file_name: str, given: Mapping[str, str] | None = None) -> Survey:
    """Find the format of a file and all that is in it.

    ``given``: settings by name, in the texts of the sites file; what neither they nor the file say is assumed and told.
    A device that comes with several columns counts once: export before import, energy before register before power.
    Raises RefusedInput for a file that cannot be read, or not without a source.
    """
    given = dict(given or {})
    name = sniff(data, file_name, _number(given, "max_bytes", MAX_BYTES, file_name))
    form = FORMATS[name]
    source = _source(name, given, file_name)
    assumed = [_ASSUMED[key] for key in form.unstated if key not in given and not _is_said(key, given)]
    if form.guess is not None:
        plain = data if form.is_container else unpack(data, file_name, source.max_bytes)
        source, said = form.guess(plain, source, file_name)
        assumed += said
        if "interval_seconds" in given:
            source = replace(source, interval_seconds=_number(given, "interval_seconds", 0, file_name))
    parsed = read(data, source, file_name)
    if "unit" in given and "unit" in form.unstated:
        parsed = read(data, replace(source, channels=_in_unit(parsed, given["unit"])), file_name)
    columns = [_found(series) for series in parsed.series]
    counted = _counted(columns, form.is_import)
    return Survey(
        format=name,
        columns=tuple(replace(column, is_counted=column.column in counted) for column in columns),
        used=parsed.used,
        skipped=parsed.skipped,
        refused=parsed.refused,
        assumed=tuple(assumed),
    )


def _is_said(key: str, given: Mapping[str, str]) -> bool:
    return key == "timezone" and "utc_offset" in given


def _found(series: Series) -> FoundColumn:
    channel = series.channel
    found = FoundColumn(channel.column, channel.quantity, channel.unit, series.interval_seconds, len(series.starts))
    if not channel.quantity.is_exact or not series.starts:
        return found
    days = day_slots([series]).values()
    slots = sum(one is not None for day in days for one in day.micro_j)
    energy_wh = sum(sum(whole_wh((one or 0 for one in day.micro_j), MICRO_J_PER_WH)) for day in days)
    return replace(found, slots=slots, energy_wh=energy_wh)


def _device(column: str) -> str:
    return column.rpartition("/")[0] or column


def _counted(columns: list[FoundColumn], is_import: Callable[[str], bool]) -> set[str]:
    best: dict[str, tuple[tuple[bool, int], str]] = {}
    for column in columns:
        if column.quantity in _ORDER:
            rank = (is_import(column.column), _ORDER.index(column.quantity))
            best[_device(column.column)] = min(
                best.get(_device(column.column), (rank, column.column)), (rank, column.column)
            )
    return {column for _, column in best.values()}


def _in_unit(parsed: Parsed, unit: str) -> tuple[Channel, ...]:
    return tuple(
        replace(series.channel, unit=unit)
        if series.channel.quantity in (Quantity.ENERGY, Quantity.REGISTER)
        else series.channel
        for series in parsed.series
    )


# -- settings ---------------------------------------------------------------------------------------


def _source(name: str, given: Mapping[str, str], file_name: str) -> SourceConfig:
    def fault(key: str, expected: str) -> RefusedInput:
        return RefusedInput(
            f"setting {given[key][:40]!r} is not understood", file=file_name, field=key, expected=expected
        )

    for key in given:
        if key not in TEXTS + NUMBERS:
            raise RefusedInput(
                f"there is no setting {key[:40]!r}", file=file_name, expected="one of " + ", ".join(TEXTS + NUMBERS)
            )
    zone, offset = None, None
    if "timezone" in given:
        try:
            zone = ZoneInfo(given["timezone"])
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise fault("timezone", "an IANA time zone such as Europe/Madrid") from None
    elif "utc_offset" in given:
        match = re.fullmatch(r"([+-])(\d\d):([0-5]\d)", given["utc_offset"], re.ASCII)
        if not match or int(match[2]) > 14:
            raise fault("utc_offset", "an offset such as +01:00")
        offset = (-1 if match[1] == "-" else 1) * (int(match[2]) * 3600 + int(match[3]) * 60)
    elif "timezone" in FORMATS[name].unstated:
        offset = 0
    if given.get("stamped", "end") not in ("start", "end"):
        raise fault("stamped", "start or end")
    if given.get("decimal_mark", ".") not in (".", ","):
        raise fault("decimal_mark", ". or ,")
    if len(given.get("delimiter", ",")) != 1:
        raise fault("delimiter", "one character")
    return SourceConfig(
        format=name,
        files=(file_name,),
        channels=(),
        stamp_columns=(),
        interval_seconds=_number(given, "interval_seconds", 0, file_name),
        stamped=given.get("stamped", "end"),
        stamp_format=given.get("stamp_format", "iso"),
        utc_offset_seconds=offset,
        timezone=zone,
        stamp_offset_seconds=_number(given, "stamp_offset_seconds", 0, file_name),
        stamp_tolerance_seconds=_number(given, "stamp_tolerance_seconds", 0, file_name),
        delimiter=given.get("delimiter", ","),
        decimal_mark=given.get("decimal_mark", "."),
        encoding=given.get("encoding", "utf-8-sig"),
        skip_lines=_number(given, "skip_lines", 0, file_name),
        max_bytes=_number(given, "max_bytes", MAX_BYTES, file_name),
    )


def _number(given: Mapping[str, str], key: str, default: int, file_name: str) -> int:
    text = given.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise RefusedInput(
            f"setting {text[:40]!r} is not understood", file=file_name, field=key, expected="a whole number"
        )
    return int(text)
