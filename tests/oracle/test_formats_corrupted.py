"""Twenty seeded corruptions of each sample: refused with line and field, and untouched readings keep their energy."""

import random
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from oracle.errors import RefusedInput
from oracle.formats import Channel, Quantity, SourceConfig, read

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SEEDS = range(20)
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
    Case("nem12", "nem12.csv", rb",(\d+\.\d{3})", rb"300,(\d{8}),", replace(PLAIN, utc_offset_seconds=None), 96),
)  # fmt: skip


def corrupted(case, seed):
    """The sample with one fault: its kind, the bytes, and the 1-based line of the fault."""
    rng = random.Random(f"{case.name} {seed}")
    data, kind = case.data, seed % 10
    if kind in (0, 1, 2, 3):
        token = rng.choice(list(re.finditer((case.value, case.value, case.value, case.stamp)[kind], data)))
        garbage = (b"12x4", b"", b"1e400", b"20260631_99")[kind]
        at, end = token.span(1)
        return ("value", "value", "value", "stamp")[kind], data[:at] + garbage + data[end:], data[:at].count(b"\n") + 1
    at = rng.randrange(len(data) // 10, len(data) - 20)
    line = data[:at].count(b"\n") + 1
    lines = data.splitlines(keepends=True)
    if kind == 4:
        return "nul", data[:at] + b"\0" + data[at:], line
    if kind == 5:
        return "byte", data[:at] + b"\xff\xfe" + data[at:], line
    if kind == 6:
        return "cut", data[:at], line
    if kind == 7:
        return "twice", b"".join([*lines[:line], *lines[line - 1 :]]), line
    if kind == 8:
        return "gone", b"".join(lines[: line - 1] + lines[line:]), line
    # A delimiter or bracket vanishes (of a decimal comma nobody could tell).
    marks = [
        found.start()
        for found in re.finditer(rb'[;"<>]' if case.name == "csv" else rb'[;,"<>]', data)
        if found.start() > len(data) // 10
    ]
    at = rng.choice(marks)
    return "mark", data[:at] + data[at + 1 :], data[:at].count(b"\n") + 1


def values_of(parsed):
    return {
        (series.channel.column, start): value
        for series in parsed.series
        for start, value in zip(series.starts, series.values, strict=True)
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_read_corrupted_sample_is_refused_with_line_and_leaves_the_rest_alone(case, seed):
    source = replace(case.source, format=case.name)
    whole = read(case.data, source, case.file)
    assert whole.refused == ()
    before = values_of(whole)
    kind, data, line = corrupted(case, seed)
    assert data != case.data
    try:
        parsed = read(data, source, case.file)
    except RefusedInput as refused:
        assert refused.file == case.file and refused.expected
        assert refused.line or refused.field
        # One bad value or stamp never costs the whole file.
        assert kind not in ("value", "stamp")
        return
    after = values_of(parsed)
    assert parsed.rows == parsed.used + len(parsed.refused)
    doubtful = {start for series in parsed.series for start in series.conflicts}
    changed = {key for key in before.keys() & after.keys() if before[key] != after[key] and key[1] not in doubtful}
    lost, gained = before.keys() - after.keys(), after.keys() - before.keys()
    if kind == "value":
        assert (len(lost), changed, gained) == (1, set(), set())
        [row] = parsed.refused
        assert row.line == line and "field" in row.reason
    elif kind == "stamp":
        assert (len(lost), changed, gained) == (case.per_stamp, set(), set())
        assert {row.line for row in parsed.refused} == {line}
        assert all(re.search("stamp|field", row.reason) for row in parsed.refused)
    elif kind == "cut":
        # Text may end in the middle of a number, which nobody can see; only its last row is touched by that.
        assert gained == set() and {start for _, start in changed} <= {max(start for _, start in after)}
    else:
        assert changed == set() and gained == set()
        assert len(lost) <= case.per_stamp * 2
        assert kind in ("gone", "byte", "twice") or len(parsed.refused) or not lost
