"""Twenty seeded corruptions of each sample, each refused with line and field, and damage of other kinds.

Whatever happens to a file, readings that were not touched keep their energy. Workbooks: test_formats_xlsx.
"""

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, read

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
#: What no value and no stamp looks like.
BAD_VALUES = (b"12x4", b"", b"1e400", b"NaN", b"1_000", b"0x1F", b"--5", b"1.2.3", b"1 000", b"=1+1")
BAD_STAMPS = (b"20260631_99", b"yesterday", b"", b"99:99")
PLAIN = SourceConfig("", ("*",), (), (), 0, utc_offset_seconds=0, stamped="end")


@dataclass(frozen=True)
class Case:
    """A sample, where its values and stamps stand, and how many readings share a line, a value or a stamp."""

    name: str
    file: str
    value: bytes
    stamp: bytes
    source: SourceConfig
    per_stamp: int

    @property
    def data(self):
        return (SAMPLES / self.file).read_bytes()


CASES = (
    Case(
        "csv",
        "generic_es.csv",
        rb";(\d+,\d{3});A",
        rb"(\d\d-\d\d-2026;\d\d:\d\d);",
        replace(
            PLAIN,
            channels=(Channel("e", "Energía (kWh)", Quantity.ENERGY, "kWh"),),
            stamp_columns=("Fecha", "Hora"),
            stamp_format="%d-%m-%Y %H:%M",
            delimiter=";",
            decimal_mark=",",
            interval_seconds=900,
        ),
        1,
    ),
    Case("mii-csv", "meteocontrol_mii.csv", rb"\d\d,(\d+\.\d),", rb"\n(2026-[\d: -]+),", replace(PLAIN, interval_seconds=900), 3),
    Case("mii-xml", "meteocontrol_mii.xml", rb' v="([\d.]+)"', rb'timestamp="([^"]+)"', PLAIN, 3),
    Case("weblog-ini", "meteocontrol_delta_inverter.txt", rb";INV000\d;\d;([\d.]+);", rb"\n(\d\d:\d\d:\d\d);900", PLAIN, 3),
    Case("80020", "message_80020.xml", rb"<value>(\d+)</value>", rb'start="(\d{4})"', PLAIN, 1),
    Case("prime-s02", "prime_s02.xml", rb'AE="(\d+)"', rb'Fh="(\d+S)"', PLAIN, 2),
    Case("green-button", "greenbutton.xml", rb"<value>(\d+)</value>", rb"<start>(\d+)</start></timePeriod>", replace(PLAIN, utc_offset_seconds=None), 1),
    Case("vcom", "vcom_bulk.json", rb'"E_INT": ([\d.]+)', rb'\n    "([^"]+)": \{"200"', replace(PLAIN, utc_offset_seconds=None, interval_seconds=900), 2),
    Case("nem12", "nem12.csv", rb",(\d+\.\d{3})", rb"300,(\d{8}),", replace(PLAIN, utc_offset_seconds=None), 96),
)  # fmt: skip


def spoilt(case, seed):
    """The sample with one value or stamp made unreadable: which of them, the bytes, and the 1-based line of it."""
    rng, data = random.Random(f"{case.name} {seed}"), case.data
    kind = "stamp" if seed % 3 == 2 else "value"
    at, end = rng.choice(list(re.finditer(getattr(case, kind), data))).span(1)
    garbage = rng.choice(BAD_STAMPS if kind == "stamp" else BAD_VALUES)
    if case.name == "vcom" and kind == "value":
        garbage = b'"' + garbage + b'"'
    return kind, data[:at] + garbage + data[end:], data[:at].count(b"\n") + 1


def damaged(case, seed):
    """The sample with damage that need not make it unreadable: its kind and the bytes."""
    rng, data = random.Random(f"{case.name} {seed}"), case.data
    kind = ("nul", "byte", "cut", "twice", "gone", "mark")[seed % 6]
    at = rng.randrange(len(data) // 10, len(data) - 20)
    line = data[:at].count(b"\n") + 1
    lines = data.splitlines(keepends=True)
    if kind == "nul":
        return kind, data[:at] + b"\0" + data[at:]
    if kind == "byte":
        return kind, data[:at] + b"\xff\xfe" + data[at:]
    if kind == "cut":
        return kind, data[:at]
    if kind == "twice":
        return kind, b"".join([*lines[:line], *lines[line - 1 :]])
    if kind == "gone":
        return kind, b"".join(lines[: line - 1] + lines[line:])
    # A delimiter or bracket vanishes (of a decimal comma nobody could tell).
    marks = [
        found.start()
        for found in re.finditer(rb'[;"<>]' if case.name == "csv" else rb'[;,"<>]', data)
        if found.start() > len(data) // 10
    ]
    at = rng.choice(marks)
    return kind, data[:at] + data[at + 1 :]


def values_of(parsed):
    return {
        (series.channel.column, start): value
        for series in parsed.series
        for start, value in zip(series.starts, series.values, strict=True)
    }


def read_whole(case):
    source = replace(case.source, format=case.name)
    whole = read(case.data, source, case.file)
    assert whole.refused == ()
    return source, values_of(whole)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_read_sample_with_one_bad_value_or_stamp_refuses_it_with_line_and_field(case, seed):
    source, before = read_whole(case)
    kind, data, line = spoilt(case, seed)
    assert data != case.data
    parsed = read(data, source, case.file)
    # One bad value or stamp never costs the whole file, nor any reading but those that rest on it.
    assert parsed.refused and {row.line for row in parsed.refused} == {line}
    assert all(re.search("field|stamp" if kind == "stamp" else "field", row.reason) for row in parsed.refused)
    after = values_of(parsed)
    assert after.items() <= before.items()
    assert len(before) - len(after) == (case.per_stamp if kind == "stamp" else 1)
    assert parsed.rows == parsed.used + len(parsed.refused)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_read_damaged_sample_leaves_what_was_not_touched_alone(case, seed):
    source, before = read_whole(case)
    kind, data = damaged(case, seed)
    try:
        parsed = read(data, source, case.file)
    except RefusedInput as refused:
        assert refused.file == case.file and refused.expected
        assert refused.line or refused.field
        return
    after = values_of(parsed)
    assert parsed.rows == parsed.used + len(parsed.refused)
    doubtful = {start for series in parsed.series for start in series.conflicts}
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key] and key[1] not in doubtful}
    lost, gained = before.keys() - after.keys(), after.keys() - before.keys()
    if kind == "cut":
        # Text may end in the middle of a number, which nobody can see; only its last row is touched by that.
        assert gained == set() and {start for _, start in changed} <= {max(start for _, start in after)}
    else:
        assert changed == set() and gained == set()
        assert len(lost) <= case.per_stamp * 2
        assert kind in ("gone", "byte", "twice") or len(parsed.refused) or not lost
