"""Health and gaps, for operators: how oracle, witnesses, relay, node and index are, and every device-day with its state and reason."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, render_template, request
from flask_babel import lazy_gettext
from werkzeug.wrappers import Response

from ..app import explorer, freshness, services
from ..authority import ROLE_WORDS
from ..health import look
from ..operators import needs
from ..readings import device_days
from . import json_response
from .audit_trail import csv_of
from .public import final_block

html = Blueprint("health", __name__)
Model = dict[str, Any]

ROWS = 200
#: For so long an answer is good enough: several who look at once ask the machines once.
KEPT_SECONDS = 5
KINDS = {
    "oracle": lazy_gettext("Oracle"),
    "witness": lazy_gettext("Witness"),
    "relay": lazy_gettext("Relay"),
    "node": lazy_gettext("Node"),
    "index": lazy_gettext("Index"),
}
STATES = {
    "ok": (lazy_gettext("Well"), "ok", "check"),
    "warn": (lazy_gettext("Wants a look"), "warn", "alert"),
    "bad": (lazy_gettext("Wants a hand"), "bad", "cross"),
    "unknown": (lazy_gettext("Not known"), "unknown", "question"),
}
FIGURES = {
    "held": lazy_gettext("Days held"),
    "failed": lazy_gettext("Failed acts"),
    "last_final_block": lazy_gettext("Last final block of an act"),
    "last_batch": lazy_gettext("Last batch sealed"),
    "last_file": lazy_gettext("Last file came"),
    "refused_files": lazy_gettext("Files refused"),
    "balance": lazy_gettext("Balance of the sender"),
    "final_block": lazy_gettext("Final up to block"),
    "head_block": lazy_gettext("Newest block"),
    "head_time": lazy_gettext("Time of the newest block"),
    "waiting_acts": lazy_gettext("Acts under way"),
    "waiting": lazy_gettext("Requests under way"),
    "key": lazy_gettext("Key"),
    "asked": lazy_gettext("Asked at"),
    "block": lazy_gettext("Read up to block"),
    "looked_at": lazy_gettext("Last look"),
}
GAP_COLUMNS = ("device_id", "device", "start", "state", "energy_wh", "reason", "root")


@html.get("/operators/health")
@needs(*ROLE_WORDS)
def health() -> str:
    """How each part is, in words, with its figures."""
    return render_template(
        "operators/health.html",
        parts=_parts(),
        kind_words=KINDS,
        state_words=STATES,
        figure_words=FIGURES,
        json_url=None,
    )


@html.get("/operators/health.json")
@needs(*ROLE_WORDS)
def health_json() -> Response:
    return json_response({"parts": _parts()})


def _parts() -> list[Model]:
    from ..words import language

    kept, name = services().kept, f"health {language()}"
    at, parts = kept.get(name, (None, None))
    if parts is None or time.monotonic() - float(at or 0) > KEPT_SECONDS:
        parts = look(services(), freshness())
        kept[name] = (str(time.monotonic()), parts)
    found: list[Model] = parts
    return found


@html.get("/operators/gaps")
@needs(*ROLE_WORDS)
def gaps() -> str:
    """Every device-day in exactly one state, with the reason; by default those that are not certified."""
    rows, counts = _gaps()
    page = max(request.args.get("page", 1, type=int), 1)
    return render_template(
        "operators/gaps.html", rows=rows[(page - 1) * ROWS : page * ROWS], count=len(rows), counts=counts, page=page,
        pages=(len(rows) + ROWS - 1) // ROWS, json_url=None,
    )  # fmt: skip


@html.get("/operators/gaps.json")
@needs(*ROLE_WORDS)
def gaps_json() -> Response:
    rows, counts = _gaps()
    return json_response({"rows": rows, "counts": counts})


@html.get("/operators/gaps.csv")
@needs(*ROLE_WORDS)
def gaps_csv() -> Response:
    return csv_of("gaps", GAP_COLUMNS, _gaps()[0])


def _gaps() -> tuple[list[Model], dict[str, dict[str, int]]]:
    """Rows as the address filters them, and how many days of each device stand in each state."""
    s, ask, final = services(), explorer(), final_block()
    known = {*ask.device_ids(), *s.oracle_days.device_ids()}
    device, states = request.args.get("device", ""), request.args.getlist("state")
    rows: list[Model] = []
    counts: dict[str, dict[str, int]] = {}
    for device_id in sorted(known, key=int):
        of_device = counts.setdefault(device_id, {})
        for day in device_days(ask, s.oracle_days, device_id, final, to_operators=True):
            of_device[day["state"]] = of_device.get(day["state"], 0) + 1
            wanted = day["state"] in states if states else day["state"] not in ("issued", "final")
            if wanted and device in ("", device_id):
                told = {name: day.get(name) for name in ("start", "state", "energy_wh", "reason", "root")}
                rows.append({"device_id": device_id, "device": s.facts.name(device_id) or "", **told})
    return rows, counts
