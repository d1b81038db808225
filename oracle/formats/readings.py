"""Texts of readings to exact series: what all formats share below their syntax."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from ..domain import Quality
from ..errors import RefusedInput, UnitError
from ..units import energy_micro_wh, power_micro_w
from .base import (
    REFUSED_TEXT,
    UNIT_OF_FILE,
    Channel,
    ClockCorrection,
    Parsed,
    Quantity,
    RefusedRow,
    RowRefusal,
    Series,
    SourceConfig,
)

#: Microjoules that fit a signed 64-bit integer with room to spare; about 1.28 GWh.
_LIMIT_MICRO_J = 1 << 62
_NOT_A_VALUE = {"", "nan", "null", "none", "na", "n/a", "-"}
_WEATHER_UNITS = {Quantity.IRRADIANCE: "W/m2", Quantity.TEMPERATURE: "C"}
_UNITS = {unit.lower(): unit for unit in ("W", "kW", "Wh", "kWh", "W/m2", "C")}
_UNITS |= {"w/m²": "W/m2", "°c": "C", "degc": "C"}
#: Columns of a file that are named in an error, at most.
_NAMED = 20

#: Stands in a table where an optional exact channel is empty; no reading reaches it.
_ABSENT = -(1 << 63)

Value = int | float
Parser = Callable[[str], Value]


def unit_of(text: str) -> str:
    """A unit as files write it, in this project's spelling; what is not known stays as it is."""
    plain = text.strip()
    # Mega and milli differ in case alone.
    return "MWh" if plain == "MWH" else _UNITS.get(plain.lower(), plain)


# -- values -----------------------------------------------------------------------------------------


def parser(channel: Channel, source: SourceConfig, file_name: str, interval_seconds: int | None = None) -> Parser:
    """What reads a field of ``channel``: text to integer micro-units, or to a float for weather.

    Raises :class:`RefusedInput` where the unit does not fit the quantity; the parser raises :class:`RowRefusal`.
    """
    mark, unit, seconds = source.decimal_mark, channel.unit, interval_seconds or source.interval_seconds or 86_400

    def power(text: str) -> int:
        return _bounded(power_micro_w(text, unit, decimal_mark=mark), seconds)

    def energy(text: str) -> int:
        return _bounded(energy_micro_wh(text, unit, decimal_mark=mark), 3_600)

    def register(text: str) -> int:
        return energy_micro_wh(text, unit, decimal_mark=mark)

    exact = {Quantity.POWER: power, Quantity.ENERGY: energy, Quantity.REGISTER: register}
    if channel.quantity.is_exact:
        parse: Parser = exact[channel.quantity]
        try:
            parse("0")
        except UnitError as fault:
            raise RefusedInput(str(fault), file=file_name, field=repr(channel.column)) from None
    elif channel.unit != _WEATHER_UNITS[channel.quantity]:
        raise RefusedInput(
            f"unit {channel.unit!r} does not fit {channel.quantity.value}",
            file=file_name,
            field=repr(channel.column),
            expected=_WEATHER_UNITS[channel.quantity],
        )
    else:

        def parse(text: str) -> float:
            return _float(text, mark)

    def value(text: str) -> Value:
        plain = text.strip()
        if plain.lower() in _NOT_A_VALUE:
            if not channel.required:
                return _ABSENT if channel.quantity.is_exact else math.nan
            raise RowRefusal(f"field {channel.column!r} has no value ({plain[:20]!r})")
        try:
            return parse(plain)
        except UnitError as fault:
            raise RowRefusal(f"field {channel.column!r}: {fault}") from None

    return value


def _bounded(micro: int, seconds: int) -> int:
    if abs(micro) * seconds >= _LIMIT_MICRO_J:
        raise UnitError(f"{micro / 1e6:g} is more than any meter measures")
    return micro


def _float(text: str, mark: str) -> float:
    if "_" in text:
        raise UnitError(f"{text!r} is not a decimal number")
    try:
        value = float(text.replace(mark, "."))
    except ValueError:
        raise UnitError(f"{text!r} is not a decimal number") from None
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is not a finite number")
    return value


# -- rows -------------------------------------------------------------------------------------------


class Table:
    """Values of one or several channels by start of interval, compactly; each start once.

    Rows come in order of time as a rule, and then nothing is looked up. Whatever their order, the outcome is the same.
    """

    def __init__(self, channels: tuple[Channel, ...]):
        self.channels = channels
        self._starts = array("q")
        self._columns = [array("q" if channel.quantity.is_exact else "d") for channel in channels]
        self._quality: dict[int, Quality] = {}
        self._serials: list[str] | None = [] if any(channel.serial_column for channel in channels) else None
        self._conflicts: set[int] = set()
        self._at: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: int, values: tuple[Value, ...], quality: int = 0, serial: str = "") -> None:
        """Take a row. Raises RowRefusal where its start stood in an earlier one."""
        if self._at is None and self._starts and start <= self._starts[-1]:
            self._at = {one: at for at, one in enumerate(self._starts)}
        at = None if self._at is None else self._at.get(start)
        if quality:
            self._quality[start] = self._quality.get(start, Quality(0)) | quality
        if at is not None:
            self._again(at, start, values, serial)
        if self._at is not None:
            self._at[start] = len(self._starts)
        self._starts.append(start)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)  # type: ignore[arg-type]
        if self._serials is not None:
            self._serials.append(serial)

    def _again(self, at: int, start: int, values: tuple[Value, ...], serial: str) -> None:
        before = (*(column[at] for column in self._columns), self._serials[at] if self._serials is not None else serial)
        row = (*values, serial)
        if all(a == b or (a != a and b != b) for a, b in zip(before, row, strict=True)):
            raise RowRefusal("stamp and values stand in an earlier row")
        self._conflicts.add(start)
        # The smaller is kept whichever row came first, so that the order of rows changes nothing.
        if row < before:
            for column, value in zip(self._columns, values, strict=True):
                column[at] = value  # type: ignore[assignment]
            if self._serials is not None:
                self._serials[at] = serial
        raise RowRefusal("stamp stands in an earlier row with other values; the smaller is kept as suspect")

    def series(self, interval_seconds: int) -> tuple[Series, ...]:
        """What was taken, in time order, one series a channel."""
        order = None if self._at is None else sorted(range(len(self._starts)), key=self._starts.__getitem__)

        def sorted_(values: array[int] | array[float] | list[str]) -> tuple[object, ...]:
            return tuple(values) if order is None else tuple(values[at] for at in order)

        starts = sorted_(self._starts)
        serials = () if self._serials is None else sorted_(self._serials)
        conflicts = frozenset(self._conflicts)
        return tuple(
            _present(Series(channel, interval_seconds, starts, sorted_(column), conflicts, self._quality, serials))  # type: ignore[arg-type]
            for channel, column in zip(self.channels, self._columns, strict=True)
        )


def _present(series: Series) -> Series:
    """The series without the rows in which an optional exact channel is empty."""
    if series.channel.required or not series.channel.quantity.is_exact or _ABSENT not in series.values:
        return series
    kept = [at for at, value in enumerate(series.values) if value != _ABSENT]
    starts = tuple(series.starts[at] for at in kept)
    return replace(
        series,
        starts=starts,
        values=tuple(int(series.values[at]) for at in kept),
        conflicts=series.conflicts & set(starts),
        quality={start: bits for start, bits in series.quality.items() if start in set(starts)},
        serials=tuple(series.serials[at] for at in kept) if series.serials else (),
    )


def shifted(series: Series, corrections: Sequence[ClockCorrection]) -> Series:
    """The series with wrong clocks put right; of readings that then meet, the smaller is kept as a conflict."""

    def right(start: int) -> int:
        off = (one.seconds for one in corrections if one.start <= start and (one.end is None or start < one.end))
        return start - next(off, 0)

    if all(right(start) == start for start in series.starts):
        return series
    table = Table((series.channel,))
    for start, value, serial in zip(
        series.starts, series.values, series.serials or [""] * len(series.starts), strict=True
    ):
        with suppress(RowRefusal):
            table.add(right(start), (value,), int(series.quality.get(start, 0)), serial)
    [moved] = table.series(series.interval_seconds)
    return replace(moved, conflicts=moved.conflicts | {right(start) for start in series.conflicts})


class Column:
    """One channel of a file of several devices, as its readings come in."""

    def __init__(self, channel: Channel, source: SourceConfig, file_name: str, refused: list[RefusedRow]):
        self.channel = channel
        self.interval_seconds = source.interval_seconds
        self.rows = 0
        self.table = Table((channel,))
        self._refused = refused
        self._parse = parser(channel, source, file_name)

    def take(self, line: int, text: str, start: Callable[[], int] | int, quality: int = 0) -> None:
        """Use or refuse one reading: its value as text and the start of its interval, or what finds it."""
        self.rows += 1
        try:
            self.table.add(start if isinstance(start, int) else start(), (self._parse(text),), quality)
        except RowRefusal as refusal:
            self._refused.append(RefusedRow(line, f"{self.channel.column}: {text}"[:REFUSED_TEXT], str(refusal)))

    def refuse(self, line: int, text: str, reason: str) -> None:
        """Refuse one reading before its value is looked at."""
        self.rows += 1
        self._refused.append(RefusedRow(line, f"{self.channel.column}: {text}"[:REFUSED_TEXT], reason))

    def spans(self, seconds: int) -> int:
        """The interval a reading states, if it is the source's. Raises RowRefusal otherwise."""
        if not self.interval_seconds:
            if seconds <= 0 or 900 % seconds and seconds % 900 or 86_400 % seconds:
                raise RowRefusal(f"interval {seconds} s neither divides nor is divided by 900 s within a day")
            self.interval_seconds = seconds
        if seconds != self.interval_seconds:
            raise RowRefusal(f"interval is {seconds} s, expected {self.interval_seconds} s")
        return seconds


class Readings:
    """All readings of a file of several devices: those of the source's channels are kept, the others counted."""

    def __init__(self, source: SourceConfig, file_name: str):
        self._source, self._file_name = source, file_name
        self._wanted = {channel.column: channel for channel in source.channels}
        self._columns: dict[str, Column] = {}
        self._others: dict[str, None] = {}
        self._refused: list[RefusedRow] = []
        self._rows = 0
        self.skipped = 0

    def column(
        self, name: str, *, unit: str | None, quantity: Quantity | None, line: int | None = None
    ) -> Column | None:
        """The column called ``name``, None where the source does not name it.

        ``unit`` as the file states it (None where it does not), ``quantity`` what the format says of such a column
        (None where it says nothing that is read). Raises RefusedInput where file and source disagree on the unit.
        """
        known = self._columns.get(name)
        if known is not None:
            return known
        if self._source.channels:
            channel = self._wanted.get(name)
        else:
            channel = None if quantity is None else Channel(name, name, quantity, unit or "")
        if channel is None:
            if len(self._others) <= _NAMED:
                self._others[name] = None
            return None
        if unit is not None and channel.unit not in (UNIT_OF_FILE, unit):
            raise RefusedInput(
                f"the file states the unit {unit!r}, the source {channel.unit!r}",
                file=self._file_name,
                line=line,
                field=repr(name),
                expected=f"one unit; {UNIT_OF_FILE!r} in the source takes the file's",
            )
        if channel.unit == UNIT_OF_FILE:
            if unit is None:
                raise RefusedInput(
                    "the file does not state the unit",
                    file=self._file_name,
                    line=line,
                    field=repr(name),
                    expected="a unit in the source",
                )
            channel = replace(channel, unit=unit)
        column = self._columns[name] = Column(channel, self._source, self._file_name, self._refused)
        return column

    def refuse(self, line: int, text: str, reason: str) -> None:
        """Refuse a row that cannot be told to belong to any channel."""
        self._rows += 1
        self._refused.append(RefusedRow(line, text[:REFUSED_TEXT], reason))

    def parsed(self) -> Parsed:
        """The file as read. Raises RefusedInput where a channel of the source is not in it, or nothing is."""
        for channel in self._source.channels:
            if channel.column not in self._columns:
                if not channel.required:
                    column = Column(channel, self._source, self._file_name, self._refused)
                    self._columns[channel.column] = column
                    continue
                met = [*self._columns, *self._others]
                raise RefusedInput(
                    "the file has no such column",
                    file=self._file_name,
                    field=repr(channel.column),
                    expected="one of " + ", ".join(met[:_NAMED]) if met else "readings",
                )
        rows = self._rows + sum(column.rows for column in self._columns.values())
        if not rows:
            raise RefusedInput("there are none", file=self._file_name, field="readings", expected="at least one")
        names = [channel.column for channel in self._source.channels] or list(self._columns)
        series = tuple(
            one for name in names for one in self._columns[name].table.series(self._columns[name].interval_seconds)
        )
        return Parsed(
            self._file_name, rows, series, tuple(sorted(self._refused, key=lambda row: row.line)), self.skipped
        )
