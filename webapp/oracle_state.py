"""What the operator's own oracle says: its database, opened for reading alone, for display alone. No check asks it anything.

Whatever is not of the expected form is left out, and where there is no database, or it cannot be read, there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from oracle.domain import DayState, DecisionState, SagaState
from oracle.store import (
    VERSIONS,
    Act,
    Correction,
    DeviceDay,
    KeptReport,
    RawFile,
    ReceivedDecision,
    RefusedFile,
    ReviewDecision,
    SealedBatch,
    SourceState,
    Version,
)

Model = dict[str, Any]
#: States in which a version can still be decided about.
OPEN = (DayState.METERED, DayState.HELD, DayState.ACCEPTED, DayState.REJECTED)
REPORTS = ("clocks", "balances", "estimates")


class OracleState:
    """Device-days, decisions and reports of the oracle's database."""

    def __init__(self, url: str | None):
        self.is_configured = bool(url)
        self._engine = _read_only(url) if url else None

    # -- device-days --------------------------------------------------------------------------------

    def of(self, device_id: str) -> list[Model]:
        """State and reason of each of a device's days."""
        columns = (DeviceDay.start, DeviceDay.state, DeviceDay.reason, DeviceDay.energy_wh)
        rows = self._rows(select(*columns).where(DeviceDay.device_id == int(device_id)))
        return [{"start": r.start, "state": r.state.value, "reason": r.reason, "energy_wh": r.energy_wh} for r in rows]

    def day(self, device_id: str, start: int) -> Model | None:
        """A day's profile and assessment as the oracle has them."""
        columns = (DeviceDay.state, DeviceDay.reason, DeviceDay.profile, DeviceDay.assessment)
        rows = self._rows(select(*columns).where(DeviceDay.device_id == int(device_id), DeviceDay.start == start))
        if not rows:
            return None
        row = rows[0]
        return {"state": row.state.value, "reason": row.reason, "profile": row.profile, "assessment": row.assessment}

    def versions(self, device_id: str, start: int) -> list[Model]:
        """Corrections of a day after its version 0, in order."""
        query = select(Correction).where(Correction.device_id == int(device_id), Correction.start == start)
        return [_version(row) for (row,) in self._rows(query.order_by(Correction.version))]

    def pending(self, device_id: str) -> dict[int, str]:
        """What newer data say against days that are sealed, by start."""
        query = select(DeviceDay.start, DeviceDay.pending).where(
            DeviceDay.device_id == int(device_id), DeviceDay.pending != ""
        )
        return {row.start: row.pending for row in self._rows(query)}

    def held(self) -> list[Model]:
        """Every version that waits for a decision, the oldest first. The time is that of its last change."""
        rows = [
            _version(row)
            for kind in VERSIONS
            for (row,) in self._rows(select(kind).where(kind.state == DayState.HELD).order_by(kind.updated_at))
        ]
        return sorted(rows, key=lambda row: (row["updated_at"], row["device_id"], row["start"]))

    def device_ids(self) -> list[str]:
        """Devices that the oracle has any day of."""
        return [str(one) for (one,) in self._rows(select(DeviceDay.device_id).distinct())]

    def case(self, device_id: int, start: int) -> Model | None:
        """The version of a day that can still be decided about, with all that a reviewer needs; None without one."""
        found: list[Version] = [
            row
            for kind in VERSIONS
            for (row,) in self._rows(
                select(kind).where(kind.device_id == device_id, kind.start == start, kind.state.in_(OPEN))
            )
        ]
        if not found:
            return None
        row = max(found, key=lambda one: one.version)
        return _version(row) | {
            "profile": row.profile,
            "assessed": row.assessed or row.profile,
            "assessment": row.assessment,
            "for_review": row.for_review,
            "evidence": list(row.evidence),
        }

    def files(self, hashes: Sequence[str]) -> list[Model]:
        """Raw files by their sha256: name, source, size, when they came."""
        rows = self._rows(select(RawFile).where(RawFile.sha256.in_(list(hashes)[:200])).order_by(RawFile.received_at))
        return [
            {"sha256": row.sha256, "name": row.name, "source": row.source, "format": row.format, "size_bytes": row.size_bytes,
             "rows_used": row.rows_used, "rows_refused": row.rows_refused, "received_at": int(row.received_at.timestamp())}
            for (row,) in rows
        ]  # fmt: skip

    # -- decisions ----------------------------------------------------------------------------------

    def decisions(self, device_id: int | None = None, start: int | None = None) -> list[Model]:
        """Decisions that the oracle holds, of all or of one device-day, the newest first."""
        query = select(ReviewDecision).order_by(ReviewDecision.decided_at.desc(), ReviewDecision.id.desc())
        if device_id is not None:
            query = query.where(ReviewDecision.device_id == device_id, ReviewDecision.start == start)
        return [
            {"device_id": str(row.device_id), "start": row.start, "version": row.version, "decision": row.decision, "reason": row.reason,
             "reviewer": row.reviewer, "decided_at": int(row.decided_at.timestamp()), "edits": row.edits or [], "evidence": row.evidence,
             "profile_hash": row.profile_hash, "signature": row.signature}
            for (row,) in self._rows(query)
        ]  # fmt: skip

    def received(self) -> dict[str, Model]:
        """What became of decisions that came as files, by their sha256."""
        return {
            row.sha256: {
                "sha256": row.sha256,
                "state": row.state.value,
                "reason": row.reason,
                "received_at": int(row.received_at.timestamp()),
                "entry": _json(row.content),
            }
            for (row,) in self._rows(select(ReceivedDecision).order_by(ReceivedDecision.received_at.desc()))
        }

    # -- reports over all days, and how the oracle is -----------------------------------------------

    def report(self, name: str) -> tuple[list[Model], int | None]:
        """A report as it was last made, and when (UTC seconds); nothing where it never was."""
        for (row,) in self._rows(select(KeptReport).where(KeptReport.name == name)):
            return [one for one in row.content if isinstance(one, dict)], int(row.made_at.timestamp())
        return [], None

    def health(self) -> Model | None:
        """Counts and times that tell how the oracle is; None where its database cannot be read."""
        if not self._rows(select(func.count()).select_from(DeviceDay)):
            return None
        moving = (DayState.ACCEPTED, DayState.SEALED, DayState.NOTARIZED, DayState.ISSUED)
        oldest, refused = [], 0
        states: dict[str, int] = {}
        for kind in VERSIONS:
            not_issued = (kind.state == DayState.NOTARIZED) & kind.reason.startswith("not issued:")
            oldest += [
                one
                for (one,) in self._rows(select(func.min(kind.updated_at)).where(kind.state.in_(moving), ~not_issued))
                if one
            ]
            refused += sum(one for (one,) in self._rows(select(func.count()).select_from(kind).where(not_issued)))
            for state, count in self._rows(select(kind.state, func.count()).group_by(kind.state)):
                states[state.value] = states.get(state.value, 0) + count
        acts = {
            SagaState(state).value: count
            for state, count in self._rows(select(Act.state, func.count()).group_by(Act.state))
        }
        failures = self._rows(
            select(Act.key, Act.error).where(Act.state == SagaState.FAILED).order_by(Act.id.desc()).limit(5)
        )
        sealed = [one for (one,) in self._rows(select(func.max(SealedBatch.sealed_at))) if one]
        took = [one for (one,) in self._rows(select(func.max(RawFile.received_at))) if one]
        final = [one for (one,) in self._rows(select(func.max(Act.block)).where(Act.state == SagaState.FINAL)) if one]
        return {
            "states": states,
            "oldest_moving": min((int(one.timestamp()) for one in oldest), default=None),
            "not_issued": refused,
            "acts": acts,
            "failures": [{"act": key, "error": error or ""} for key, error in failures],
            "last_batch_at": _seconds(sealed),
            "last_file_at": _seconds(took),
            "last_final_block": final[0] if final else None,
            "sources": [
                {"name": row.name, "looked_at": int(row.looked_at.timestamp()), "problem": row.problem or ""}
                for (row,) in self._rows(select(SourceState).order_by(SourceState.name))
            ],
            "refused_files": sum(one for (one,) in self._rows(select(func.count()).select_from(RefusedFile))),
            "decisions": {
                DecisionState(state).value: count
                for state, count in self._rows(
                    select(ReceivedDecision.state, func.count()).group_by(ReceivedDecision.state)
                )
            },
        }

    def _rows(self, query: Any) -> list[Any]:
        if self._engine is None or query is None:
            return []
        try:
            with Session(self._engine) as session:
                return list(session.execute(query).all())
        except (SQLAlchemyError, OverflowError, LookupError, ValueError):
            return []


def _version(row: Version) -> Model:
    later: Mapping[str, Any] = {}
    if isinstance(row, Correction):
        later = {"previous_wh": row.previous_wh, "owed_wh": row.owed_wh}
    return {
        "device_id": str(row.device_id),
        "start": row.start,
        "version": row.version,
        "state": row.state.value,
        "reason": row.reason,
        "energy_wh": row.energy_wh,
        "root": row.root,
        "updated_at": int(row.updated_at.timestamp()),
        "previous_wh": None,
        "owed_wh": None,
        **later,
    }


def _json(content: bytes | None) -> Model:
    try:
        told = orjson.loads(content or b"{}")
        return told if isinstance(told, dict) else {}
    except orjson.JSONDecodeError:
        return {}


def _seconds(found: Sequence[Any]) -> int | None:
    """Of an aggregate over times, which comes back as SQLite's text or as a datetime."""
    return None if not found else int(found[0].timestamp())


def _read_only(url: str) -> Engine:
    if url.startswith("sqlite:///") and "mode=ro" not in url:
        path = Path(url.removeprefix("sqlite:///")).resolve()
        return create_engine(f"sqlite:///{path.as_uri()}?mode=ro&uri=true")
    return create_engine(url, execution_options={"postgresql_readonly": True})
