"""What a format is given and what it hands back; the same for every meter and weather file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from zoneinfo import ZoneInfo

from ..domain import Quality

#: Longest piece of a refused row that is kept for the report, in characters.
REFUSED_TEXT = 200
#: Largest file that is read unless a source says otherwise, in bytes and after unpacking.
MAX_BYTES = 128 << 20
#: Unit of a channel whose file states the unit itself.
UNIT_OF_FILE = "file"


class RowRefusal(Exception):
    """Why one row is not used; the rest of the file is."""


class Quantity(str, Enum):
    """What a column holds. Power, energy and registers are exact integers, weather is floating point.

    ``ENERGY`` is energy of the interval; ``REGISTER`` is a counter that runs on, read at the interval's end.
    """

    POWER = "power"
    ENERGY = "energy"
    REGISTER = "register"
    IRRADIANCE = "irradiance"
    TEMPERATURE = "temperature"

    @property
    def is_exact(self) -> bool:
        return self in (Quantity.POWER, Quantity.ENERGY, Quantity.REGISTER)


@dataclass(frozen=True, slots=True)
class Channel:
    """One column of a file: its header ``column``, what it measures and in which ``unit``.

    In files of several devices ``column`` is device and column, ``"M1/M_AC_E_EXP"``; docs/formats.md says how per
    format. An optional channel may be empty in a row, which then holds nothing of it; a row in which a required one is
    empty is refused.
    ``rolls_over_at``: the count, in ``unit``, at which a register starts again from 0; None where a fall is always a
    reset. ``serial_column``: header of the column that holds the serial number of the meter a register belongs to.
    """

    name: str
    column: str
    quantity: Quantity
    unit: str
    required: bool = True
    rolls_over_at: int | None = None
    serial_column: str = ""


@dataclass(frozen=True, slots=True)
class ClockCorrection:
    """A meter's clock was wrong: ``seconds`` are taken off stamps that say ``start`` to ``end`` (UTC seconds, end open if None).

    Positive where the clock was fast and readings look late. ``evidence`` says in words who found it and by what.
    """

    start: int
    end: int | None
    seconds: int
    evidence: str


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """How one file is to be read. A file seldom says these things itself, so none of them is guessed.

    The texts of ``stamp_columns`` are joined by a blank and read as ``stamp_format``: ``"iso"`` or a strptime
    pattern. Where stamps carry no offset of their own, exactly one of ``utc_offset_seconds`` and ``timezone`` says
    what they mean; where both are None every stamp must carry one. ``stamped`` says which end of its interval a
    stamp marks. ``stamp_offset_seconds`` is taken off each stamp first (60 for stamps at :01, :16, …); what then
    lies within ``stamp_tolerance_seconds`` of a whole interval is moved onto it. ``max_bytes`` bounds the file after
    unpacking. ``clock_corrections`` move what a wrong clock stamped. Without ``channels`` everything that the file holds is read, and ``interval_seconds`` 0 takes each
    column's own: that is for looking into a file (:mod:`oracle.formats.survey`), the sites file states both.
    """

    format: str
    files: tuple[str, ...]
    channels: tuple[Channel, ...]
    stamp_columns: tuple[str, ...]
    interval_seconds: int
    stamped: str = "start"
    stamp_format: str = "iso"
    utc_offset_seconds: int | None = None
    timezone: ZoneInfo | None = None
    stamp_offset_seconds: int = 0
    stamp_tolerance_seconds: int = 0
    delimiter: str = ","
    decimal_mark: str = "."
    encoding: str = "utf-8-sig"
    skip_lines: int = 0
    note: str = ""
    max_bytes: int = MAX_BYTES
    clock_corrections: tuple[ClockCorrection, ...] = ()

    @property
    def stamp_zone(self) -> str:
        """The zone of the stamps in words, for pages and reports."""
        if self.timezone is not None:
            return self.timezone.key
        if self.utc_offset_seconds is None:
            return "each stamp carries its offset"
        minutes = abs(self.utc_offset_seconds) // 60
        return f"UTC{'-' if self.utc_offset_seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A data row that was not used: its 1-based ``line``, what stood there (shortened) and why."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Series:
    """One channel of one file, in time order.

    ``starts`` UTC seconds of each interval's start. ``values``: integer microwatts for power, integer
    micro-watt-hours for energy, floats in W/m2 or degrees Celsius for weather (NaN where an optional channel
    is empty); of a register what it stood at when the interval ended, ``serials`` then naming the meter of each
    reading where the source says where that stands. ``conflicts``: starts at which the file itself holds two different
    values; the smaller is kept. ``quality``: what the file says of a value that is not simply measured, bits
    ESTIMATED, EDITED and SUSPECT by start.
    """

    channel: Channel
    interval_seconds: int
    starts: tuple[int, ...]
    values: tuple[int, ...] | tuple[float, ...]
    conflicts: frozenset[int] = frozenset()
    quality: Mapping[int, Quality] = field(default_factory=dict)
    serials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file as read. Every data row was used or refused: ``rows == used + len(refused)``.

    In files of several devices a row is one reading of a channel the source names. ``skipped`` counts what was not
    for this source: readings of other devices and channels, and lines that the format itself tells to pass over.
    """

    file_name: str
    rows: int
    series: tuple[Series, ...]
    refused: tuple[RefusedRow, ...]
    skipped: int = 0

    @property
    def used(self) -> int:
        return self.rows - len(self.refused)

    def channel(self, name: str) -> Series:
        """The series of the channel called ``name``; KeyError if the source has none."""
        for series in self.series:
            if series.channel.name == name:
                return series
        raise KeyError(name)
