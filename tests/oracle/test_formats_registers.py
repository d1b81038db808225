"""Registers: differences across files, rollover by width, reset, exchanged meter, doubtful readings."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import yaml

from oracle.assessment import assess, device_days
from oracle.domain import DayState
from oracle.formats import (
    Channel,
    ClockCorrection,
    Quantity,
    RegisterSpan,
    SourceConfig,
    day_slots,
    read,
    register_spans,
)
from oracle.formats.slots import MICRO_J_PER_WH
from oracle.sites import load_sites

DAY = 1_782_000_000  # 2026-06-21T00:00:00Z
DEMO = Path(__file__).parents[2] / "scripts" / "demo_sites.yaml"


def source(rolls_over_at=None, serial=""):
    channel = Channel("e", "count", Quantity.REGISTER, "kWh", rolls_over_at=rolls_over_at, serial_column=serial)
    return SourceConfig("csv", ("*",), (channel,), ("time",), 900, stamped="end", utc_offset_seconds=0)


def rows(*readings):
    """Readings as (slots after midnight, count, serial)."""
    lines = ["time,count,serial"]
    for slot, count, *serial in readings:
        stamp = datetime.fromtimestamp(DAY + slot * 900, UTC)
        lines.append(f"{stamp:%Y-%m-%d %H:%M:%S},{count},{serial[0] if serial else 'A'}")
    return "\n".join(lines).encode()


def day(data, config=None):
    return day_slots(read(data, config or source(), "x").series)[DAY]


def wh(*values):
    return tuple(None if value is None else value * MICRO_J_PER_WH for value in values)


def test_day_slots_register_gives_the_difference_of_two_readings():
    # 10.000, 10.250, 10.250, 11.000 kWh
    assert day(rows((0, 10), (1, "10.25"), (2, "10.25"), (3, 11))).micro_j[:4] == wh(250, 0, 750, None)


def test_day_slots_register_runs_on_from_file_to_file_in_any_order():
    first = read(rows((0, 10), (1, 11), (2, 13)), source(), "a").series
    second = read(rows((3, 16), (2, 13), (4, 20)), source(), "b").series
    for both in ([*first, *second], [*second, *first]):
        assert day_slots(both)[DAY].micro_j[:5] == wh(1000, 2000, 3000, 4000, None)


def test_day_slots_register_with_a_hole_spreads_nothing():
    assert day(rows((0, 10), (1, 11), (3, 15), (4, 16))).micro_j[:4] == wh(1000, None, None, 1000)


@pytest.mark.parametrize(
    ("width", "expected", "breaks"), [(100_000, 3000, set()), (None, None, {1}), (1_000_000, None, {1})]
)
def test_day_slots_register_that_falls_has_rolled_over_by_its_width_or_was_reset(width, expected, breaks):
    # 99998 kWh, then 1: it moved by 3 if it turns at 100000.
    one = day(rows((0, 99_997), (1, 99_998), (2, 1), (3, 2)), source(width))
    assert one.micro_j[:3] == wh(1000, expected, 1000)
    assert one.breaks == breaks


def test_day_slots_exchanged_meter_leaves_its_slot_out():
    one = day(rows((0, 10, "A"), (1, 11, "A"), (2, 12, "B"), (3, 14, "B")), source(serial="serial"))
    assert one.micro_j[:3] == wh(1000, None, 2000)
    assert one.breaks == {1}


def test_day_slots_two_readings_of_one_moment_make_both_neighbours_doubtful():
    for order in ([(1, 11), (1, "11.5")], [(1, "11.5"), (1, 11)]):
        one = day(rows((0, 10), *order, (2, 12), (3, 13)))
        assert one.micro_j[:3] == wh(1000, 1000, 1000)
        assert one.conflicts == {0, 1}


@pytest.mark.parametrize("seed", range(20))
def test_day_slots_register_of_any_walk_gives_back_its_steps(seed):
    rng = Random(seed)
    width = 1000
    steps = [rng.choice([0, 0, 0.25, 1, 7, 40]) for _ in range(96)]
    count, readings = rng.randrange(width), []
    readings.append((0, count))
    for slot, step in enumerate(steps, 1):
        count = (count + step) % width
        readings.append((slot, count))
    rng.shuffle(readings)
    one = day(rows(*readings), source(width))
    assert one.micro_j == tuple(int(step * 1000) * MICRO_J_PER_WH for step in steps)
    assert not one.breaks


def test_day_slots_register_and_interval_of_one_device_are_an_error():
    other = SourceConfig(
        "csv", ("*",), (Channel("e", "count", Quantity.ENERGY, "kWh"),), ("time",), 900, utc_offset_seconds=0
    )
    mixed = [*read(rows((0, 1), (1, 2)), source(), "x").series, *read(rows((0, 1)), other, "x").series]
    with pytest.raises(ValueError, match="alike"):
        day_slots(mixed)


# -- a register beside the intervals ----------------------------------------------------------------


def both(rolls_over_at=None, serial="", required=False):
    energy = Channel("energy", "energy", Quantity.ENERGY, "Wh")
    count = Channel("count", "count", Quantity.REGISTER, "kWh", required, rolls_over_at, serial)
    return SourceConfig("csv", ("*",), (energy, count), ("time",), 900, stamped="end", utc_offset_seconds=0)


def two_columns(counts, wh=250):
    """A day of equal intervals; ``counts`` by slots after midnight, (count, serial) where the meter changes."""
    lines = ["time,energy,count,serial"]
    for slot in range(1, 97):
        said = counts.get(slot, "")
        count, meter = said if isinstance(said, tuple) else (said, "A")
        lines.append(f"{datetime.fromtimestamp(DAY + slot * 900, UTC):%Y-%m-%d %H:%M:%S},{wh},{count},{meter}")
    return "\n".join(lines).encode()


def spans(counts, config=None):
    parsed = read(two_columns(counts), config or both(), "x")
    assert parsed.refused == ()
    return register_spans([parsed.channel("count")])


def test_register_spans_from_the_first_to_the_last_reading_of_a_day():
    # Readings at 06:00 and 18:00, and every row holds an interval: the empty cells are no fault.
    assert spans({24: 100, 72: 112}) == {DAY: RegisterSpan(24, 72, 12_000 * MICRO_J_PER_WH)}
    parsed = read(two_columns({24: 100, 72: 112}), both(), "x")
    assert len(parsed.channel("energy").starts) == 96 and len(parsed.channel("count").starts) == 2


def test_register_spans_reading_at_midnight_ends_one_day_and_begins_the_next():
    readings = {0: 10, 96: 34, 192: 60}
    data = "\n".join(
        ["time,energy,count,serial"]
        + [f"{datetime.fromtimestamp(DAY + n * 900, UTC):%Y-%m-%d %H:%M:%S},1,{c},A" for n, c in readings.items()]
    )
    found = register_spans([read(data.encode(), both(), "x").channel("count")])
    assert found == {
        DAY: RegisterSpan(0, 96, 24_000 * MICRO_J_PER_WH),
        DAY + 86_400: RegisterSpan(0, 96, 26_000 * MICRO_J_PER_WH),
    }


def test_register_spans_rollover_counts_on_and_an_exchange_begins_anew():
    assert spans({10: 999_998, 50: 4}, both(1_000_000))[DAY] == RegisterSpan(10, 50, 6_000 * MICRO_J_PER_WH)
    exchanged = {10: (50, "A"), 20: (52, "A"), 30: (7, "B"), 60: (11, "B")}
    assert spans(exchanged, both(serial="serial"))[DAY] == RegisterSpan(30, 60, 4_000 * MICRO_J_PER_WH)
    assert spans({10: 50, 20: 3}) == {} == spans({40: 3})


def test_device_with_a_register_beside_its_intervals_is_held_where_they_disagree(tmp_path):
    document = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    described = document["devices"][0]
    described["file"] |= {
        "names": ["two.csv"],
        "stamp_columns": ["time"],
        "utc_offset": "+00:00",
        "channels": {
            "energy": {"column": "energy", "quantity": "energy", "unit": "Wh"},
            "count": {"column": "count", "quantity": "register", "unit": "kWh", "required": False},
        },
    }
    document["policies"]["rooftop-pv"] = {"for": "generation"}
    described["fuel_code"] = "F01050100"
    (tmp_path / "sites.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    device = load_sites(tmp_path / "sites.yaml").device(1)
    assert (device.channel.name, device.check_register.name) == ("energy", "count")
    # 96 x 250 Wh is 24 kWh. The file begins at 00:15, so the first reading is that of the second slot on.
    for count, state in ((123.75, DayState.ACCEPTED), (126, DayState.HELD)):
        days = device_days(device, [read(two_columns({1: 100, 96: count}), device.source, "x")])
        assessment = assess(device, days[DAY])
        assert assessment.state is state, assessment.reasons
    [finding] = [one for one in assessment.report.findings if one.rule == "sum_check"]
    assert finding.figures == {"intervals_wh": 23_750, "register_wh": 26_000, "tolerance_wh": 360}


# -- a clock put right ------------------------------------------------------------------------------


def test_read_clock_correction_moves_what_the_wrong_clock_stamped_and_nothing_else():
    data = rows(*((slot, slot * slot) for slot in range(97)))
    config = source()
    plain = read(data, config, "x")
    correction = ClockCorrection(DAY + 40 * 900, DAY + 60 * 900, 3_600, "set back by the fitter")
    [series] = read(data, replace(config, clock_corrections=(correction,)), "x").series
    before = dict(zip(plain.series[0].starts, plain.series[0].values, strict=True))
    after = dict(zip(series.starts, series.values, strict=True))
    # Slots 36 to 39 are met by 40 to 43: the smaller stays, and both are in doubt.
    assert series.conflicts == {DAY + slot * 900 for slot in range(36, 40)}
    assert all(after[DAY + slot * 900] == before[DAY + slot * 900] for slot in range(40))
    assert all(after[DAY + slot * 900] == before[DAY + (slot + 4) * 900] for slot in range(40, 56))
    assert not any(DAY + slot * 900 in after for slot in range(56, 60))
    assert all(after[DAY + slot * 900] == before[DAY + slot * 900] for slot in range(60, 96))


def test_read_clock_correction_carries_quality_and_serials_along():
    channel = Channel("e", "NMI/B1", Quantity.ENERGY, "kWh")
    values = ",".join(["1"] * 48)
    data = f"100,NEM12,1,M,R\n200,NMI,B1,B1,B1,N1,S,kWh,30,\n300,20260622,{values},E,,,,\n900\n".encode()
    config = SourceConfig("nem12", ("*",), (channel,), (), 1800)
    [plain] = read(data, config, "x").series
    [moved] = read(data, replace(config, clock_corrections=(ClockCorrection(0, None, -1800, "slow"),)), "x").series
    assert moved.starts == tuple(start + 1800 for start in plain.starts)
    assert moved.quality == {start + 1800: bits for start, bits in plain.quality.items()}
