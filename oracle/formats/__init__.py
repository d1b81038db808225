"""Meter and weather files to exact series. A new format is one module here and one line in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ..errors import RefusedInput
from . import delimited, green_button, message_80020, mii_csv, mii_xml, nem12, prime_s02, vcom, weblog_ini, xlsx
from .base import MAX_BYTES, Channel, ClockCorrection, Parsed, Quantity, RefusedRow, Series, SourceConfig
from .containers import unpack
from .readings import shifted
from .slots import DaySlots, RegisterSpan, StationDay, day_slots, register_spans, station_days

__all__ = [
    "FORMATS",
    "Channel",
    "ClockCorrection",
    "DaySlots",
    "Format",
    "Parsed",
    "Quantity",
    "RefusedRow",
    "RegisterSpan",
    "Series",
    "SourceConfig",
    "StationDay",
    "day_slots",
    "read",
    "register_spans",
    "sniff",
    "station_days",
]


class Reader(Protocol):
    """A format: bytes in, series and refused rows out; RefusedInput where the whole file is refused."""

    def __call__(self, data: bytes, source: SourceConfig, file_name: str) -> Parsed: ...


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what reads it, what recognises it from its bytes alone, and what it is in words.

    ``unstated``: settings of a source that its files never state. ``guess`` finds further ones out of a file that has no
    source (:mod:`oracle.formats.survey`); ``is_import`` tells a column of energy drawn rather than fed in.
    ``is_container``: a workbook is a ZIP itself; every other format may come in gzip or ZIP.
    """

    read: Reader
    recognises: Callable[[bytes], bool]
    title: str
    unstated: tuple[str, ...] = ()
    guess: Callable[[bytes, SourceConfig, str], tuple[SourceConfig, list[str]]] | None = None
    is_import: Callable[[str], bool] = lambda column: False
    is_container: bool = False


_LOCAL = ("timezone", "stamped")

#: Every format by name; recognised from the last to the first, the least particular last of all.
FORMATS: dict[str, Format] = {
    "csv": Format(delimited.read, delimited.recognises, "delimited text with a header", _LOCAL, guess=delimited.guess),
    "xlsx": Format(xlsx.read, xlsx.recognises, "Excel workbook", _LOCAL, guess=xlsx.guess, is_container=True),
    "weblog-ini": Format(
        weblog_ini.read, weblog_ini.recognises, "web'log INI text", (*_LOCAL, "decimal_mark", "encoding")
    ),
    "mii-csv": Format(
        mii_csv.read,
        mii_csv.recognises,
        "Meteocontrol MII CSV",
        _LOCAL,
        guess=mii_csv.guess,
        is_import=mii_csv.is_import,
    ),
    "mii-xml": Format(
        mii_xml.read, mii_xml.recognises, "Meteocontrol MII 2.0 XML", ("stamped", "unit"), is_import=mii_csv.is_import
    ),
    "80020": Format(
        message_80020.read,
        message_80020.recognises,
        "80020 XML",
        ("timezone", "unit"),
        is_import=lambda column: column.endswith("/01"),
    ),
    "prime-s02": Format(
        prime_s02.read,
        prime_s02.recognises,
        "PRIME S02 report",
        _LOCAL,
        is_import=lambda column: column.endswith("/AI"),
    ),
    "vcom": Format(
        vcom.read,
        vcom.recognises,
        "VCOM API bulk measurements, JSON",
        ("stamped", "unit"),
        guess=vcom.guess,
        is_import=mii_csv.is_import,
    ),
    "green-button": Format(green_button.read, green_button.recognises, "Green Button (ESPI) feed"),
    "nem12": Format(nem12.read, nem12.recognises, "NEM12", is_import=nem12.is_import),
}


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read one file, packed or not, as its source describes it.

    Every data row ends either in a series or in ``refused``. Raises :class:`RefusedInput` with file, line, field
    and what was expected where the file as a whole cannot be trusted: nothing of it is then used.
    """
    form = FORMATS.get(source.format)
    if form is None:
        raise RefusedInput(
            f"format {source.format!r} is not known", file=file_name, expected="one of " + ", ".join(FORMATS)
        )
    if not form.is_container or not xlsx.recognises(data):
        data = unpack(data, file_name, source.max_bytes)
    parsed = form.read(data, source, file_name)
    if not source.clock_corrections:
        return parsed
    return replace(parsed, series=tuple(shifted(series, source.clock_corrections) for series in parsed.series))


def sniff(data: bytes, file_name: str, max_bytes: int = MAX_BYTES) -> str:
    """Name of the format of a file, packed or not, from its content. Raises RefusedInput naming all that was tried."""
    if xlsx.recognises(data):
        return "xlsx"
    data = unpack(data, file_name, max_bytes)
    for name, form in reversed(FORMATS.items()):
        if form.recognises(data):
            return name
    tried = ", ".join(f"{name} ({form.title})" for name, form in reversed(FORMATS.items()))
    raise RefusedInput("the format is not recognised", file=file_name, expected=f"one of these, all tried: {tried}")
