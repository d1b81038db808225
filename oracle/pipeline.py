"""From meter files to sealed batches, all of it on this machine: ingest, assess, review, propose, seal, report.

Every step may be run again at any time and ends where it would have ended anyway: the raw files, the sites file
and the signed decisions decide everything, and the database holds what was made of them. A witness runs the
same functions over its own files (:func:`recompute`). What goes to the chain is :mod:`oracle.issuance`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from . import review
from .archive import Archive, ArchivedStatement, read_archive, roots_in, write_archive, write_whole
from .assessment import DayAssessment, assess, device_days, irradiance_days
from .config import OracleConfig
from .domain import (
    DAY_SECONDS,
    SLOT_SECONDS,
    SLOTS_PER_DAY,
    Batch,
    BatchKind,
    DayState,
    Profile,
    Quality,
    SagaState,
    Statement,
    Visibility,
)
from .errors import ArchiveError, RefusedInput, StoreError
from .formats import DaySlots, Parsed, RefusedRow, SourceConfig, read
from .formats.survey import FoundColumn, survey
from .keys import load_device_key
from .protocol import batch_energy_wh, day_hash, day_salt, pack_profile, profile_hash, statement_leaf, unpack_profile
from .sites import DeviceConfig, SitesConfig, load_sites
from .store import Act, DeviceDay, RawFile, ReviewDecision, SealedBatch, Store
from .store import RefusedRow as RefusedRowRecord

log = structlog.get_logger("oracle.pipeline")

#: Told of work as it goes on: what is being done, how much of it is done, how much there is.
Progress = Callable[[str, int, int], None]

NO_DATA = "missing: no reading of this day, though there are some before and after it"
#: States in which a device-day's figures are in a batch and no longer change.
SEALED_STATES = (DayState.SEALED, DayState.NOTARIZED, DayState.ISSUED, DayState.FINAL)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def no_progress(what: str, done: int, total: int) -> None:
    """No progress is shown."""


# -- ingest -----------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Files taken or refused, and how many device-days stand in each state after assessing them."""

    files: tuple[IngestedFile, ...]
    assessed: AssessReport

    def to_json(self) -> dict[str, Any]:
        return {"files": [file.to_json() for file in self.files], **self.assessed.to_json()}


def sources(sites: SitesConfig) -> dict[str, SourceConfig]:
    """Every source of the sites file by name: ``device:1``, ``station:rmis``."""
    named = {f"device:{device.device_id}": device.source for device in sites.devices}
    return named | {f"station:{station.name}": station.source for station in sites.stations}


def inspect(config: OracleConfig, file: Path) -> IngestedFile:
    """Read one file and say what is in it, without keeping anything. Raises RefusedInput as ingest would."""
    sites = load_sites(config.sites_file)
    data = _bytes_of(file)
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


def ingest(config: OracleConfig, store: Store, paths: Iterable[Path], progress: Progress = no_progress) -> IngestReport:
    """Take files, or all files of folders, and assess what they change.

    A file is taken whole or refused whole; the others go on. The raw file is kept under its sha256 before anything
    refers to it, so that a crash in between is mended by running again.
    """
    sites = load_sites(config.sites_file)
    files = _files(paths)
    taken = []
    for done, file in enumerate(files):
        progress("reading files", done, len(files))
        taken.append(_ingest_file(config, sites, store, file))
    progress("reading files", len(files), len(files))
    return IngestReport(tuple(taken), assess_all(config, store, progress))


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        else:
            found.append(path)
    return found


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise RefusedInput(f"the file is not readable: {fault.strerror}", file=str(file)) from None


def _ingest_file(config: OracleConfig, sites: SitesConfig, store: Store, file: Path) -> IngestedFile:
    sha256 = ""
    try:
        data = _bytes_of(file)
        sha256 = hashlib.sha256(data).hexdigest()
        parsed = _read(sites, data, file.name)
    except RefusedInput as refusal:
        log.warning("file refused", file=file.name, reason=refusal.reason, line=refusal.line)
        return IngestedFile(file.name, sha256, refusal=str(refusal))
    kept = config.raw_folder / sha256
    if not kept.exists() or hashlib.sha256(kept.read_bytes()).hexdigest() != sha256:
        config.raw_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(kept, data, 0o600)
    with store.session() as session:
        before = set(session.scalars(select(RawFile.source).where(RawFile.sha256 == sha256)))
    new = {source: one for source, one in parsed.items() if source not in before}
    if new:
        _record_file(store, sites, file.name, sha256, len(data), new)
        log.info("file taken", file=file.name, sha256=sha256, sources=sorted(new))
    return _described(sites, file.name, sha256, parsed, known=not new)


def _record_file(
    store: Store, sites: SitesConfig, name: str, sha256: str, size_bytes: int, parsed: Mapping[str, Parsed]
) -> None:
    named = sources(sites)
    try:
        with store.session() as session:
            for source, one in parsed.items():
                session.add(
                    RawFile(
                        sha256=sha256,
                        source=source,
                        name=name,
                        format=named[source].format,
                        size_bytes=size_bytes,
                        rows_used=one.used,
                        rows_refused=len(one.refused),
                    )
                )
                session.flush()
                session.add_all(
                    RefusedRowRecord(sha256=sha256, source=source, line=row.line, text=row.text, reason=row.reason)
                    for row in one.refused
                )
    except IntegrityError:
        log.info("file taken by another process at the same moment", sha256=sha256)


def _read(sites: SitesConfig, data: bytes, name: str) -> dict[str, Parsed]:
    """The file as read by each source whose name patterns it fits."""
    named = sources(sites)
    fitting = [key for key, source in named.items() if any(fnmatchcase(name, pattern) for pattern in source.files)]
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


# -- assess -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssessReport:
    """``states``: device-days in each state. ``changed``: device-days whose figures or state moved. ``pending``:
    sealed device-days that newer data contradict; they stay as sealed and wait for a correction."""

    states: Mapping[DayState, int]
    changed: int
    pending: int

    def to_json(self) -> dict[str, Any]:
        return {
            "device_days": {state.value: count for state, count in self.states.items()},
            "changed": self.changed,
            "pending": self.pending,
        }


@dataclass(frozen=True, slots=True)
class AssessedDay:
    """A device-day as the raw files alone show it, with the sha256 (hex, sorted) of those that speak of it."""

    assessment: DayAssessment
    evidence: tuple[str, ...]

    @property
    def key(self) -> tuple[int, int]:
        return self.assessment.device_id, self.assessment.start

    @property
    def profile(self) -> Profile:
        return self.assessment.profile

    @property
    def reason(self) -> str:
        if not any(self.profile.quality):
            return NO_DATA
        return "; ".join(self.assessment.reasons)

    def facts(self) -> dict[str, Any]:
        """The assessment without what the profile holds already."""
        return {key: value for key, value in self.assessment.to_json().items() if key not in ("energy_wh", "quality")}


@dataclass(frozen=True, slots=True)
class _Raw:
    """All raw files as read by each source, and for each source and day the sha256 of those that speak of it."""

    parsed: dict[str, list[Parsed]]
    files: dict[tuple[str, int], set[str]]


def assess_raw(config: OracleConfig, store: Store, progress: Progress = no_progress) -> list[AssessedDay]:
    """Judge every device-day from all raw files, in any order of arrival; changes nothing.

    Days without any reading between a device's first and last are there too, as held. Raises StoreError where a
    raw file no longer hashes to its name, naming the device-days that rest on it.
    """
    sites, now = load_sites(config.sites_file), int(datetime.now(UTC).timestamp())
    raw = _read_raw(config, sites, store)
    skies = {
        station.name: irradiance_days(station, raw.parsed.get(f"station:{station.name}", ()))
        for station in sites.stations
    }
    work = [(device, slots) for device in sites.devices for slots in _every_day(device, raw, now)]
    assessed = []
    for done, (device, slots) in enumerate(work):
        if done % 8 == 0:
            progress("assessing device-days", done, len(work))
        irradiance = [
            (sites.station(name), skies[name][slots.start]) for name in device.stations if slots.start in skies[name]
        ]
        evidence = set(raw.files.get((f"device:{device.device_id}", slots.start), ()))
        for station, _ in irradiance:
            evidence |= raw.files.get((f"station:{station.name}", slots.start), set())
        assessed.append(AssessedDay(assess(device, slots, irradiance), tuple(sorted(evidence))))
    progress("assessing device-days", len(work), len(work))
    twins = _twins(work)
    judged = []
    for (device, _), day in zip(work, assessed, strict=True):
        # The same energy must not be certified for two devices: a day with another's readings waits for a reviewer.
        others = ", ".join(str(other) for other in twins.get(day.key, ()))
        copied = f"copied: every reading is that of device {others}" if others else ""
        judged.append(replace(day, assessment=_held_for(day.assessment, (_untimely(device, day.key[1], now), copied))))
    return judged


def _twins(work: Iterable[tuple[DeviceConfig, DaySlots]]) -> dict[tuple[int, int], list[int]]:
    """Device-days with the very readings of another device's day, and those devices. Days without energy are no sign of it."""
    alike: dict[tuple[int, tuple[int | None, ...]], list[int]] = {}
    for device, slots in work:
        if any(value and value > 0 for value in slots.micro_j):
            alike.setdefault((slots.start, slots.micro_j), []).append(device.device_id)
    return {
        (one, start): [other for other in devices if other != one]
        for (start, _), devices in alike.items()
        for one in devices
        if len(devices) > 1
    }


def _held_for(assessment: DayAssessment, reasons: Iterable[str]) -> DayAssessment:
    """The assessment, held for further reasons where there are any."""
    further = tuple(reason for reason in reasons if reason)
    if not further:
        return assessment
    return replace(assessment, state=DayState.HELD, reasons=(*assessment.reasons, *further))


def _read_raw(config: OracleConfig, sites: SitesConfig, store: Store) -> _Raw:
    with store.session() as session:
        records = session.scalars(select(RawFile).order_by(RawFile.sha256, RawFile.source)).all()
    named, raw = sources(sites), _Raw({}, {})
    for record in records:
        data = _raw_bytes(config, store, record)
        if record.source not in named:
            log.warning("source is no longer in the sites file", source=record.source, file=record.name)
            continue
        parsed = read(data, named[record.source], record.name)
        raw.parsed.setdefault(record.source, []).append(parsed)
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
        days = _day_list([(day.device_id, day.start) for day in resting])
        raise StoreError(
            f"raw file {record.sha256} ({record.name}) {fault}; ingest {record.name} again. Device-days that rest on it: {days}"
        )
    return data


def _every_day(device: DeviceConfig, raw: _Raw, now: int) -> list[DaySlots]:
    """A device's days in order, those without any reading included.

    Gaps are filled from the device's activity to ``now`` alone: one absurd stamp must not make a million missing days.
    """
    days = device_days(device, raw.parsed.get(f"device:{device.device_id}", ()))
    timely = [start for start in days if not _untimely(device, start, now)]
    filled = range(min(timely), max(timely) + DAY_SECONDS, DAY_SECONDS) if timely else ()
    empty = (None,) * SLOTS_PER_DAY
    return [days.get(start) or DaySlots(start, empty) for start in sorted({*days, *filled})]


def _untimely(device: DeviceConfig, start: int, now: int) -> str:
    """Why no energy can be certified for a day: its device was not active yet, or the day is not over. Empty if it can."""
    if start < device.active_from:
        return f"untimely: device {device.device_id} is active only from {utc_date(device.active_from)}"
    return "untimely: this day is not over yet" if start + DAY_SECONDS > now else ""


def assess_all(config: OracleConfig, store: Store, progress: Progress = no_progress) -> AssessReport:
    """Bring every device-day of the database to what raw files, sites file and decisions say now.

    A sealed device-day is never changed: where newer data contradict it, that is written beside it (``pending``).
    """
    assessed = {day.key: day for day in assess_raw(config, store, progress)}
    decisions = review.standing(trail(config, store), config.reviewers)
    changed = 0
    with store.writing() as session:
        rows = {(row.device_id, row.start): row for row in session.scalars(select(DeviceDay))}
        for key, day in assessed.items():
            row = rows.get(key)
            if row is not None and row.state in SEALED_STATES:
                changed += _note_pending(row, day)
            else:
                changed += _update(session, row, day, _outcome(config, day, decisions))
        for key, row in rows.items():
            if key not in assessed:
                changed += _orphan(row)
        session.flush()
        return AssessReport(
            states=_counts(session),
            changed=changed,
            pending=session.scalar(select(func.count()).select_from(DeviceDay).where(DeviceDay.pending != "")) or 0,
        )


def _counts(session: Session) -> dict[DayState, int]:
    rows = session.execute(select(DeviceDay.state, func.count()).group_by(DeviceDay.state))
    counted: dict[DayState, int] = {row[0]: row[1] for row in rows}
    return {state: counted[state] for state in DayState if state in counted}


def _update(session: Session, row: DeviceDay | None, day: AssessedDay, outcome: tuple[DayState, str]) -> bool:
    state, reason = outcome
    profile, disputed = pack_profile(day.profile), ""
    if row is not None and row.disputed and row.profile == profile and state is DayState.ACCEPTED:
        state, reason, disputed = DayState.HELD, row.disputed, row.disputed
    values = {
        "state": state,
        "reason": reason,
        "profile": profile,
        "disputed": disputed,
        "energy_wh": day.profile.certified_wh,
        "evidence": list(day.evidence),
        "assessment": day.facts(),
        "pending": "",
    }
    if row is None:
        device_id, start = day.key
        session.add(DeviceDay(device_id=device_id, start=start, version=0, **values))
        return True
    different = {name: value for name, value in values.items() if getattr(row, name) != value}
    for name, value in different.items():
        setattr(row, name, value)
    return bool(different)


def _note_pending(row: DeviceDay, day: AssessedDay) -> bool:
    sealed, now = unpack_profile(row.start, row.profile), day.profile
    slots = sum(one != other for one, other in zip(_pairs(sealed), _pairs(now), strict=True))
    note = ""
    if slots:
        note = f"newer data differ in {slots} slots: {now.certified_wh} Wh certifiable instead of the sealed {sealed.certified_wh} Wh"
    changed = row.pending != note
    row.pending = note
    return changed


def _pairs(profile: Profile) -> list[tuple[int, int]]:
    return list(zip(profile.energy_wh, profile.quality, strict=True))


def _orphan(row: DeviceDay) -> bool:
    """A device-day that no raw file or device speaks of any more stays visible and is not sealed."""
    note = "its device is no longer in the sites file, or its raw files no longer speak of this day"
    if row.state in SEALED_STATES:
        changed, row.pending = row.pending != note, note
    else:
        changed, row.state, row.reason = row.reason != note, DayState.HELD, note
    return changed


def _outcome(
    config: OracleConfig, day: AssessedDay, decisions: Mapping[tuple[int, int, int, str], review.Entry]
) -> tuple[DayState, str]:
    """State and reason of a device-day that is not sealed: a standing decision about these very figures outweighs the rules."""
    device_id, start = day.key
    # The device key is needed only where somebody decided; without decisions, days can be assessed without keys.
    if any(key[:3] == (device_id, start, 0) for key in decisions):
        _, hashed = _salted(config, device_id, day.profile)
        decision = decisions.get((device_id, start, 0, "0x" + hashed.hex()))
        if decision:
            accepted = decision["decision"] == review.ACCEPT
            said = f"{decision['decision']}ed by {decision['reviewer']}: {decision['reason']}"
            return (
                DayState.ACCEPTED if accepted else DayState.REJECTED
            ), f"{said} [{day.reason}]" if day.reason else said
        if day.assessment.state is DayState.HELD:
            return DayState.HELD, f"{day.reason}; an earlier decision was about other figures and does not count"
    return day.assessment.state, day.reason


def _salted(config: OracleConfig, device_id: int, profile: Profile, version: int = 0) -> tuple[bytes, bytes]:
    """``(salt, profile hash)`` of a one-day period."""
    salt = day_salt(load_device_key(config.device_keys_folder, device_id), device_id, profile.start, version)
    return salt, profile_hash([day_hash(salt, pack_profile(profile))])


# -- review -----------------------------------------------------------------------------------------


def trail(config: OracleConfig, store: Store) -> list[review.Entry]:
    """All decisions whose signatures hold and whose reviewers are configured, oldest first. Others are logged, not used."""
    sound = []
    with store.session() as session:
        for row in session.scalars(select(ReviewDecision).order_by(ReviewDecision.id)):
            entry = {
                "deviceId": row.device_id,
                "start": row.start,
                "version": row.version,
                "decision": row.decision,
                "reason": row.reason,
                "profileHash": row.profile_hash,
                "decidedAt": int(row.decided_at.timestamp()),
                "reviewer": row.reviewer,
                "signature": row.signature,
            }
            try:
                review.verify(entry, config.reviewers)
                sound.append(entry)
            except review.ReviewError as fault:
                log.warning("decision does not count", id=row.id, reason=str(fault))
    return sound


def decide(
    config: OracleConfig,
    store: Store,
    account: LocalAccount,
    device_id: int,
    start: int,
    decision: str,
    reason: str,
    *,
    now: datetime | None = None,
) -> DeviceDay:
    """Sign and store a decision ("accept" or "reject") about a device-day as it stands, and apply it.

    ``start`` UTC seconds of the day. An accepted day is certified in its measured, unsuspected slots: a decision
    never changes a profile. Raises ReviewError where there is nothing (any more) to decide.
    """
    if account.address not in config.reviewers:
        raise review.ReviewError(f"{account.address} is not among the configured reviewers; add it to {config.file}")
    with store.writing() as session:
        row = session.get(DeviceDay, (device_id, start))
        if row is None:
            raise review.ReviewError(
                f"there is no device-day {_day_list([(device_id, start)])}; `gaps` lists those there are"
            )
        if row.state in SEALED_STATES:
            raise review.ReviewError(
                f"device {device_id} {utc_date(start)} is {row.state.value} in {row.root} already; only a correction can change it"
            )
        if decision == review.ACCEPT and not row.energy_wh:
            raise review.ReviewError(
                f"device {device_id} {utc_date(start)} has no measured, unsuspected energy; there is nothing to certify"
            )
        decided_at = (now or datetime.now(UTC)).replace(microsecond=0)
        untimely = _untimely(load_sites(config.sites_file).device(device_id), start, int(decided_at.timestamp()))
        if decision == review.ACCEPT and untimely:
            raise review.ReviewError(f"device {device_id} {utc_date(start)} cannot be accepted: {untimely}")
        _, hashed = _salted(config, device_id, unpack_profile(start, row.profile), row.version)
        entry = review.sign(
            account,
            device_id=device_id,
            start=start,
            version=row.version,
            decision=decision,
            reason=reason,
            profile_hash=hashed,
            decided_at=int(decided_at.timestamp()),
        )
        session.add(
            ReviewDecision(
                device_id=device_id,
                start=start,
                version=row.version,
                decision=decision,
                reason=reason,
                profile_hash=entry["profileHash"],
                reviewer=entry["reviewer"],
                decided_at=decided_at,
                signature=entry["signature"],
            )
        )
        found = "; ".join(row.assessment.get("reasons", ()))
        row.state, row.disputed = (DayState.ACCEPTED if decision == review.ACCEPT else DayState.REJECTED), ""
        row.reason = f"{decision}ed by {account.address}: {reason}" + (f" [{found}]" if found else "")
        log.info("decided", device=device_id, day=utc_date(start), decision=decision, reviewer=account.address)
        return row


# -- propose and seal -------------------------------------------------------------------------------


def policy_of(config: OracleConfig, device_ids: Iterable[int]) -> dict[str, Any]:
    """Everything of the sites file that decided about these devices, as integers and texts for the manifest."""
    sites = load_sites(config.sites_file)
    devices = {str(device_id): sites.device(device_id) for device_id in sorted(set(device_ids))}
    stations = sorted({name for device in devices.values() for name in device.stations})
    return {
        "certified": "measured or edited, not estimated, not suspect",
        "devices": {key: _plain(asdict(device)) for key, device in devices.items()},
        "stations": {name: _plain(asdict(sites.station(name))) for name in stations},
    }


def _plain(value: Any) -> Any:
    """Values as the manifest may carry them: floats become their shortest decimal text."""
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value.value, int) else value.value
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)


def _record(
    config: OracleConfig, device_id: int, profile: Profile, evidence: Sequence[str], facts: Mapping[str, Any]
) -> ArchivedStatement:
    salt, hashed = _salted(config, device_id, profile)
    statement = Statement(device_id, profile.start, DAY_SECONDS, 0, profile.certified_wh, 0, hashed)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return ArchivedStatement(
        statement, pack_profile(profile), salt, tuple(bytes.fromhex(sha256) for sha256 in evidence), text
    )


def propose(
    config: OracleConfig,
    store: Store,
    *,
    visibility: Visibility,
    start: int,
    end: int,
    decisions: Sequence[review.Entry],
    leave_out: Collection[tuple[int, int]] = (),
    progress: Progress = no_progress,
) -> list[ArchivedStatement]:
    """The statements that this machine's raw files and the signed decisions put into a batch; writes nothing.

    All device-days of devices of one visibility inside [``start``, ``end``) that the rules accept or a reviewer
    accepted, less those a reviewer rejected and those of ``leave_out`` ((device, start) of days that are notarized
    elsewhere or withheld by the proposer). Raises ReviewError when a decision's signature does not hold.
    """
    sites = load_sites(config.sites_file)
    wanted = {device.device_id for device in sites.devices if device.visibility is visibility}
    standing = review.standing(decisions, config.reviewers)
    records = []
    for day in assess_raw(config, store, progress):
        device_id, day_start = day.key
        if device_id not in wanted or day.key in leave_out or not start <= day_start <= end - DAY_SECONDS:
            continue
        state, _ = _outcome(config, day, standing)
        if state is DayState.ACCEPTED:
            records.append(_record(config, device_id, day.profile, day.evidence, day.facts()))
    return records


@dataclass(frozen=True, slots=True)
class Recomputation:
    """A batch as another machine sees it."""

    records: tuple[ArchivedStatement, ...]
    policy: dict[str, Any]
    visibility: Visibility


def recompute(
    config: OracleConfig, store: Store, batch: Batch, decisions: Sequence[review.Entry], visibility: Visibility
) -> Recomputation:
    """What a witness compares a proposed batch with: :func:`propose` over the batch's time, and the policy behind it."""
    records = propose(config, store, visibility=visibility, start=batch.start, end=batch.end, decisions=decisions)
    return Recomputation(
        tuple(records), policy_of(config, {record.statement.device_id for record in records}), visibility
    )


def differing_days(
    mine: Iterable[ArchivedStatement], theirs: Iterable[tuple[int, int, int, bytes]]
) -> list[tuple[int, int]]:
    """(device, start) of the days on which two lists of statements differ, sorted.

    ``theirs`` are (device, start, version, leaf) as a proposer sends them.
    """
    ours = {(r.statement.device_id, r.statement.start, r.statement.version, statement_leaf(r.statement)) for r in mine}
    return sorted({(device_id, start) for device_id, start, _, _ in ours ^ set(theirs)})


def seal(config: OracleConfig, store: Store, progress: Progress = no_progress) -> list[Archive]:
    """Put every accepted device-day into a batch, one for each visibility, and write its archive.

    Nothing accepted: nothing happens. A crash after the archive is written and before the database knows is
    harmless: the next run makes the same root and finds the archive there.
    """
    sites = load_sites(config.sites_file)
    sealed = []
    for visibility in Visibility:
        wanted = [device.device_id for device in sites.devices if device.visibility is visibility]
        archive = _seal(config, store, visibility, wanted, progress)
        if archive:
            sealed.append(archive)
    return sealed


def _seal(
    config: OracleConfig, store: Store, visibility: Visibility, device_ids: Sequence[int], progress: Progress
) -> Archive | None:
    with store.session() as session:
        query = (
            select(DeviceDay).where(DeviceDay.device_id.in_(device_ids)).order_by(DeviceDay.device_id, DeviceDay.start)
        )
        days = session.scalars(query).all()
    accepted = [day for day in days if day.state is DayState.ACCEPTED]
    if not accepted:
        return None
    records = []
    for done, day in enumerate(accepted):
        progress("sealing statements", done, len(accepted))
        records.append(
            _record(config, day.device_id, unpack_profile(day.start, day.profile), day.evidence, day.assessment)
        )
    progress("sealing statements", len(accepted), len(accepted))
    start, end = min(day.start for day in accepted), max(day.start for day in accepted) + DAY_SECONDS
    inside = [day for day in days if start <= day.start < end]
    archive = write_archive(
        config.archive_folder,
        records,
        visibility=visibility,
        policy=policy_of(config, {day.device_id for day in accepted}),
        review_trail=[
            entry for entry in trail(config, store) if entry["deviceId"] in device_ids and start <= entry["start"] < end
        ],
        withheld=[
            {"deviceId": day.device_id, "start": day.start, "reason": day.reason}
            for day in inside
            if day.state in (DayState.HELD, DayState.REJECTED, DayState.METERED)
        ],
    )
    root = "0x" + archive.root.hex()
    statements = [record.statement for record in archive.records]
    try:
        with store.writing() as session:
            session.add(
                SealedBatch(
                    root=root,
                    kind=int(BatchKind.FINAL),
                    start=start,
                    end=end,
                    statements=len(statements),
                    energy_wh=batch_energy_wh(statements),
                    archive_hash="0x" + archive.archive_hash.hex(),
                    state=DayState.SEALED,
                    parameters=None,
                )
            )
            for day in accepted:
                row = session.get_one(DeviceDay, (day.device_id, day.start))
                if row.state is not DayState.ACCEPTED or row.profile != day.profile:
                    raise StoreError(
                        f"device-day {_day_list([(day.device_id, day.start)])} changed while it was sealed; run seal again"
                    )
                row.state, row.root = DayState.SEALED, root
    except IntegrityError:
        raise StoreError(
            f"another process sealed batch {root} at the same moment; nothing is lost, run again"
        ) from None
    log.info("sealed", root=root, statements=len(statements), visibility=visibility.name.lower())
    return archive


def unseal(store: Store, root: str, disputed: Collection[tuple[int, int]], reason: str) -> None:
    """Take a batch back that was never notarized: the disputed device-days are held, the others wait for the next seal.

    A disputed day stays held until other data come or a reviewer decides.
    The caller makes sure, on the chain, that the root can no longer be notarized.
    """
    with store.writing() as session:
        batch = session.get_one(SealedBatch, root)
        if batch.state is not DayState.SEALED:
            raise StoreError(f"batch {root} is {batch.state.value}; only a sealed one can be taken back")
        batch.state = DayState.REJECTED
        for day in session.scalars(select(DeviceDay).where(DeviceDay.root == root)):
            day.root = None
            if (day.device_id, day.start) in disputed:
                day.state, day.reason, day.disputed = DayState.HELD, reason, reason
            else:
                day.state = DayState.ACCEPTED


# -- reports ----------------------------------------------------------------------------------------


def utc_date(start: int) -> str:
    """The UTC day of a time in UTC seconds: 1467331200 gives "2016-07-01"."""
    return datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d")


def _day_list(days: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"device {device_id} {utc_date(start)}" for device_id, start in sorted(days)[:5])
    return (shown or "none") + (f" and {len(days) - 5} more" if len(days) > 5 else "")


@dataclass(frozen=True, slots=True)
class Gap:
    """One line of the gap report: a device-day, how far it has come, and why no further."""

    device_id: int
    device: str
    start: int
    state: DayState
    reason: str
    energy_wh: int
    missing_slots: int
    suspect_slots: int
    pending: str
    root: str

    @property
    def day(self) -> str:
        return utc_date(self.start)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "day": self.day, "state": self.state.value}


def gaps(config: OracleConfig, store: Store) -> list[Gap]:
    """Every device-day there is, between each device's first and last, in order; nothing is left out."""
    names = {device.device_id: device.name for device in load_sites(config.sites_file).devices}
    with store.session() as session:
        rows = session.scalars(select(DeviceDay).order_by(DeviceDay.device_id, DeviceDay.start)).all()
    report = []
    for row in rows:
        quality = unpack_profile(row.start, row.profile).quality
        report.append(
            Gap(
                device_id=row.device_id,
                device=names.get(row.device_id, ""),
                start=row.start,
                state=row.state,
                reason=row.reason,
                energy_wh=row.energy_wh,
                missing_slots=sum(not one for one in quality),
                suspect_slots=sum(bool(one & Quality.SUSPECT) for one in quality),
                pending=row.pending,
                root=row.root or "",
            )
        )
    return report


_GAP_COLUMNS = (
    "device_id",
    "device",
    "day",
    "state",
    "energy_wh",
    "missing_slots",
    "suspect_slots",
    "reason",
    "pending",
    "root",
)


def gaps_csv(report: Iterable[Gap]) -> str:
    """The gap report as CSV. Texts that a spreadsheet would run as a formula start with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_GAP_COLUMNS)
    for gap in report:
        line = gap.to_json()
        writer.writerow([harmless(line[column]) for column in _GAP_COLUMNS])
    return out.getvalue()


def harmless(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    return "'" + value if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS) else value


def tared(store: Store) -> dict[int, int]:
    """For each device, in how many of its slots the meter's reading was within the tare band and counts as 0 Wh."""
    counted: dict[int, int] = {}
    with store.session() as session:
        for device_id, facts in session.execute(
            select(DeviceDay.device_id, DeviceDay.assessment).order_by(DeviceDay.device_id)
        ):
            counted[device_id] = counted.get(device_id, 0) + facts.get("report", {}).get("tare_zeroed_slots", 0)
    return counted


def status(store: Store) -> dict[str, Any]:
    """Counts for a person or a monitor: files, rows, device-days, batches, acts on the chain. Plain JSON values."""
    with store.session() as session:
        files, used, refused, last = session.execute(
            select(
                func.count(RawFile.sha256.distinct()),
                func.sum(RawFile.rows_used),
                func.sum(RawFile.rows_refused),
                func.max(RawFile.received_at),
            ).select_from(RawFile)
        ).one()
        batch = session.scalars(select(SealedBatch).order_by(SealedBatch.sealed_at.desc()).limit(1)).first()
        acts = session.execute(select(Act.state, func.count()).group_by(Act.state)).all()
        return {
            "files": files,
            "rows_used": used or 0,
            "rows_refused": refused or 0,
            "last_file_at": last.isoformat() if isinstance(last, datetime) else last,
            "device_days": {state.value: count for state, count in _counts(session).items()},
            "tared_slots": {str(device_id): slots for device_id, slots in tared(store).items()},
            "pending": session.scalar(select(func.count()).select_from(DeviceDay).where(DeviceDay.pending != "")) or 0,
            "decisions": session.scalar(select(func.count()).select_from(ReviewDecision)) or 0,
            "batches": session.scalar(select(func.count()).select_from(SealedBatch)) or 0,
            "last_batch": None
            if batch is None
            else {
                "root": batch.root,
                "state": batch.state.value,
                "start": batch.start,
                "end": batch.end,
                "statements": batch.statements,
                "energy_wh": batch.energy_wh,
                "sealed_at": batch.sealed_at.isoformat(),
            },
            "acts": {SagaState(state).value: count for state, count in (tuple(row) for row in acts)},
        }


# -- export -----------------------------------------------------------------------------------------

_SLOT_COLUMNS = ("device_id", "slot_start", "energy_wh", "quality", "certified", "version", "root")


def export_slots(config: OracleConfig, device_id: int | None = None) -> Iterator[dict[str, Any]]:
    """Every 15-minute slot of every sealed statement, out of the archives alone; ``slot_start`` is ISO 8601 in UTC."""
    for root in roots_in(config.archive_folder):
        archive = read_archive(config.archive_folder, root)
        if archive.problem:
            raise ArchiveError(archive.problem, root="0x" + root.hex())
        for record in archive.records:
            statement = record.statement
            if device_id not in (None, statement.device_id):
                continue
            profile = unpack_profile(statement.start, record.profile)
            for slot, (energy_wh, quality) in enumerate(_pairs(profile)):
                yield {
                    "device_id": statement.device_id,
                    "slot_start": datetime.fromtimestamp(statement.start + slot * SLOT_SECONDS, UTC).isoformat(),
                    "energy_wh": energy_wh,
                    "quality": quality,
                    "certified": bool(quality & Quality.CERTIFIED),
                    "version": statement.version,
                    "root": "0x" + root.hex(),
                }


def export_csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of CSV for :func:`export_slots`, the header first."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_SLOT_COLUMNS)
    for row in rows:
        writer.writerow([harmless(row[column]) for column in _SLOT_COLUMNS])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()
