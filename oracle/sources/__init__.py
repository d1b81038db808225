"""Where meter and weather files come from by themselves: folders, SFTP and FTP servers, HTTP, MQTT, VCOM.

A source is looked at from where its cursor stands, and the cursor moves only once a file is kept: after a crash
the last file comes again and, being known by its sha256, changes nothing. What cannot be read is kept beside the
raw files with its reason. A source that does not answer is told in :func:`states` and does not hold up the others.
A new kind is one module here, its section in :mod:`oracle.config` and one line of :func:`source_of`.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import select

from ..archive import write_whole
from ..config import DirectorySource, HttpSource, MqttSource, OracleConfig, SourceAccess, VcomSource
from ..errors import SourceError
from ..intake import IngestedFile, Progress, no_progress, take_bytes
from ..store import RefusedFile, SourceState, Store, utc_now
from .base import Cursor, Delivery, Source, safe_name
from .directories import Directory
from .mqtt import Mqtt
from .vcom import Vcom
from .web import Http

__all__ = ["Collected", "Cursor", "Delivery", "Source", "alone", "collect", "safe_name", "source_of", "states"]

log = structlog.get_logger("oracle.sources")


def source_of(config: OracleConfig, access: SourceAccess) -> Source:
    """What looks at a configured source; nothing is asked of it yet. Raises ConfigError for a secret that cannot be read."""
    match access:
        case DirectorySource():
            return Directory(access)
        case HttpSource():
            return Http(access)
        case MqttSource():
            return Mqtt(access, config.raw_folder / "spool" / safe_name(access.name))
        case VcomSource():
            return Vcom(access)
        case _:
            raise SourceError(f"source {access.name}: there is no kind {access.kind!r}")


# -- collecting -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collected:
    """What a look at one source brought. ``problem``: why it ended early, None if it did not."""

    source: str
    files: tuple[IngestedFile, ...]
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "files": [file.to_json() for file in self.files], "problem": self.problem}


def collect(
    config: OracleConfig,
    store: Store,
    names: Iterable[str] = (),
    progress: Progress = no_progress,
    *,
    now: datetime | None = None,
) -> list[Collected]:
    """Look at every source of the configuration, or at those of ``names``, and take what is new.

    Raises SourceError for a name that the configuration does not know. Files are judged afterwards, by
    :func:`oracle.pipeline.assess_all`.
    """
    wanted = set(names)
    known = {access.name for access in config.sources}
    if unknown := wanted - known:
        raise SourceError(
            f"no source is called {', '.join(sorted(unknown))}; {config.file} names {', '.join(sorted(known)) or 'none'}"
        )
    chosen = [access for access in config.sources if not wanted or access.name in wanted]
    collected = []
    for done, access in enumerate(chosen):
        progress("looking at sources", done, len(chosen))
        collected.append(_collect(config, store, access, now or utc_now()))
    progress("looking at sources", len(chosen), len(chosen))
    return collected


def _collect(config: OracleConfig, store: Store, access: SourceAccess, now: datetime) -> Collected:
    with alone(config, access.name) as is_alone:
        if not is_alone:
            return Collected(access.name, (), "another process is looking at it")
        return _collectalone(config, store, access, now)


@contextmanager
def alone(config: OracleConfig, name: str) -> Iterator[bool]:
    """Whether no other process of this machine looks at the source; none will until the end of the block."""
    folder = config.raw_folder / "spool"
    config.raw_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / f"{safe_name(name)}.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _collectalone(config: OracleConfig, store: Store, access: SourceAccess, now: datetime) -> Collected:
    with store.session() as session:
        state = session.get(SourceState, access.name)
        cursor: Cursor = dict(state.cursor) if state else {}
    files: list[IngestedFile] = []
    problem = None
    try:
        for delivery in source_of(config, access).look(cursor, now):
            if delivery.refusal:
                files.append(IngestedFile(delivery.name, "", refusal=delivery.refusal))
                _keep_refusal(config, store, access.name, delivery.name, b"", delivery.refusal)
            elif delivery.data is not None:
                file = take_bytes(config, store, delivery.name, delivery.data)
                if file.refusal:
                    _keep_refusal(config, store, access.name, delivery.name, delivery.data, file.refusal)
                files.append(file)
            _move(store, access.name, delivery.cursor)
    except SourceError as fault:
        problem = str(fault)
        log.warning("source not read to its end", source=access.name, problem=problem)
    with store.writing() as session:
        state = session.get(SourceState, access.name) or SourceState(name=access.name, cursor=cursor)
        state.looked_at, state.problem = utc_now(), problem
        if problem is None:
            state.succeeded_at = state.looked_at
        session.add(state)
    return Collected(access.name, tuple(files), problem)


def _move(store: Store, name: str, cursor: Cursor) -> None:
    with store.writing() as session:
        state = session.get(SourceState, name)
        if state is None:
            session.add(SourceState(name=name, cursor=cursor, looked_at=utc_now()))
        else:
            state.cursor = cursor


def _keep_refusal(config: OracleConfig, store: Store, source: str, name: str, data: bytes, reason: str) -> None:
    """A file that is refused is not asked for again; it stays under ``raw_folder/refused`` for whoever mends it."""
    sha256 = hashlib.sha256(data).hexdigest()
    if data:
        folder = config.raw_folder / "refused"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / sha256, data, 0o600)
    with store.writing() as session:
        known = select(RefusedFile).where(
            RefusedFile.source == source, RefusedFile.name == name, RefusedFile.sha256 == sha256
        )
        if session.scalars(known).first() is None:
            session.add(RefusedFile(source=source, name=name, sha256=sha256, size_bytes=len(data), reason=reason))


def states(config: OracleConfig, store: Store) -> list[dict[str, Any]]:
    """Each source of the configuration: when it was looked at, when that last went well, what is wrong, what was refused."""
    with store.session() as session:
        kept = {state.name: state for state in session.scalars(select(SourceState))}
        refused = list(session.scalars(select(RefusedFile).order_by(RefusedFile.id)))
        return [
            {
                "source": access.name,
                "kind": access.kind,
                "looked_at": _stamp(kept[access.name].looked_at) if access.name in kept else None,
                "succeeded_at": _stamp(kept[access.name].succeeded_at) if access.name in kept else None,
                "problem": kept[access.name].problem if access.name in kept else None,
                "refused": [
                    {"file": one.name, "sha256": one.sha256, "reason": one.reason}
                    for one in refused
                    if one.source == access.name
                ],
            }
            for access in config.sources
        ]


def _stamp(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
