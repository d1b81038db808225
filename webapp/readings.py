"""What is known of a device's days: from archives where they are notarized, from the oracle's database where not.

The oracle's database is opened for reading alone and serves display alone: held days, gaps and irradiance. No check
asks it anything. What a private device measured is told to nobody here, though archive and database may be at hand.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import groupby
from threading import Lock
from typing import Any

import orjson

from oracle.archive import Archive, ArchivedStatement, read_archive
from oracle.domain import DAY_SECONDS, SLOT_SECONDS, BatchKind, DayState
from oracle.errors import OracleError
from oracle.protocol import BYTES_PER_SLOT, unpack_profile

from .catalogue import Catalogue
from .charts import slot_state
from .explorer import Explorer
from .oracle_state import OracleState

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


def device_days(
    explorer: Explorer, oracle_days: OracleState, device_id: str, final_block: int | None, *, to_operators: bool = False
) -> list[dict[str, Any]]:
    """Every known day of a device in exactly one state, with the reason where it is not certified. Oldest first.

    The energy (Wh) of a private device's days that are not notarized is told ``to_operators`` alone.
    """
    days: dict[int, dict[str, Any]] = {}
    hidden = {"energy_wh": None} if not to_operators and explorer.is_private(device_id) else {}
    for row in oracle_days.of(device_id):
        state = row["state"]
        # The database may run ahead of what the chain shows here; it may not claim what the chain proves.
        state = DayState.SEALED.value if DayState(state) in PROVEN else state
        days[row["start"]] = {**row, "state": state, "root": None, "headline": None, **hidden}
    for row in explorer.device_days(device_id):
        if row["kind"] == BatchKind.INTERIM:
            # Evidence of a day that goes on, out of which nothing is issued: it says no more than that there are readings.
            start = row["start"] // DAY_SECONDS * DAY_SECONDS
            days.setdefault(start, _metered(start))
            continue
        final = final_block is not None and row["block"] <= final_block
        state = DayState.FINAL if row["issued"] and final else DayState.ISSUED if row["issued"] else DayState.NOTARIZED
        # How a period of several days shares its energy out among them, its archive alone knows.
        energy_wh = row["energy_wh"] if row["duration"] <= DAY_SECONDS else None
        for start in range(row["start"] // DAY_SECONDS * DAY_SECONDS, row["start"] + row["duration"], DAY_SECONDS):
            days[start] = {
                "start": start, "state": state.value, "reason": "", "energy_wh": energy_wh, "root": row["root"],
                "headline": row["headline"], "statement_start": row["start"],
            }  # fmt: skip
    return [{"statement_start": None, **days[start]} for start in sorted(days)]


def _metered(start: int) -> dict[str, Any]:
    return {
        "start": start,
        "state": DayState.METERED.value,
        "reason": "",
        "energy_wh": None,
        "root": None,
        "headline": None,
    }


def day_profile(
    explorer: Explorer, archives: Archives, oracle_days: OracleState, device_id: str, start: int
) -> dict[str, Any] | None:
    """One UTC day's slots with irradiance and findings; None where neither an archive nor the oracle has it, or it is private."""
    if explorer.is_private(device_id):
        return None
    row = explorer.day_statement(device_id, start)
    known = oracle_days.day(device_id, start)
    if row:
        try:
            archive = archives.read(row["root"])
        except OracleError:
            archive = None
        if archive and not archive.is_public:
            return None
        record = archive.record(int(device_id), row["start"]) if archive else None
        if record:
            source = {"source": "archive", "root": row["root"], "state": None, "reason": ""}
            return _with_slots({**source, **_part(record, start)})
    if known:
        source = {"source": "oracle", "root": None, "state": known["state"], "reason": known["reason"]}
        return _with_slots({**source, **day_of(start, known["profile"], known["assessment"])})
    return None


def _with_slots(profile: dict[str, Any]) -> dict[str, Any] | None:
    """The profile unless nothing is in it, as in an archive that was altered."""
    return profile if profile["energy_wh"] else None


def day_of(start: int, packed: bytes, assessment: Any) -> dict[str, Any]:
    """A packed profile and its assessment as pages show them: slots, irradiance, verdict, findings."""
    profile = unpack_profile(start, packed[: len(packed) // 5 * 5])
    return {
        "start": start,
        "energy_wh": list(profile.energy_wh),
        "quality": list(profile.quality),
        "certified_wh": profile.certified_wh,
        "total_wh": sum(profile.energy_wh),
        **_assessed(assessment),
    }


def _part(record: ArchivedStatement, start: int) -> dict[str, Any]:
    """What a statement says of the UTC day that begins at ``start``; the day may be a part of its period, or the other way round."""
    begins, slots = record.statement.start, len(record.profile) // BYTES_PER_SLOT
    first = max(0, (start - begins) // SLOT_SECONDS)
    last = min(slots, (start + DAY_SECONDS - begins) // SLOT_SECONDS)
    told = day_of(
        begins + first * SLOT_SECONDS,
        record.profile[first * BYTES_PER_SLOT : last * BYTES_PER_SLOT],
        record.assessment,
    )
    if told["irradiance"] and len(told["irradiance"]["w_m2"]) == slots:
        told["irradiance"]["w_m2"] = told["irradiance"]["w_m2"][first:last]
    return told


def figures(profile: dict[str, Any] | None) -> dict[str, Any]:
    """Energy (Wh) and slots by quality, runs of slots of one quality, and irradiation (Wh/m2) of a day."""
    if profile is None:
        return {"certified_wh": None, "irradiation_wh_m2": None, "energy_wh": {}, "slots": {}, "runs": []}
    states = [slot_state(bits) for bits in profile["quality"]]
    energy_wh: Counter[str] = Counter()
    for state, wh in zip(states, profile["energy_wh"], strict=True):
        energy_wh[state] += wh
    offset, runs, at = profile["start"] % DAY_SECONDS // SLOT_SECONDS, [], 0
    for state, group in groupby(states):
        slots = len(list(group))
        runs.append({"first": offset + at, "slots": slots, "state": state})
        at += slots
    w_m2 = [value for value in (profile["irradiance"] or {"w_m2": []})["w_m2"] if value is not None]
    return {
        "certified_wh": profile["certified_wh"],
        "irradiation_wh_m2": sum(w_m2) * SLOT_SECONDS // 3600 if w_m2 else None,
        "energy_wh": dict(energy_wh),
        "slots": dict(Counter(states)),
        "runs": runs,
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
