"""What every kind of source hands over, and what its answers and names are turned into."""

from __future__ import annotations

import ftplib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import paramiko

from ..errors import SourceError

#: A cursor: JSON that a source understands; empty where it was never looked at.
Cursor = dict[str, Any]
DAY = timedelta(days=1)
#: How long after its end a day is fetched again, for readings that come late.
LATE = timedelta(hours=6)
_UNSAFE = re.compile(r"[^\w.,+=@ -]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One file of a source. ``cursor`` is kept once the file is.

    ``data`` is None for a look that found nothing more: only the cursor moves. ``refusal`` says why a file was not even
    fetched.
    """

    name: str
    data: bytes | None
    cursor: Cursor
    refusal: str = ""


class Source(Protocol):
    """Anything that hands over files from a cursor on. Raises SourceError where it does not answer."""

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]: ...


def safe_name(name: str) -> str:
    """A file name of at most 200 characters without path or control characters: it names a raw file, never a place."""
    return _UNSAFE.sub("_", name.replace("/", "_"))[:200].lstrip(".") or "unnamed"


def limited(parts: Iterable[bytes], most: int, name: str) -> Iterator[bytes]:
    """Pieces of an answer of source ``name`` as they come; SourceError once they are more than ``most`` bytes."""
    size = 0
    for part in parts:
        size += len(part)
        if size > most:
            raise SourceError(f"source {name}: the answer is over max_bytes of {most}; nothing of it was taken")
        yield part


def shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


class answers:
    """Whatever goes wrong between here and a source, as a SourceError that names it and holds no secret."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: Any, fault: BaseException | None, __: Any) -> None:
        if isinstance(fault, paramiko.AuthenticationException):
            raise SourceError(f"source {self.name}: the server does not let this user in") from None
        if isinstance(fault, paramiko.BadHostKeyException):
            raise SourceError(f"source {self.name}: the server's host key is not the one of known_hosts") from None
        if isinstance(fault, paramiko.SSHException) and "not found in known_hosts" in str(fault):
            raise SourceError(
                f"source {self.name}: the server's host key is not in known_hosts; add it after checking it"
            ) from None
        if isinstance(fault, FileNotFoundError | NotADirectoryError):
            raise SourceError(f"source {self.name}: {fault.filename or 'its folder'} is not there") from None
        if isinstance(fault, ftplib.error_perm) and str(fault).startswith("530"):
            raise SourceError(f"source {self.name}: the server does not let this user in") from None
        if isinstance(fault, ftplib.Error):
            # The code alone: a server may repeat a password in its words.
            raise SourceError(f"source {self.name}: the server answers with code {str(fault)[:3]!r}") from None
        if isinstance(fault, OSError | EOFError | paramiko.SSHException):
            said = getattr(fault, "strerror", None) or type(fault).__name__
            raise SourceError(f"source {self.name}: no answer ({said})") from None
        if isinstance(fault, ValueError | LookupError | TypeError):
            # Libraries let out whatever they stumbled over in an answer; other sources must not suffer from it.
            raise SourceError(f"source {self.name}: the answer is not understood ({type(fault).__name__})") from None
