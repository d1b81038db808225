"""Excel workbooks by the mapping of delimited text."""

import io
import random
import zipfile
from datetime import datetime, timedelta

import openpyxl
import pytest

from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read, sniff
from oracle.formats.slots import MICRO_J_PER_WH
from oracle.formats.survey import survey

DAY = 1_782_000_000
MIDNIGHT = datetime(2026, 6, 21)  # noqa: DTZ001 (a sheet has no zone)
CHANNEL = Channel("e", "Energy (kWh)", Quantity.ENERGY, "kWh")
SOURCE = SourceConfig("xlsx", ("*",), (CHANNEL,), ("Time",), 900, utc_offset_seconds=0)
VALUES = [round(0.001 * n * n, 3) for n in range(96)]
# 0.001 x (0 + 1 + 4 + ... + 95^2) = 0.001 x 95 x 96 x 191 / 6 kWh
TOTAL_WH = 95 * 96 * 191 // 6


def workbook(rows, header=("Time", "Energy (kWh)", "Note")):
    book = openpyxl.Workbook()
    for row in (header, *rows):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def rows():
    return [[MIDNIGHT + timedelta(minutes=15 * n), value, None] for n, value in enumerate(VALUES)]


def test_read_workbook_gives_the_sum_of_its_decimals():
    data = workbook(rows())
    assert sniff(data, "x.xlsx") == "xlsx"
    parsed = read(data, SOURCE, "x.xlsx")
    assert (parsed.rows, parsed.refused) == (96, ())
    assert sum(day_slots(parsed.series)[DAY].micro_j) == TOTAL_WH * MICRO_J_PER_WH


def test_survey_workbook_finds_stamp_and_energy():
    found = survey(workbook(rows()), "x.xlsx")
    assert [(column.column, column.slots, column.energy_wh) for column in found.counted] == [
        ("Energy (kWh)", 96, TOTAL_WH)
    ]


def test_read_workbook_with_texts_and_a_decimal_comma():
    texts = [[f"{row[0]:%d.%m.%Y %H:%M}", f"{row[1]:.3f}".replace(".", ","), "x"] for row in rows()]
    texts[50][1] = VALUES[50]
    source = SourceConfig(**{
        **{name: getattr(SOURCE, name) for name in SOURCE.__slots__}, "decimal_mark": ",", "stamp_format": "%d.%m.%Y %H:%M",
    })  # fmt: skip
    parsed = read(workbook(texts), source, "x")
    assert parsed.refused == ()
    assert sum(day_slots(parsed.series)[DAY].micro_j) == TOTAL_WH * MICRO_J_PER_WH


@pytest.mark.parametrize("seed", range(20))
def test_read_workbook_with_one_bad_cell_refuses_its_row_with_line_and_field(seed):
    rng = random.Random(seed)
    at, kind = rng.randrange(96), seed % 3
    sheet = rows()
    whole = dict(zip(*_series(workbook(sheet)), strict=True))
    sheet[at][(1, 0, 1)[kind]] = ("12 kWh", "yesterday", "=1+1")[kind]
    parsed = read(workbook(sheet), SOURCE, "x")
    # The header is line 1.
    assert [row.line for row in parsed.refused] == [at + 2]
    assert "field" in parsed.refused[0].reason or "stamp" in parsed.refused[0].reason
    kept = dict(zip(parsed.series[0].starts, parsed.series[0].values, strict=True))
    assert kept == {start: value for start, value in whole.items() if start != DAY + 900 * at}


@pytest.mark.parametrize("seed", range(6))
def test_read_workbook_with_flipped_bits_is_refused_or_gives_true_readings(seed):
    rng = random.Random(seed)
    whole = dict(zip(*_series(workbook(rows())), strict=True))
    data = bytearray(workbook(rows()))
    for _ in range(40):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    try:
        parsed = read(bytes(data), SOURCE, "x")
    except RefusedInput as refused:
        assert refused.expected
    else:
        kept = dict(zip(parsed.series[0].starts, parsed.series[0].values, strict=True))
        assert kept.items() <= whole.items()


def _series(data):
    [series] = read(data, SOURCE, "x").series
    return series.starts, series.values


def test_read_workbook_that_is_a_bomb_or_has_entities_is_refused():
    data = workbook(rows())
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            text = old.read(info)
            if info.filename.endswith("sheet1.xml"):
                text = b'<!DOCTYPE x [<!ENTITY a "1">]>' + text
            new.writestr(info.filename, text)
    with pytest.raises(RefusedInput):
        read(out.getvalue(), SOURCE, "x")
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as new:
        new.writestr("xl/more.xml", bytes(200_000_000))
    with pytest.raises(RefusedInput, match="too large"):
        read(out.getvalue(), SOURCE, "x")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04xl/workbook.xml", b"time,value\n1,2\n"])
def test_read_file_that_is_no_workbook_is_refused(data):
    with pytest.raises(RefusedInput):
        read(data, SOURCE, "x")
