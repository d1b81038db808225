"""Answers of class 80021 to messages of layout 80020, as files for whoever sends them back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .archive import write_whole
from .errors import RefusedInput
from .formats import Parsed
from .formats.base import MAX_BYTES
from .formats.containers import is_packed, unpack
from .formats.message_80020 import reply_80021, reply_status

#: 80020_<INN>_<YYYYMMDD>_<number>, as the rules name messages.
_NAME = re.compile(r"80020_\d+_(\d{8})_(\d{1,9})(?:\D|$)", re.ASCII)
_DAY = re.compile(rb"<day>\s*(\d{8})\s*</day>")
_UNSAFE = re.compile(r"[^\w.,+=@ -]", re.ASCII)


def answer(folder: Path, name: str, data: bytes, outcomes: Iterable[Parsed | RefusedInput]) -> Path:
    """Write the answer to the message ``name`` into ``folder``, named as the message with 80021 for 80020.

    ``outcomes``: what each source made of it, or why it was refused; the worst status counts. The same message again is
    answered again, in the same file. A message whose name says neither day nor number has those of its content and 0.
    """
    status = max(reply_status(one) for one in outcomes)
    named = _NAME.match(name)
    day, number = (named[1], int(named[2])) if named else (_day_of(data, name), 0)
    stem = _UNSAFE.sub("_", name.removeprefix("80020_").partition(".")[0])[:150]
    file = folder / f"80021_{stem}.xml"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, reply_80021(name, day, status, number=number, is_packed=is_packed(data)))
    return file


def _day_of(data: bytes, name: str) -> str:
    """The day that a message states; empty where it is not readable."""
    try:
        found = _DAY.search(unpack(data, name, MAX_BYTES)[: 1 << 16])
    except RefusedInput:
        found = None
    return found[1].decode() if found else ""
