"""Layout 80020 of the Russian wholesale market's metering systems: a day of half-hours or hours per channel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from xml.sax.saxutils import quoteattr

from ..domain import Quality
from ..errors import RefusedInput
from .base import Parsed, Quantity, RowRefusal, SourceConfig
from .readings import Readings
from .stamps import Stamps
from .xmlevents import elements, root_of

_ACTIVE = {"01", "02"}
_PERIOD = ["message", "area", "measuringpoint", "measuringchannel", "period"]
#: Value taken from a bypass that stands in for the metering point.
_SUBSTITUTED = "1114"


def recognises(data: bytes) -> bool:
    name, attributes = root_of(data)
    return name == "message" and "80020" in attributes


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a message. Columns are ``<measuring point>/<channel>``: channel 01 active import, 02 active export.

    Periods state both their ends, so ``stamped`` plays no part. Values that are not for settlement are suspect, those
    of a bypass edited.
    """
    readings, stamps = Readings(source, file_name), Stamps(source)
    path: list[str] = []
    day: datetime | None = None
    saving = ""
    point = channel = ""
    period: dict[str, str] = {}
    value: dict[str, str] | None = None
    text = ""
    for element in elements(data, file_name):
        name, line = element.name, element.line
        if element.is_start:
            path.append(name)
            if len(path) == 1 and (name != "message" or element.attributes.get("class") != "80020"):
                raise RefusedInput(
                    f"the file is <{name}> of class {element.attributes.get('class')!r}", file=file_name, line=line,
                    field="class", expected='<message class="80020">',
                )  # fmt: skip
            if name == "measuringpoint":
                point = _named(element.attributes, file_name, line)
            elif name == "measuringchannel":
                channel = _named(element.attributes, file_name, line)
            elif name == "period":
                period, value, text = dict(element.attributes), None, ""
                if path != _PERIOD or day is None:
                    raise RefusedInput(
                        "a period stands in " + "/".join(path[:-1])
                        if day
                        else "the day is not stated before its periods",
                        file=file_name,
                        line=line,
                        field="period",
                        expected="/".join(_PERIOD) + " below datetime/day",
                    )
            elif name == "value" and path[-2] == "period":
                if value is not None:
                    raise RefusedInput(
                        "a period has two values", file=file_name, line=line, field="value", expected="one value"
                    )
                value = dict(element.attributes)
            continue
        path.pop()
        if name == "day":
            day = _day(element.text, file_name, line)
        elif name == "daylightsavingtime":
            saving = element.text
        elif name == "value":
            text = element.text
        elif name == "period" and day is not None:
            column = readings.column(
                f"{point}/{channel}",
                unit=None if source.channels else "kWh",
                quantity=Quantity.ENERGY if channel in _ACTIVE else None,
            )
            if column is None:
                readings.skipped += 1
                continue
            said = f"{period.get('start', '')}-{period.get('end', '')} {text}"
            try:
                begin, seconds = _span(day, period)
                column.spans(seconds)
                moment = stamps.utc(begin, said, key=column, summer=_summer(period, saving, stamps))
                start, quality = stamps.start(moment, seconds, stamped="start"), _status(value)
            except RowRefusal as refusal:
                column.refuse(line, said, str(refusal))
            else:
                column.take(line, text, start, quality)
    return readings.parsed()


def _named(attributes: Mapping[str, str], file_name: str, line: int) -> str:
    code = attributes.get("code", "").strip()
    if not code:
        raise RefusedInput("there is no code", file=file_name, line=line, field="code", expected="a code")
    return code


def _day(text: str, file_name: str, line: int) -> datetime:
    try:
        if len(text) != 8:
            raise ValueError
        return datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 (a local day)
    except ValueError:
        raise RefusedInput(
            f"{text[:20]!r} is not a day", file=file_name, line=line, field="day", expected="YYYYMMDD"
        ) from None


def _span(day: datetime, period: dict[str, str]) -> tuple[datetime, int]:
    """Local start and length of a period; the last of a day ends at 0000."""
    ends = []
    for key in ("start", "end"):
        text = period.get(key, "")
        if not (len(text) == 4 and text.isascii() and text.isdigit() and int(text[:2]) < 24 and int(text[2:]) < 60):
            raise RowRefusal(f"field {key!r}: {text[:20]!r} is not of the form hhmm")
        ends.append(int(text[:2]) * 60 + int(text[2:]))
    minutes = (ends[1] or 1440) - ends[0]
    if minutes <= 0:
        raise RowRefusal(f"field 'end': the period ends at {period['end']}, before it starts")
    return day + timedelta(minutes=ends[0]), minutes * 60


def _summer(period: dict[str, str], saving: str, stamps: Stamps) -> bool | None:
    """What a period says of its season: on the day of the autumn change those of summer time are marked."""
    mark = period.get("summer")
    if mark not in (None, "0", "1"):
        raise RowRefusal(f"field 'summer': {mark[:20]!r} is neither 0 nor 1")
    if mark == "1":
        return True
    return False if saving == "2" and stamps.has_seasons else None


def _status(value: dict[str, str] | None) -> int:
    if value is None:
        raise RowRefusal("field 'value' is missing")
    status, extended = value.get("status", "0").strip(), value.get("extendedstatus", "").strip()
    if status not in ("", "0", "1"):
        raise RowRefusal(f"field 'status': {status[:20]!r} is neither 0 (for settlement) nor 1 (not for settlement)")
    return (Quality.SUSPECT if status == "1" else 0) | (Quality.EDITED if extended == _SUBSTITUTED else 0)


# -- the answer -------------------------------------------------------------------------------------


class Reply(IntEnum):
    """Status of an answer of class 80021."""

    ACCEPTED = 0
    ACCEPTED_NOT_FOR_SETTLEMENT = 1
    UNKNOWN_CHANNELS = 2
    FORMAT = 3
    NOT_XML = 4


def reply_status(outcome: Parsed | RefusedInput) -> Reply:
    """The status that fits what became of a message: as read, or why it was refused."""
    if isinstance(outcome, RefusedInput):
        if outcome.reason.startswith("the XML"):
            return Reply.NOT_XML
        return Reply.UNKNOWN_CHANNELS if outcome.reason == "the file has no such column" else Reply.FORMAT
    if outcome.refused:
        return Reply.FORMAT
    doubtful = any(bits & Quality.SUSPECT for series in outcome.series for bits in series.quality.values())
    return Reply.ACCEPTED_NOT_FOR_SETTLEMENT if doubtful else Reply.ACCEPTED


def reply_80021(file_name: str, day: str, status: Reply, *, number: int, is_packed: bool = False) -> bytes:
    """An answer of class 80021 to the message ``file_name`` of ``day`` (YYYYMMDD), in windows-1251.

    The layout follows one answer seen in the source of a public program; the annex of the rules was not at hand.
    """
    name = "".join(one if one.isprintable() else "?" for one in file_name)
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = (
        '<?xml version="1.0" encoding="windows-1251"?>\n'
        f'<message class="80021" version="1" id="{number}">\n'
        f' <file zip="{int(is_packed)}">\n'
        f"  <name>{escaped}</name>\n"
        f"  <date>{quoteattr(day)[1:-1]}</date>\n"
        " </file>\n"
        f' <reply status="{int(status)}"/>\n'
        "</message>\n"
    )
    return text.encode("windows-1251", errors="xmlcharrefreplace")
