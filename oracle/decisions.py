"""Decisions of collaborators: drawn up and signed here, or signed elsewhere and taken in as files, and applied.

A file that is taken in is judged as a decision made here is: the signature, the configured reviewers, the figures as they
stand. What is refused is kept with the reason; what lacks something that may still come is tried again. The layout of a
folder of decisions stands in docs/oracle.md.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import select
from sqlalchemy.orm import Session

from . import review
from .archive import write_whole
from .assessment import ClockShift, device_days
from .config import OracleConfig
from .domain import DayState, DecisionState, Profile
from .errors import ConfigError, OracleError
from .findings import clock_report
from .intake import read_raw
from .pipeline import (
    SEALED_STATES,
    Said,
    assess_all,
    clock_trail,
    conflict_hash,
    decided_words,
    said_of,
    salted,
    trail,
    untimely,
)
from .protocol import pack_profile, unpack_profile
from .sites import load_sites
from .store import Correction, DeviceDay, RawFile, ReceivedDecision, ReviewDecision, Store, Version, utc_now
from .units import day_list, utc_date

log = structlog.get_logger("oracle.decisions")

#: By how much the clock of who decided may be ahead of ours, in seconds.
CLOCK_SKEW_SECONDS = 300
_SHA256 = re.compile("[0-9a-f]{64}")


# -- decided here -----------------------------------------------------------------------------------


def decide(
    config: OracleConfig,
    store: Store,
    account: LocalAccount,
    device_id: int,
    start: int,
    decision: str,
    reason: str,
    *,
    edits: Mapping[int, int] | None = None,
    evidence: str = "",
    now: datetime | None = None,
) -> Version:
    """Sign and store a decision ("accept", "edit" or "reject") about a device-day as it stands, and apply it.

    ``start`` UTC seconds of the day. An accepted day is certified in its measured, unsuspected slots. An edit gives
    slots (0 to 95) other Wh, shown by a file whose sha256 (hex) is ``evidence``, and certifies the rest as accepting
    does. Where the day is notarized, it is the open correction that is decided about. Raises ReviewError where there
    is nothing (any more) to decide.
    """
    if account.address not in config.reviewers:
        raise review.ReviewError(f"{account.address} is not among the configured reviewers; add it to {config.file}")
    with store.writing() as session:
        row = _open_version(session, device_id, start)
        decided_at = int((now or datetime.now(UTC)).timestamp())
        _check_timely(config, row, decision, decided_at)
        assessed = _assessed(row)
        facts = review.draft(
            device_id=device_id,
            start=start,
            version=row.version,
            decision=decision,
            reason=reason,
            profile_hash=salted(config, device_id, assessed, row.version)[1],
            decided_at=decided_at,
            edits=[(slot, _slot_wh(assessed, slot), wh) for slot, wh in sorted((edits or {}).items())],
            evidence=evidence,
            conflict=_conflict(config, store, row),
        )
        return _apply(config, session, row, review.sign(account, facts))


def choose(
    config: OracleConfig,
    store: Store,
    account: LocalAccount,
    device_id: int,
    start: int,
    file: str,
    reason: str,
    *,
    now: datetime | None = None,
) -> Version:
    """Settle a conflict by the values of one ``file``, named by its name or the start of its sha256: an edit that rests on it."""
    said = conflict_of(config, store, device_id, start)
    if not said:
        raise review.ReviewError(f"device {device_id} {utc_date(start)}: the files do not disagree about this day")
    fitting = [one for one in said if one.name == file or one.sha256.startswith(file)]
    if len(fitting) != 1:
        named = ", ".join(f"{one.name} ({one.sha256[:12]})" for one in fitting or said)
        raise review.ReviewError(f"{file!r} names {len(fitting)} of the files that disagree; choose one of {named}")
    [chosen] = fitting
    return decide(
        config,
        store,
        account,
        device_id,
        start,
        review.EDIT,
        reason,
        edits=chosen.slots,
        evidence=chosen.sha256,
        now=now,
    )


def conflict_of(config: OracleConfig, store: Store, device_id: int, start: int) -> list[Said]:
    """Who says what about a day on which files disagree, by file; empty where they agree. ``start`` in UTC seconds."""
    sites = load_sites(config.sites_file)
    device = sites.device(device_id)
    raw = read_raw(config, sites, store)
    merged = device_days(device, raw.parsed.get(f"device:{device_id}", ())).get(start)
    return said_of(device, merged, raw) if merged else []


def correct_clock(
    config: OracleConfig, store: Store, account: LocalAccount, device_id: int, reason: str, *, start: int | None = None
) -> ClockShift:
    """Sign and apply the correction that :func:`oracle.findings.clock_report` offers for a device.

    ``start`` (UTC seconds) chooses where there are several. Raises ReviewError where none is offered.
    """
    offered = [one for one in clock_report(config, store) if one.device_id == device_id and start in (None, one.start)]
    if len(offered) != 1:
        days = ", ".join(utc_date(one.start) for one in offered)
        raise review.ReviewError(
            f"device {device_id} has several clock shifts; name the day on which one begins: {days}"
            if offered
            else f"no clock shift is found in the readings of device {device_id}; `clocks` lists those there are"
        )
    [shift] = offered
    correction = shift.clock_correction
    facts = review.draft_clock(
        device_id=device_id,
        start=correction.start,
        end=shift.end + correction.seconds,
        seconds=correction.seconds,
        reason=reason,
        decided_at=int(time.time()),
    )
    entry = review.sign(account, facts)
    content = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
    review.verify(entry, config.reviewers)
    sha256 = hashlib.sha256(content).hexdigest()
    _correct_clock(config, store, offered, entry)
    _keep(store, Received(sha256, f"{sha256}.json", DecisionState.TAKEN, "", review.called(entry)), content)
    assess_all(config, store)
    return shift


# -- decided elsewhere ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a file with a decision. ``known``: it was taken or refused before, and nothing changed now.

    ``reason`` says why it is refused or waits; ``about`` names what it decides, where that could be read.
    """

    sha256: str
    name: str
    state: DecisionState
    reason: str = ""
    about: str = ""
    known: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"state": self.state.value}


class _Waits(Exception):
    """A decision lacks something that may still come."""


def import_decisions(config: OracleConfig, store: Store, path: Path) -> list[Received]:
    """Take in the decision in a file, or all in a folder, oldest decision first; device-days must be assessed before.

    What an edit rests on is looked for under its sha256 in ``evidence`` beside the files, and kept. Doing it again
    changes nothing.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.json")) if path.is_dir() else [path]
    received: list[Received] = []
    read: list[tuple[tuple[int, str], str, str, bytes, review.Entry]] = []
    with store.session() as session:
        done = (DecisionState.TAKEN, DecisionState.REFUSED)
        known = {row.sha256: row for row in session.scalars(select(ReceivedDecision)) if row.state in done}
    for file in files:
        if file.name.startswith(".") or file.is_symlink() or not file.is_file():
            continue
        claimed = file.stem if _SHA256.fullmatch(file.stem) else ""
        if claimed not in known:
            outcome = _read(file, claimed)
            if isinstance(outcome, Received):
                received.append(_keep(store, outcome, None))
                continue
            sha256, content = outcome
        else:
            sha256, content = claimed, b""
        if sha256 in known:
            row = known[sha256]
            received.append(Received(sha256, file.name, row.state, row.reason, _about(row.content), known=True))
            continue
        try:
            entry = orjson.loads(content)
            review.verify(entry if isinstance(entry, dict) else {}, config.reviewers)
        except (orjson.JSONDecodeError, review.ReviewError) as fault:
            reason = "it is not readable as JSON" if isinstance(fault, orjson.JSONDecodeError) else str(fault)
            refused = Received(sha256, file.name, DecisionState.REFUSED, reason, _about(content))
            received.append(_keep(store, refused, content))
            continue
        read.append((review.rank(entry), sha256, file.name, content, entry))
    for _, sha256, name, content, entry in sorted(read, key=lambda one: one[0]):
        received.append(_take(config, store, folder, sha256, name, content, entry))
    return received


def take_waiting(config: OracleConfig, store: Store) -> list[Received]:
    """What is new in the configured folder of decisions; nothing where none is configured or it is not there yet."""
    folder = config.decisions_folder
    if folder is None or not folder.is_dir():
        return []
    return [one for one in import_decisions(config, store, folder) if not one.known]


def _read(file: Path, claimed: str) -> Received | tuple[str, bytes]:
    """A file's sha256 and content, or why it is not one that can be judged."""
    key = claimed or hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).hexdigest()
    try:
        with file.open("rb") as opened:
            content = opened.read(review.MAX_DECISION_BYTES + 1)
    except OSError as fault:
        return Received(key, file.name, DecisionState.WAITING, f"it cannot be read: {fault.strerror}")
    if len(content) > review.MAX_DECISION_BYTES:
        reason = f"it is larger than a decision can be ({review.MAX_DECISION_BYTES} bytes)"
        return Received(key, file.name, DecisionState.REFUSED, reason)
    sha256 = hashlib.sha256(content).hexdigest()
    if claimed and sha256 != claimed:
        reason = "its content does not hash to its name: it is not wholly written, or was altered"
        return Received(claimed, file.name, DecisionState.WAITING, reason)
    return sha256, content


def _take(
    config: OracleConfig, store: Store, folder: Path, sha256: str, name: str, content: bytes, entry: review.Entry
) -> Received:
    about = review.called(entry)
    state, reason = DecisionState.TAKEN, ""
    try:
        if entry["decidedAt"] > time.time() + CLOCK_SKEW_SECONDS:
            raise review.ReviewError(f"it is dated {entry['decidedAt']}, which is still to come; set the clock right")
        if entry["decision"] == review.CLOCK:
            offered = () if _is_corrected(config, entry) else clock_report(config, store)
            _correct_clock(config, store, offered, entry)
            assess_all(config, store)
        else:
            if entry["decision"] == review.EDIT:
                _keep_evidence(config, store, folder, entry["evidence"])
            with store.writing() as session:
                _take_day(config, store, session, entry)
                session.merge(_row(Received(sha256, name, state, about=about), content))
    except review.ReviewError as fault:
        state, reason = DecisionState.REFUSED, str(fault)
    except (_Waits, OracleError) as fault:
        state, reason = DecisionState.WAITING, str(fault)
    if state is not DecisionState.TAKEN or entry["decision"] == review.CLOCK:
        _keep(store, Received(sha256, name, state, reason, about), content)
    log.info("decision received", about=about, state=state.value, reviewer=entry["reviewer"], reason=reason)
    return Received(sha256, name, state, reason, about)


def _take_day(config: OracleConfig, store: Store, session: Session, entry: review.Entry) -> None:
    """Apply a decision that was signed elsewhere, if it is about the figures as they stand. Raises ReviewError."""
    device_id, start = entry["deviceId"], entry["start"]
    same_day = (ReviewDecision.device_id == device_id, ReviewDecision.start == start)
    if session.scalars(select(ReviewDecision).where(*same_day, ReviewDecision.signature == entry["signature"])).first():
        return
    row = _open_version(session, device_id, start)
    called = f"device {device_id} {utc_date(start)}"
    if row.version != entry["version"]:
        raise review.ReviewError(
            f"it is about version {entry['version']} of {called}; version {row.version} is open now"
        )
    if "0x" + salted(config, device_id, _assessed(row), row.version)[1].hex() != entry["profileHash"]:
        raise review.ReviewError(f"the data of {called} changed since it was signed: look again and decide anew")
    if entry.get("conflict", "") != _conflict(config, store, row):
        raise review.ReviewError(f"files say other things about {called} than when it was signed: look again")
    facts = ("deviceId", "start", "version", "profileHash")
    for other in trail(config, store):
        if all(other.get(name) == entry[name] for name in facts) and review.rank(other) > review.rank(entry):
            raise review.ReviewError(f"a later decision of {other['reviewer']} about {called} stands already")
    _apply(config, session, row, entry)


def _keep_evidence(config: OracleConfig, store: Store, folder: Path, sha256: str) -> None:
    """See to it that what an edit rests on is kept: a raw file, or a file that came with the decision."""
    kept = config.raw_folder / "evidence" / sha256
    with store.session() as session:
        is_raw = session.scalars(select(RawFile).where(RawFile.sha256 == sha256)).first() is not None
    if is_raw or kept.exists():
        return
    try:
        with (folder / "evidence" / sha256).open("rb") as opened:
            content = opened.read(review.MAX_EVIDENCE_BYTES + 1)
    except OSError:
        raise _Waits(f"the file that the edit rests on, {sha256}, is not in {folder / 'evidence'}") from None
    if len(content) > review.MAX_EVIDENCE_BYTES:
        raise review.ReviewError(f"the file that the edit rests on is larger than {review.MAX_EVIDENCE_BYTES} bytes")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _Waits(
            f"the file that the edit rests on does not hash to {sha256}: it is not wholly written, or was altered"
        )
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(kept, content, 0o600)


def _row(received: Received, content: bytes | None) -> ReceivedDecision:
    return ReceivedDecision(
        sha256=received.sha256,
        name=received.name[:255],
        state=received.state,
        reason=received.reason,
        content=content,
        received_at=utc_now(),
    )


def _keep(store: Store, received: Received, content: bytes | None) -> Received:
    with store.writing() as session:
        session.merge(_row(received, content))
    return received


def _about(content: bytes | None) -> str:
    """What a decision that may be malformed is about; empty where that cannot be read."""
    try:
        return review.called(orjson.loads(content or b""))
    except (ValueError, LookupError, TypeError):
        return ""


# -- what a decision does ---------------------------------------------------------------------------


def _apply(config: OracleConfig, session: Session, row: Version, entry: review.Entry) -> Version:
    """Add a decision to the trail and give its device-day the state and figures that follow. Raises ReviewError."""
    called, decision, assessed = f"device {row.device_id} {utc_date(row.start)}", entry["decision"], _assessed(row)
    _check_timely(config, row, decision, entry["decidedAt"])
    profile = review.edited(assessed, entry) if decision == review.EDIT else assessed
    if decision != review.REJECT and not profile.certified_wh and row.version == 0:
        raise review.ReviewError(f"{called} has no measured, unsuspected energy; there is nothing to certify")
    session.add(ReviewDecision.of(entry))
    found = "; ".join(row.assessment.get("reasons", ()))
    row.state, row.disputed = (DayState.REJECTED if decision == review.REJECT else DayState.ACCEPTED), ""
    row.profile, row.energy_wh = pack_profile(profile), profile.certified_wh
    row.assessed = pack_profile(assessed) if profile != assessed else None
    row.reason = decided_words(decision, entry["reviewer"], entry["reason"]) + (f" [{found}]" if found else "")
    log.info("decided", device=row.device_id, day=utc_date(row.start), decision=decision, reviewer=entry["reviewer"])
    return row


def _check_timely(config: OracleConfig, row: Version, decision: str, decided_at: int) -> None:
    too_early = untimely(load_sites(config.sites_file).device(row.device_id), row.start, decided_at)
    if decision != review.REJECT and too_early:
        raise review.ReviewError(f"device {row.device_id} {utc_date(row.start)} cannot be accepted: {too_early}")


def _assessed(row: Version) -> Profile:
    """The profile as the raw files alone have it."""
    return unpack_profile(row.start, row.assessed or row.profile)


def _slot_wh(profile: Profile, slot: int) -> int:
    if not 0 <= slot < len(profile.energy_wh):
        raise review.ReviewError(f"a day has slots 0 to {len(profile.energy_wh) - 1}, not {slot}")
    return profile.energy_wh[slot]


def _conflict(config: OracleConfig, store: Store, row: Version) -> str:
    """The hash of what files say that disagree about a day, as last assessed."""
    if row.for_review is not None:
        return str(row.for_review["conflict"])
    return conflict_hash(conflict_of(config, store, row.device_id, row.start))


def _open_version(session: Session, device_id: int, start: int) -> Version:
    """The version of a device-day that is not sealed yet."""
    row = session.get(DeviceDay, (device_id, start))
    if row is None:
        raise review.ReviewError(
            f"there is no device-day {day_list([(device_id, start)])}; `gaps` lists those there are"
        )
    if row.state not in SEALED_STATES:
        return row
    correction = session.scalars(
        select(Correction)
        .where(Correction.device_id == device_id, Correction.start == start)
        .order_by(Correction.version.desc())
        .limit(1)
    ).first()
    if correction is None or correction.state in SEALED_STATES:
        newest = correction or row
        raise review.ReviewError(
            f"device {device_id} {utc_date(start)} is {newest.state.value} in {newest.root} already; only a correction can change it"
        )
    return correction


# -- clocks -----------------------------------------------------------------------------------------


def _clock_file(config: OracleConfig) -> Path:
    file = load_sites(config.sites_file).clock_decisions
    if file is None:
        raise ConfigError(
            f"{config.sites_file} names no file that keeps corrections of clocks; add `clock_decisions: clocks.json`"
        )
    return file


def _is_corrected(config: OracleConfig, entry: review.Entry) -> bool:
    return entry in clock_trail(config)


def _correct_clock(config: OracleConfig, store: Store, offered: Sequence[ClockShift], entry: review.Entry) -> None:
    """Write a signed correction into the file that the sites file names, if the readings still show the shift."""
    file = _clock_file(config)
    if _is_corrected(config, entry):
        return
    asked = (entry["deviceId"], entry["from"], entry["until"], entry["seconds"])
    found = {
        (one.device_id, one.clock_correction.start, one.clock_correction.end, one.clock_correction.seconds)
        for one in offered
    }
    if asked not in found:
        raise review.ReviewError(
            f"the readings do not show (any more) that {review.called(entry)} is wrong by {entry['seconds']} s"
        )
    seconds = load_sites(config.sites_file).device(entry["deviceId"]).source.interval_seconds
    if entry["seconds"] % seconds:
        raise review.ReviewError(f"only whole intervals of {seconds} s can be corrected, not {entry['seconds']} s")
    # What another process writes at this moment must not be lost.
    with store.writing():
        entries = [one for one in clock_trail(config) if one != entry]
        content = orjson.dumps([*entries, entry], option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        write_whole(file, content + b"\n")
