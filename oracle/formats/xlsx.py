"""Excel workbooks (XLSX) by the same mapping as delimited text: the first sheet, its first row the header."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from ..errors import RefusedInput
from .base import Parsed, SourceConfig
from .containers import ZIP, open_zip
from .delimited import Row, guess_table, read_table

_MAX_ENTRIES = 200
_MAX_COLUMNS = 200


def recognises(data: bytes) -> bool:
    return data.startswith(ZIP[0]) and b"xl/workbook.xml" in data


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a workbook. A cell's number counts as its shortest decimal text, which is what the sheet was given."""
    return read_table(_rows(data, source, file_name), source, file_name)


def guess(data: bytes, source: SourceConfig, file_name: str) -> tuple[SourceConfig, list[str]]:
    """As :func:`oracle.formats.delimited.guess`."""
    return guess_table(_rows(data, source, file_name), source, file_name)


def _rows(data: bytes, source: SourceConfig, file_name: str) -> Iterator[Row]:
    # Imported here: half a second that nothing but a workbook needs.
    from openpyxl import load_workbook

    open_zip(data, file_name, source.max_bytes, _MAX_ENTRIES).close()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and extensions that are of no use here
            book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            sheet = book.worksheets[0]
            # A sheet may claim any size; what it really holds is what counts.
            sheet.reset_dimensions()
            number = 0
            width = 0
            for number, cells in enumerate(sheet.iter_rows(values_only=True, max_col=_MAX_COLUMNS), 1):
                texts = [_text(cell, source.decimal_mark) for cell in cells]
                while len(texts) > width and not texts[-1]:
                    texts.pop()
                texts += [""] * (width - len(texts))
                if number <= source.skip_lines or not any(texts):
                    continue
                width = width or len(texts)
                yield number, texts
    except RefusedInput:
        raise
    except Exception as fault:  # openpyxl lets out whatever its reading of a broken workbook ran into
        raise RefusedInput(
            f"the workbook cannot be read: {type(fault).__name__}", file=file_name, expected="an XLSX workbook"
        ) from None


def _text(cell: object, decimal_mark: str) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, int | float):
        return repr(cell).replace(".", decimal_mark)
    if isinstance(cell, datetime):
        # A serial day number holds a second to a few microseconds.
        return (cell + timedelta(microseconds=500_000)).replace(microsecond=0).isoformat(" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell)
