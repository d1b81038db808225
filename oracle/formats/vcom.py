"""Bulk measurements of Meteocontrol's VCOM API v2 as JSON: what ``systems/<key>/bulk/measurements`` answers, kept as a file.

Written from the vendor's documentation and the answers in its own client's tests; not tried against the service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import NamedTuple

from ..errors import RefusedInput
from .base import Parsed, Quantity, RowRefusal, SourceConfig
from .mii_csv import ABBREVIATIONS
from .readings import Readings
from .stamps import Stamps

#: Groups of an answer: of the whole plant, value by abbreviation; of devices, one level deeper.
PLANT_GROUPS = ("basics", "calculations")
DEVICE_GROUPS = (
    "inverters",
    "meters",
    "sensors",
    "stringboxes",
    "batteries",
    "powerPlantControllers",
    "trackers",
    "statuses",
)
_IRRADIANCE = re.compile(r"G_[MH]\d+|SRAD\w*", re.ASCII)
_TOKEN = re.compile(
    rb"[ \t\r\n]*(?:(?P<mark>[{}\[\]:,])"
    rb'|"(?P<text>[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"'
    rb"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    rb"|(?P<word>true|false|null))"
)
_MAX_DEPTH = 4
_MAX_TEXT = 512


class _Value(NamedTuple):
    """A value of the answer: the names that lead to it, its text exactly as written, its 1-based line."""

    path: tuple[str, ...]
    text: str
    line: int


def recognises(data: bytes) -> bool:
    names = "|".join((*PLANT_GROUPS, *DEVICE_GROUPS)).encode()
    return re.match(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:' + names + rb')"\s*:', data[:4096]) is not None


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    """Read an answer. Columns are ``<group>/<device id>/<abbreviation>``, of the plant ``<group>/<abbreviation>``.

    Values count by their decimal text as written. Stamps carry their offset; where one does not, the source's zone holds. Units
    are the source's, the answer states none.
    """
    readings, stamp_of = Readings(source, file_name), Stamps(source)
    for path, text, line in _values(data, file_name):
        group = path[0]
        if group not in PLANT_GROUPS + DEVICE_GROUPS:
            raise RefusedInput(
                f"there is no group {group[:40]!r}", file=file_name, line=line, field="group",
                expected="one of " + ", ".join(PLANT_GROUPS + DEVICE_GROUPS),
            )  # fmt: skip
        if len(path) != (3 if group in PLANT_GROUPS else 4):
            raise RefusedInput(
                "a value stands under " + "/".join(path)[:80], file=file_name, line=line, field=path[-1][:40],
                expected="group, stamp, device (not in basics and calculations), abbreviation",
            )  # fmt: skip
        abbreviation = path[-1]
        name = "/".join((group, *path[2:]))
        quantity, unit = ABBREVIATIONS.get(abbreviation, (None, None))
        if _IRRADIANCE.fullmatch(abbreviation):
            quantity, unit = Quantity.IRRADIANCE, "W/m2"
        column = readings.column(name, unit=None if source.channels else unit, quantity=quantity)
        if column is None:
            readings.skipped += 1
        elif text == "null" and not source.channels:
            # A look into a file: an abbreviation that the device does not have is null throughout.
            readings.skipped += 1
        else:
            column.take(line, text, lambda stamp=path[1], key=name: _start(stamp_of, stamp, key))  # type: ignore[misc]
    return readings.parsed()


def _start(stamp_of: Stamps, stamp: str, key: str) -> int:
    try:
        return stamp_of(stamp, key=key)
    except RowRefusal as refusal:
        raise RowRefusal(f"field 'stamp': {refusal}") from None


def guess(data: bytes, source: SourceConfig, file_name: str) -> tuple[SourceConfig, list[str]]:
    """Interval for a look into a file, and in words what was assumed."""
    stamps = Stamps(replace(source, interval_seconds=1, stamped="start"))
    moments: set[int] = set()
    for path, _, _ in islice(_values(data, file_name), 10_000):
        try:
            moments.add(stamps(path[1]))
        except (RowRefusal, IndexError):
            continue
    gaps = {later - earlier for earlier, later in pairwise(sorted(moments))}
    interval = min(gaps, default=900)
    return replace(source, interval_seconds=interval), [
        f"interval_seconds: {interval}, the smallest step of the stamps"
    ]


def _values(data: bytes, file_name: str) -> Iterator[_Value]:
    """Every value of the answer in order, in constant memory; RefusedInput with its line for what is no such JSON."""
    at, line = (3 if data.startswith(b"\xef\xbb\xbf") else 0), 1
    path: list[str] = []
    names: list[set[str]] = []
    state = "value"

    def fault(reason: str, expected: str) -> RefusedInput:
        field = "/".join(path)[:80] or None
        return RefusedInput(reason, file=file_name, line=line, field=field, expected=expected)

    while True:
        token = _TOKEN.match(data, at)
        if token is None:
            rest = data[at:].lstrip(b" \t\r\n")
            line += data.count(b"\n", at, len(data) - len(rest))
            if state == "end" and not rest:
                return
            raise fault(
                f"{rest[:20].decode('latin-1')!r} is no JSON" if rest else "the file ends early",
                "well-formed JSON of objects, texts, numbers and null",
            )
        line += data.count(b"\n", at, token.end())
        at = token.end()
        mark, text = token["mark"], token["text"]
        if text is not None and len(text) > _MAX_TEXT:
            raise fault("a text is very long", f"at most {_MAX_TEXT} bytes")
        if state in ("name", "first name") and text is not None:
            name = _plain(text)
            if name in names[-1]:
                raise fault(f"the name {name[:40]!r} stands twice in one object", "each name once")
            names[-1].add(name)
            path.append(name)
            state = "colon"
        elif state == "colon" and mark == b":":
            state = "value"
        elif state == "value" and mark == b"{" and len(names) < _MAX_DEPTH:
            names.append(set())
            state = "first name"
        elif state == "value" and mark is None and names:
            yield _Value(tuple(path), _scalar(token), line)
            path.pop()
            state = "next"
        elif state == "value" and mark == b"[" and names:
            # An empty group may come as an empty list; a list with anything in it is no answer we know.
            state = "end of an empty list"
        elif state == "end of an empty list" and mark == b"]":
            path.pop()
            state = "next"
        elif state in ("next", "first name") and mark == b"}":
            names.pop()
            if path:
                path.pop()
            state = "next" if names else "end"
        elif state == "next" and mark == b",":
            state = "name"
        else:
            found = token[0].strip()[:20].decode("latin-1")
            raise fault(f"{found!r} stands where it cannot", f"a {state}" if names else "one object")


def _scalar(token: re.Match[bytes]) -> str:
    text = token["text"]
    return _plain(text) if text is not None else token[0].strip().decode("ascii")


def _plain(text: bytes) -> str:
    """A text as it stands; names and numbers of an answer need no escapes, so whatever has one is no name we know."""
    return text.decode("utf-8", "replace")
