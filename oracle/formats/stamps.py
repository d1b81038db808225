"""Stamps of files to the UTC second at which their interval starts."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from .base import RowRefusal, SourceConfig


class Stamps:
    """Reads the stamps of one file as its source says. Raises :class:`RowRefusal` for what cannot be placed in time."""

    def __init__(self, source: SourceConfig):
        self._source = source
        self._zone: tzinfo | None = source.timezone
        if source.utc_offset_seconds is not None:
            self._zone = timezone(timedelta(seconds=source.utc_offset_seconds))
        self._seen_twice_an_hour: set[Hashable] = set()
        self._last: dict[Hashable, datetime] = {}
        self._falling: set[Hashable] = set()

    @property
    def has_seasons(self) -> bool:
        """Whether the zone is one whose clocks may change, so that a summer mark says something about it."""
        return isinstance(self._zone, ZoneInfo)

    def __call__(self, text: str, *, interval_seconds: int | None = None, key: Hashable = None) -> int:
        """Start of the interval that the text, written as ``stamp_format``, marks."""
        text = text.strip()
        return self.start(self.utc(self.moment(text), text, key=key), interval_seconds)

    def moment(self, text: str) -> datetime:
        """The text as written, with or without an offset."""
        try:
            if self._source.stamp_format == "iso":
                moment = datetime.fromisoformat(text)
            else:
                moment = datetime.strptime(text, self._source.stamp_format)  # noqa: DTZ007 (its zone is added later)
        except ValueError:
            raise RowRefusal(f"stamp {text[:40]!r} is not of the form {self._source.stamp_format}") from None
        if moment.microsecond:
            raise RowRefusal(f"stamp {text[:40]!r} has a fraction of a second")
        return moment

    def utc(self, moment: datetime, text: str, *, key: Hashable = None, summer: bool | None = None) -> int:
        """UTC seconds of a moment.

        ``summer`` is what the file says about it; where it says nothing, the first of an hour that comes twice is summer
        time, separately for each ``key`` (the device). In a file whose stamps fall nobody could tell: RowRefusal.
        """
        try:
            if moment.tzinfo is None:
                moment = self._local(moment, text, key, summer)
            return int(moment.timestamp())
        except (OverflowError, OSError):
            raise RowRefusal(f"stamp {text[:40]!r} is out of range") from None

    def start(self, seconds: int, interval_seconds: int | None = None, *, stamped: str | None = None) -> int:
        """Start of the interval that a stamp at ``seconds`` of UTC marks."""
        source, interval = self._source, interval_seconds or self._source.interval_seconds
        seconds -= source.stamp_offset_seconds
        if (stamped or source.stamped) == "end":
            seconds -= interval
        off = (seconds + source.stamp_tolerance_seconds) % interval - source.stamp_tolerance_seconds
        if off > source.stamp_tolerance_seconds:
            raise RowRefusal(f"stamp lies {off} s off the {interval} s grid")
        return seconds - off

    def _local(self, moment: datetime, text: str, key: Hashable, summer: bool | None) -> datetime:
        if self._zone is None:
            raise RowRefusal(f"stamp {text[:40]!r} carries no UTC offset and the source states none")
        local = moment.replace(tzinfo=self._zone)
        if not isinstance(self._zone, ZoneInfo):
            if summer:
                raise RowRefusal(f"stamp {text[:40]!r} is marked as summer time, but the source states a fixed offset")
            return local
        before, self._last[key] = self._last.get(key), moment
        if local.utcoffset() == local.replace(fold=1).utcoffset():
            if summer is not None and summer != bool(local.dst()):
                season = "summer" if summer else "winter"
                raise RowRefusal(f"stamp {text[:40]!r} is marked as {season} time, which {self._zone.key} has not then")
            return local
        if local.astimezone(UTC).astimezone(self._zone).replace(tzinfo=None) != moment:
            raise RowRefusal(f"stamp {text[:40]!r} does not exist: clocks were put forward")
        if summer is not None:
            return local.replace(fold=0 if summer else 1)
        # The hour that comes twice when clocks go back: the file's first is summer time, its second is not.
        if (key, moment) in self._seen_twice_an_hour:
            return local.replace(fold=1)
        if before is not None and before > moment:
            self._falling.add(key)
        if key in self._falling:
            raise RowRefusal(
                f"stamp {text[:40]!r} lies in an hour that comes twice, and the rows before it do not rise: it may be either"
            )
        self._seen_twice_an_hour.add((key, moment))
        return local
