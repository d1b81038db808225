"""Green Button: links whatever their order, multiplier, flow direction, interval length, quality."""

import random
import re
from pathlib import Path

import pytest

from oracle.domain import Quality
from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read
from oracle.formats.slots import MICRO_J_PER_WH
from oracle.formats.survey import survey

SAMPLE = (Path(__file__).resolve().parent.parent / "samples" / "greenbutton.xml").read_bytes()
COLUMN = "UsagePoint/1/MeterReading/1"
SOURCE = SourceConfig("green-button", ("*",), (Channel("e", COLUMN, Quantity.ENERGY, "Wh"),), (), 900)
DAY = 1_782_000_000
#: 8 is "estimated using a reference day"; it stands on one reading of the sample.
ESTIMATED_AT = 1_782_036_000


def test_read_green_button_day_is_whole():
    parsed = read(SAMPLE, SOURCE, "x")
    day = day_slots(parsed.series)[DAY]
    # 2 x 265920 + 18000 Wh: see tests/oracle/test_formats_samples.py.
    assert sum(day.micro_j) == 549_840 * MICRO_J_PER_WH
    assert day.quality == {(ESTIMATED_AT - DAY) // 900: Quality.ESTIMATED}


def test_read_green_button_entries_in_any_order_give_the_same():
    head, *entries = re.split(rb"(?=<entry>)", SAMPLE.replace(b"</feed>", b""))
    expected = read(SAMPLE, SOURCE, "x").series
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        data = head + b"\n".join(entries) + b"</feed>"
        assert read(data, SOURCE, "x").series == expected


def test_read_green_button_links_may_follow_the_content_and_ns_prefixes_vary():
    data = re.sub(rb"<entry>((?:<link[^>]*>)+)(<content>.*?</content>)", rb"<entry>\2\1", SAMPLE)
    assert data != SAMPLE
    data = re.sub(rb'<(/?)(IntervalBlock|interval|IntervalReading|timePeriod|value|ReadingQuality|quality|duration|start)\b', rb"<\1e:\2", data)  # fmt: skip
    data = data.replace(b'<e:IntervalBlock xmlns="', b'<e:IntervalBlock xmlns:e="')
    assert read(data, SOURCE, "x").series == read(SAMPLE, SOURCE, "x").series


@pytest.mark.parametrize(("exponent", "factor"), [("3", 10**9), ("-3", 10**3), ("0", 10**6)])
def test_read_green_button_multiplier_is_exact(exponent, factor):
    data = SAMPLE.replace(b"<powerOfTenMultiplier>0<", f"<powerOfTenMultiplier>{exponent}<".encode())
    assert sum(read(data, SOURCE, "x").series[0].values) == 549_840 * factor


def test_read_green_button_register_gives_differences():
    data = SAMPLE.replace(b"<accumulationBehaviour>4<", b"<accumulationBehaviour>3<")
    found = survey(data, "x")
    assert [column.quantity for column in found.columns] == [Quantity.REGISTER]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"<uom>72<", b"<uom>73<", "'uom'"),
        (b"<commodity>1<", b"<commodity>7<", "'commodity'"),
        (b"<flowDirection>19<", b"<flowDirection>4<", "'flowDirection'"),
        (b"<powerOfTenMultiplier>0<", b"<powerOfTenMultiplier>99<", "'powerOfTenMultiplier'"),
        (b"<intervalLength>900<", b"<intervalLength>3600<", "intervalLength 3600"),
        (b'rel="related"', b'rel="other"', "'related'"),
    ],
)
def test_read_green_button_type_that_is_not_understood_has_its_readings_refused(old, new, word):
    # A second, sound meter: without any reading of the source's channel the file would be refused whole.
    other = SAMPLE.replace(b"MeterReading/1", b"MeterReading/2").replace(b"ReadingType/1", b"ReadingType/2")
    second = b"".join(re.findall(rb"<entry>.*?</entry>", other)[2:])
    data = SAMPLE.replace(old, new).replace(b"</feed>", second + b"</feed>")
    source = SourceConfig(
        "green-button", ("*",), (Channel("e", "UsagePoint/1/MeterReading/2", Quantity.ENERGY, "Wh"),), (), 900
    )
    parsed = read(data, source, "x")
    assert parsed.used == 96
    reasons = {row.reason for row in parsed.refused}
    if word.startswith("intervalLength"):  # its own column, so it is passed over here and refused where it is asked for
        parsed = read(SAMPLE.replace(old, new), SOURCE, "x")
        reasons = {row.reason for row in parsed.refused}
    assert len(parsed.refused) == 96 and all(word in reason for reason in reasons)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"<value>15588</value><R", b"<value>15.5</value><R", "'value'"),
        (b"<quality>8<", b"<quality>77<", "'quality'"),
        (b"<duration>900</duration><start>1782036000<", b"<duration>600</duration><start>1782036000<", "600 s"),
        (b"<duration>900</duration><start>1782036000<", b"<duration>900</duration><start>1782136800<", "block"),
    ],
)
def test_read_green_button_reading_that_cannot_be_used_is_refused(old, new, word):
    assert old in SAMPLE
    parsed = read(SAMPLE.replace(old, new, 1), SOURCE, "x")
    assert (parsed.used, len(parsed.refused)) == (95, 1)
    assert word in parsed.refused[0].reason and parsed.refused[0].line == 7


def test_survey_feed_with_both_directions_counts_export_alone():
    other = SAMPLE.replace(b"MeterReading/1", b"MeterReading/2").replace(b"ReadingType/1", b"ReadingType/2")
    other = other.replace(b"<flowDirection>19<", b"<flowDirection>1<")
    data = SAMPLE.replace(b"</feed>", b"".join(re.findall(rb"<entry>.*?</entry>", other)[2:]) + b"</feed>")
    found = survey(data, "x")
    assert [(column.column, column.energy_wh) for column in found.counted] == [(COLUMN, 549_840)]
    assert found.skipped == 96
