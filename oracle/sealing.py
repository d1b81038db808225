"""Accepted device-days into batches and their archives, and the same again as a witness computes it (:func:`recompute`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from . import review
from .archive import Archive, ArchivedStatement, build_tree, read_archive, roots_in, write_archive
from .assessment import device_days
from .config import OracleConfig
from .domain import (
    DAY_SECONDS,
    SLOT_SECONDS,
    SLOTS_PER_DAY,
    Batch,
    BatchKind,
    BatchStatus,
    DayState,
    Profile,
    Statement,
    Visibility,
)
from .errors import ArchiveError
from .formats import DaySlots
from .intake import Progress, no_progress, read_raw
from .pipeline import assess_raw, clocks_of, outcome_of, salted, trail
from .protocol import batch_energy_wh, pack_profile, statement_leaf, unpack_profile
from .sites import load_sites
from .store import VERSIONS, Correction, DeviceDay, SealedBatch, Store, Version, crash_point, utc_now
from .units import day_list
from .vee import validate

if TYPE_CHECKING:  # web3 takes a second to load, and sealing does without
    from .chain import ChainView

log = structlog.get_logger("oracle.sealing")


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
    config: OracleConfig,
    device_id: int,
    profile: Profile,
    evidence: Sequence[str],
    facts: Mapping[str, Any],
    version: int = 0,
    previous_wh: int = 0,
) -> ArchivedStatement:
    """A statement over the whole of ``profile``, a day or a part of one, with what it was computed from."""
    salt, hashed = salted(config, device_id, profile, version)
    duration = len(profile.energy_wh) * SLOT_SECONDS
    statement = Statement(device_id, profile.start, duration, version, profile.certified_wh, previous_wh, hashed)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return ArchivedStatement(
        statement, pack_profile(profile), salt, tuple(bytes.fromhex(sha256) for sha256 in evidence), text
    )


# -- what this machine would certify ----------------------------------------------------------------


def propose(
    config: OracleConfig,
    store: Store,
    *,
    visibility: Visibility,
    start: int,
    end: int,
    decisions: Sequence[review.Entry],
    leave_out: Collection[tuple[int, int]] = (),
    previous: Mapping[tuple[int, int], Statement] | None = None,
    progress: Progress = no_progress,
) -> list[ArchivedStatement]:
    """The statements that this machine's raw files and the signed decisions put into a batch; writes nothing.

    All device-days of devices of one visibility inside [``start``, ``end``) that the rules accept or a reviewer
    accepted, less those a reviewer rejected and those of ``leave_out`` ((device, start) of days that are notarized
    elsewhere or withheld by the proposer). Of a batch of corrections, ``previous`` has the notarized statements before
    them; then only these device-days are judged, each as the version that follows, and one that is no other than
    before is left out. Raises ReviewError when a decision's signature does not hold.
    """
    sites = load_sites(config.sites_file)
    wanted = {device.device_id for device in sites.devices if device.visibility is visibility}
    standing = review.standing(decisions, config.reviewers)
    records = []
    # All days of the batch are over at its end; no other clock has a say in what they come to.
    for day in assess_raw(config, store, progress, now=end):
        device_id, day_start = day.key
        if device_id not in wanted or day.key in leave_out or not start <= day_start <= end - DAY_SECONDS:
            continue
        version, previous_wh = 0, 0
        if previous is not None:
            before = previous.get(day.key)
            if before is None or before.duration != DAY_SECONDS:
                continue
            version, previous_wh = before.version + 1, before.energy_wh
            settled = outcome_of(config, day, standing, before.version)
            if salted(config, device_id, settled.profile, before.version)[1] == before.profile_hash:
                continue
        outcome = outcome_of(config, day, standing, version)
        if outcome.state is DayState.ACCEPTED:
            records.append(_record(config, device_id, outcome.profile, day.evidence, day.facts(), version, previous_wh))
    return records


def propose_interim(
    config: OracleConfig, store: Store, *, visibility: Visibility, start: int, end: int
) -> list[ArchivedStatement]:
    """What the meters showed in [``start``, ``end``), a part of one UTC day: evidence, before anybody judged the day.

    Slots from ``end`` on are looked away from, so that a machine that has them already finds the same. Devices
    without any reading in this time have no statement.
    """
    sites = load_sites(config.sites_file)
    raw = read_raw(config, sites, store)
    day_start = start - start % DAY_SECONDS
    first, last = (start - day_start) // SLOT_SECONDS, (end - day_start) // SLOT_SECONDS
    records = []
    for device in sites.devices:
        source = f"device:{device.device_id}"
        slots = device_days(device, raw.parsed.get(source, ())).get(day_start)
        if device.visibility is not visibility or slots is None or day_start < device.active_from:
            continue
        [(profile, _)] = validate([(device, _until(slots, last))], device.policy)
        part = Profile(start, profile.energy_wh[first:last], profile.quality[first:last])
        if any(part.quality):
            records.append(_record(config, device.device_id, part, sorted(raw.files[source, day_start]), {}))
    return records


def _until(slots: DaySlots, last: int) -> DaySlots:
    """A day as it stood when slot ``last`` began."""
    return DaySlots(
        start=slots.start,
        micro_j=slots.micro_j[:last] + (None,) * (len(slots.micro_j) - last),
        conflicts=frozenset(slot for slot in slots.conflicts if slot < last),
        reading_seconds=slots.reading_seconds,
        quality={slot: bits for slot, bits in slots.quality.items() if slot < last},
        breaks=frozenset(slot for slot in slots.breaks if slot < last),
    )


@dataclass(frozen=True, slots=True)
class Recomputation:
    """A batch as another machine sees it."""

    records: tuple[ArchivedStatement, ...]
    policy: dict[str, Any]
    visibility: Visibility


def recompute(
    config: OracleConfig,
    store: Store,
    batch: Batch,
    decisions: Sequence[review.Entry],
    visibility: Visibility,
    previous: Mapping[tuple[int, int], Statement] | None = None,
) -> Recomputation:
    """What a witness compares a proposed batch with: :func:`propose` over the batch's time, and the policy behind it.

    ``previous``: see :func:`propose`; the caller has seen that they are notarized. An INTERIM batch is :func:`propose_interim`.
    """
    if batch.kind is BatchKind.INTERIM:
        records = propose_interim(config, store, visibility=visibility, start=batch.start, end=batch.end)
    else:
        records = propose(
            config,
            store,
            visibility=visibility,
            start=batch.start,
            end=batch.end,
            decisions=decisions,
            previous=previous,
        )
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


# -- sealing ----------------------------------------------------------------------------------------


def seal(config: OracleConfig, store: Store, progress: Progress = no_progress) -> list[Archive]:
    """Put every accepted device-day into a batch, one for each visibility, and write its archive; corrections likewise.

    Nothing accepted: nothing happens. A crash after the archive is written and before the database knows is
    harmless: the next run makes the same root and finds the archive there.
    """
    sites = load_sites(config.sites_file)
    sealed = []
    for of in VERSIONS:
        for visibility in Visibility:
            wanted = [device.device_id for device in sites.devices if device.visibility is visibility]
            archive = _seal(config, store, of, visibility, wanted, progress)
            if archive:
                sealed.append(archive)
    return sealed


def _seal(
    config: OracleConfig,
    store: Store,
    of: type[Version],
    visibility: Visibility,
    device_ids: Sequence[int],
    progress: Progress,
) -> Archive | None:
    while True:
        with store.session() as session:
            accepted, withheld = _accepted(session, of, device_ids)
        if not accepted:
            return None
        records = []
        for done, day in enumerate(accepted):
            progress("sealing statements", done, len(accepted))
            previous_wh = day.previous_wh if isinstance(day, Correction) else 0
            profile = unpack_profile(day.start, day.profile)
            records.append(
                _record(config, day.device_id, profile, day.evidence, day.assessment, day.version, previous_wh)
            )
        progress("sealing statements", len(accepted), len(accepted))
        corrects = [_proven(config, store, day) for day in accepted if isinstance(day, Correction)]
        days = range(min(day.start for day in accepted), max(day.start for day in accepted) + 1)
        decisions = [e for e in trail(config, store) if e["deviceId"] in device_ids and e["start"] in days]
        decisions += clocks_of(config, device_ids, days.start, days.stop - 1 + DAY_SECONDS)
        # Within one writing transaction: no other process writes the archive of these statements, or changes them.
        with store.writing() as session:
            rows, now_withheld = _accepted(session, of, device_ids)
            if (_marks(rows), _marks(now_withheld)) != (_marks(accepted), _marks(withheld)):
                continue
            archive = _write_anew(session, config, records, visibility, withheld, decisions, corrects)
            crash_point(19)
            session.merge(batch_row(archive))
            root = "0x" + archive.root.hex()
            for row in rows:
                row.state, row.root, row.assessed, row.for_review = DayState.SEALED, root, None, None
            session.flush()
            crash_point(20)
        log.info("sealed", root=root, statements=len(records), visibility=visibility.name.lower())
        return archive


def _accepted(
    session: Session, of: type[Version], device_ids: Sequence[int]
) -> tuple[Sequence[Version], Sequence[Version]]:
    """What of these devices goes into a batch now, and what is withheld from its time, by device, start and version."""
    ordered = select(of).where(of.device_id.in_(device_ids)).order_by(of.device_id, of.start, of.version)
    accepted = session.scalars(ordered.where(of.state == DayState.ACCEPTED)).all()
    if not accepted:
        return (), ()
    first, last = min(day.start for day in accepted), max(day.start for day in accepted)
    left_out = of.state.in_((DayState.HELD, DayState.REJECTED, DayState.METERED)), of.start.between(first, last)
    return accepted, session.scalars(ordered.where(*left_out)).all()


def _marks(days: Iterable[Version]) -> list[tuple[Any, ...]]:
    """What changes with every change of these versions."""
    return [(day.device_id, day.start, day.version, day.updated_at) for day in days]


def _write_anew(
    session: Session,
    config: OracleConfig,
    records: Sequence[ArchivedStatement],
    visibility: Visibility,
    withheld: Sequence[Version],
    decisions: Sequence[dict[str, Any]],
    corrects: Sequence[dict[str, Any]],
) -> Archive:
    """Write an archive. One of the same root that was taken back gives way: its manifest was never notarized."""
    root = build_tree(records).root.hex()
    before = session.get(SealedBatch, "0x" + root)
    if before is not None and before.state is DayState.REJECTED:
        (config.archive_folder / f"{root}.json").unlink(missing_ok=True)
    return write_archive(
        config.archive_folder,
        records,
        visibility=visibility,
        policy=policy_of(config, {record.statement.device_id for record in records}),
        review_trail=decisions,
        withheld=[{"deviceId": day.device_id, "start": day.start, "reason": day.reason} for day in withheld],
        corrects=corrects,
    )


def batch_row(archive: Archive) -> SealedBatch:
    """A sealed batch as the database keeps it."""
    statements = [record.statement for record in archive.records]
    return SealedBatch(
        root="0x" + archive.root.hex(),
        kind=int(archive.kind),
        start=min(statement.start for statement in statements),
        end=max(statement.end for statement in statements),
        statements=len(statements),
        energy_wh=batch_energy_wh(statements),
        archive_hash="0x" + archive.archive_hash.hex(),
        state=DayState.SEALED,
        parameters=None,
        sealed_at=utc_now(),
    )


def _proven(config: OracleConfig, store: Store, correction: Correction) -> dict[str, Any]:
    """The statement before a correction, with the proof that it is in a notarized batch."""
    key = correction.device_id, correction.start
    with store.session() as session:
        before = session.get(Correction, (*key, correction.version - 1)) or session.get_one(DeviceDay, key)
    root = bytes.fromhex((before.root or "0x")[2:])
    archive = read_archive(config.archive_folder, root)
    record = archive.record(*key)
    if record is None or archive.problem:
        reason = archive.problem or f"it has no statement about {day_list([key])}"
        raise ArchiveError(reason, root="0x" + root.hex())
    one = record.statement
    return {
        "deviceId": one.device_id,
        "start": one.start,
        "duration": one.duration,
        "version": one.version,
        "energyWh": one.energy_wh,
        "previousWh": one.previous_wh,
        "profileHash": "0x" + one.profile_hash.hex(),
        "root": "0x" + root.hex(),
        "proof": ["0x" + part.hex() for part in archive.tree.proof(statement_leaf(one))],
    }


def seal_interim(config: OracleConfig, store: Store, now: int) -> list[Archive]:
    """Put what the meters showed since the last INTERIM batch into a new one, up to the last full slot before ``now``.

    ``now`` in UTC seconds. A batch never reaches over midnight: what was not shown by then is in the day's FINAL one.
    """
    end = now - now % SLOT_SECONDS
    midnight = (end - 1) - (end - 1) % DAY_SECONDS
    sealed = []
    for visibility in Visibility:
        start = max(midnight, _interim_end(config, store, visibility))
        records = propose_interim(config, store, visibility=visibility, start=start, end=end) if start < end else []
        if not records:
            continue
        policy = policy_of(config, {record.statement.device_id for record in records})
        # Within one writing transaction: nobody else sees the archive before the database knows of it.
        with store.writing() as session:
            if _interim_end(config, store, visibility) > start:
                continue
            archive = write_archive(
                config.archive_folder, records, visibility=visibility, policy=policy, kind=BatchKind.INTERIM
            )
            session.merge(batch_row(archive))
        log.info("sealed", root="0x" + archive.root.hex(), statements=len(records), kind="interim")
        sealed.append(archive)
    return sealed


def forget_unproposed(config: OracleConfig, store: Store, chain: ChainView) -> list[bytes]:
    """Remove INTERIM archives that a crash left behind before the database knew them; returns their roots.

    Nobody was asked to sign these, and the next round seals the same time under another root. What the chain has stays.
    """
    forgotten = []
    # Alone with the archives: another watcher may be about to enter the one that it just wrote.
    with store.writing() as session:
        known = {bytes.fromhex(root[2:]) for root in session.scalars(select(SealedBatch.root))}
        for root in roots_in(config.archive_folder):
            if root in known or read_archive(config.archive_folder, root).kind is not BatchKind.INTERIM:
                continue
            if chain.notarization(root).status is BatchStatus.NONE:
                for suffix in ("json", "parquet"):
                    (config.archive_folder / f"{root.hex()}.{suffix}").unlink()
                log.warning("left behind by a crash, removed", root="0x" + root.hex())
                forgotten.append(root)
    return forgotten


def _interim_end(config: OracleConfig, store: Store, visibility: Visibility) -> int:
    """Until when INTERIM batches of devices of one visibility reach, in UTC seconds."""
    interim = select(SealedBatch).where(
        SealedBatch.kind == int(BatchKind.INTERIM), SealedBatch.state != DayState.REJECTED
    )
    with store.session() as session:
        batches = session.scalars(interim.order_by(SealedBatch.end.desc()).limit(4)).all()
    for batch in batches:
        archive = read_archive(config.archive_folder, bytes.fromhex(batch.root[2:]))
        if archive.manifest.get("visibility") == visibility.name.lower():
            return batch.end
    return 0


def unseal(
    config: OracleConfig,
    store: Store,
    root: str,
    disputed: Collection[tuple[int, int]],
    reason: str,
    withdraw: Callable[[Session], bool],
) -> bool:
    """Take a batch back that was never notarized: the disputed device-days are held, the others wait for the next seal.

    A disputed day stays held until other data come or a reviewer decides; so does one that only witnesses know of, which
    the next batch then withholds openly. Of an INTERIM batch nothing waits: the next one takes its place. ``withdraw``
    makes sure, within the same transaction, that the root can no longer be notarized; where it says False, or another
    process was faster, nothing is changed and False is returned.
    """
    known = {device.device_id for device in load_sites(config.sites_file).devices}
    with store.writing() as session:
        batch = session.get_one(SealedBatch, root)
        if batch.state is not DayState.SEALED or not withdraw(session):
            return False
        batch.state = DayState.REJECTED
        for of in VERSIONS:
            for day in session.scalars(select(of).where(of.root == root)):
                day.root = None
                if (day.device_id, day.start) in disputed:
                    day.state, day.reason, day.disputed = DayState.HELD, reason, reason
                else:
                    day.state = DayState.ACCEPTED
        for device_id, start in disputed if batch.kind == BatchKind.FINAL else ():
            inside = device_id in known and batch.start <= start < batch.end and start % DAY_SECONDS == 0
            if inside and session.get(DeviceDay, (device_id, start)) is None:
                session.add(_unseen(device_id, start, reason))
    return True


def _unseen(device_id: int, start: int, reason: str) -> DeviceDay:
    """A device-day without any reading here."""
    profile = pack_profile(Profile(start, (0,) * SLOTS_PER_DAY, (0,) * SLOTS_PER_DAY))
    return DeviceDay(
        device_id=device_id,
        start=start,
        state=DayState.HELD,
        reason=reason,
        profile=profile,
        energy_wh=0,
        evidence=[],
        assessment={},
        disputed=reason,
    )
