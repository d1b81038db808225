"""NEM12: market time, quality events, several streams, records that are not sound."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from nemreader import NEMFile

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


def several_streams(minutes, seed):
    """Three streams of one meter, two days each: days of one quality, days that vary with events, three decimals."""
    chance, count = random.Random(seed), 1440 // minutes
    lines = ["100,NEM12,202606230105,M,R"]
    for suffix in ("B1", "E1", "B2"):
        lines.append(f"200,NMI0000001,B1B2E1,{suffix},{suffix},N1,S,kWh,{minutes},")
        for date in ("20260621", "20260622"):
            values = [Decimal(chance.randrange(5_000)).scaleb(-3) for _ in range(count)]
            if chance.random() < 0.5:
                lines.append(day(values, chance.choice(("A", "S14", "F18", "E52")), date))
                continue
            lines.append(day(values, "V", date))
            first, second = sorted(chance.sample(range(1, count), 2))
            methods = chance.sample(("A", "S14", "F18", "E52"), 3)
            for begin, end, method in zip((1, first + 1, second + 1), (first, second, count), methods, strict=True):
                lines.append(f"400,{begin},{end},{method},,")
    return "\n".join([*lines, "900"]).encode()


def as_nemreader_says(data):
    """Per stream: Wh and being estimated of each slot that begins at a UTC second, as nemreader reads them.

    It says market time without a zone, and a binary number of kWh: with three decimals that is the nearest one.
    """
    slots, estimated = {}, {}
    for nmi, streams in NEMFile("x.csv").parse_nem_file(data.decode().splitlines()).readings.items():
        for suffix, readings in streams.items():
            name = f"{nmi}/{suffix}"
            slots[name], estimated[name] = Counter(), set()
            for one in readings:
                begin = (one.t_start.replace(tzinfo=UTC) - timedelta(hours=10)).timestamp()
                slots[name][int(begin // 900 * 900)] += round(one.read_value * 1000)
                if not one.quality_method.startswith("A"):
                    estimated[name].add(int(begin // 900 * 900))
    return slots, estimated


@pytest.mark.parametrize("data", [SAMPLE, *(several_streams(minutes, seed) for minutes in (5, 15, 30) for seed in (1, 2, 3))])  # fmt: skip
def test_read_nem12_slots_are_those_that_nemreader_reads(data):
    energy, estimated = as_nemreader_says(data)
    interval = int(data.split(b"\n200,")[1].split(b",")[7]) * 60
    channels = tuple(Channel(f"c{n}", name, Quantity.ENERGY, "kWh") for n, name in enumerate(energy))
    parsed = read(data, replace(SOURCE, channels=channels, interval_seconds=interval), "x")
    assert not parsed.refused and not parsed.skipped and len(energy) == len(parsed.series)
    for channel, series in zip(channels, parsed.series, strict=True):
        ours, guessed = {}, set()
        for start, slots in day_slots([series]).items():
            ours |= {start + 900 * slot: value for slot, value in enumerate(slots.micro_j) if value is not None}
            guessed |= {start + 900 * slot for slot, said in slots.quality.items() if said & Quality.ESTIMATED}
        spread = interval // 900 or 1
        theirs = {at: wh * MICRO_J_PER_WH for at, wh in energy[channel.column].items()}
        theirs |= {at + 900: 0 for at in theirs if spread == 2}  # the coarse rule: all of it in the first slot
        assert ours == theirs
        assert guessed == {at + 900 * n for at in estimated[channel.column] for n in range(spread)}


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
