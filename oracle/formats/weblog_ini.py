"""Data logger text of Meteocontrol's web'log and blue'Log: files ``delta_analog*`` and ``delta_inverter*``."""

from __future__ import annotations

from datetime import datetime

from ..errors import RefusedInput
from .base import Parsed, Quantity, RowRefusal, SourceConfig
from .delimited import rows
from .readings import Column, Readings, unit_of
from .stamps import Stamps

_TIME, _INTERVAL, _SERIAL = "Uhrzeit", "Intervall", "Serien Nummer"
_QUANTITIES = {
    "Pac": Quantity.POWER,
    "E_Int": Quantity.ENERGY,
    "E_Total": Quantity.REGISTER,
}


def recognises(data: bytes) -> bool:
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"[info]") and b"[messung]" in head


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a file. Columns are ``<serial>/<column>``, of sensors ``<column>`` alone; units are those of its unit row."""
    readings, stamp_of = Readings(source, file_name), Stamps(source)
    section = date = ""
    header: list[str] = []
    units: list[str] = []
    columns: dict[str, list[tuple[int, Column | None]]] = {}

    def columns_of(serial: str, line: int) -> list[tuple[int, Column | None]]:
        prefix = f"{serial}/" if serial else ""
        return [
            (at, readings.column(prefix + name, unit=unit_of(unit), quantity=_quantity(name), line=line))
            for at, (name, unit) in enumerate(zip(header, units, strict=True))
            if name not in (_TIME, _INTERVAL, _SERIAL) and unit
        ]

    for line, cells in rows(data, source, file_name, delimiter=";"):
        first = cells[0].strip()
        if first.startswith("["):
            section = first.lower()
            if section not in ("[info]", "[messung]", "[start]"):
                raise RefusedInput(
                    f"the section {first[:40]!r} is not known", file=file_name, line=line,
                    expected="[info], [messung], [Start]",
                )  # fmt: skip
            if section == "[start]":
                _check(header, units, date, file_name, line)
        elif section == "[info]":
            key, _, value = first.partition("=")
            date = value.strip() if key.strip() == "Datum" else date
        elif section == "[messung]":
            if not header:
                header = [cell.strip() for cell in cells]
            elif not units:
                units = [cell.strip() for cell in cells]
            else:
                raise RefusedInput(
                    "there is a third row", file=file_name, line=line, field="[messung]",
                    expected="a row of names and a row of units",
                )  # fmt: skip
        elif section != "[start]":
            raise RefusedInput("text stands before any section", file=file_name, line=line, expected="[info]")
        elif first == "Info":
            readings.skipped += 1
        elif len(cells) != len(header):
            readings.refuse(line, ";".join(cells), f"row has {len(cells)} fields, expected {len(header)}")
        else:
            serial = cells[header.index(_SERIAL)].strip() if _SERIAL in header else ""
            if _SERIAL in header and not serial:
                readings.refuse(line, ";".join(cells), f"field {_SERIAL!r} is empty")
                continue
            if serial not in columns:
                columns[serial] = columns_of(serial, line)
            stamp, span = f"20{date} {first}", cells[header.index(_INTERVAL)].strip()
            start: int | None = None
            fault = ""
            for at, column in columns[serial]:
                if column is None:
                    readings.skipped += 1
                    continue
                if start is None and not fault:
                    try:
                        start = _start(stamp, span, column, stamp_of, serial)
                    except RowRefusal as refusal:
                        fault = str(refusal)
                if start is None:
                    column.refuse(line, ";".join(cells), fault)
                else:
                    column.interval_seconds = column.interval_seconds or int(span)
                    column.take(line, cells[at], start)
    return readings.parsed()


def _start(stamp: str, span: str, column: Column, stamp_of: Stamps, serial: str) -> int:
    if not span.isascii() or not span.isdigit():
        raise RowRefusal(f"field {_INTERVAL!r}: {span[:20]!r} is not a number of seconds")
    seconds = column.spans(int(span))
    try:
        moment = datetime.strptime(stamp, "%Y%m%d %H:%M:%S")  # noqa: DTZ007 (its zone is added below)
    except ValueError:
        raise RowRefusal(f"field {_TIME!r}: {stamp[9:49]!r} is not of the form HH:MM:SS") from None
    return stamp_of.start(stamp_of.utc(moment, stamp, key=serial), seconds)


def _quantity(name: str) -> Quantity | None:
    return Quantity.IRRADIANCE if name.startswith(("G_M", "G_H")) else _QUANTITIES.get(name)


def _check(header: list[str], units: list[str], date: str, file_name: str, line: int) -> None:
    fault = None
    if len(date) != 6 or not date.isascii() or not date.isdigit():
        fault = ("Datum", f"{date[:20]!r} is not a date", "YYMMDD in [info]")
    elif len(header) != len(units):
        fault = ("[messung]", f"{len(header)} names and {len(units)} units", "one unit field a name, empty where none")
    elif len(set(header)) != len(header):
        fault = ("[messung]", "a name stands twice", "each name once")
    elif missing := [name for name in (_TIME, _INTERVAL) if name not in header]:
        fault = (missing[0], "the column is missing", f"{_TIME} first and {_INTERVAL}")
    elif header[0] != _TIME or units[header.index(_INTERVAL)] != "s":
        fault = ("[messung]", "time or its unit stands elsewhere", f"{_TIME} first, {_INTERVAL} in s")
    if fault:
        raise RefusedInput(fault[1], file=file_name, line=line, field=fault[0], expected=fault[2])
