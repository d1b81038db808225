"""Delimited text (CSV) by mapping: any columns, any unit, any stamp, exact decimals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from ..errors import RefusedInput, UnitError
from ..units import energy_micro_wh, power_micro_w
from .base import REFUSED_TEXT, Channel, Parsed, Quantity, RefusedRow, Series, SourceConfig

#: Microjoules that fit a signed 64-bit integer with room to spare; about 1.28 GWh.
_LIMIT_MICRO_J = 1 << 62
_NOT_A_VALUE = {"", "nan", "null", "none", "na", "n/a", "-"}
_WEATHER_UNITS = {Quantity.IRRADIANCE: "W/m2", Quantity.TEMPERATURE: "C"}


class _Refusal(Exception):
    """Why one row is not used."""


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a delimited file. See :func:`oracle.formats.read`."""
    lines = _lines(_text(data, source, file_name), source, file_name)
    header = next(lines, None)
    if header is None:
        raise RefusedInput("the file is empty", file=file_name, expected="a header row and data rows")
    columns = _columns(header[1], source, file_name, header[0])
    stamp_of = _Stamps(source)
    parsers = [(channel, columns[channel.column], _parser(channel, source, file_name)) for channel in source.channels]
    stamp_at = [columns[name] for name in source.stamp_columns]

    taken: dict[int, tuple[int | float, ...]] = {}
    conflicts: set[int] = set()
    refused: list[RefusedRow] = []
    rows = 0
    for line, cells in lines:
        rows += 1
        try:
            if len(cells) != len(header[1]):
                raise _Refusal(f"row has {len(cells)} fields, the header {len(header[1])}")
            start = stamp_of(" ".join(cells[at].strip() for at in stamp_at))
            values = tuple(_value(channel, cells[at], parse) for channel, at, parse in parsers)
            before = taken.get(start)
            if before is not None:
                if _same(before, values):
                    raise _Refusal("stamp and values stand in an earlier row")
                conflicts.add(start)
                # The smaller is kept whichever row came first, so that the order of rows changes nothing.
                taken[start] = min(before, values)
                raise _Refusal("stamp stands in an earlier row with other values; the smaller is kept as suspect")
            taken[start] = values
        except _Refusal as refusal:
            refused.append(RefusedRow(line, source.delimiter.join(cells)[:REFUSED_TEXT], str(refusal)))
    if not rows:
        raise RefusedInput(
            "there are no data rows", file=file_name, line=header[0], expected="at least one row below the header"
        )

    starts = tuple(sorted(taken))
    clash = frozenset(conflicts)
    series = tuple(
        Series(channel, source.interval_seconds, starts, tuple(taken[start][n] for start in starts), clash)
        for n, channel in enumerate(source.channels)
    )
    return Parsed(file_name, rows, series, tuple(refused))


def _same(one: tuple[int | float, ...], other: tuple[int | float, ...]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))


# -- the file as a whole ----------------------------------------------------------------------------


def _text(data: bytes, source: SourceConfig, file_name: str) -> str:
    try:
        text = data.decode(source.encoding)
    except UnicodeDecodeError as fault:
        line = data[: fault.start].count(b"\n") + 1
        raise RefusedInput(
            f"byte {fault.object[fault.start]:#04x} is not {source.encoding}",
            file=file_name,
            line=line,
            expected=f"text encoded as {source.encoding}",
        ) from None
    except LookupError:
        raise RefusedInput(
            f"encoding {source.encoding!r} is not known", file=file_name, expected="a Python codec name"
        ) from None
    if "\0" in text:
        raise RefusedInput(
            "there is a NUL byte", file=file_name, line=text[: text.index("\0")].count("\n") + 1, expected="plain text"
        )
    return text


def _lines(text: str, source: SourceConfig, file_name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with their 1-based line, without blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=source.delimiter, strict=True)
    try:
        for number, cells in enumerate(reader):
            if number >= source.skip_lines and cells and (len(cells) > 1 or cells[0].strip()):
                yield reader.line_num, cells
    except csv.Error as fault:
        raise RefusedInput(
            str(fault), file=file_name, line=reader.line_num, expected="well-formed delimited text"
        ) from None


def _columns(header: list[str], source: SourceConfig, file_name: str, line: int) -> dict[str, int]:
    names = [name.strip() for name in header]
    columns = {}
    for wanted in (*source.stamp_columns, *(channel.column for channel in source.channels)):
        found = [at for at, name in enumerate(names) if name == wanted]
        if len(found) != 1:
            reason = "the column is missing" if not found else f"the column stands {len(found)} times"
            known = ", ".join(repr(name) for name in names[:20])
            raise RefusedInput(
                reason, file=file_name, line=line, field=repr(wanted), expected=f"once in the header; it has {known}"
            )
        columns[wanted] = found[0]
    return columns


# -- one row ----------------------------------------------------------------------------------------


class _Stamps:
    """Stamp text to the UTC second at which its interval starts."""

    def __init__(self, source: SourceConfig):
        self._source = source
        self._zone: tzinfo | None = source.timezone
        if source.utc_offset_seconds is not None:
            self._zone = timezone(timedelta(seconds=source.utc_offset_seconds))
        self._seen_twice_an_hour: set[datetime] = set()

    def __call__(self, text: str) -> int:
        source = self._source
        seconds = self._seconds(text.strip()) - source.stamp_offset_seconds
        if source.stamped == "end":
            seconds -= source.interval_seconds
        off = (seconds + source.stamp_tolerance_seconds) % source.interval_seconds - source.stamp_tolerance_seconds
        if off > source.stamp_tolerance_seconds:
            raise _Refusal(f"stamp lies {off} s off the {source.interval_seconds} s grid")
        return seconds - off

    def _seconds(self, text: str) -> int:
        try:
            if self._source.stamp_format == "iso":
                moment = datetime.fromisoformat(text)
            else:
                moment = datetime.strptime(text, self._source.stamp_format)  # noqa: DTZ007 (its zone is added below)
        except ValueError:
            raise _Refusal(f"stamp {text[:40]!r} is not of the form {self._source.stamp_format}") from None
        if moment.microsecond:
            raise _Refusal(f"stamp {text[:40]!r} has a fraction of a second")
        if moment.tzinfo is None:
            moment = self._local(moment, text)
        return int(moment.timestamp())

    def _local(self, moment: datetime, text: str) -> datetime:
        if self._zone is None:
            raise _Refusal(f"stamp {text[:40]!r} carries no UTC offset and the source states none")
        local = moment.replace(tzinfo=self._zone)
        if local.utcoffset() == local.replace(fold=1).utcoffset():
            return local
        if local.astimezone(UTC).astimezone(self._zone).replace(tzinfo=None) != moment:
            raise _Refusal(f"stamp {text[:40]!r} does not exist: clocks were put forward")
        # The hour that comes twice when clocks go back: the file's first is summer time, its second is not.
        if moment in self._seen_twice_an_hour:
            return local.replace(fold=1)
        self._seen_twice_an_hour.add(moment)
        return local


def _parser(channel: Channel, source: SourceConfig, file_name: str) -> Callable[[str], int | float]:
    mark, unit, seconds = source.decimal_mark, channel.unit, source.interval_seconds

    def power(text: str) -> int:
        return _bounded(power_micro_w(text, unit, decimal_mark=mark), seconds)

    def energy(text: str) -> int:
        return _bounded(energy_micro_wh(text, unit, decimal_mark=mark), 3_600)

    if channel.quantity.is_exact:
        parse = power if channel.quantity is Quantity.POWER else energy
        try:
            parse("0")
        except UnitError as fault:
            raise RefusedInput(str(fault), file=file_name, field=repr(channel.column)) from None
        return parse
    if channel.unit != _WEATHER_UNITS[channel.quantity]:
        raise RefusedInput(
            f"unit {channel.unit!r} does not fit {channel.quantity.value}",
            file=file_name,
            field=repr(channel.column),
            expected=_WEATHER_UNITS[channel.quantity],
        )
    return lambda text: _float(text, mark)


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


def _value(channel: Channel, text: str, parse: Callable[[str], int | float]) -> int | float:
    plain = text.strip()
    if plain.lower() in _NOT_A_VALUE:
        if not channel.required:
            return math.nan
        raise _Refusal(f"field {channel.column!r} has no value ({plain[:20]!r})")
    try:
        return parse(plain)
    except UnitError as fault:
        raise _Refusal(f"field {channel.column!r}: {fault}") from None
