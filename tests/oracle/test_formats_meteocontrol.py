"""MII CSV, MII XML and web'log text: units of the file, several devices, lines that are passed over."""

from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read, station_days
from oracle.formats.slots import MICRO_J_PER_WH

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
DAY = 1_782_000_000  # 2026-06-21T00:00:00Z
PLAIN = SourceConfig("", ("*",), (), (), 900, utc_offset_seconds=0, stamped="end")


def source(name, *channels, **changes):
    return replace(PLAIN, format=name, channels=channels, **changes)


def sample(name):
    return (SAMPLES / name).read_bytes()


# -- MII CSV ----------------------------------------------------------------------------------------

POWER = Channel("p", "M1/M_AC_P", Quantity.POWER, "W")
REGISTER = Channel("e", "M1/M_AC_E_EXP", Quantity.REGISTER, "kWh")


def test_read_mii_csv_power_and_register_agree():
    power = read(sample("meteocontrol_mii.csv"), source("mii-csv", POWER), "x")
    register = read(sample("meteocontrol_mii.csv"), source("mii-csv", REGISTER), "x")
    assert (power.rows, power.skipped, power.refused) == (96, 192, ())
    of_power, of_register = day_slots(power.series)[DAY].micro_j, day_slots(register.series)[DAY].micro_j
    # 06:15 is the end of the interval: 4709.0 W x 0.25 h = 1177.25 Wh, and the register moved by 5001.177 - 5000.
    assert (of_power[24], of_register[24]) == (1_177_250 * 3_600_000, 1_177_000 * 3_600_000)
    # A register counts whole Wh, so that each slot differs by no more than one.
    assert all(abs(a - b) <= MICRO_J_PER_WH for a, b in zip(of_power, of_register, strict=True) if b is not None)


def test_read_mii_csv_honours_the_unit_row():
    data = sample("meteocontrol_mii.csv").replace(b"unit,W,kWh,", b"unit,kW,Wh,")
    kept = Channel("p", "M1/M_AC_P", Quantity.POWER, "file")
    assert read(data, source("mii-csv", kept), "x").series[0].channel.unit == "kW"
    with pytest.raises(RefusedInput) as refused:
        read(data, source("mii-csv", REGISTER), "x")
    assert (refused.value.line, refused.value.field) == (5, "'M1/M_AC_E_EXP'")
    assert "'Wh'" in refused.value.reason and "'kWh'" in refused.value.reason


def test_read_mii_csv_irradiance_makes_a_station():
    ghi = Channel("ghi", "G1/SRAD", Quantity.IRRADIANCE, "W/m2")
    parsed = read(sample("meteocontrol_mii.csv"), source("mii-csv", ghi), "x")
    assert station_days("s", parsed.series)[DAY].ghi_w_m2[24] == 65.4


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        (b"uid,", b"id,", 4, "uid"),
        (b"unit,W,kWh,W/m2", b"unit,W,kWh", 5, "unit"),
        (b"uid,M1,M1,G1", b"uid,M1,M1,M1", 6, None),
        (b"M_AC_E_EXP", b"M_AC_E_OUT", None, "'M1/M_AC_E_EXP'"),
        (b",kWh,", b",gal,", 5, "'M1/M_AC_E_EXP'"),
    ],
)
def test_read_mii_csv_with_an_unsound_header_is_refused(old, new, line, field):
    data = sample("meteocontrol_mii.csv").replace(old, new)
    if field is None:
        data = data.replace(b"M_AC_P,M_AC_E_EXP,SRAD", b"M_AC_P,M_AC_E_EXP,M_AC_P")
    with pytest.raises(RefusedInput) as refused:
        read(data, source("mii-csv", REGISTER), "x")
    assert refused.value.line == line and refused.value.expected
    assert refused.value.field == field or field is None


# -- MII XML ----------------------------------------------------------------------------------------


def test_read_mii_xml_needs_no_zone_and_takes_the_units_of_its_source():
    parsed = read(sample("meteocontrol_mii.xml"), source("mii-xml", REGISTER, utc_offset_seconds=None), "x")
    # 5063.165 kWh - 5000.000 kWh.
    assert sum(one or 0 for one in day_slots(parsed.series)[DAY].micro_j) == 63_165 * MICRO_J_PER_WH
    assert parsed.skipped == 192


def test_read_mii_xml_rows_that_cannot_be_used_are_refused_with_their_line():
    text = sample("meteocontrol_mii.xml").decode()
    text = text.replace('interval="900" timestamp="2026-06-21T01:00', 'interval="600" timestamp="2026-06-21T01:00')
    text = text.replace('timestamp="2026-06-21T02:00:00Z"', 'timestamp="2026-06-21T02:00:00"')
    text = text.replace('03:00:00Z"><device id="M1">', '03:00:00Z"><device id="M9">')
    parsed = read(text.encode(), source("mii-xml", POWER, utc_offset_seconds=None), "x")
    lines = [text.split(part)[0].count("\n") + 1 for part in ("T01:00:00", "T02:00:00", "T03:00:00")]
    assert sorted({row.line for row in parsed.refused}) == lines
    for row, word in zip(sorted(parsed.refused, key=lambda row: row.line), ("600 s, expected 900", "no UTC offset", "'M9'"), strict=False):  # fmt: skip
        assert word in row.reason


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('<mii version="2.0">', '<mii version="3.0">', "version"),
        (" </datalogger>", " </datalogger><datalogger/>", "datalogger"),
        ("  <datapoints>\n", '  <datapoints><mv t="M_AC_P" v="1"/>\n', "mv"),
    ],
)
def test_read_mii_xml_of_another_shape_is_refused(old, new, field):
    with pytest.raises(RefusedInput) as refused:
        read(sample("meteocontrol_mii.xml").decode().replace(old, new).encode(), source("mii-xml", POWER), "x")
    assert refused.value.field == field and refused.value.line


# -- web'log ----------------------------------------------------------------------------------------

INVERTER = Channel("e", "INV0002/E_Int", Quantity.ENERGY, "kWh")


def test_read_weblog_tells_inverters_apart_by_serial_number():
    parsed = read(sample("meteocontrol_delta_inverter.txt"), source("weblog-ini", INVERTER), "x")
    assert sum(day_slots(parsed.series)[DAY].micro_j[0:95]) == 219_934 * MICRO_J_PER_WH
    assert (parsed.rows, parsed.refused) == (96, ())


def test_read_weblog_info_lines_are_passed_over_and_counted():
    data = sample("meteocontrol_delta_inverter.txt")
    before = read(data, source("weblog-ini", INVERTER), "x")
    lines = data.splitlines()
    told = b"\n".join([*lines[:20], b"Info;Time", *lines[20:40], b"Info;Time;06:00:01", *lines[40:]])
    after = read(told, source("weblog-ini", INVERTER), "x")
    assert after.series == before.series
    assert (after.skipped - before.skipped, after.refused) == (2, ())


def test_read_weblog_registers_of_inverters_give_what_their_counters_moved():
    total = Channel("e", "INV0001/E_Total", Quantity.REGISTER, "kWh")
    parsed = read(sample("meteocontrol_delta_inverter.txt"), source("weblog-ini", total), "x")
    # 1329.91 - 1000.00 kWh
    assert sum(one or 0 for one in day_slots(parsed.series)[DAY].micro_j) == 329_910 * MICRO_J_PER_WH


def test_read_weblog_sensors_have_no_serial_number():
    ghi = Channel("ghi", "G_H1", Quantity.IRRADIANCE, "W/m2")
    parsed = read(sample("meteocontrol_delta_analog.txt"), source("weblog-ini", ghi), "x")
    assert len(parsed.series[0].starts) == 96


def test_read_weblog_hour_that_comes_twice_is_kept_apart_for_each_inverter():
    rows = [
        f"{hour}:{minute:02d}:00;900;{serial};0.25"
        for hour in ("02", "02")
        for minute in (0, 15, 30, 45)
        for serial in "AB"
    ]
    head = "[info]\nDatum=261025\n\n[messung]\nUhrzeit;Intervall;Serien Nummer;E_Int\n;s;;kWh\n\n[Start]\n"
    config = source(
        "weblog-ini", Channel("e", "B/E_Int", Quantity.ENERGY, "kWh"), stamped="start",
        utc_offset_seconds=None, timezone=ZoneInfo("Europe/Berlin"),
    )  # fmt: skip
    parsed = read((head + "\n".join(rows)).encode(), config, "x")
    assert parsed.refused == ()
    # 02:00 summer time is midnight UTC; the same clock time comes again an hour later.
    assert parsed.series[0].starts == tuple(1_792_886_400 + 900 * n for n in range(8))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"Datum=260621", b"Datum=21.06.", "Datum"),
        (b";s;;;kW;", b";s;;kW;", "[messung]"),
        (b"E_Tag;E_Int", b"E_Int;E_Int", "[messung]"),
        (b";s;;;", b";min;;;", "[messung]"),
        (b"[Start]", b"[Ende]", None),
        (b"E_Int", b"E_Xyz", "'INV0002/E_Int'"),
    ],
)
def test_read_weblog_with_an_unsound_head_is_refused(old, new, field):
    with pytest.raises(RefusedInput) as refused:
        read(sample("meteocontrol_delta_inverter.txt").replace(old, new, 1), source("weblog-ini", INVERTER), "x")
    assert refused.value.field == field and refused.value.expected
