"""What is known of a device's days: from archives where they are notarized, from the oracle's database where not.

The oracle's database is opened for reading alone and serves display alone: held days, gaps and irradiance. No check
asks it anything.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import orjson
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from oracle.archive import Archive, read_archive
from oracle.domain import DAY_SECONDS, DayState
from oracle.errors import OracleError
from oracle.protocol import unpack_profile
from oracle.store import DeviceDay

from .catalogue import Catalogue
from .explorer import Explorer

KEPT_ARCHIVES = 32
#: What the chain proves, in rising order; it outranks whatever the database says.
PROVEN = (DayState.NOTARIZED, DayState.ISSUED, DayState.FINAL)


class Archives:
    """Archives read once and kept while their files stay as they are."""

    def __init__(self, catalogue: Catalogue):
        self._catalogue = catalogue
        self._kept: OrderedDict[str, tuple[str, Archive]] = OrderedDict()
        self._lock = Lock()

    def read(self, root: str) -> Archive:
        """The archive of ``root`` as its files are now. Raises ArchiveError."""
        stamp = self._catalogue.stamp(root)
        with self._lock:
            kept = self._kept.get(root)
            if kept and kept[0] == stamp:
                self._kept.move_to_end(root)
                return kept[1]
        archive = read_archive(self._catalogue.archive_folder, bytes.fromhex(root[2:]))
        with self._lock:
            self._kept[root] = (stamp, archive)
            while len(self._kept) > KEPT_ARCHIVES:
                self._kept.popitem(last=False)
        return archive


class OracleDays:
    """Device-days of the oracle's database; nothing at all where there is none or it cannot be read."""

    def __init__(self, url: str | None):
        self._engine = _read_only(url) if url else None

    def of(self, device_id: str) -> list[dict[str, Any]]:
        """State and reason of each of a device's days."""
        columns = (DeviceDay.start, DeviceDay.state, DeviceDay.reason, DeviceDay.energy_wh)
        rows = self._rows(select(*columns).where(DeviceDay.device_id == int(device_id)))
        return [{"start": r.start, "state": r.state.value, "reason": r.reason, "energy_wh": r.energy_wh} for r in rows]

    def day(self, device_id: str, start: int) -> dict[str, Any] | None:
        """A day's profile and assessment as the oracle has them."""
        columns = (DeviceDay.state, DeviceDay.reason, DeviceDay.profile, DeviceDay.assessment)
        rows = self._rows(select(*columns).where(DeviceDay.device_id == int(device_id), DeviceDay.start == start))
        if not rows:
            return None
        row = rows[0]
        return {"state": row.state.value, "reason": row.reason, "profile": row.profile, "assessment": row.assessment}

    def _rows(self, query: Any) -> list[Any]:
        if self._engine is None or query is None:
            return []
        try:
            with Session(self._engine) as session:
                return list(session.execute(query).all())
        except (SQLAlchemyError, OverflowError, LookupError, ValueError):
            return []


def _read_only(url: str) -> Engine:
    if url.startswith("sqlite:///") and "mode=ro" not in url:
        path = Path(url.removeprefix("sqlite:///")).resolve()
        return create_engine(f"sqlite:///{path.as_uri()}?mode=ro&uri=true")
    return create_engine(url, execution_options={"postgresql_readonly": True})


def device_days(
    explorer: Explorer, oracle_days: OracleDays, device_id: str, final_block: int | None
) -> list[dict[str, Any]]:
    """Every known day of a device in exactly one state, with the reason where it is not certified. Oldest first."""
    days: dict[int, dict[str, Any]] = {}
    for row in oracle_days.of(device_id):
        state = row["state"]
        # The database may run ahead of what the chain shows here; it may not claim what the chain proves.
        state = DayState.SEALED.value if DayState(state) in PROVEN else state
        days[row["start"]] = {**row, "state": state, "root": None, "headline": None}
    for row in explorer.device_days(device_id):
        start = row["start"] // DAY_SECONDS * DAY_SECONDS
        final = final_block is not None and row["block"] <= final_block
        state = DayState.FINAL if row["issued"] and final else DayState.ISSUED if row["issued"] else DayState.NOTARIZED
        days[start] = {
            "start": start, "state": state.value, "reason": "", "energy_wh": row["energy_wh"], "root": row["root"],
            "headline": row["headline"],
        }  # fmt: skip
    return [days[start] for start in sorted(days)]


def day_profile(
    explorer: Explorer, archives: Archives, oracle_days: OracleDays, device_id: str, start: int
) -> dict[str, Any] | None:
    """One UTC day's slots with irradiance and findings; None where neither an archive nor the oracle has it."""
    row = explorer.day_statement(device_id, start)
    known = oracle_days.day(device_id, start)
    if row:
        try:
            record = archives.read(row["root"]).record(int(device_id), row["start"])
        except OracleError:
            record = None
        if record:
            source = {"source": "archive", "root": row["root"], "state": None, "reason": ""}
            return {**source, **_slots(record.statement.start, record.profile, record.assessment)}
    if known:
        source = {"source": "oracle", "root": None, "state": known["state"], "reason": known["reason"]}
        return {**source, **_slots(start, known["profile"], known["assessment"])}
    return None


def _slots(start: int, packed: bytes, assessment: Any) -> dict[str, Any]:
    profile = unpack_profile(start, packed[: len(packed) // 5 * 5])
    return {
        "start": start,
        "energy_wh": list(profile.energy_wh),
        "quality": list(profile.quality),
        "certified_wh": profile.certified_wh,
        "total_wh": sum(profile.energy_wh),
        **_assessed(assessment),
    }


def _assessed(assessment: Any) -> dict[str, Any]:
    """Irradiance and verdict out of an assessment; whatever is not of the expected form is left out."""
    nothing: dict[str, Any] = {"irradiance": None, "corroboration": None, "findings": []}
    try:
        told = orjson.loads(assessment) if isinstance(assessment, str) else assessment
        corroboration = told.get("corroboration") or {}
        stations = [s for s in corroboration.get("stations", ()) if isinstance(s.get("ghi_w_m2"), list)]
        findings = (told.get("report") or {}).get("findings", [])
        irradiance = None
        if stations and any(value is not None for value in stations[0]["ghi_w_m2"]):
            values = [None if value is None else round(float(value)) for value in stations[0]["ghi_w_m2"]]
            irradiance = {
                "station": str(stations[0].get("station", "")),
                "kind": str(stations[0].get("kind", "")),
                "w_m2": values,
            }
        return {
            "irradiance": irradiance,
            "corroboration": {
                "result": str(corroboration.get("result", "")),
                "reasons": [str(reason) for reason in corroboration.get("reasons", ())],
                "figures": {str(k): str(v) for s in stations[:1] for k, v in (s.get("figures") or {}).items()},
            }
            if corroboration
            else None,
            "findings": [
                {"rule": str(f.get("rule", "")), "says": str(f.get("says", "")), "slots": len(f.get("slots", ()))}
                for f in findings
            ],
        }
    except (ValueError, TypeError, AttributeError):
        return nothing
