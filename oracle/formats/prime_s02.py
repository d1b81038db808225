"""PRIME S02: the hourly load profile that a data concentrator collects from its meters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from ..domain import Quality
from ..errors import RefusedInput
from .base import Parsed, Quantity, RowRefusal, SourceConfig
from .readings import Readings
from .stamps import Stamps
from .xmlevents import elements, root_of

#: The profile is hourly by definition.
INTERVAL_SECONDS = 3_600
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d{3})([SW])", re.ASCII)
_VALUES = {"AI": Quantity.ENERGY, "AE": Quantity.ENERGY}
_ALSO = ("R1", "R2", "R3", "R4")


def recognises(data: bytes) -> bool:
    name, attributes = root_of(data)
    return name == "Report" and re.search(r"""IdRpt\s*=\s*["']S02["']""", attributes) is not None


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a report. Columns are ``<meter>/AI`` (import) and ``<meter>/AE`` (export), in Wh once multiplied by Magn.

    They are energies of the hour; a meter that sends registers is read by a channel of quantity ``register``.
    An hour whose status ``Bc`` is not 00 is suspect.
    """
    readings, stamps = Readings(source, file_name), Stamps(source)
    path: list[str] = []
    meter, magnitude = "", ""
    for element in elements(data, file_name):
        if not element.is_start:
            path.pop()
            continue
        name, attributes, line = element.name, element.attributes, element.line
        path.append(name)
        if len(path) == 1 and (name != "Report" or attributes.get("IdRpt") != "S02"):
            raise RefusedInput(
                f"the file is <{name}> {attributes.get('IdRpt')!r}", file=file_name, line=line, field="IdRpt",
                expected='<Report IdRpt="S02">',
            )  # fmt: skip
        if name == "Cnt":
            meter, magnitude = attributes.get("Id", ""), attributes.get("Magn", "")
            if not meter:
                raise RefusedInput("a meter has no Id", file=file_name, line=line, field="Id", expected="its number")
        elif name == "S02":
            if path != ["Report", "Cnc", "Cnt", "S02"]:
                raise RefusedInput(
                    "an hour stands in " + "/".join(path[:-1]), file=file_name, line=line, field="S02",
                    expected="Report/Cnc/Cnt",
                )  # fmt: skip
            _hour(readings, stamps, meter, magnitude, attributes, line)
    return readings.parsed()


def _hour(
    readings: Readings, stamps: Stamps, meter: str, magnitude: str, attributes: Mapping[str, str], line: int
) -> None:
    fields = attributes
    stamp = fields.get("Fh", "")
    start: int | None = None
    for key in (*_VALUES, *(key for key in _ALSO if key in fields)):
        column = readings.column(f"{meter}/{key}", unit="Wh", quantity=_VALUES.get(key))
        if column is None:
            readings.skipped += 1
            continue
        said = f"{stamp} {fields.get(key, '')}"
        try:
            column.spans(INTERVAL_SECONDS)
            if not (magnitude.isascii() and magnitude.isdigit() and 0 < int(magnitude) <= 10**6):
                raise RowRefusal(f"field 'Magn': {magnitude[:20]!r} is not a whole number from 1")
            # One stamp for all values of the hour, or the second would be taken for the hour that comes twice.
            start = _start(stamps, stamp, meter) if start is None else start
            value = fields.get(key, "").strip()
            if not (value.isascii() and value.isdigit() and len(value) <= 18):
                raise RowRefusal(f"field {key!r}: {value[:40]!r} is not a whole number")
            quality = _status(fields.get("Bc", ""))
        except RowRefusal as refusal:
            column.refuse(line, said, str(refusal))
        else:
            column.take(line, str(int(value) * int(magnitude)), start, quality)


def _start(stamps: Stamps, text: str, meter: str) -> int:
    match = _STAMP.fullmatch(text)
    try:
        if match is None or match[7] != "000":
            raise ValueError
        moment = datetime(*map(int, match.groups()[:6]))  # type: ignore[arg-type]  # noqa: DTZ001 (local, its zone is added below)
    except ValueError:
        raise RowRefusal(f"field 'Fh': {text[:40]!r} is not of the form YYYYMMDDhhmmss000 and S or W") from None
    summer = match[8] == "S" if stamps.has_seasons else None
    return stamps.start(stamps.utc(moment, text, key=meter, summer=summer), INTERVAL_SECONDS)


def _status(text: str) -> int:
    try:
        status = int(text, 16) if len(text) == 2 and text.isalnum() else None
    except ValueError:
        status = None
    if status is None:
        raise RowRefusal(f"field 'Bc': {text[:20]!r} is not two hexadecimal digits")
    return Quality.SUSPECT if status else 0
