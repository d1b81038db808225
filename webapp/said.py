"""Versions of a day's statement as the chain has them, and what only the operator says of a day: never evidence, and told as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiflask.fields import Boolean, Integer
from flask_babel import lazy_gettext

from . import api
from .explorer import Explorer
from .index import hex_id
from .oracle_state import OracleState

Model = dict[str, Any]

#: How an estimate was made.
METHODS = {
    "linear": lazy_gettext("straight line"),
    "like-day": lazy_gettext("like days"),
    "clear-sky": lazy_gettext("clear-sky shape"),
}
VERSION = api.shape(
    "StatementVersion", version=Integer(), kind=Integer(), root=api.text(), start=Integer(), duration=Integer(), energy_wh=api.Whole(),
    previous_wh=api.Whole(), debt_wh=api.maybe(api.Whole()), notarized_at=Integer(),
)  # fmt: skip
_DRAFT = api.shape(
    "OpenCorrection", version=Integer(), state=api.text(), reason=api.text(), previous_wh=api.maybe(api.Whole()), energy_wh=api.Whole(),
    owed_wh=api.maybe(api.Whole()),
)  # fmt: skip
_SHIFT = api.shape("ClockShift", minutes=Integer(), start=Integer(), end=Integer())
_BALANCE = api.shape(
    "EnergyBalance", name=api.text(), in_wh=api.Whole(), out_wh=api.Whole(), loss_per_mille=api.maybe(Integer()), judged=Boolean(),
    unusual=Boolean(), effect=api.text(), reason=api.text(),
)  # fmt: skip
_ESTIMATE = api.shape(
    "EstimatedGap", estimated_wh=api.Whole(), slots=Integer(), unknown_slots=Integer(), methods=api.text()
)
SAID = api.shape(
    "OperatorSays", pending=api.text(), corrections=api.many(_DRAFT), clock_shifts=api.many(_SHIFT), balances=api.many(_BALANCE),
    estimate=api.maybe(api.one(_ESTIMATE)), reported_at=api.maybe(Integer()),
)  # fmt: skip


_VERSIONS = (
    "SELECT s.version, n.kind, n.root, s.start, s.duration, s.energy_wh, s.previous_wh, b.timestamp AS notarized_at"
    " FROM web.statement s JOIN notarization n ON n.root = s.root JOIN block b ON b.number = n.block WHERE s.device_id = ?"
)


def versions(ask: Explorer, device_id: str, start: int) -> list[Model]:
    """Every notarized statement about the day that begins at ``start``: versions of FINAL ones, oldest first, then INTERIM ones.

    ``debt_wh``: by how much a correction raised the device's debt; None where it did not, or was not applied.
    """
    rows = ask.all(
        f"{_VERSIONS} AND s.start BETWEEN ? AND ? ORDER BY n.kind, s.start, s.version, n.block LIMIT 200",
        device_id, start, start + 86_399)  # fmt: skip
    return [{**row, "debt_wh": _debt_wh(ask, device_id, row) if row["version"] else None} for row in rows]


def newer(ask: Explorer, device_id: str, row: Mapping[str, Any]) -> list[Model]:
    """Later versions of a notarized statement, as :func:`versions` tells them but for their debt."""
    rows = ask.all(
        f"{_VERSIONS} AND s.start = ? AND s.version > ? AND n.kind = ? ORDER BY s.version, n.block LIMIT 50",
        device_id, row["start"], row["version"], row["kind"])  # fmt: skip
    return [{**one, "debt_wh": None} for one in rows]


def _debt_wh(ask: Explorer, device_id: str, row: Mapping[str, Any]) -> int | None:
    token = hex_id(int(device_id) << 192 | row["start"] << 152 | row["duration"] << 120)
    found = ask.one(
        "SELECT d.energy_wh FROM issuance c JOIN issuance d ON d.id = c.id AND d.tx = c.tx AND d.event = 'DebtIncurred'"
        " WHERE c.id = ? AND c.event = 'Corrected' AND c.version = ? AND c.root = ?", token, row["version"], row["root"])  # fmt: skip
    return found["energy_wh"] if found else None


def operator_says(state: OracleState, device_id: str, start: int) -> Model:
    """What the oracle's database tells of a day beside its state; whatever is not of the expected form is left out."""
    (shifts, made_at), (balances, _), (estimates, _) = (
        state.report(name) for name in ("clocks", "balances", "estimates")
    )
    number = int(device_id)
    return {
        "pending": state.pending(device_id).get(start, ""),
        "corrections": [
            {name: row[name] for name in ("version", "state", "reason", "previous_wh", "energy_wh", "owed_wh")}
            for row in state.versions(device_id, start)
        ],
        "clock_shifts": [
            {name: one[name] for name in ("minutes", "start", "end")}
            for one in shifts
            if _whole(one, "device_id", "minutes", "start", "end") and one["device_id"] == number and one["start"] <= start < one["end"]
        ],
        "balances": [
            {name: one.get(name) for name in ("name", "in_wh", "out_wh", "loss_per_mille", "judged", "unusual", "effect", "reason")}
            for one in balances
            if _whole(one, "start", "in_wh", "out_wh") and one["start"] == start and number in (one.get("devices") or ())
        ],
        "estimate": next(
            (
                {
                    "estimated_wh": one["estimated_wh"],
                    "slots": len(one.get("slots") or ()),
                    "unknown_slots": one["unknown_slots"],
                    "methods": ", ".join(sorted({str(slot.get("method")) for slot in one.get("slots") or () if isinstance(slot, dict)})),
                }
                for one in estimates
                if _whole(one, "device_id", "start", "estimated_wh", "unknown_slots") and (one["device_id"], one["start"]) == (number, start)
            ),
            None,
        ),
        "reported_at": made_at,
    }  # fmt: skip


def _whole(told: Model, *names: str) -> bool:
    return all(isinstance(told.get(name), int) for name in names)
