"""NEM12: market time, quality events, several streams, records that are not sound."""

from dataclasses import replace
from pathlib import Path

import pytest

from oracle.domain import Quality
from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read
from oracle.formats.slots import MICRO_J_PER_WH

SAMPLE = (Path(__file__).resolve().parent.parent / "samples" / "nem12.csv").read_bytes()
EXPORT = Channel("e", "NMI0000001/B1", Quantity.ENERGY, "kWh")
SOURCE = SourceConfig("nem12", ("*",), (EXPORT,), (), 900)
MIDNIGHT = 1_781_964_000  # 2026-06-21T00:00:00+10:00


def file(*records, minutes=15, end="900"):
    return "\n".join(
        ["100,NEM12,202606220105,M,R", f"200,NMI0000001,B1,B1,B1,N1,S,kWh,{minutes},", *records, end]
    ).encode()


def day(values, quality="A", date="20260621"):
    return ",".join(["300", date, *map(str, values), quality, "", "", "20260622010000", ""])


def test_read_nem12_stream_stands_in_market_time():
    parsed = read(SAMPLE, SOURCE, "x")
    assert (parsed.rows, parsed.skipped, parsed.refused) == (96, 96, ())
    assert parsed.series[0].starts == tuple(MIDNIGHT + 900 * n for n in range(96))
    slots = [one for one_day in day_slots(parsed.series).values() for one in one_day.micro_j if one is not None]
    # 2 x 265.920 + 18.000 kWh: see tests/oracle/test_formats_samples.py.
    assert sum(slots) == 549_840 * MICRO_J_PER_WH


def test_read_nem12_substituted_intervals_are_estimated():
    # 400,41,44,S14: intervals 41 to 44 of the day.
    quality = read(SAMPLE, SOURCE, "x").series[0].quality
    assert quality == {MIDNIGHT + 900 * n: Quality.ESTIMATED for n in range(40, 44)}


@pytest.mark.parametrize(("minutes", "count"), [(5, 288), (30, 48)])
def test_read_nem12_finer_intervals_are_summed_and_coarser_ones_stand_in_their_first_slot(minutes, count):
    parsed = read(file(day(["0.25"] * count), minutes=minutes), replace(SOURCE, interval_seconds=minutes * 60), "x")
    days = day_slots(parsed.series)
    slots = [one for one_day in days.values() for one in one_day.micro_j if one is not None]
    assert len(slots) == 96 and sum(slots) == count * 250 * MICRO_J_PER_WH
    assert slots[:2] == ([750 * MICRO_J_PER_WH] * 2 if minutes == 5 else [250 * MICRO_J_PER_WH, 0])


@pytest.mark.parametrize(
    ("events", "lines", "word"),
    [
        (["400,1,40,A,,", "400,41,96,N,,"], {3}, "there is no value"),
        (["400,1,40,A,,", "400,42,96,A,,"], {3}, "no quality event"),
        (["400,1,40,A,,", "400,40,96,A,,"], {3}, "two quality events"),
        (["400,1,97,A,,"], {3}, "not sound"),
        (["400,1,96,X,,"], {3}, "not sound"),
        (["400,1,96,V,,"], {3}, "not sound"),
        ([], {3}, "no quality event"),
    ],
)
def test_read_nem12_intervals_without_a_sound_quality_are_refused(events, lines, word):
    parsed = read(file(day(["1"] * 96, "V"), *events), SOURCE, "x")
    assert {row.line for row in parsed.refused} == lines
    assert all(word in row.reason for row in parsed.refused)
    assert parsed.rows == 96 == parsed.used + len(parsed.refused)


def test_read_nem12_null_day_and_bad_values_are_refused_by_interval():
    values = ["1"] * 96
    values[4], values[7] = "x", ""
    parsed = read(file(day(["0"] * 96, "N", "20260620"), day(values), day(["1"] * 96, "F18", "20260622")), SOURCE, "x")
    assert [row.line for row in parsed.refused] == [3] * 96 + [4, 4]
    assert "'x' is not a decimal" in parsed.refused[96].reason
    assert set(parsed.series[0].quality.values()) == {Quality.ESTIMATED} and len(parsed.series[0].quality) == 96


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (day(["1"] * 95), "fields"),
        (day(["1"] * 96, date="20260231"), "IntervalDate"),
        (day(["1"] * 96, date="2026062"), "IntervalDate"),
        (day(["1"] * 96, quality="Q"), "QualityMethod"),
    ],
)
def test_read_nem12_day_that_is_not_sound_is_refused_with_its_line(record, word):
    parsed = read(file(day(["2"] * 96), record), SOURCE, "x")
    assert parsed.used == 96 and [row.line for row in parsed.refused] == [4]
    assert word in parsed.refused[0].reason or "QualityMethod" in parsed.refused[0].reason


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (file(day(["1"] * 96), end="500,O,,,"), "900"),
        (file(day(["1"] * 96), end="900\n300,1"), None),
        (file(day(["1"] * 96)).replace(b"NEM12", b"NEM13"), "100"),
        (file("700,x", day(["1"] * 96)), "record"),
        (b"100,NEM12,1,M,R\n" + day(["1"] * 96).encode() + b"\n900", "300"),
        (file(minutes=7), "IntervalLength"),
        (file(minutes=30), "IntervalLength"),
        (file(day(["1"] * 96)).replace(b"kWh", b"MWh"), "'NMI0000001/B1'"),
        (file(day(["1"] * 96)).replace(b"NMI0000001", b"NMI0000002"), "'NMI0000001/B1'"),
        (file(day(["1"] * 96)).replace(b"NMI0000001", b""), "NMI"),
    ],
)
def test_read_nem12_file_that_is_not_sound_is_refused(data, field):
    with pytest.raises(RefusedInput) as refused:
        read(data, SOURCE, "x")
    assert refused.value.field == field and refused.value.expected


def test_read_nem12_source_in_another_zone_is_refused():
    with pytest.raises(RefusedInput, match="market time"):
        read(SAMPLE, replace(SOURCE, utc_offset_seconds=0), "x")
    assert read(SAMPLE, replace(SOURCE, utc_offset_seconds=36_000), "x").used == 96
