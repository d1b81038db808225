"""VCOM bulk measurements: exact texts, groups and devices, stamps with and without offset, and what is no such answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read, station_days
from oracle.formats.slots import MICRO_J_PER_WH

SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "vcom_bulk.json"
DAY = 1_782_000_000  # 2026-06-21T00:00:00Z


def source(column, quantity=Quantity.ENERGY, unit="kWh", **changes):
    return SourceConfig("vcom", ("*",), (Channel("e", column, quantity, unit),), (), 900, stamped="start", **changes)


def answer(values, group="meters"):
    return f'{{"{group}": {{{values}}}}}'.encode()


def test_read_vcom_inverter_energy_counts_by_its_text():
    parsed = read(SAMPLE.read_bytes(), source("inverters/Id100.1/E_INT"), "x")
    assert (parsed.used, parsed.refused) == (96, ())
    # Stamped at the start, two hours ahead of UTC: slot 24 of the file, the first with energy, is 04:00 UTC.
    slots = day_slots(parsed.series)[DAY].micro_j
    assert slots[16] == 20 * MICRO_J_PER_WH and slots[15] == 0 and slots[35] == 400 * MICRO_J_PER_WH
    text = '"2026-06-21T10:00:00Z": {"7": {"E_INT": 0.1000005}}'
    [series] = read(answer(text), source("meters/7/E_INT"), "x").series
    assert series.values == (100_000_500,)  # 100.0005 Wh, which no binary fraction is


def test_read_vcom_register_power_and_irradiance_of_one_answer_agree():
    data = SAMPLE.read_bytes()
    energy = day_slots(read(data, source("inverters/Id100.1/E_INT"), "x").series)[DAY].micro_j
    power = day_slots(read(data, source("inverters/Id100.1/P_AC", Quantity.POWER, "W"), "x").series)[DAY].micro_j
    register = source("meters/200/M_AC_E_EXP", Quantity.REGISTER)
    moved = day_slots(read(data, register, "x").series)[DAY].micro_j
    assert energy == power
    assert moved[1:] == energy[1:]
    ghi = read(data, source("basics/G_M0", Quantity.IRRADIANCE, "W/m2"), "x").series
    assert station_days("s", ghi)[DAY].ghi_w_m2[16] == 40.0


def test_read_vcom_stamp_without_an_offset_needs_the_zone_of_the_source():
    data = answer('"2026-06-21 12:00:00": {"7": {"E_INT": 1}}')
    assert read(data, source("meters/7/E_INT", utc_offset_seconds=7200), "x").series[0].starts == (DAY + 36_000,)
    [row] = read(data, source("meters/7/E_INT"), "x").refused
    assert "carries no UTC offset" in row.reason


@pytest.mark.parametrize(
    ("values", "line", "words"),
    [
        ('"2026-06-21T12:00:00Z": {"7": {"E_INT": null}}', 1, "field 'meters/7/E_INT' has no value"),
        ('"2026-06-21T12:00:00Z":\n {"7": {\n"E_INT": "12x"}}', 3, "field 'meters/7/E_INT'"),
        ('"2026-06-21T12:00:00Z": {"7": {"E_INT": 1e400}}', 1, "field 'meters/7/E_INT'"),
        ('"2026-06-21T12:00:00Z": {"7": {"E_INT": true}}', 1, "field 'meters/7/E_INT'"),
        ('\n"yesterday": {"7": {"E_INT": 1}}', 2, "field 'stamp': stamp 'yesterday'"),
        ('"2026-06-21T12:07:00Z": {"7": {"E_INT": 1}}', 1, "field 'stamp': stamp lies 420 s off"),
    ],
)
def test_read_vcom_value_that_cannot_be_used_is_refused_with_line_and_field(values, line, words):
    [row] = read(answer(values), source("meters/7/E_INT"), "x").refused
    assert row.line == line and words in row.reason


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"", 1, "ends early"),
        (b"[]", 1, "'[' stands where it cannot"),
        (b'{"meters": {"s": {"7": {"E_INT": 1}}', 1, "ends early"),
        (b'{"meters": {"s": {"7": {"E_INT": 1}}}} x', 1, "'x' is no JSON"),
        (b'{"meters":\n {"s": {"7": {"E_INT": 1,}}}}', 2, "stands where it cannot"),
        (b'{"meters": {"s": {"7": {"E_INT": 1 "P": 2}}}}', 1, "stands where it cannot"),
        (b'{"meters": {"s": {"7": {"E_INT": [1]}}}}', 1, "stands where it cannot"),
        (b'{"meters": {"s": {"7": {"E_INT": {"a": 1}}}}}', 1, "stands where it cannot"),
        (b'{"meters": {"s":\n\n {"7": {"E_INT": 1, "E_INT": 2}}}}', 3, "'E_INT' stands twice"),
        (b'{"meters": {"s": {"E_INT": 1}}}', 1, "a value stands under"),
        (b'{"cats": {"s": {"7": {"E_INT": 1}}}}', 1, "no group 'cats'"),
        (b'{"meters": {"s": {"7": {"E_INT": 01}}}}', 1, "stands where it cannot"),
        (b'{"meters": {"s": {"7": {"E_INT": NaN}}}}', 1, "is no JSON"),
        (b'{"meters": {"s": {"7": {"' + b"x" * 600 + b'": 1}}}}', 1, "very long"),
        (b'{"meters": ' * 400_000, 1, "stands where it cannot"),
        (b'{"meters": "' + b"x" * 30_000_000, 1, "is no JSON"),
    ],
)
def test_read_vcom_text_that_is_no_answer_is_refused_whole(data, line, words):
    with pytest.raises(RefusedInput) as refused:
        read(data, replace(source("meters/7/E_INT"), channels=()), "x")
    assert words in str(refused.value) and refused.value.line == line and refused.value.expected


def test_read_vcom_empty_groups_are_passed_over():
    data = b'{"basics": [], "calculations": {}, "meters": {"2026-06-21T12:00:00Z": {"7": {"E_INT": 1, "E_INT_interval": 900}}}}'
    parsed = read(data, source("meters/7/E_INT"), "x")
    assert (parsed.used, parsed.skipped, parsed.refused) == (1, 1, ())
