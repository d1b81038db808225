"""PRIME S02: multiplier, season, status, stamps that are not sound."""

from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from oracle.domain import Quality
from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read
from oracle.formats.slots import MICRO_J_PER_WH

SAMPLE = (Path(__file__).resolve().parent.parent / "samples" / "prime_s02.xml").read_bytes()
EXPORT = Channel("e", "ZIV0000000001/AE", Quantity.ENERGY, "Wh")
SOURCE = SourceConfig("prime-s02", ("*",), (EXPORT,), (), 3600, stamped="end", timezone=ZoneInfo("Europe/Madrid"))


def report(*hours, magnitude="1"):
    rows = "\n".join(f'<S02 Fh="{stamp}" Bc="{status}" AI="0" AE="{value}"/>' for stamp, status, value in hours)
    text = f'<Report IdRpt="S02"><Cnc Id="C"><Cnt Id="ZIV0000000001" Magn="{magnitude}">\n{rows}\n</Cnt></Cnc></Report>'
    return text.encode()


def test_read_s02_hours_stand_whole_in_their_first_slot():
    days = day_slots(read(SAMPLE, SOURCE, "x").series)
    slots = [one for day in days.values() for one in day.micro_j if one is not None]
    # 2 x (213+861+1574+2220+2707+2967) Wh
    assert sum(slots) == 21_084 * MICRO_J_PER_WH
    # 07:00 summer time in Madrid, the end of the hour, is 05:00 UTC: the hour starts at slot 16.
    assert days[1_782_000_000].micro_j[16:20] == (213 * MICRO_J_PER_WH, 0, 0, 0)
    assert days[1_782_000_000].reading_seconds == 3600


def test_read_s02_values_are_multiplied_by_magn():
    parsed = read(SAMPLE.replace(b'ZIV0000000001" Magn="1"', b'ZIV0000000001" Magn="40"'), SOURCE, "x")
    assert sum(parsed.series[0].values) == 40 * 21_084 * 10**6


def test_read_s02_as_registers_gives_their_differences():
    hours = [(f"202606210{n}0000000S", "00", value) for n, value in enumerate((1000, 1250, 1900))]
    config = replace(SOURCE, channels=(replace(EXPORT, quantity=Quantity.REGISTER),))
    days = day_slots(read(report(*hours), config, "x").series)
    slots = [one for day in days.values() for one in day.micro_j if one]
    assert slots == [250 * MICRO_J_PER_WH, 650 * MICRO_J_PER_WH]


def test_read_s02_season_tells_the_hour_that_comes_twice():
    hours = [("20261025030000000W", "00", 3), ("20261025020000000S", "00", 1), ("20261025020000000W", "00", 2)]
    parsed = read(report(*hours), SOURCE, "x")
    # 02:00 summer time is midnight UTC; the stamps mark the ends of the hours.
    assert parsed.series[0].starts == tuple(1_792_882_800 + 3600 * n for n in range(3))
    assert parsed.series[0].values == (10**6, 2 * 10**6, 3 * 10**6)


def test_read_s02_status_other_than_sound_is_suspect():
    parsed = read(report(("20260621010000000S", "80", 5), ("20260621020000000S", "00", 5)), SOURCE, "x")
    assert list(parsed.series[0].quality.values()) == [Quality.SUSPECT]


@pytest.mark.parametrize(
    ("stamp", "status", "value", "word"),
    [
        ("20260631010000000S", "00", "1", "'Fh'"),
        ("20260621250000000S", "00", "1", "'Fh'"),
        ("20260621010000000", "00", "1", "'Fh'"),
        ("FFFFFFFF010000000S", "00", "1", "'Fh'"),
        ("20260621010000500S", "00", "1", "'Fh'"),
        ("20260621010000000W", "00", "1", "winter time"),
        ("20260621013000000S", "00", "1", "off the 3600 s grid"),
        ("20260621010000000S", "0", "1", "'Bc'"),
        ("20260621010000000S", "00", "1.5", "'AE'"),
        ("20260621010000000S", "00", "-1", "'AE'"),
        ("20260621010000000S", "00", "", "'AE'"),
    ],
)
def test_read_s02_hour_that_cannot_be_used_is_refused_with_its_line(stamp, status, value, word):
    parsed = read(report(("20260621050000000S", "00", 7), (stamp, status, value)), SOURCE, "x")
    assert [row.line for row in parsed.refused] == [3] and word in parsed.refused[0].reason
    assert parsed.series[0].values == (7 * 10**6,)


@pytest.mark.parametrize("magnitude", ["0", "-1", "x", "1.5", ""])
def test_read_s02_meter_without_a_sound_multiplier_has_all_its_hours_refused(magnitude):
    parsed = read(report(("20260621050000000S", "00", 7), magnitude=magnitude), SOURCE, "x")
    assert "'Magn'" in parsed.refused[0].reason and parsed.used == 0


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [(b'IdRpt="S02"', b'IdRpt="S05"', "IdRpt"), (b'Cnt Id="ZIV0000000001"', b"Cnt", "Id"), (b"Cnc", b"Xyz", "S02"), (b"0001", b"0009", "'ZIV0000000001/AE'")],
)  # fmt: skip
def test_read_s02_report_that_is_not_sound_is_refused(old, new, field):
    with pytest.raises(RefusedInput) as refused:
        read(SAMPLE.replace(old, new), SOURCE, "x")
    assert refused.value.field == field
