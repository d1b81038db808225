"""Delimited text (CSV) by mapping: any columns, any unit, any stamp, exact decimals."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise

from ..errors import RefusedInput
from .base import REFUSED_TEXT, Channel, Parsed, Quantity, RefusedRow, RowRefusal, SourceConfig
from .readings import Table, parser, unit_of
from .stamps import Stamps

#: A row and the 1-based line it ends on.
Row = tuple[int, list[str]]
_CHUNK = 1 << 20


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a delimited file. See :func:`oracle.formats.read`."""
    return read_table(rows(data, source, file_name), source, file_name)


def recognises(data: bytes) -> bool:
    """Two lines or more that one delimiter parts into equally many fields."""
    return delimiter_of(data) is not None


def read_table(table: Iterator[Row], source: SourceConfig, file_name: str) -> Parsed:
    """Rows below a header, whatever they stood in, by the mapping of ``source``."""
    header = next(table, None)
    if header is None:
        raise RefusedInput("the file is empty", file=file_name, expected="a header row and data rows")
    columns = _columns(header[1], source, file_name, header[0])
    stamp_of = Stamps(source)
    parsers = [(columns[channel.column], parser(channel, source, file_name)) for channel in source.channels]
    stamp_at = [columns[name] for name in source.stamp_columns]
    serial_at = [columns[channel.serial_column] for channel in source.channels if channel.serial_column]

    taken = Table(source.channels)
    refused: list[RefusedRow] = []
    count = 0
    for line, cells in table:
        count += 1
        try:
            if len(cells) != len(header[1]):
                raise RowRefusal(f"row has {len(cells)} fields, the header {len(header[1])}")
            start = stamp_of(" ".join(cells[at].strip() for at in stamp_at))
            values = tuple(parse(cells[at]) for at, parse in parsers)
            taken.add(start, values, serial=" ".join(cells[at].strip() for at in serial_at))
        except RowRefusal as refusal:
            refused.append(RefusedRow(line, source.delimiter.join(cells)[:REFUSED_TEXT], str(refusal)))
    if not count:
        raise RefusedInput(
            "there are no data rows", file=file_name, line=header[0], expected="at least one row below the header"
        )
    return Parsed(file_name, count, taken.series(source.interval_seconds), tuple(refused))


# -- the file as a whole ----------------------------------------------------------------------------


def rows(data: bytes, source: SourceConfig, file_name: str, delimiter: str | None = None) -> Iterator[Row]:
    """Rows of delimited text, without blank lines. Raises RefusedInput before the first where the text is unsound."""
    _check_text(data, source, file_name)
    text = io.TextIOWrapper(io.BytesIO(data), encoding=source.encoding, newline="")
    reader = csv.reader(text, delimiter=delimiter or source.delimiter, strict=True)
    try:
        for number, cells in enumerate(reader):
            if number >= source.skip_lines and cells and (len(cells) > 1 or cells[0].strip()):
                yield reader.line_num, cells
    except csv.Error as fault:
        raise RefusedInput(
            str(fault), file=file_name, line=reader.line_num, expected="well-formed delimited text"
        ) from None


def _check_text(data: bytes, source: SourceConfig, file_name: str) -> None:
    """Read all of it once, a piece at a time, so that nothing is used of a file that is no text further down."""
    try:
        decoder = codecs.getincrementaldecoder(source.encoding)()
    except LookupError:
        raise RefusedInput(
            f"encoding {source.encoding!r} is not known", file=file_name, expected="a Python codec name"
        ) from None
    line = 1
    for at in range(0, max(len(data), 1), _CHUNK):
        try:
            text = decoder.decode(data[at : at + _CHUNK], final=at + _CHUNK >= len(data))
        except UnicodeDecodeError as fault:
            line += fault.object[: fault.start].count(b"\n")
            raise RefusedInput(
                f"byte {fault.object[fault.start]:#04x} is not {source.encoding}",
                file=file_name,
                line=line,
                expected=f"text encoded as {source.encoding}",
            ) from None
        if "\0" in text:
            line += text[: text.index("\0")].count("\n")
            raise RefusedInput("there is a NUL byte", file=file_name, line=line, expected="plain text")
        line += text.count("\n")


def _columns(header: list[str], source: SourceConfig, file_name: str, line: int) -> dict[str, int]:
    names = [name.strip() for name in header]
    serials = (channel.serial_column for channel in source.channels if channel.serial_column)
    columns = {}
    for wanted in (*source.stamp_columns, *(channel.column for channel in source.channels), *serials):
        found = [at for at, name in enumerate(names) if name == wanted]
        if len(found) != 1:
            reason = "the column is missing" if not found else f"the column stands {len(found)} times"
            known = ", ".join(repr(name) for name in names[:20])
            raise RefusedInput(
                reason, file=file_name, line=line, field=repr(wanted), expected=f"once in the header; it has {known}"
            )
        columns[wanted] = found[0]
    return columns


# -- a file nobody has described --------------------------------------------------------------------

_UNIT_IN_HEADER = re.compile(r"[\[(_ ](MWh|kWh|Wh|MW|kW|W)[\])]?$")
_STAMP_FORMATS = (
    "iso",
    *(f"{date} %H:%M{seconds}" for date in ("%d-%m-%Y", "%d.%m.%Y", "%d/%m/%Y") for seconds in ("", ":%S")),
)


def delimiter_of(data: bytes) -> str | None:
    """The one of ``; TAB , |`` that parts the first lines into equally many fields, two at least."""
    lines = [line for line in data[:4096].decode("latin-1").splitlines() if line.strip()][:-1][:20]
    if data[:4096] == data:
        lines = [line for line in data.decode("latin-1").splitlines() if line.strip()][:20]
    for mark in ";\t,|":
        if len(lines) > 1 and {line.count(mark) for line in lines} == {lines[0].count(mark)} and mark in lines[0]:
            return mark
    return None


def guess(data: bytes, source: SourceConfig, file_name: str) -> tuple[SourceConfig, list[str]]:
    """A mapping for a file without a source, for a look into it only, and in words what was assumed.

    Takes the first columns that read as a stamp, and the one whose header ends in a unit.
    """
    source = replace(source, delimiter=delimiter_of(data) or source.delimiter)
    return guess_table(rows(data, source, file_name), source, file_name)


def guess_table(table: Iterator[Row], source: SourceConfig, file_name: str) -> tuple[SourceConfig, list[str]]:
    """As :func:`guess`, for rows whatever they stood in."""
    header = [name.strip() for name in (next(table, None) or (1, [""]))[1]]
    sample = [cells for _, cells in islice(table, 5) if len(cells) == len(header)]
    stamp = next(
        (
            (pattern, width)
            for width in (1, 2)
            for pattern in _STAMP_FORMATS
            if sample and width < len(header) and all(_reads_as(pattern, cells[:width], source) for cells in sample)
        ),
        None,
    )
    units = [(name, match[1]) for name in header if (match := _UNIT_IN_HEADER.search(name))]
    if stamp is None or len(units) != 1:
        raise RefusedInput(
            "the file does not say which columns hold stamp and energy",
            file=file_name,
            line=1,
            expected="a source in the sites file, or a stamp in front and one header with a unit such as 'energy (kWh)'",
        )
    (pattern, width), (name, unit) = stamp, units[0]
    quantity = Quantity.ENERGY if unit.endswith("h") else Quantity.POWER
    values = [cells[header.index(name)] for cells in sample]
    mark = "," if source.delimiter != "," and any("," in value for value in values) else "."
    source = replace(
        source,
        channels=(Channel(name, name, quantity, unit_of(unit)),),
        stamp_columns=tuple(header[:width]),
        stamp_format=pattern,
        decimal_mark=mark,
    )
    stamps = Stamps(replace(source, interval_seconds=1, stamped="start"))
    moments = [stamps(" ".join(cells[:width])) for cells in sample]
    gaps = {later - earlier for earlier, later in pairwise(moments) if later > earlier}
    interval = min(gaps, default=900)
    said = [
        f"columns: stamp {' + '.join(header[:width])} as {pattern}, {quantity.value} {name!r} in {unit}",
        f"delimiter {source.delimiter!r}, decimal mark {mark!r}",
        f"interval_seconds: {interval}, the smallest step of the first stamps",
    ]
    return replace(source, interval_seconds=interval), said


def _reads_as(pattern: str, cells: list[str], source: SourceConfig) -> bool:
    text = " ".join(cell.strip() for cell in cells)
    try:
        Stamps(replace(source, stamp_format=pattern)).moment(text)
    except RowRefusal:
        return False
    return ":" in text
