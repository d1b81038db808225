"""Registers: differences across files, rollover by width, reset, exchanged meter, doubtful readings."""

from datetime import UTC, datetime
from random import Random

import pytest

from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read
from oracle.formats.slots import MICRO_J_PER_WH

DAY = 1_782_000_000  # 2026-06-21T00:00:00Z


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
