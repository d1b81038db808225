"""80020: coarse half-hours and hours, statuses, days on which clocks change, and the answer 80021."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from oracle.domain import Quality
from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read
from oracle.formats.message_80020 import Reply, reply_80021, reply_status
from oracle.formats.slots import MICRO_J_PER_WH

SAMPLE = (Path(__file__).resolve().parent.parent / "samples" / "message_80020.xml").read_bytes()
EXPORT = Channel("e", "000000000000001/02", Quantity.ENERGY, "kWh")
SOURCE = SourceConfig("80020", ("*",), (EXPORT,), (), 1800, timezone=ZoneInfo("Europe/Moscow"))
MIDNIGHT = 1_781_989_200  # 2026-06-21T00:00:00+03:00


def message(periods, saving="1", day="20260621"):
    body = "".join(f"<period {attributes}><value>{value}</value></period>\n" for attributes, value in periods)
    return (
        '<?xml version="1.0" encoding="windows-1251"?>\n<message class="80020" version="2" number="1">'
        f"<datetime><daylightsavingtime>{saving}</daylightsavingtime><day>{day}</day></datetime>"
        f'<area><measuringpoint code="P" name="Точка"><measuringchannel code="02">\n{body}'
        "</measuringchannel></measuringpoint></area></message>"
    ).encode("windows-1251")


def test_read_80020_half_hours_stand_whole_in_their_first_slot():
    parsed = read(SAMPLE, SOURCE, "x")
    assert parsed.series[0].starts == tuple(MIDNIGHT + 1800 * n for n in range(48))
    days = day_slots(parsed.series)
    slots = [one for day in days.values() for one in day.micro_j if one is not None]
    # 230 + 108 + 214 kWh in half-hours: see tests/oracle/test_formats_samples.py.
    assert sum(slots) == 552_000 * MICRO_J_PER_WH
    assert set(slots[1::2]) == {0} and {day.reading_seconds for day in days.values()} == {1800}
    # 06:00 Moscow is 03:00 UTC, slot 12: the first kilowatt-hour.
    assert days[1_782_000_000].micro_j[12:14] == (1000 * MICRO_J_PER_WH, 0)


def test_read_80020_values_not_for_settlement_are_suspect_in_all_their_slots():
    days = day_slots(read(SAMPLE, SOURCE, "x").series)
    line = next(one for one in SAMPLE.splitlines() if b'status="1"' in one)
    minutes = int(line.split(b'start="')[1][:2]) * 60 + int(line.split(b'start="')[1][2:4])
    first = (minutes - 180) // 15
    assert days[1_782_000_000].quality == {first: Quality.SUSPECT, first + 1: Quality.SUSPECT}


def test_read_80020_value_of_a_bypass_is_edited():
    data = message([('start="0000" end="0030"', 1)]).replace(
        b"<value>", b'<value status="0" extendedstatus="1114" param1="7">'
    )
    parsed = read(data, replace(SOURCE, channels=(replace(EXPORT, column="P/02"),)), "x")
    assert parsed.series[0].quality == {MIDNIGHT: Quality.EDITED}


def test_read_80020_hourly_message_is_read_as_such():
    hours = [(f'start="{n:02d}00" end="{(n + 1) % 24:02d}00"', n) for n in range(24)]
    config = replace(SOURCE, interval_seconds=3600, channels=(replace(EXPORT, column="P/02"),))
    parsed = read(message(hours), config, "x")
    assert parsed.refused == () and len(parsed.series[0].starts) == 24
    # 0 + 1 + ... + 23
    assert sum(parsed.series[0].values) == 276_000 * 10**6
    refused = read(message(hours), replace(config, interval_seconds=1800), "x").refused
    assert len(refused) == 24 and "3600 s, expected 1800" in refused[0].reason


@pytest.mark.parametrize(("date", "hours", "saving"), [("2026-03-29", 23, "1"), ("2026-10-25", 25, "2")])
def test_read_80020_day_on_which_clocks_change_keeps_every_half_hour_apart(date, hours, saving):
    zone = ZoneInfo("Europe/Kyiv")
    midnight = datetime.fromisoformat(date).replace(tzinfo=zone).astimezone(UTC)
    moments = [midnight + timedelta(minutes=30 * n) for n in range(hours * 2)]
    periods = []
    for value, moment in enumerate(moments):
        local, end = moment.astimezone(zone), (moment + timedelta(minutes=30)).astimezone(zone)
        # A period names its end by the clock it began with.
        end = (local.replace(tzinfo=None) + timedelta(minutes=30)) if saving == "2" else end
        summer = ' summer="1"' if saving == "2" and local.dst() else ""
        periods.append((f'start="{local:%H%M}" end="{end:%H%M}"{summer}', value))
    if saving == "1":  # the half-hour before the gap ends where the gap does; by the clock it began with
        periods = [
            (text.replace('start="0230" end="0400"', 'start="0230" end="0300"'), value) for text, value in periods
        ]
    config = replace(SOURCE, timezone=zone, channels=(replace(EXPORT, column="P/02"),))
    parsed = read(message(periods[::-1], saving, date.replace("-", "")), config, "x")
    assert parsed.refused == ()
    assert parsed.series[0].starts == tuple(int(moment.timestamp()) for moment in moments)
    assert parsed.series[0].values == tuple(value * 10**9 for value in range(hours * 2))


def test_read_80020_summer_mark_that_the_zone_denies_is_refused():
    config = replace(SOURCE, channels=(replace(EXPORT, column="P/02"),))
    parsed = read(message([('start="0000" end="0030" summer="1"', 1)]), config, "x")
    assert "summer time" in parsed.refused[0].reason and parsed.refused[0].line == 3


@pytest.mark.parametrize(
    ("attributes", "value", "word"),
    [
        ('start="2430" end="0000"', "1", "'start'"),
        ('start="0030" end="0000"', "1", "expected 1800"),
        ('start="0100" end="0030"', "1", "before it starts"),
        ('start="0000"', "1", "'end'"),
        ('start="0000" end="0030"', "1,5", "not a decimal"),
        ('start="0000" end="0030"', "", "no value"),
        ('start="0000" end="0030" summer="x"', "1", "'summer'"),
    ],
)
def test_read_80020_period_that_cannot_be_used_is_refused_with_its_line(attributes, value, word):
    config = replace(SOURCE, channels=(replace(EXPORT, column="P/02"),))
    parsed = read(message([('start="0600" end="0630"', 3), (attributes, value)]), config, "x")
    assert [row.line for row in parsed.refused] == [4] and word in parsed.refused[0].reason
    assert parsed.series[0].values == (3 * 10**9,)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'class="80020"', b'class="80040"', "class"),
        (b"<day>20260621</day>", b"<day>20260231</day>", "day"),
        (b"<day>20260621</day>", b"", "period"),
        (b'code="02"', b'code=""', "code"),
        (b'code="02"', b'code="04"', "'000000000000001/02'"),
        (b"<value>8</value>", b"<value>8</value><value>9</value>", "value"),
    ],
)
def test_read_80020_message_that_is_not_sound_is_refused(old, new, field):
    with pytest.raises(RefusedInput) as refused:
        read(SAMPLE.replace(old, new, 1), SOURCE, "x")
    assert refused.value.field == field


# -- the answer -------------------------------------------------------------------------------------


def test_reply_80021_names_file_and_status_in_windows_1251():
    reply = reply_80021('80020_0_20260621_17 "Ж"<&\n.xml', "20260621", Reply.FORMAT, number=3, is_packed=True)
    assert b'encoding="windows-1251"' in reply and "Ж".encode("windows-1251") in reply
    root = ElementTree.fromstring(reply)  # noqa: S314 (written above)
    assert (root.get("class"), root.get("id"), root.find("reply").get("status")) == ("80021", "3", "3")
    assert root.find("file/name").text == '80020_0_20260621_17 "Ж"<&?.xml'
    assert (root.find("file").get("zip"), root.find("file/date").text) == ("1", "20260621")


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b' status="1"', b"", Reply.ACCEPTED),
        (b"", b"", Reply.ACCEPTED_NOT_FOR_SETTLEMENT),
        (b'code="02"', b'code="07"', Reply.UNKNOWN_CHANNELS),
        (b"<value>8<", b"<value>x<", Reply.FORMAT),
        (b"80020", b"80050", Reply.FORMAT),
        (b"</message>", b"", Reply.NOT_XML),
    ],
)
def test_reply_status_fits_what_became_of_the_message(old, new, status):
    try:
        outcome = read(SAMPLE.replace(old, new) if old else SAMPLE, SOURCE, "x")
    except RefusedInput as refused:
        outcome = refused
    assert reply_status(outcome) is status
