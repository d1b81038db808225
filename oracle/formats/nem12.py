"""NEM12, the interval data file of the Australian market: days of values, quality events below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from ..domain import DAY_SECONDS, Quality
from ..errors import RefusedInput
from .base import REFUSED_TEXT, Parsed, Quantity, RowRefusal, SourceConfig
from .delimited import rows
from .readings import Column, Readings, unit_of

#: Market time all year, whatever clocks do.
UTC_OFFSET_SECONDS = 36_000
_UNITS = {"kwh": "kWh", "mwh": "MWh", "wh": "Wh"}
#: First letter of the quality method: actual, substituted, final substituted, estimated. N is no value, V varies.
_QUALITY = {"A": Quality(0), "S": Quality.ESTIMATED, "F": Quality.ESTIMATED, "E": Quality.ESTIMATED}
_METHOD = re.compile(r"A|N|V|[SFE](\d\d)?", re.ASCII)


def recognises(data: bytes) -> bool:
    return data.removeprefix(b"\xef\xbb\xbf").startswith(b"100,NEM12")


def is_import(column: str) -> bool:
    return column.partition("/")[2].startswith("E")


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a file. Columns are ``<NMI>/<suffix>``: E1 import, B1 export. Stamps (AEST, end of interval) and units are the format's.

    Substituted and estimated values are estimated; a null value is refused.
    """
    if source.timezone is not None or source.utc_offset_seconds not in (None, UTC_OFFSET_SECONDS):
        raise RefusedInput(
            f"the source says {source.stamp_zone}", file=file_name, field="utc_offset",
            expected="nothing or +10:00: the format is in market time",
        )  # fmt: skip
    readings = Readings(source, file_name)
    column: Column | None = None
    interval = 0
    streams = 0
    waiting: _Day | None = None
    kind, line = "", 0
    for line, cells in rows(data, source, file_name, delimiter=","):
        before, kind = kind, cells[0].strip()
        if not before and (kind != "100" or cells[1:2] != ["NEM12"]):
            raise RefusedInput(
                f"the file begins with {','.join(cells)[:40]!r}", file=file_name, line=line, field="100",
                expected="a header 100,NEM12",
            )  # fmt: skip
        if before == "900":
            raise RefusedInput("text stands below the end record", file=file_name, line=line, expected="900 last")
        if kind == "400":
            if waiting is not None:
                waiting.events.append((line, cells))
            elif streams == 0 or before not in ("300", "400"):
                readings.refuse(line, ",".join(cells), "field '400': there is no day above that it could be about")
            continue
        if waiting is not None:
            waiting.take()
            waiting = None
        if kind == "200":
            streams += 1
            column, interval = _stream(readings, cells, file_name, line)
        elif kind == "300":
            if not streams:
                raise RefusedInput(
                    "a day stands above any stream", file=file_name, line=line, field="300", expected="200 before 300"
                )
            if column is None:
                readings.skipped += DAY_SECONDS // interval
            else:
                waiting = _day(column, cells, line, interval)
        elif kind not in ("100", "500", "900") or (kind == "100" and before):
            raise RefusedInput(
                f"record {kind[:20]!r} is not known here", file=file_name, line=line, field="record",
                expected="200, 300, 400, 500 or 900",
            )  # fmt: skip
    if kind != "900":
        raise RefusedInput(
            "the file ends early", file=file_name, line=line or None, field="900", expected="the end record 900"
        )
    return readings.parsed()


def _stream(readings: Readings, cells: list[str], file_name: str, line: int) -> tuple[Column | None, int]:
    fields = [cell.strip() for cell in cells] + [""] * 9
    nmi, suffix, unit, length = fields[1], fields[4], fields[7], fields[8]
    faults = {
        "NMI": "its number" if not nmi else "",
        "NMISuffix": "such as E1 or B1" if not suffix else "",
        "IntervalLength": "5, 15 or 30" if length not in ("5", "15", "30") else "",
    }
    for name, expected in faults.items():
        if expected:
            raise RefusedInput(
                f"record 200 has {fields[(1 if name == 'NMI' else 4 if name == 'NMISuffix' else 8)][:20]!r}",
                file=file_name,
                line=line,
                field=name,
                expected=expected,
            )
    known = _UNITS.get(unit.lower())
    column = readings.column(
        f"{nmi}/{suffix}",
        unit=known or unit_of(unit),
        quantity=Quantity.ENERGY if known and suffix[0] in "BE" else None,
        line=line,
    )
    seconds = int(length) * 60
    if column is not None:
        try:
            column.spans(seconds)
        except RowRefusal as refusal:
            raise RefusedInput(
                str(refusal), file=file_name, line=line, field="IntervalLength", expected="the source's interval"
            ) from None
    return column, seconds


class _Day:
    """A record 300 that waits for the quality events which may follow it."""

    def __init__(self, column: Column, line: int, start: int, interval: int, values: Sequence[str], method: str):
        self._column, self._line, self._start, self._interval = column, line, start, interval
        self._values, self._method = values, method
        self.events: list[tuple[int, list[str]]] = []

    def take(self) -> None:
        methods = [self._method] * len(self._values)
        if self._method == "V" or self.events:
            methods = self._by_event()
        for number, (value, method) in enumerate(zip(self._values, methods, strict=True)):
            said = f"interval {number + 1}: {value}"
            if method == "N":
                self._column.refuse(self._line, said, f"field 'interval {number + 1}': quality N, there is no value")
            elif method[:1] not in _QUALITY:
                self._column.refuse(self._line, said, f"field 'interval {number + 1}': {method}")
            else:
                start = self._start + number * self._interval
                self._column.take(self._line, value, start, _QUALITY[method[:1]])

    def _by_event(self) -> list[str]:
        """A method per interval, or why it has none: in that case no letter of a method stands first."""
        if self._method != "V":
            return ["- quality events below a day whose quality does not vary"] * len(self._values)
        methods = ["- no quality event is about it"] * len(self._values)
        for line, cells in self.events:
            fields = [cell.strip() for cell in cells] + [""] * 3
            first, last, method = fields[1], fields[2], fields[3]
            numbers = [int(text) for text in (first, last) if re.fullmatch(r"[0-9]{1,4}", text)]
            sound = len(numbers) == 2 and 1 <= numbers[0] <= numbers[1] <= len(methods)
            if not sound or not _METHOD.fullmatch(method) or method == "V":
                return [f"- line {line}: quality event {','.join(cells)[:60]!r} is not sound"] * len(self._values)
            for at in range(numbers[0] - 1, numbers[1]):
                twice = methods[at][0] != "-"
                methods[at] = f"- line {line}: two quality events are about it" if twice else method
        return methods


def _day(column: Column, cells: list[str], line: int, interval: int) -> _Day | None:
    count = DAY_SECONDS // interval
    text = ",".join(cells)[:REFUSED_TEXT]
    if len(cells) < count + 3:
        column.refuse(line, text, f"record 300 has {len(cells)} fields, expected at least {count + 3}")
        return None
    date, method = cells[1].strip(), cells[count + 2].strip()
    if not _METHOD.fullmatch(method):
        column.refuse(line, text, f"field 'QualityMethod': {method[:20]!r} is none of A, S, F, E, N, V")
        return None
    try:
        if not re.fullmatch(r"[0-9]{8}", date):
            raise ValueError
        midnight = datetime.strptime(date + "+1000", "%Y%m%d%z")
    except ValueError:
        column.refuse(line, text, f"field 'IntervalDate': {date[:20]!r} is not a date YYYYMMDD")
        return None
    return _Day(column, line, int(midnight.timestamp()), interval, cells[2 : count + 2], method)
