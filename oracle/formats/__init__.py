"""Meter and weather files to exact series. A new format is one module here and one line in ``FORMATS``."""

from __future__ import annotations

from typing import Protocol

from ..errors import RefusedInput
from . import delimited
from .base import Channel, Parsed, Quantity, RefusedRow, Series, SourceConfig
from .slots import DaySlots, StationDay, day_slots, station_days

__all__ = [
    "FORMATS",
    "Channel",
    "DaySlots",
    "Parsed",
    "Quantity",
    "RefusedRow",
    "Series",
    "SourceConfig",
    "StationDay",
    "day_slots",
    "read",
    "station_days",
]


class Reader(Protocol):
    """A format: bytes in, series and refused rows out; RefusedInput where the whole file is refused."""

    def __call__(self, data: bytes, source: SourceConfig, file_name: str) -> Parsed: ...


FORMATS: dict[str, Reader] = {
    "csv": delimited.read,
}


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read one file as its source describes it.

    Every data row ends either in a series or in ``refused``. Raises :class:`RefusedInput` with file, line, field
    and what was expected where the file as a whole cannot be trusted: nothing of it is then used.
    """
    reader = FORMATS.get(source.format)
    if reader is None:
        raise RefusedInput(
            f"format {source.format!r} is not known", file=file_name, expected="one of " + ", ".join(FORMATS)
        )
    return reader(data, source, file_name)
