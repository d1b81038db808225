"""What the raw files say about each device-day: ingest, assess, and a collaborator's decisions.

Every step may be run again at any time and ends where it would have ended anyway: the raw files, the sites file
and the signed decisions decide everything, and the database holds what was made of them. Files come in by
:mod:`oracle.intake`, accepted days go into batches by :mod:`oracle.sealing` and to the chain by :mod:`oracle.issuance`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from . import review
from .assessment import DayAssessment, assess, device_days, irradiance_days
from .balance import balances, held_by_balance
from .config import OracleConfig
from .corroboration import clear_sky_bound_w
from .domain import (
    DAY_SECONDS,
    SLOT_SECONDS,
    SLOTS_PER_DAY,
    DayState,
    Profile,
)
from .drift import held_by_drift
from .errors import OracleError
from .formats import DaySlots, StationDay
from .formats.slots import MICRO_J_PER_WH
from .intake import IngestedFile, Progress, Raw, no_progress, read_raw, take
from .keys import load_device_key
from .protocol import day_hash, day_salt, pack_profile, profile_hash, unpack_profile
from .sites import DeviceConfig, StationConfig, load_sites
from .store import Correction, DeviceDay, RawFile, ReviewDecision, Store, Version, crash_point
from .sun import sun_day
from .units import utc_date

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


def ingest(
    config: OracleConfig,
    store: Store,
    paths: Iterable[Path],
    progress: Progress = no_progress,
    *,
    now: int | None = None,
) -> IngestReport:
    """Take files, or all files of folders, and assess what they change; see :func:`oracle.intake.take`."""
    return IngestReport(tuple(take(config, store, paths, progress)), assess_all(config, store, progress, now=now))


# -- assess -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssessReport:
    """``states``: device-days in each state. ``changed``: device-days whose figures or state moved. ``pending``:
    sealed device-days that newer data contradict; they stay as sealed and get a correction. ``corrections``: those in
    each state."""

    states: Mapping[DayState, int]
    changed: int
    pending: int
    corrections: Mapping[DayState, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "device_days": {state.value: count for state, count in self.states.items()},
            "changed": self.changed,
            "pending": self.pending,
            "corrections": {state.value: count for state, count in self.corrections.items()},
        }


@dataclass(frozen=True, slots=True)
class AssessedDay:
    """A device-day as the raw files alone show it, with the sha256 (hex, sorted) of those that speak of it.

    ``said``: what the files say about slots on which they disagree, empty where they agree. ``bound_wh``: of a held
    solar day, the Wh per slot that no sky explains more of.
    """

    assessment: DayAssessment
    evidence: tuple[str, ...]
    said: tuple[Said, ...] = ()
    bound_wh: tuple[int, ...] = ()

    @property
    def conflict(self) -> str:
        """The sha256 (hex) of what the files say that disagree, empty where they agree."""
        return conflict_hash(self.said)

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


def assess_raw(
    config: OracleConfig, store: Store, progress: Progress = no_progress, *, now: int | None = None
) -> list[AssessedDay]:
    """Judge every device-day from all raw files, in any order of arrival; changes nothing.

    Days without any reading between a device's first and last are there too, as held. ``now``: UTC seconds, the
    clock's if left out; a day that is not over by then is held. Raises StoreError where a
    raw file no longer hashes to its name, naming the device-days that rest on it, and ReviewError where a clock was
    corrected without a signature that holds.
    """
    sites, now = load_sites(config.sites_file), int(time.time()) if now is None else now
    clock_trail(config)
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
        judged_alone = _judged_alone(device, slots, irradiance)
        said, bound_wh = tuple(said_of(device, slots, raw)), _bound_wh(device, judged_alone)
        assessed.append(AssessedDay(judged_alone, tuple(sorted(evidence)), said, bound_wh))
    progress("assessing device-days", len(work), len(work))
    twins = _twins(work)
    drifting = held_by_drift(sites.devices, (day.assessment for day in assessed))
    unbalanced = held_by_balance(balances(sites.balances, {day.key: day.profile for day in assessed}))
    judged = []
    for (device, slots), day in zip(work, assessed, strict=True):
        # The same energy must not be certified for two devices: a day with another's readings waits for a reviewer.
        others = ", ".join(str(other) for other in twins.get(day.key, ()))
        copied = f"copied: every reading is that of device {others}" if others else ""
        drift = drifting.get(day.key, "")
        further = (untimely(device, day.key[1], now), copied, _conflict(slots), drift, *unbalanced.get(day.key, ()))
        judged.append(replace(day, assessment=_held_for(day.assessment, further)))
    return judged


#: Days as they were judged before in this process, the oldest first; a long-running one judges only what changed.
_JUDGED: OrderedDict[bytes, DayAssessment] = OrderedDict()
_JUDGED_AT_MOST = 4_096


def _judged_alone(
    device: DeviceConfig, slots: DaySlots, irradiance: Sequence[tuple[StationConfig, StationDay]]
) -> DayAssessment:
    """:func:`oracle.assessment.assess`, which depends on nothing but its arguments, once for the same arguments."""
    key = hashlib.sha256(repr((device, slots, irradiance)).encode()).digest()
    known = _JUDGED.get(key)
    if known is None:
        known = _JUDGED[key] = assess(device, slots, irradiance)
        if len(_JUDGED) > _JUDGED_AT_MOST:
            _JUDGED.popitem(last=False)
    return known


def _bound_wh(device: DeviceConfig, day: DayAssessment) -> tuple[int, ...]:
    if day.state is not DayState.HELD or not any(any(one.expected_wh) for one in day.corroboration.stations):
        return ()
    site = device.site
    watts = clear_sky_bound_w(device, sun_day(site.latitude, site.longitude, site.altitude_m, day.start))
    return tuple(round(one * SLOT_SECONDS / 3600) for one in watts.tolist())


def _conflict(slots: DaySlots) -> str:
    """Two files that say different things: a person must choose, however few slots they are. Empty if none do."""
    if not slots.conflicts:
        return ""
    named = ", ".join(map(str, sorted(slots.conflicts)[:8])) + (" and more" if len(slots.conflicts) > 8 else "")
    return f"conflict: different values were delivered for {len(slots.conflicts)} slots ({named}); `review choose` takes those of one file"


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


def assess_all(
    config: OracleConfig, store: Store, progress: Progress = no_progress, *, now: int | None = None
) -> AssessReport:
    """Bring every device-day of the database to what raw files, sites file and decisions say now.

    What is sealed is never changed: where newer data contradict it, that is written beside it (``pending``), and once
    it is notarized the next version (:class:`oracle.store.Correction`) is judged by the same rules. Where another
    process takes files or decisions meanwhile, all is judged again: nothing older than what is known is ever written.
    """
    while True:
        with store.session() as session:
            known = _known(session)
        assessed = {day.key: day for day in assess_raw(config, store, progress, now=now)}
        decisions = review.standing(trail(config, store), config.reviewers)
        with store.writing() as session:
            if _known(session) == known:
                return _write_down(config, session, assessed, decisions)


def _known(session: Session) -> tuple[Any, ...]:
    """What changes whenever files or decisions come."""
    files = session.execute(select(RawFile.sha256, RawFile.source).order_by(RawFile.sha256, RawFile.source))
    return tuple(map(tuple, files)), session.scalar(select(func.max(ReviewDecision.id)))


def _write_down(
    config: OracleConfig, session: Session, assessed: Mapping[tuple[int, int], AssessedDay], decisions: Decisions
) -> AssessReport:
    """Bring the rows of all device-days to what was assessed."""
    changed = 0
    rows = {(row.device_id, row.start): row for row in session.scalars(select(DeviceDay))}
    versions: dict[tuple[int, int], list[Correction]] = {}
    for one in session.scalars(select(Correction).order_by(Correction.version)):
        versions.setdefault((one.device_id, one.start), []).append(one)
    for key, day in assessed.items():
        row = rows.get(key)
        if row is not None and row.state in SEALED_STATES:
            changed += _update_correction(config, session, row, versions.get(key, []), day, decisions)
        else:
            changed += _update(config, session, row, day, outcome_of(config, day, decisions))
    for key, row in rows.items():
        if key not in assessed:
            changed += _orphan(row)
    session.flush()
    crash_point(18)
    return AssessReport(
        states=count_states(session),
        changed=changed,
        pending=session.scalar(select(func.count()).select_from(DeviceDay).where(DeviceDay.pending != "")) or 0,
        corrections=count_states(session, Correction),
    )


def count_states(session: Session, of: type[Version] = DeviceDay) -> dict[DayState, int]:
    """How many device-days, or corrections, stand in each state."""
    rows = session.execute(select(of.state, func.count()).group_by(of.state))
    counted: dict[DayState, int] = {row[0]: row[1] for row in rows}
    return {state: counted[state] for state in DayState if state in counted}


def _values(
    config: OracleConfig, row: Version | None, day: AssessedDay, outcome: Outcome, version: int = 0
) -> dict[str, Any]:
    """Columns of a version that is not sealed. What witnesses dispute stays held until figures change or a reviewer decides."""
    state, reason, disputed = outcome.state, outcome.reason, ""
    profile = pack_profile(outcome.profile)
    if row is not None and row.disputed and row.profile == profile and state is DayState.ACCEPTED:
        state, reason, disputed = DayState.HELD, row.disputed, row.disputed
    return {
        "state": state,
        "reason": reason,
        "profile": profile,
        "assessed": pack_profile(day.profile) if outcome.profile != day.profile else None,
        "disputed": disputed,
        "energy_wh": outcome.profile.certified_wh,
        "evidence": list(day.evidence),
        "assessment": day.facts(),
        "for_review": _for_review(config, day, version),
    }


def _for_review(config: OracleConfig, day: AssessedDay, version: int) -> dict[str, Any]:
    """What a decision about these figures must name, and what files that disagree say, for whoever decides elsewhere.

    ``profileHash`` is empty where the device's key, which salts it, is not here.
    """
    try:
        hashed = "0x" + salted(config, day.key[0], day.profile, version)[1].hex()
    except (OracleError, OverflowError):  # or a day that no statement can be about
        hashed = ""
    said = [
        {"sha256": one.sha256, "name": one.name, "slots": [[*pair] for pair in one.slots.items()]} for one in day.said
    ]
    return {"profileHash": hashed, "conflict": day.conflict, "said": said, "clearSkyBoundWh": list(day.bound_wh)}


def _set(row: Version, values: Mapping[str, Any]) -> bool:
    different = {name: value for name, value in values.items() if getattr(row, name) != value}
    for name, value in different.items():
        setattr(row, name, value)
    return bool(different)


def _update(config: OracleConfig, session: Session, row: DeviceDay | None, day: AssessedDay, outcome: Outcome) -> bool:
    values = _values(config, row, day, outcome) | {"pending": ""}
    if row is not None:
        return _set(row, values)
    device_id, start = day.key
    session.add(DeviceDay(device_id=device_id, start=start, version=0, **values))
    return True


def _update_correction(
    config: OracleConfig,
    session: Session,
    row: DeviceDay,
    versions: Sequence[Correction],
    day: AssessedDay,
    decisions: Decisions,
) -> bool:
    """Note what newer data say against the newest sealed version, and judge the version that would follow it."""
    draft = versions[-1] if versions and versions[-1].state not in SEALED_STATES else None
    newest: list[Version] = [row, *(one for one in versions if one is not draft)]
    sealed = newest[-1]
    # Figures that a reviewer accepted or edited for the sealed version are not news.
    settled = outcome_of(config, day, decisions, sealed.version)
    before = unpack_profile(row.start, sealed.profile)
    slots = sum(one != other for one, other in zip(slot_pairs(before), slot_pairs(settled.profile), strict=True))
    note = ""
    if slots:
        now_wh, before_wh = settled.profile.certified_wh, before.certified_wh
        note = f"newer data differ in {slots} slots: {now_wh} Wh certifiable instead of the sealed {before_wh} Wh"
    changed = _set(row, {"pending": note})
    if not slots:
        if draft is not None:
            log.info("correction no longer needed", device=row.device_id, day=utc_date(row.start))
            session.delete(draft)
        return changed or draft is not None
    if sealed.state is DayState.SEALED:
        return changed  # the version before must be notarized first
    version = sealed.version + 1
    outcome = outcome_of(config, day, decisions, version)
    values = _values(config, draft, day, outcome, version) | {"previous_wh": before.certified_wh}
    if draft is not None:
        return _set(draft, values) or changed
    log.info("correction", device=row.device_id, day=utc_date(row.start), version=version)
    session.add(Correction(device_id=row.device_id, start=row.start, version=version, **values))
    return True


def slot_pairs(profile: Profile) -> list[tuple[int, int]]:
    """(Wh, quality) of each slot."""
    return list(zip(profile.energy_wh, profile.quality, strict=True))


def _orphan(row: DeviceDay) -> bool:
    """A device-day that no raw file or device speaks of any more stays visible and is not sealed."""
    note = "its device is no longer in the sites file, or its raw files no longer speak of this day"
    if row.state in SEALED_STATES:
        changed, row.pending = row.pending != note, note
    else:
        note = row.disputed or note  # a day that witnesses alone know of
        changed, row.state, row.reason = row.reason != note, DayState.HELD, note
    return changed


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a version that is not sealed stands, why, and its profile: as assessed, or as a reviewer edited it."""

    state: DayState
    reason: str
    profile: Profile


def outcome_of(config: OracleConfig, day: AssessedDay, decisions: Decisions, version: int = 0) -> Outcome:
    """A standing decision about these very figures and this version outweighs the rules."""
    device_id, start = day.key
    # The device key is needed only where somebody decided; without decisions, days can be assessed without keys.
    if any(key[:3] == (device_id, start, version) for key in decisions):
        _, hashed = salted(config, device_id, day.profile, version)
        decision = decisions.get((device_id, start, version, "0x" + hashed.hex()))
        if decision and decision.get("conflict", "") == day.conflict:
            state = DayState.REJECTED if decision["decision"] == review.REJECT else DayState.ACCEPTED
            profile = review.edited(day.profile, decision) if decision["decision"] == review.EDIT else day.profile
            said = decided_words(decision["decision"], decision["reviewer"], decision["reason"])
            return Outcome(state, f"{said} [{day.reason}]" if day.reason else said, profile)
        if day.assessment.state is DayState.HELD:
            reason = f"{day.reason}; an earlier decision was about other figures and does not count"
            return Outcome(DayState.HELD, reason, day.profile)
    return Outcome(day.assessment.state, day.reason, day.profile)


def decided_words(decision: str, reviewer: str, reason: str) -> str:
    """A decision as the gap report shows it: "accepted by 0x…: reason"."""
    return f"{decision}ed by {reviewer}: {reason}"


def salted(config: OracleConfig, device_id: int, profile: Profile, version: int = 0) -> tuple[bytes, bytes]:
    """``(salt, profile hash)`` of a one-day period."""
    salt = day_salt(load_device_key(config.device_keys_folder, device_id), device_id, profile.start, version)
    return salt, profile_hash([day_hash(salt, pack_profile(profile))])


# -- review -----------------------------------------------------------------------------------------


#: Decisions that count, by device, start, version and profile hash: :func:`oracle.review.standing`.
Decisions = Mapping[tuple[int, int, int, str], review.Entry]


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
            if row.conflict:
                entry["conflict"] = row.conflict
            if row.decision == review.EDIT:
                entry |= {"edits": row.edits, "evidence": row.evidence}
            try:
                review.verify(entry, config.reviewers)
                sound.append(entry)
            except review.ReviewError as fault:
                log.warning("decision does not count", id=row.id, reason=str(fault))
    return sound


def clock_trail(config: OracleConfig) -> list[review.Entry]:
    """The signed corrections of clocks that the sites file's ``clock_decisions`` keeps, oldest first.

    Raises ReviewError where a signature does not hold or its reviewer is not configured: it moves readings of many days.
    """
    file = load_sites(config.sites_file).clock_decisions
    entries: list[review.Entry] = orjson.loads(file.read_bytes()) if file and file.exists() else []
    for entry in entries:
        try:
            review.verify(entry, config.reviewers)
        except review.ReviewError as fault:
            raise review.ReviewError(f"{file}: {fault}; take the entry out or configure its reviewer") from None
    return entries


def clocks_of(config: OracleConfig, device_ids: Collection[int], start: int, end: int) -> list[review.Entry]:
    """Of :func:`clock_trail` what moved readings of these devices into or within [``start``, ``end``), UTC seconds."""
    return [
        entry
        for entry in clock_trail(config)
        if entry["deviceId"] in device_ids
        and entry["from"] - entry["seconds"] < end
        and start < entry["until"] - entry["seconds"]
    ]


# -- conflicts --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What one file says of the slots about which files disagree: Wh by slot, rounded down."""

    sha256: str
    name: str
    slots: Mapping[int, int]


def said_of(device: DeviceConfig, merged: DaySlots, raw: Raw) -> list[Said]:
    """What each file says of the slots of a day about which files disagree."""
    said = []
    for sha256, parsed in raw.of(f"device:{device.device_id}") if merged.conflicts else ():
        alone = device_days(device, [parsed]).get(merged.start)
        known = {slot: alone.micro_j[slot] for slot in sorted(merged.conflicts)} if alone else {}
        slots = {slot: max(value, 0) // MICRO_J_PER_WH for slot, value in known.items() if value is not None}
        if slots:
            said.append(Said(sha256, parsed.file_name, slots))
    return said


def conflict_hash(said: Sequence[Said]) -> str:
    """The sha256 (hex) of the values alone: whose file they came in, and how often, makes no difference. Empty without any."""
    values: dict[int, set[int]] = {}
    for one in said:
        for slot, wh in one.slots.items():
            values.setdefault(slot, set()).add(wh)
    text = json.dumps([[slot, sorted(values[slot])] for slot in sorted(values)])
    return hashlib.sha256(text.encode()).hexdigest() if said else ""
