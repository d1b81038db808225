"""What the raw files say about each device-day: ingest, assess, and a collaborator's decisions.

Every step may be run again at any time and ends where it would have ended anyway: the raw files, the sites file
and the signed decisions decide everything, and the database holds what was made of them. Files come in by
:mod:`oracle.intake`, accepted days go into batches by :mod:`oracle.sealing` and to the chain by :mod:`oracle.issuance`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from . import review
from .assessment import DayAssessment, assess, device_days, irradiance_days
from .config import OracleConfig
from .domain import (
    DAY_SECONDS,
    SLOTS_PER_DAY,
    DayState,
    Profile,
)
from .formats import DaySlots
from .intake import IngestedFile, Progress, Raw, no_progress, read_raw, take
from .keys import load_device_key
from .protocol import day_hash, day_salt, pack_profile, profile_hash, unpack_profile
from .sites import DeviceConfig, load_sites
from .store import DeviceDay, ReviewDecision, Store
from .units import day_list, utc_date

log = structlog.get_logger("oracle.pipeline")

NO_DATA = "missing: no reading of this day, though there are some before and after it"
#: States in which a device-day's figures are in a batch and no longer change.
SEALED_STATES = (DayState.SEALED, DayState.NOTARIZED, DayState.ISSUED, DayState.FINAL)


# -- ingest -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Files taken or refused, and how many device-days stand in each state after assessing them."""

    files: tuple[IngestedFile, ...]
    assessed: AssessReport

    def to_json(self) -> dict[str, Any]:
        return {"files": [file.to_json() for file in self.files], **self.assessed.to_json()}


def ingest(config: OracleConfig, store: Store, paths: Iterable[Path], progress: Progress = no_progress) -> IngestReport:
    """Take files, or all files of folders, and assess what they change; see :func:`oracle.intake.take`."""
    return IngestReport(tuple(take(config, store, paths, progress)), assess_all(config, store, progress))


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


def assess_raw(config: OracleConfig, store: Store, progress: Progress = no_progress) -> list[AssessedDay]:
    """Judge every device-day from all raw files, in any order of arrival; changes nothing.

    Days without any reading between a device's first and last are there too, as held. Raises StoreError where a
    raw file no longer hashes to its name, naming the device-days that rest on it.
    """
    sites, now = load_sites(config.sites_file), int(datetime.now(UTC).timestamp())
    raw = read_raw(config, sites, store)
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
        judged.append(replace(day, assessment=_held_for(day.assessment, (untimely(device, day.key[1], now), copied))))
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


def _every_day(device: DeviceConfig, raw: Raw, now: int) -> list[DaySlots]:
    """A device's days in order, those without any reading included.

    Gaps are filled from the device's activity to ``now`` alone: one absurd stamp must not make a million missing days.
    """
    days = device_days(device, raw.parsed.get(f"device:{device.device_id}", ()))
    timely = [start for start in days if not untimely(device, start, now)]
    filled = range(min(timely), max(timely) + DAY_SECONDS, DAY_SECONDS) if timely else ()
    empty = (None,) * SLOTS_PER_DAY
    return [days.get(start) or DaySlots(start, empty) for start in sorted({*days, *filled})]


def untimely(device: DeviceConfig, start: int, now: int) -> str:
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
                changed += _update(session, row, day, outcome_of(config, day, decisions))
        for key, row in rows.items():
            if key not in assessed:
                changed += _orphan(row)
        session.flush()
        return AssessReport(
            states=count_states(session),
            changed=changed,
            pending=session.scalar(select(func.count()).select_from(DeviceDay).where(DeviceDay.pending != "")) or 0,
        )


def count_states(session: Session) -> dict[DayState, int]:
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
    slots = sum(one != other for one, other in zip(slot_pairs(sealed), slot_pairs(now), strict=True))
    note = ""
    if slots:
        note = f"newer data differ in {slots} slots: {now.certified_wh} Wh certifiable instead of the sealed {sealed.certified_wh} Wh"
    changed = row.pending != note
    row.pending = note
    return changed


def slot_pairs(profile: Profile) -> list[tuple[int, int]]:
    return list(zip(profile.energy_wh, profile.quality, strict=True))


def _orphan(row: DeviceDay) -> bool:
    """A device-day that no raw file or device speaks of any more stays visible and is not sealed."""
    note = "its device is no longer in the sites file, or its raw files no longer speak of this day"
    if row.state in SEALED_STATES:
        changed, row.pending = row.pending != note, note
    else:
        changed, row.state, row.reason = row.reason != note, DayState.HELD, note
    return changed


def outcome_of(
    config: OracleConfig, day: AssessedDay, decisions: Mapping[tuple[int, int, int, str], review.Entry]
) -> tuple[DayState, str]:
    """State and reason of a device-day that is not sealed: a standing decision about these very figures outweighs the rules."""
    device_id, start = day.key
    # The device key is needed only where somebody decided; without decisions, days can be assessed without keys.
    if any(key[:3] == (device_id, start, 0) for key in decisions):
        _, hashed = salted(config, device_id, day.profile)
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


def salted(config: OracleConfig, device_id: int, profile: Profile, version: int = 0) -> tuple[bytes, bytes]:
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
                f"there is no device-day {day_list([(device_id, start)])}; `gaps` lists those there are"
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
        too_early = untimely(load_sites(config.sites_file).device(device_id), start, int(decided_at.timestamp()))
        if decision == review.ACCEPT and too_early:
            raise review.ReviewError(f"device {device_id} {utc_date(start)} cannot be accepted: {too_early}")
        _, hashed = salted(config, device_id, unpack_profile(start, row.profile), row.version)
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
