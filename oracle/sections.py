"""A YAML file read key by key: each value is checked where it is taken, and what is left over at the end was misspelt."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import ConfigError


class Section:
    """A mapping of the file. Each method takes the value of a key, once, and checks it; :meth:`close` ends it.

    Raises ConfigError that names the file, the key and what was expected. A key that is null counts as left out.
    """

    def __init__(self, file: str, path: str, value: Any):
        self.file, self._path = file, path
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{file}: {path or 'the file'} must be a mapping of names to values")
        self._left = dict(value)

    def _called(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def fault(self, key: str, expected: str) -> ConfigError:
        return ConfigError(f"{self.file}: {self._called(key)} must be {expected}")

    def has(self, key: str) -> bool:
        return self._left.get(key) is not None

    def _take(self, key: str, default: Any = None) -> Any:
        value = self._left.pop(key, None)
        return default if value is None else value

    def text(
        self,
        key: str,
        *,
        default: str | None = None,
        empty: bool = False,
        pattern: str | None = None,
        called: str = "a text",
    ) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or not (empty or value) or pattern and not re.fullmatch(pattern, value):
            raise self.fault(key, called)
        return value

    def texts(self, key: str, *, least: int = 0, empty: bool = False) -> list[str]:
        value = self._take(key, [])
        if (
            not isinstance(value, list)
            or len(value) < least
            or not all(isinstance(one, str) and (one or empty) for one in value)
        ):
            raise self.fault(key, "a list of texts" + (" with at least one" if least else ""))
        return value

    def choice(self, key: str, choices: list[str], default: str | None = "") -> Any:
        value = self._take(key, default)
        if value is None:
            return None
        if value not in choices:
            raise self.fault(key, "one of " + ", ".join(choices))
        return value

    def wholes(self, key: str, count: int | None = None, *, least: int = 0, most: int = 2**63 - 1) -> list[int]:
        value = self._take(key, [])
        sound = isinstance(value, list) and (len(value) == count if count else value)
        if not sound or not all(type(one) is int and least <= one <= most for one in value):
            raise self.fault(key, f"a list of {count or 'one or more'} whole numbers from {least} to {most}")
        return list(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def whole(self, key: str, *, default: int | None = None, least: int = 0, most: int = 2**63 - 1) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.fault(key, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, least: float = -1e9, most: float = 1e9, *, default: float | None = None) -> float:
        value = self._take(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise self.fault(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def band(self, key: str, default: tuple[float, float]) -> tuple[float, float]:
        value = self._take(key, list(default))
        sound = (
            isinstance(value, list)
            and len(value) == 2
            and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
        )
        if not sound or not 0 <= value[0] < value[1]:
            raise self.fault(key, "two rising numbers, such as [0.7, 1.2]")
        return float(value[0]), float(value[1])

    def zone(self, key: str) -> ZoneInfo:
        name = self.text(key, called="an IANA time zone such as America/Denver")
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise self.fault(key, "an IANA time zone such as America/Denver") from None

    def offset(self, key: str) -> int | None:
        if not self.has(key):
            return None
        match = re.fullmatch(r"([+-])(\d\d):(\d\d)", self.text(key, called='an offset such as "-07:00", in quotes'))
        if not match or int(match[2]) > 14 or int(match[3]) > 59:
            raise self.fault(key, 'an offset such as "-07:00", in quotes')
        return (-1 if match[1] == "-" else 1) * (int(match[2]) * 3600 + int(match[3]) * 60)

    def moment(self, key: str) -> int:
        text = self.text(key, called='a UTC time such as "2016-07-01T00:00:00Z", in quotes')
        try:
            moment: datetime | None = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self.fault(key, 'a UTC time such as "2016-07-01T00:00:00Z", in quotes')
        return int(moment.astimezone(UTC).timestamp())

    def section(self, key: str) -> Section:
        return Section(self.file, self._called(key), self._take(key, {}))

    def named(self, key: str, *, least: int = 1) -> dict[str, Section]:
        value = self._take(key, {})
        if not isinstance(value, dict) or len(value) < least:
            raise self.fault(key, "a mapping of names to sections")
        return {str(name): Section(self.file, f"{self._called(key)}.{name}", one) for name, one in value.items()}

    def several(self, key: str, *, least: int = 1) -> list[Section]:
        value = self._take(key, [])
        if not isinstance(value, list) or len(value) < least:
            raise self.fault(key, "a list of sections")
        return [Section(self.file, f"{self._called(key)}[{index}]", one) for index, one in enumerate(value)]

    def close(self) -> None:
        if self._left:
            raise ConfigError(f"{self.file}: unknown key {', '.join(self._called(key) for key in self._left)}")
