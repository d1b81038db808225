"""Green Button (ESPI): an Atom feed whose entries refer to each other by links."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..domain import Quality
from .base import Parsed, Quantity, RowRefusal, SourceConfig
from .readings import Readings
from .stamps import Stamps
from .xmlevents import elements, root_of

_ESPI = "http://naesb.org/espi"
_ATOM = "{http://www.w3.org/2005/Atom}"
#: uom to quantity and unit: 72 Wh, 38 W.
_UOM = {"72": (Quantity.ENERGY, "Wh"), "38": (Quantity.POWER, "W")}
_CUMULATIVE = {"1", "3"}
#: ReadingQuality: 0 valid, 14 raw, 17 validated, 18 verified, 19 revenue quality are measured; the others say otherwise.
_QUALITY = {
    **dict.fromkeys(("0", "14", "17", "18", "19"), Quality(0)),
    "7": Quality.EDITED,
    **dict.fromkeys(("8", "9", "11", "12", "15"), Quality.ESTIMATED),
    **dict.fromkeys(("10", "13", "16"), Quality.SUSPECT),
}


@dataclass
class _Entry:
    """What an entry is and what it refers to; ``facts`` are the fields of a ReadingType."""

    line: int
    kind: str = ""
    links: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def link(self, rel: str) -> str:
        return next(iter(self.links.get(rel, ())), "")


@dataclass(frozen=True)
class Meter:
    """A MeterReading with its ReadingType: ``column`` is the tail of its address, ``is_export`` flow direction 19."""

    column: str
    quantity: Quantity | None
    unit: str | None
    exponent: int
    interval_seconds: int
    is_export: bool
    fault: str = ""


def recognises(data: bytes) -> bool:
    return root_of(data)[0] in ("feed", "entry") and _ESPI.encode() in data[:65536]


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read a feed. Columns are ``UsagePoint/<n>/MeterReading/<n>``; stamps are UTC starts and units the feed's own.

    The feed is gone through twice, because a reading may stand before the type that tells what it means.
    """
    meters = meters_of(data, file_name)
    readings, stamps = Readings(source, file_name), Stamps(source)
    # Without a source, import is left out of a feed that has both, or it would be counted with export.
    looks_at_exports = not source.channels and any(meter.is_export for meter in meters.values())
    number = -1
    path: list[str] = []
    block: dict[str, str] = {}
    reading: dict[str, str] = {}
    codes: list[str] = []
    for element in elements(data, file_name, namespace=_ESPI):
        name = element.name
        if element.is_start:
            path.append(name)
            if name == f"{_ATOM}entry":
                number += 1
            elif name == "IntervalBlock":
                block = {}
            elif name == "IntervalReading":
                reading, codes = {}, []
            continue
        path.pop()
        parent = path[-1] if path else ""
        if parent == "interval":
            block[name] = element.text
        elif parent in ("timePeriod", "IntervalReading"):
            reading[name] = element.text
        elif parent == "ReadingQuality" and name == "quality":
            codes.append(element.text)
        elif name == "IntervalReading":
            meter = meters.get(number)
            if looks_at_exports and meter is not None and not meter.is_export and not meter.fault:
                readings.skipped += 1
            else:
                _take(readings, stamps, meter, element.line, block, reading, codes)
    return readings.parsed()


def _take(
    readings: Readings,
    stamps: Stamps,
    meter: Meter | None,
    line: int,
    block: dict[str, str],
    reading: dict[str, str],
    codes: list[str],
) -> None:
    said = f"{reading.get('start', '')} {reading.get('value', '')}"
    if meter is None:
        readings.refuse(line, said, "link 'up': the block does not lead to a MeterReading of this feed")
        return
    if meter.fault:
        readings.refuse(line, said, f"{meter.column}: {meter.fault}")
        return
    column = readings.column(meter.column, unit=meter.unit, quantity=meter.quantity, line=line)
    if column is None:
        readings.skipped += 1
        return
    try:
        seconds = column.spans(_whole(reading, "duration"))
        if meter.interval_seconds and seconds != meter.interval_seconds:
            raise RowRefusal(f"field 'duration': {seconds} s, the type says intervalLength {meter.interval_seconds}")
        start = stamps.start(_whole(reading, "start"), seconds, stamped="start")
        if block:
            begin, length = _whole(block, "start"), _whole(block, "duration")
            if not begin <= start <= start + seconds <= begin + length:
                raise RowRefusal("field 'start': the reading lies outside of its block's interval")
        value = reading.get("value", "")
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise RowRefusal(f"field 'value': {value[:40]!r} is not a whole number")
        quality = Quality(0)
        for code in codes:
            if code not in _QUALITY:
                raise RowRefusal(f"field 'quality': {code[:20]!r} is not a known code")
            quality |= _QUALITY[code]
    except RowRefusal as refusal:
        column.refuse(line, said, str(refusal))
    else:
        column.take(line, f"{value}e{meter.exponent}", start, quality)


def _whole(fields: dict[str, str], key: str) -> int:
    text = fields.get(key, "")
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise RowRefusal(f"field {key!r}: {text[:20]!r} is not a whole number of seconds")
    return int(text)


# -- who refers to whom -----------------------------------------------------------------------------


def meters_of(data: bytes, file_name: str) -> dict[int, Meter]:
    """The meter of each entry that holds a block, by the entry's place in the feed."""
    entries = _entries(data, file_name)
    types = {entry.link("self"): entry for entry in entries if entry.kind == "ReadingType"}
    meters = {entry.link("self"): entry for entry in entries if entry.kind == "MeterReading"}
    found: dict[str, Meter] = {}
    of_entry: dict[int, Meter] = {}
    for number, entry in enumerate(entries):
        if entry.kind != "IntervalBlock":
            continue
        address = next(
            (
                meter
                for up in entry.links.get("up", ())
                for meter in (up, up.removesuffix("/IntervalBlock"))
                if meter in meters
            ),
            None,
        )
        if address is None:
            continue
        if address not in found:
            related = [types[link] for link in meters[address].links.get("related", ()) if link in types]
            found[address] = _meter(address, related)
        of_entry[number] = found[address]
    return of_entry


def _entries(data: bytes, file_name: str) -> list[_Entry]:
    entries: list[_Entry] = []
    path: list[str] = []
    for element in elements(data, file_name, namespace=_ESPI):
        if element.is_start:
            if element.name == f"{_ATOM}entry":
                entries.append(_Entry(element.line))
            elif entries and path[-1:] == [f"{_ATOM}entry"] and element.name == f"{_ATOM}link":
                links = entries[-1].links.setdefault(element.attributes.get("rel", ""), [])
                links.append(element.attributes.get("href", "").rstrip("/"))
            elif entries and path[-1:] == [f"{_ATOM}content"]:
                entries[-1].kind = element.name
            path.append(element.name)
        else:
            path.pop()
            if entries and path[-1:] == ["ReadingType"]:
                entries[-1].facts[element.name] = element.text
    return entries


def _meter(address: str, types: list[_Entry]) -> Meter:
    parts = urlsplit(address).path.split("/")
    column = "/".join(parts[parts.index("UsagePoint") :] if "UsagePoint" in parts else parts[-2:])
    if len(types) != 1:
        return Meter(
            column, None, None, 0, 0, False, f"link 'related': leads to {len(types)} ReadingTypes, expected one"
        )
    facts = types[0].facts
    exponent, interval = facts.get("powerOfTenMultiplier", "0") or "0", facts.get("intervalLength", "0") or "0"
    fault = ""
    if not re.fullmatch(r"-?[0-9]{1,2}", exponent) or abs(int(exponent)) > 12:
        fault = f"field 'powerOfTenMultiplier': {exponent[:20]!r} is not a whole number from -12 to 12"
    elif not re.fullmatch(r"[0-9]{1,6}", interval):
        fault = f"field 'intervalLength': {interval[:20]!r} is not a number of seconds"
    elif facts.get("uom") not in _UOM:
        fault = f"field 'uom': {facts.get('uom', '')[:20]!r} is neither 72 (Wh) nor 38 (W)"
    elif facts.get("commodity", "1") not in ("0", "1", "2"):
        fault = f"field 'commodity': {facts['commodity'][:20]!r} is not electricity"
    elif facts.get("flowDirection", "1") not in ("1", "19"):
        fault = f"field 'flowDirection': {facts['flowDirection'][:20]!r} is neither 1 (forward) nor 19 (reverse)"
    if fault:
        return Meter(column, None, None, 0, 0, False, fault)
    quantity, unit = _UOM[facts["uom"]]
    if quantity is Quantity.ENERGY and facts.get("accumulationBehaviour") in _CUMULATIVE:
        quantity = Quantity.REGISTER
    return Meter(column, quantity, unit, int(exponent), int(interval), facts.get("flowDirection") == "19")
