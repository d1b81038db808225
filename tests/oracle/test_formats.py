"""Delimited files: exact energies, every row accounted for, whole files refused with line and field."""

import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read, station_days
from oracle.formats.slots import MICRO_J_PER_WH

DAY = 1_467_417_600  # 2016-07-02T00:00:00Z
DATA = Path(str(resources.files("pvanalytics"))) / "data"


def source(quantity=Quantity.POWER, unit="W", **changes):
    defaults = {
        "format": "csv",
        "files": ("a.csv",),
        "channels": (Channel("ac", "value", quantity, unit),),
        "stamp_columns": ("time",),
        "interval_seconds": 900,
        "utc_offset_seconds": 0,
    }
    return SourceConfig(**defaults | changes)


def text(rows, header="time,value", mark=","):
    return "\n".join([header, *(mark.join(row) for row in rows)]).encode()


def stamp(slot, seconds=900):
    return (datetime.fromtimestamp(DAY, UTC) + timedelta(seconds=slot * seconds)).strftime("%Y-%m-%d %H:%M:%S")


def one_day(data, config, name="a.csv"):
    return day_slots(read(data, config, name).series)[DAY]


# -- energy -----------------------------------------------------------------------------------------


def test_read_power_in_watts_gives_exact_slot_energy():
    day = one_day(text([(stamp(0), "1000"), (stamp(1), "-2.8601"), (stamp(2), "0.1")]), source())
    # 1 kW for a quarter of an hour is 250 Wh; microjoules are microwatts x 900 s.
    assert day.micro_j[:3] == (250 * MICRO_J_PER_WH, -2_860_100 * 900, 100_000 * 900)
    assert day.micro_j[3:] == (None,) * 93


@pytest.mark.parametrize(
    ("quantity", "unit", "value", "decimal_mark"),
    [
        (Quantity.ENERGY, "Wh", "250.5", "."),
        (Quantity.ENERGY, "kWh", "0,2505", ","),
        (Quantity.ENERGY, "MWh", "2.505e-4", "."),
        (Quantity.POWER, "W", "1002", "."),
        (Quantity.POWER, "kW", "1,002", ","),
    ],
)
@pytest.mark.parametrize("stamped", ["start", "end"])
def test_read_same_energy_in_any_unit_and_stamping_gives_the_same_day(quantity, unit, value, decimal_mark, stamped):
    config = source(quantity, unit, stamped=stamped, delimiter=";", decimal_mark=decimal_mark)
    late = 1 if stamped == "end" else 0
    data = text([(stamp(slot + late), value) for slot in range(96)], "time;value", ";")
    assert one_day(data, config).micro_j == (Decimal("250.5") * MICRO_J_PER_WH,) * 96


@settings(max_examples=50, deadline=None)
@given(st.permutations(list(range(96))), st.lists(st.decimals(-9, 9999, places=4), min_size=96, max_size=96))
def test_read_rows_in_any_order_gives_the_same_day(order, values):
    rows = [(stamp(slot), str(values[slot])) for slot in range(96)]
    shuffled = one_day(text([rows[slot] for slot in order]), source())
    assert shuffled == one_day(text(rows), source())
    assert sum(shuffled.micro_j) == int(sum(values) * 1_000_000) * 900


def test_day_slots_finer_readings_are_summed_and_a_slot_with_a_hole_is_missing():
    rows = [(stamp(n, 300), str(n)) for n in range(9) if n != 4]
    day = one_day(text(rows), source(interval_seconds=300))
    assert day.micro_j[:3] == ((0 + 1 + 2) * 300_000_000, None, (6 + 7 + 8) * 300_000_000)


def test_day_slots_coarse_readings_stand_whole_in_their_first_slot():
    day = one_day(
        text([(stamp(0, 3600), "2"), (stamp(2, 3600), "3")]), source(Quantity.ENERGY, "kWh", interval_seconds=3600)
    )
    assert day.reading_seconds == 3600
    assert day.micro_j[:12] == (2000 * MICRO_J_PER_WH, 0, 0, 0, None, None, None, None, 3000 * MICRO_J_PER_WH, 0, 0, 0)


def test_day_slots_overlapping_files_merge_or_conflict_whatever_their_order():
    first = read(text([(stamp(0), "4"), (stamp(1), "8")]), source(), "a.csv").series
    second = read(text([(stamp(1), "7"), (stamp(0), "4.0"), (stamp(2), "9")]), source(), "b.csv").series
    one, other = day_slots([*first, *second])[DAY], day_slots([*second, *first])[DAY]
    assert one == other
    assert one.conflicts == {1}
    assert one.micro_j[:3] == (3_600_000_000, 7 * 900_000_000, 9 * 900_000_000)


def test_day_slots_different_intervals_of_one_device_are_an_error():
    mixed = [*read(text([(stamp(0), "4")]), source(), "a.csv").series]
    mixed += read(text([(stamp(0), "4")]), source(interval_seconds=3600), "b.csv").series
    with pytest.raises(ValueError, match=r"900, 3600"):
        day_slots(mixed)


# -- stamps -----------------------------------------------------------------------------------------


def test_read_stamps_with_their_own_offset_need_no_zone():
    data = text([("2016-07-01 17:00:00-07:00", "1"), ("2016-07-02T00:15:00Z", "2")])
    assert one_day(data, source(utc_offset_seconds=None)).micro_j[:2] == (900_000_000, 1_800_000_000)


def test_read_stamp_without_offset_or_zone_is_refused():
    parsed = read(text([("2016-07-02 00:00:00", "1"), (stamp(1) + "Z", "1")]), source(utc_offset_seconds=None), "a.csv")
    assert [(row.line, "no UTC offset" in row.reason) for row in parsed.refused] == [(2, True)]


def test_read_stamps_a_minute_late_at_the_end_land_on_their_interval():
    config = source(utc_offset_seconds=-7 * 3600, stamped="end", stamp_offset_seconds=60)
    assert one_day(text([("2016-07-01 17:16:00", "1")]), config).micro_j[0] == 900_000_000


@pytest.mark.parametrize(("seconds", "used"), [(-31, 0), (-30, 1), (0, 1), (30, 1), (31, 0)])
def test_read_stamps_off_the_grid_are_used_only_within_the_tolerance(seconds, used):
    late = (datetime.fromtimestamp(DAY + 900 + seconds, UTC)).strftime("%Y-%m-%d %H:%M:%S")
    parsed = read(text([(late, "1"), (stamp(5), "1")]), source(stamp_tolerance_seconds=30), "a.csv")
    assert parsed.used == 1 + used
    if used:
        assert parsed.series[0].starts[0] == DAY + 900


@pytest.mark.parametrize(("date", "hours"), [("2016-03-13", 23), ("2016-07-02", 24), ("2016-11-06", 25)])
def test_read_local_day_with_clock_change_keeps_every_quarter_hour_apart(date, hours):
    zone = ZoneInfo("America/Denver")
    midnight = datetime.fromisoformat(date).replace(tzinfo=zone).astimezone(UTC)
    moments = [midnight + timedelta(minutes=15 * n) for n in range(hours * 4)]
    rows = [(moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"), "1") for moment in moments]
    parsed = read(text(rows), source(utc_offset_seconds=None, timezone=zone), "a.csv")
    assert parsed.refused == ()
    assert parsed.series[0].starts == tuple(int(moment.timestamp()) for moment in moments)


def test_read_local_hour_that_comes_twice_in_rows_that_fall_is_refused():
    zone = ZoneInfo("America/Denver")
    midnight = datetime(2016, 11, 6, tzinfo=zone).astimezone(UTC)
    moments = [midnight + timedelta(minutes=15 * n) for n in reversed(range(100))]
    rows = [(moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"), "1") for moment in moments]
    parsed = read(text(rows), source(utc_offset_seconds=None, timezone=zone), "a.csv")
    # 01:00 to 02:00 comes twice: of 88 rows above it and four below nobody doubts the time.
    assert [row.line for row in parsed.refused] == list(range(2 + 88, 2 + 96))
    assert {"may be either" in row.reason for row in parsed.refused} == {True}
    assert parsed.series[0].starts == tuple(
        int(moment.timestamp()) for moment in reversed(moments) if moment not in moments[88:96]
    )


def test_read_local_hour_that_comes_twice_and_lost_a_row_moves_no_other():
    zone = ZoneInfo("America/Denver")
    midnight = datetime(2016, 11, 6, tzinfo=zone).astimezone(UTC)
    moments = [midnight + timedelta(minutes=15 * n) for n in range(100)]
    rows = [(moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"), "1") for moment in moments]
    # 01:00 of summer time is gone; the 01:00 that comes is the other one, and nothing says so.
    parsed = read(text(rows[:4] + rows[5:]), source(utc_offset_seconds=None, timezone=zone), "a.csv")
    assert [row.line for row in parsed.refused] == [2 + 7]
    assert parsed.series[0].starts == tuple(
        int(moment.timestamp()) for moment in moments[:4] + moments[5:8] + moments[9:]
    )


def test_read_local_time_that_clocks_skipped_is_refused():
    config = source(utc_offset_seconds=None, timezone=ZoneInfo("America/Denver"))
    parsed = read(text([("2016-03-13 01:45:00", "1"), ("2016-03-13 02:15:00", "1")]), config, "a.csv")
    assert [(row.line, "put forward" in row.reason) for row in parsed.refused] == [(3, True)]


def test_read_date_and_time_in_two_columns_with_decimal_comma_gives_energy():
    config = source(
        Quantity.ENERGY,
        "kWh",
        channels=(Channel("energia", "Energía (kWh)", Quantity.ENERGY, "kWh"),),
        stamp_columns=("Fecha", "Hora"),
        stamp_format="%d-%m-%Y %H:%M",
        delimiter=";",
        decimal_mark=",",
        stamped="end",
        utc_offset_seconds=None,
        timezone=ZoneInfo("America/Santiago"),
    )
    data = "Fecha;Hora;Energía (kWh)\n01-07-2016;20:15;1,250\n01-07-2016;20:30;0,001\n".encode()
    # Santiago was at UTC-4 that winter: 20:00 there is midnight UTC.
    assert one_day(data, config).micro_j[:2] == (1250 * MICRO_J_PER_WH, MICRO_J_PER_WH)


# -- every row ends somewhere -----------------------------------------------------------------------


def test_read_rows_that_cannot_be_used_are_refused_with_line_and_reason():
    rows = [
        "time,value",
        f"{stamp(0)},1",
        "",
        f"{stamp(1)},",
        f"{stamp(2)},NaN",
        f"{stamp(3)},12 W",
        "yesterday,1",
        f"{stamp(4)},1,2",
        f"{stamp(0)},1.0",
        f"{stamp(5)},-",
        f"{stamp(6)},1e30",
        "   ",
        f"{stamp(7)},5",
    ]
    parsed = read("\n".join(rows).encode(), source(), "a.csv")
    words = ("no value", "no value", "not a decimal", "not of the form", "3 fields", "earlier row", "no value", "range")
    assert [row.line for row in parsed.refused] == [4, 5, 6, 7, 8, 9, 10, 11]
    assert all(word in row.reason for word, row in zip(words, parsed.refused, strict=True))
    assert parsed.rows == 10
    assert parsed.used == 2 == len(parsed.series[0].starts)
    assert parsed.refused[0].text == f"{stamp(1)},"


def test_read_one_stamp_with_two_values_keeps_the_smaller_and_marks_it():
    for rows in ([(stamp(0), "5"), (stamp(0), "3")], [(stamp(0), "3"), (stamp(0), "5")]):
        parsed = read(text(rows), source(), "a.csv")
        assert (parsed.used, [row.line for row in parsed.refused]) == (1, [3])
        day = day_slots(parsed.series)[DAY]
        assert (day.micro_j[0], day.conflicts) == (3 * 900_000_000, {0})


def test_read_optional_column_may_be_empty():
    channels = (
        Channel("ghi", "value", Quantity.IRRADIANCE, "W/m2"),
        Channel("t", "temp", Quantity.TEMPERATURE, "C", required=False),
    )
    parsed = read(
        text([(stamp(0), "100", ""), (stamp(1), "", "20"), (stamp(2), "50", "-3.5")], "time,value,temp"),
        source(channels=channels),
        "a",
    )
    assert [row.line for row in parsed.refused] == [3]
    day = station_days("x", [parsed.channel("ghi")], [parsed.channel("t")])[DAY]
    assert day.ghi_w_m2[:3] == (100.0, None, 50.0)
    assert day.temp_air_c[:3] == (None, None, -3.5)


@pytest.mark.parametrize(
    ("data", "line", "field"),
    [
        (b"", None, None),
        (b"time,value\n", 1, None),
        (b"time,power\n2016-07-02 00:00:00,1\n", 1, "'value'"),
        (b"time,value,value\n2016-07-02 00:00:00,1,2\n", 1, "'value'"),
        (b"value\n1\n", 1, "'time'"),
        (b"time,value\n2016-07-02 00:00:00,\xe91\n", 2, None),
        (b"time,value\n2016-07-02 00:00:00,1\n2016-07-02 00:15:00,\x00\n", 3, None),
        (b'time,value\n2016-07-02 00:00:00,"1\n', 2, None),
    ],
)
def test_read_file_that_cannot_be_trusted_is_refused_whole(data, line, field):
    with pytest.raises(RefusedInput) as refused:
        read(data, source(), "meter.csv")
    assert (refused.value.file, refused.value.line, refused.value.field) == ("meter.csv", line, field)
    assert refused.value.expected


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"unit": "kW", "quantity": Quantity.ENERGY}, "energy unit"),
        ({"unit": "Wh"}, "power unit"),
        ({"unit": "W", "quantity": Quantity.IRRADIANCE}, "W/m2"),
    ],
)
def test_read_unit_that_does_not_fit_is_refused(changes, word):
    with pytest.raises(RefusedInput, match=word):
        read(text([(stamp(0), "1")]), source(**changes), "a.csv")


def test_read_unknown_format_is_refused():
    with pytest.raises(RefusedInput, match="one of csv"):
        read(b"", replace(source(), format="parchment"), "a.csv")


# -- real files -------------------------------------------------------------------------------------


def test_read_serf_east_agrees_with_an_exact_sum_of_its_decimals():
    name = "serf_east_15min_ac_power.csv"
    config = source(
        channels=(Channel("ac", "ac_power", Quantity.POWER, "W"),),
        stamp_columns=("measured_on",),
        utc_offset_seconds=None,
    )
    parsed = read((DATA / name).read_bytes(), config, name)
    with (DATA / name).open(newline="") as file:
        powers = [Decimal(row["ac_power"]) for row in csv.DictReader(file)]
    assert (parsed.rows, parsed.refused) == (len(powers), ()) == (10_000, ())
    days = day_slots(parsed.series)
    micro_w = [int(power.quantize(Decimal("1e-6")) * 1_000_000) for power in powers]
    assert sum(value for day in days.values() for value in day.micro_j if value is not None) == sum(micro_w) * 900


def test_read_rmis_refuses_its_four_empty_rows():
    name = "rmis_weather_data.csv"
    channels = (Channel("ghi", "Global Horizontal", Quantity.IRRADIANCE, "W/m2"),)
    config = source(
        channels=channels,
        stamp_columns=("",),
        stamp_format="%m/%d/%Y %H:%M",
        utc_offset_seconds=-25_200,
        interval_seconds=300,
        stamped="end",
    )
    parsed = read((DATA / name).read_bytes(), config, name)
    assert (parsed.rows, parsed.used) == (1151, 1147)
    assert [row.line for row in parsed.refused] == [288, 576, 864, 1152]
    # Slot 76 is 12:00 to 12:15 MST: the three five-minute means stamped at their end.
    day = station_days("rmis", [parsed.channel("ghi")])[1_641_168_000]
    with (DATA / name).open(newline="") as file:
        ghi = {row[""]: row["Global Horizontal"] for row in csv.DictReader(file)}
    by_hand = sum(Decimal(ghi[f"1/3/2022 {stamped}"]) for stamped in ("12:05", "12:10", "12:15")) / 3
    assert day.ghi_w_m2[76] == pytest.approx(float(by_hand), abs=0.001)
