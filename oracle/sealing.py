"""Accepted device-days into batches and their archives, and the same again as a witness computes it (:func:`recompute`)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from . import review
from .archive import Archive, ArchivedStatement, write_archive
from .config import OracleConfig
from .domain import (
    DAY_SECONDS,
    Batch,
    BatchKind,
    DayState,
    Profile,
    Statement,
    Visibility,
)
from .errors import StoreError
from .intake import Progress, no_progress
from .pipeline import assess_raw, outcome_of, salted, trail
from .protocol import batch_energy_wh, pack_profile, statement_leaf, unpack_profile
from .sites import load_sites
from .store import DeviceDay, SealedBatch, Store
from .units import day_list

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
    config: OracleConfig, device_id: int, profile: Profile, evidence: Sequence[str], facts: Mapping[str, Any]
) -> ArchivedStatement:
    salt, hashed = salted(config, device_id, profile)
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
        state, _ = outcome_of(config, day, standing)
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
                        f"device-day {day_list([(day.device_id, day.start)])} changed while it was sealed; run seal again"
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
