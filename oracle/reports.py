"""What people and monitors are shown: the gap report, counts, and the slots of all archives."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from .archive import read_archive, roots_in
from .config import OracleConfig
from .domain import (
    SLOT_SECONDS,
    BatchKind,
    DayState,
    Quality,
    SagaState,
)
from .errors import ArchiveError
from .pipeline import count_states, slot_pairs
from .protocol import unpack_profile
from .sites import load_sites
from .store import Act, Correction, DeviceDay, RawFile, ReviewDecision, SealedBatch, Store
from .units import format_kwh, utc_date

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


@dataclass(frozen=True, slots=True)
class Gap:
    """One line of the gap report: a device-day, how far it has come, and why no further.

    ``pending`` and ``correction`` tell of newer data than what is sealed, and of the version made of them.
    """

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
    correction: str = ""

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
    newest = {(one.device_id, one.start): one for one in corrections(store)}
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
                correction=_said_of(newest.get((row.device_id, row.start))),
            )
        )
    return report


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """A later version of a device-day: old and new energy in Wh, how far it has come, and what the chain made of it.

    ``owed_wh``: by how much the device's debt grew; None as long as the correction is not applied.
    """

    device_id: int
    start: int
    version: int
    state: DayState
    reason: str
    previous_wh: int
    energy_wh: int
    owed_wh: int | None
    root: str

    @property
    def day(self) -> str:
        return utc_date(self.start)

    @property
    def difference_wh(self) -> int:
        return self.energy_wh - self.previous_wh

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "day": self.day, "state": self.state.value, "difference_wh": self.difference_wh}


def corrections(store: Store) -> list[CorrectionLine]:
    """Every correction there is, by device, day and version."""
    with store.session() as session:
        rows = session.scalars(
            select(Correction).order_by(Correction.device_id, Correction.start, Correction.version)
        ).all()
    return [
        CorrectionLine(
            row.device_id,
            row.start,
            row.version,
            row.state,
            row.reason,
            row.previous_wh,
            row.energy_wh,
            row.owed_wh,
            row.root or "",
        )
        for row in rows
    ]


def _said_of(line: CorrectionLine | None) -> str:
    if line is None:
        return ""
    figures = f"{format_kwh(line.energy_wh)} kWh instead of {format_kwh(line.previous_wh)} kWh"
    owed = f", {format_kwh(line.owed_wh)} kWh of it owed" if line.owed_wh else ""
    waits = f" ({line.reason})" if line.state is DayState.HELD else ""
    return f"version {line.version} {line.state.value}: {figures}{owed}{waits}"


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
    "correction",
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
            "rows_used": int(used or 0),
            "rows_refused": int(refused or 0),
            "last_file_at": last.isoformat() if isinstance(last, datetime) else last,
            "device_days": {state.value: count for state, count in count_states(session).items()},
            "tared_slots": {str(device_id): slots for device_id, slots in tared(store).items()},
            "corrections": {state.value: count for state, count in count_states(session, Correction).items()},
            "owed_wh": int(session.scalar(select(func.sum(Correction.owed_wh))) or 0),
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
    """Every 15-minute slot of every statement sealed to be issued, out of the archives alone; ``slot_start`` is ISO 8601 in UTC."""
    for root in roots_in(config.archive_folder):
        archive = read_archive(config.archive_folder, root)
        if archive.problem:
            raise ArchiveError(archive.problem, root="0x" + root.hex())
        if archive.kind is not BatchKind.FINAL:
            continue
        for record in archive.records:
            statement = record.statement
            if device_id not in (None, statement.device_id):
                continue
            profile = unpack_profile(statement.start, record.profile)
            for slot, (energy_wh, quality) in enumerate(slot_pairs(profile)):
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
