"""Meteocontrol import interface (MII) as CSV: six header rows, then one row a stamp."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from ..errors import RefusedInput
from .base import Parsed, Quantity, RowRefusal, SourceConfig
from .delimited import delimiter_of, rows
from .readings import Column, Readings, unit_of
from .stamps import Stamps

_HEADER = ("datalogger", "type", "name", "uid", "unit", "abbreviation")

#: What the vendor's abbreviations hold: quantity, and the unit where a file does not state one.
ABBREVIATIONS = {
    "M_AC_E_EXP": (Quantity.REGISTER, "kWh"),
    "M_AC_E_IMP": (Quantity.REGISTER, "kWh"),
    "M_AC_P": (Quantity.POWER, "W"),
    "E_INT": (Quantity.ENERGY, "kWh"),
    "E_TOTAL": (Quantity.REGISTER, "kWh"),
    "P_AC": (Quantity.POWER, "W"),
    "SRAD": (Quantity.IRRADIANCE, "W/m2"),
    "SRAD_DIFFUSE": (Quantity.IRRADIANCE, "W/m2"),
    "SRAD_DIRECT": (Quantity.IRRADIANCE, "W/m2"),
}


def recognises(data: bytes) -> bool:
    lines = data[:65536].removeprefix(b"\xef\xbb\xbf").splitlines()[:6]
    return len(lines) == 6 and all(line.startswith(name.encode()) for line, name in zip(lines, _HEADER, strict=True))


def is_import(column: str) -> bool:
    return column.endswith("/M_AC_E_IMP")


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a file. Columns are ``<uid>/<abbreviation>``; the unit is the one of the file's unit row."""
    table = rows(data, source, file_name)
    header: list[list[str]] = []
    for name in _HEADER:
        line, cells = next(table, (len(header) + 1, [""]))
        if cells[0].strip() != name:
            raise RefusedInput(
                f"the row begins with {cells[0][:40]!r}", file=file_name, line=line, field=name,
                expected=f"the header rows {', '.join(_HEADER)} in this order",
            )  # fmt: skip
        header.append([cell.strip() for cell in cells])
        if len(header) > 1 and len(cells) != len(header[1]):
            raise RefusedInput(
                f"the row has {len(cells)} fields", file=file_name, line=line, field=name,
                expected=f"{len(header[1])} as in the row 'type'",
            )  # fmt: skip

    readings, stamp_of = Readings(source, file_name), Stamps(source)
    columns: list[Column | None] = []
    names: list[str] = []
    for uid, unit, abbreviation in zip(header[3][1:], header[4][1:], header[5][1:], strict=True):
        name = f"{uid}/{abbreviation}"
        if name in names:
            raise RefusedInput(
                "the column stands twice",
                file=file_name,
                line=6,
                field=repr(name),
                expected="each device and value once",
            )
        names.append(name)
        quantity = ABBREVIATIONS.get(abbreviation, (None, ""))[0]
        columns.append(readings.column(name, unit=unit_of(unit), quantity=quantity, line=5))
    unused = columns.count(None)
    for line, cells in table:
        if len(cells) != len(columns) + 1:
            text = source.delimiter.join(cells)
            readings.refuse(line, text, f"row has {len(cells)} fields, expected {len(columns) + 1}")
            continue
        readings.skipped += unused
        try:
            start = stamp_of(cells[0])
        except RowRefusal as refusal:
            for column, text in zip(columns, cells[1:], strict=True):
                if column is not None:
                    column.refuse(line, f"{cells[0]} {text}", f"field 'stamp': {refusal}")
            continue
        for column, text in zip(columns, cells[1:], strict=True):
            if column is not None:
                column.take(line, text, start)
    return readings.parsed()


def guess(data: bytes, source: SourceConfig, file_name: str) -> tuple[SourceConfig, list[str]]:
    """Delimiter and interval for a look into a file, and in words what was assumed."""
    source = replace(source, delimiter=delimiter_of(data.split(b"\n", 1)[-1]) or source.delimiter)
    stamps = Stamps(replace(source, interval_seconds=1, stamped="start"))
    moments: list[int] = []
    for number, (_, cells) in enumerate(rows(data, source, file_name)):
        if number >= len(_HEADER):
            try:
                moments.append(stamps(cells[0]))
            except RowRefusal:
                continue
        if len(moments) > 5:
            break
    gaps = {later - earlier for earlier, later in pairwise(moments) if later > earlier}
    interval = min(gaps, default=900)
    return replace(source, interval_seconds=interval), [
        f"interval_seconds: {interval}, the smallest step of the first stamps"
    ]
