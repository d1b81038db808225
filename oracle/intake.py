"""Files into the raw folder and out of it again: what a source makes of a file, kept under its sha256.

Nothing is judged here; that is :mod:`oracle.pipeline`.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
import structlog
from sqlalchemy import select

from .archive import write_whole
from .assessment import assess, device_days
from .config import OracleConfig
from .domain import (
    DAY_SECONDS,
)
from .errors import RefusedInput, StoreError
from .formats import Parsed, RefusedRow, SourceConfig, read
from .formats.base import MAX_BYTES
from .formats.survey import FoundColumn, survey
from .replies import answer
from .sites import SitesConfig, load_sites
from .slotcache import read_cached
from .store import DeviceDay, RawFile, Store, crash_point, utc_now
from .store import RefusedRow as RefusedRowRecord
from .units import day_list

log = structlog.get_logger("oracle.intake")

#: Told of work as it goes on: what is being done, how much of it is done, how much there is.
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """No progress is shown."""


# -- taking files in --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IngestedFile:
    """What became of one file. ``refusal`` says why all of it was refused, None if it was taken.

    ``known`` is True where the same content had come before, under any name: nothing changed then. ``used`` and
    ``refused`` count rows, for each of ``sources`` that reads the file. Energies in Wh after the tare rule,
    certifiable or not; ``slots`` with a reading, of meters alone, and ``tared_slots`` of them that the tare rule counts as
    0 Wh (small negative values, and small ones at night). Of a file read without a source, ``devices`` are named
    as in the file, ``assumed`` says what it does not state and ``columns`` what it holds (:mod:`oracle.formats.survey`).
    """

    name: str
    sha256: str
    format: str = ""
    sources: tuple[str, ...] = ()
    devices: tuple[int | str, ...] = ()
    used: int = 0
    slots: int = 0
    tared_slots: int = 0
    energy_wh: int = 0
    refused: tuple[RefusedRow, ...] = ()
    refusal: str | None = None
    known: bool = False
    assumed: tuple[str, ...] = ()
    columns: tuple[FoundColumn, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.name,
            "sha256": self.sha256,
            "format": self.format,
            "sources": list(self.sources),
            "devices": list(self.devices),
            "used": self.used,
            "slots": self.slots,
            "tared_slots": self.tared_slots,
            "energy_wh": self.energy_wh,
            "refused": [asdict(row) for row in self.refused],
            "refusal": self.refusal,
            "known": self.known,
        }


def sources(sites: SitesConfig) -> dict[str, SourceConfig]:
    """Every source of the sites file by name: ``device:1``, ``station:rmis``."""
    named = {f"device:{device.device_id}": device.source for device in sites.devices}
    return named | {f"station:{station.name}": station.source for station in sites.stations}


def inspect(config: OracleConfig, file: Path) -> IngestedFile:
    """Read one file and say what is in it, without keeping anything. Raises RefusedInput as ingest would."""
    sites = load_sites(config.sites_file)
    data = _bytes_of(file, sites)
    return _described(sites, file.name, hashlib.sha256(data).hexdigest(), _read(sites, data, file.name))


def inspect_unconfigured(file: Path, given: Mapping[str, str]) -> IngestedFile:
    """As :func:`inspect` for a file that no source describes: settings are those ``given``, the rest is assumed and told."""
    data = _bytes_of(file)
    found = survey(data, file.name, given)
    return IngestedFile(
        name=file.name,
        sha256=hashlib.sha256(data).hexdigest(),
        format=found.format,
        devices=found.devices,
        used=found.used,
        slots=sum(column.slots for column in found.counted),
        energy_wh=sum(column.energy_wh for column in found.counted),
        refused=found.refused,
        assumed=found.assumed,
        columns=found.columns,
    )


def take(
    config: OracleConfig, store: Store, paths: Iterable[Path], progress: Progress = no_progress
) -> list[IngestedFile]:
    """Take files, or all files of folders, into the raw folder; what they say is judged by :func:`oracle.pipeline.assess_all`.

    A file is taken whole or refused whole; the others go on. The raw file is kept under its sha256 before anything
    refers to it, so that a crash in between is mended by running again.
    """
    sites = load_sites(config.sites_file)
    files = files_of(paths)
    taken = []
    for done, file in enumerate(files):
        progress("reading files", done, len(files))
        taken.append(_ingest_file(config, sites, store, file))
    progress("reading files", len(files), len(files))
    return taken


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files of ``paths``, of a folder those that are not hidden, in the order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        else:
            found.append(path)
    return found


def _bytes_of(file: Path, sites: SitesConfig | None = None) -> bytes:
    """A file's bytes; one that is larger than any source may be is refused before it is read."""
    limit = max([MAX_BYTES, *(source.max_bytes for source in sources(sites).values())] if sites else [MAX_BYTES])
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            # A pipe would be waited for, and a device read for ever.
            raise RefusedInput("this is no regular file", file=str(file), expected="a file or a folder of files")
        if found.st_size > limit:
            raise RefusedInput(f"the file has {found.st_size} bytes", file=str(file), expected=f"at most {limit}")
        return file.read_bytes()
    except OSError as fault:
        raise RefusedInput(f"the file is not readable: {fault.strerror}", file=str(file)) from None


def take_bytes(config: OracleConfig, store: Store, name: str, data: bytes) -> IngestedFile:
    """Take one file that did not come by a path; as :func:`take`."""
    return _ingest(config, load_sites(config.sites_file), store, name, lambda: data)


def _ingest_file(config: OracleConfig, sites: SitesConfig, store: Store, file: Path) -> IngestedFile:
    return _ingest(config, sites, store, file.name, lambda: _bytes_of(file, sites))


def _ingest(
    config: OracleConfig, sites: SitesConfig, store: Store, name: str, content: Callable[[], bytes]
) -> IngestedFile:
    sha256, data = "", b""
    try:
        data = content()
        sha256 = hashlib.sha256(data).hexdigest()
        parsed = _read(sites, data, name)
    except RefusedInput as refusal:
        log.warning("file refused", file=name, reason=refusal.reason, line=refusal.line)
        _answer(config, sites, name, data, refusal)
        return IngestedFile(name, sha256, refusal=str(refusal))
    kept = config.raw_folder / sha256
    if not kept.exists() or hashlib.sha256(kept.read_bytes()).hexdigest() != sha256:
        config.raw_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(kept, data, 0o600)
    crash_point(16)
    new = _record_file(store, sites, name, kept, len(data), parsed)
    if new:
        log.info("file taken", file=name, sha256=sha256, sources=new)
    _answer(config, sites, name, data, parsed)
    return _described(sites, name, sha256, parsed, known=not new)


def names_of(kept: Path) -> dict[str, str]:
    """The names under which a raw file came, with the UTC time (ISO 8601) of each; sources take files by name."""
    label = kept.with_suffix(".json")
    if not label.exists():
        return {}
    names: dict[str, str] = orjson.loads(label.read_bytes())["names"]
    return names


def _labelled(kept: Path, name: str) -> datetime:
    """Write a name beside a raw file, unless it is there; returns when the file came under this name."""
    names = names_of(kept)
    if name not in names:
        names |= {name: utc_now().isoformat()}
        write_whole(kept.with_suffix(".json"), json.dumps({"names": names}, indent=1).encode(), 0o600)
    return datetime.fromisoformat(names[name])


def take_again(config: OracleConfig, store: Store, kept: Path, name: str) -> None:
    """Enter a file of the raw folder into the database as it came under ``name``. Raises RefusedInput if no source takes it."""
    known = _ingest(config, load_sites(config.sites_file), store, name, lambda: _bytes_of(kept))
    if known.refusal:
        raise RefusedInput(known.refusal, file=name)


def _record_file(
    store: Store, sites: SitesConfig, name: str, kept: Path, size_bytes: int, parsed: Mapping[str, Parsed]
) -> list[str]:
    """Enter what sources make of a raw file, and the name under which it came; the sources that had not taken it before."""
    named, sha256 = sources(sites), kept.name
    # Alone: another process may be taking the same bytes, under this name or another.
    with store.writing() as session:
        before = set(session.scalars(select(RawFile.source).where(RawFile.sha256 == sha256)))
        new = {source: one for source, one in parsed.items() if source not in before}
        received_at = _labelled(kept, name) if new else utc_now()
        for source, one in new.items():
            session.add(
                RawFile(
                    sha256=sha256,
                    source=source,
                    name=name,
                    format=named[source].format,
                    size_bytes=size_bytes,
                    rows_used=one.used,
                    rows_refused=len(one.refused),
                    received_at=received_at,
                )
            )
            session.flush()
            crash_point(17)
            session.add_all(
                RefusedRowRecord(sha256=sha256, source=source, line=row.line, text=row.text, reason=row.reason)
                for row in one.refused
            )
    return sorted(new)


def _answer(
    config: OracleConfig, sites: SitesConfig, name: str, data: bytes, outcome: Mapping[str, Parsed] | RefusedInput
) -> None:
    """Answer a message of layout 80020, if it is one and answers are wanted."""
    named = sources(sites)
    asking = [key for key in _fitting(sites, name) if named[key].format == "80020"]
    if config.replies_folder and asking and data:
        outcomes = [outcome] if isinstance(outcome, RefusedInput) else [outcome[key] for key in asking]
        answer(config.replies_folder, name, data, outcomes)


def _fitting(sites: SitesConfig, name: str) -> list[str]:
    """The sources whose name patterns a file fits."""
    return [
        key for key, source in sources(sites).items() if any(fnmatchcase(name, pattern) for pattern in source.files)
    ]


def _read(sites: SitesConfig, data: bytes, name: str) -> dict[str, Parsed]:
    """The file as read by each source whose name patterns it fits."""
    named, fitting = sources(sites), _fitting(sites, name)
    if not fitting:
        patterns = sorted({pattern for source in named.values() for pattern in source.files})
        raise RefusedInput(
            "no source takes a file of this name", file=name, expected=f"one of {', '.join(patterns)} ({sites.file})"
        )
    return {key: read(data, named[key], name) for key in fitting}


def _described(
    sites: SitesConfig, name: str, sha256: str, parsed: Mapping[str, Parsed], known: bool = False
) -> IngestedFile:
    named = sources(sites)
    devices = [device for device in sites.devices if f"device:{device.device_id}" in parsed]
    slots = tared_slots = energy_wh = 0
    for device in devices:
        for day in device_days(device, [parsed[f"device:{device.device_id}"]]).values():
            report = assess(device, day).report
            slots += report.measured_slots
            tared_slots += report.tare_zeroed_slots
            energy_wh += report.energy_wh
    return IngestedFile(
        name=name,
        sha256=sha256,
        format=", ".join(sorted({named[key].format for key in parsed})),
        sources=tuple(parsed),
        devices=tuple(device.device_id for device in devices),
        used=sum(one.used for one in parsed.values()),
        slots=slots,
        tared_slots=tared_slots,
        energy_wh=energy_wh,
        refused=tuple(row for one in parsed.values() for row in one.refused),
        known=known,
    )


# -- reading what was taken in ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raw:
    """All raw files as read by each source, and for each source and day the sha256 of those that speak of it."""

    parsed: dict[str, list[Parsed]]
    files: dict[tuple[str, int], set[str]]
    hashes: dict[str, list[str]]

    def of(self, source: str) -> list[tuple[str, Parsed]]:
        """(sha256, parsed) of each file of a source."""
        return list(zip(self.hashes.get(source, ()), self.parsed.get(source, ()), strict=True))


def cache_folder(config: OracleConfig) -> Path:
    """Where :mod:`oracle.slotcache` keeps what files were read as; it may be deleted."""
    return config.raw_folder.with_name(f"{config.raw_folder.name}.parsed")


def read_raw(config: OracleConfig, sites: SitesConfig, store: Store) -> Raw:
    """Everything that was ever taken in and whose source is still in the sites file, read from the raw folder or its cache.

    Raises StoreError where a raw file is missing or no longer hashes to its name, with the device-days that rest on it.
    """
    with store.session() as session:
        records = session.scalars(select(RawFile).order_by(RawFile.sha256, RawFile.source)).all()
    named, raw = sources(sites), Raw({}, {}, {})
    for record in records:
        data = _raw_bytes(config, store, record)
        if record.source not in named:
            log.warning("source is no longer in the sites file", source=record.source, file=record.name)
            continue
        parsed = read_cached(cache_folder(config), data, record.sha256, named[record.source], record.name)
        raw.parsed.setdefault(record.source, []).append(parsed)
        raw.hashes.setdefault(record.source, []).append(record.sha256)
        for series in parsed.series:
            for day in {start - start % DAY_SECONDS for start in series.starts}:
                raw.files.setdefault((record.source, day), set()).add(record.sha256)
    return raw


def _raw_bytes(config: OracleConfig, store: Store, record: RawFile) -> bytes:
    try:
        data = (config.raw_folder / record.sha256).read_bytes()
        fault = "" if hashlib.sha256(data).hexdigest() == record.sha256 else "no longer hashes to its name"
    except OSError as missing:
        data, fault = b"", f"is not readable ({missing.strerror})"
    if fault:
        with store.session() as session:
            resting = [day for day in session.scalars(select(DeviceDay)) if record.sha256 in day.evidence]
        days = day_list([(day.device_id, day.start) for day in resting])
        raise StoreError(
            f"raw file {record.sha256} ({record.name}) {fault}; ingest {record.name} again. Device-days that rest on it: {days}"
        )
    return data
