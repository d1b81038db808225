"""Meteocontrol import interface (MII) 2.0 as XML, plain or gzip."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import RefusedInput
from .base import Parsed, RowRefusal, SourceConfig
from .mii_csv import ABBREVIATIONS
from .readings import Column, Readings
from .stamps import Stamps
from .xmlevents import elements, root_of


def recognises(data: bytes) -> bool:
    return root_of(data)[0] == "mii"


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a file. Columns are ``<device id>/<abbreviation>``; units are the source's, the file states none."""
    readings, stamp_of = Readings(source, file_name), Stamps(source)
    known: dict[str, str] = {}
    loggers = 0
    path: list[str] = []
    stamp, interval, device = "", "", ""

    def start_of(column: Column) -> Callable[[], int]:
        if not interval.isascii() or not interval.isdigit():
            raise RowRefusal(f"field 'interval': {interval[:20]!r} is not a number of seconds")
        seconds = column.spans(int(interval))
        return lambda: stamp_of(stamp, interval_seconds=seconds, key=column)

    for element in elements(data, file_name):
        if not element.is_start:
            path.pop()
            continue
        name, attributes, line = element.name, element.attributes, element.line
        path.append(name)
        if len(path) == 1:
            if name != "mii" or attributes.get("version") != "2.0":
                raise RefusedInput(
                    f"the file is <{name}> version {attributes.get('version')!r}", file=file_name, line=line,
                    field="version", expected="<mii version=\"2.0\">",
                )  # fmt: skip
        elif name == "datalogger":
            loggers += 1
            if loggers > 1:
                raise RefusedInput(
                    "there are two data loggers, whose device ids may be the same", file=file_name, line=line,
                    field="datalogger", expected="one data logger in a file",
                )  # fmt: skip
        elif name == "datapoint":
            stamp, interval = attributes.get("timestamp", ""), attributes.get("interval", "")
        elif name == "device" and path[-2] == "devices":
            known[attributes.get("id", "")] = attributes.get("type", "")
        elif name == "device":
            device = attributes.get("id", "")
        elif name == "mv":
            kind, text = attributes.get("t", ""), attributes.get("v", "")
            quantity, unit = ABBREVIATIONS.get(kind, (None, None))
            if path != ["mii", "datalogger", "datapoints", "datapoint", "device", "mv"]:
                raise RefusedInput(
                    "a value stands in " + "/".join(path[:-1]), file=file_name, line=line, field="mv",
                    expected="mii/datalogger/datapoints/datapoint/device",
                )  # fmt: skip
            column = readings.column(f"{device}/{kind}", unit=None if source.channels else unit, quantity=quantity)
            if device not in known:
                readings.refuse(
                    line, f"{stamp} {kind} {text}", f"field 'device': {device[:40]!r} is not among the devices"
                )
            elif column is None:
                readings.skipped += 1
            else:
                try:
                    column.take(line, text, start_of(column))
                except RowRefusal as refusal:
                    column.refuse(line, f"{stamp} {text}", str(refusal))
    return readings.parsed()
