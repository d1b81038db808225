"""Requests for a device's registration: whoever is signed in files them, the registrar refuses them or registers the device.

What is asked for is kept here; that it was done is told by the chain: a device with the request's meter.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask_babel import gettext, lazy_gettext
from werkzeug.wrappers import Response

from ..app import explorer, services
from ..desk import OPEN, REFUSED, WITHDRAWN
from ..operators import Operator, needs, signed_in
from ..registrations import CODES, GRANULARITIES, KIND_WORDS, VISIBILITY_WORDS, FormFaults, Registration

html = Blueprint("requests", __name__)
Model = dict[str, Any]

DONE = "registered"
MOST_REASON = 1_000
#: What of a request stands on the chain once the device is registered, with the words for it.
COMPARED = {
    "account": lazy_gettext("account"), "capacity_w": lazy_gettext("capacity"), "kind": lazy_gettext("What it does"),
    "visibility": lazy_gettext("Readings"), "country": lazy_gettext("country"), "granularity": lazy_gettext("granularity"),
    "fuel_code": lazy_gettext("Energy source (EECS)"), "technology_code": lazy_gettext("Technology (EECS)"),
    "active_from": lazy_gettext("active from"), "grid_zone": lazy_gettext("grid zone"),
}  # fmt: skip
#: How a request's state looks: words, style, icon.
STATES = {
    OPEN: (lazy_gettext("Waits for the registrar"), "wait", "clock"),
    REFUSED: (lazy_gettext("Refused"), "bad", "cross"),
    WITHDRAWN: (lazy_gettext("Withdrawn"), "none", "dash"),
    DONE: (lazy_gettext("Registered"), "ok", "check"),
}


@html.get("/operators/requests")
@needs()
def queue() -> str:
    """One's own requests; to the registrar, everybody's."""
    operator = _operator()
    every = "registrar" in operator.roles
    rows = [_told(row) for row in services().desk.requests(None if every else operator.address)]
    return render_template("operators/requests.html", rows=rows, every=every, request_states=STATES, json_url=None)


@html.get("/operators/requests/new")
@needs()
def new() -> str:
    """The form."""
    return _form({"account": _operator().address}, {})


@html.post("/operators/requests")
@needs()
def file() -> Response | tuple[str, int]:
    """File a request; a form with faults comes back with each of them beside its field."""
    try:
        wanted = Registration.read(request.form)
    except FormFaults as wrong:
        return _form(request.form.to_dict(), wrong.faults), 422
    previous = _device_of(wanted.meter_hash)
    number = services().desk.file(_operator().address, wanted.plain(), wanted.meter_hash, previous)
    if number is None:
        abort(429, gettext("Too many requests of your account are open. Withdraw some, or wait for the registrar."))
    return redirect(url_for("requests.one", number=number), 303)


@html.get("/operators/requests/<int:number>")
@needs()
def one(number: int) -> str:
    """A request: what is asked for, what became of it, and for the registrar what can be done."""
    row, operator = _seen(number), _operator()
    wanted = Registration(**row["device"])
    newest = explorer().one("SELECT MAX(CAST(device_id AS INTEGER)) AS newest FROM device")
    return render_template(
        "operators/request.html", row=row, wanted=wanted, call=wanted.call(), request_states=STATES, kinds_=KIND_WORDS, visibilities=VISIBILITY_WORDS,
        compared=COMPARED, next_device=((newest or {}).get("newest") or 0) + 1, registrar="registrar" in operator.roles, own=row["filed_by"] == operator.address,
        json_url=None,
    )  # fmt: skip


@html.post("/operators/requests/<int:number>/refuse")
@needs("registrar")
def refuse(number: int) -> Response:
    """Refuse a request, with a reason that its author reads."""
    return _decided(number, REFUSED, needs_reason=True)


@html.post("/operators/requests/<int:number>/withdraw")
@needs()
def withdraw(number: int) -> Response:
    """Take back one's own request."""
    if _seen(number)["filed_by"] != _operator().address:
        abort(403, gettext("Only who filed a request may withdraw it."))
    return _decided(number, WITHDRAWN, needs_reason=False)


def waiting(operator: Operator) -> int:
    """How many requests wait for this operator as registrar."""
    if "registrar" not in operator.roles:
        return 0
    return sum(1 for row in services().desk.requests() if _told(row)["state"] == OPEN)


def _decided(number: int, state: str, *, needs_reason: bool) -> Response:
    row, reason = _seen(number), request.form.get("reason", "").strip()
    if needs_reason and not 1 <= len(reason) <= MOST_REASON:
        abort(400, gettext("Give a reason of at most %(most)s characters; who asked will read it.", most=MOST_REASON))
    if row["state"] != OPEN or not services().desk.decide(number, state, _operator().address, reason):
        abort(409, gettext("This request is not open any more."))
    return redirect(url_for("requests.one", number=number), 303)


def _seen(number: int) -> Model:
    """A request that the signed-in account may see: its own, as registrar any. Others do not learn that it exists."""
    row, operator = services().desk.request(number), _operator()
    if row is None or ("registrar" not in operator.roles and row["filed_by"] != operator.address):
        abort(404)
    return _told(row)


def _told(row: Model) -> Model:
    """A request with its state as the chain has it: ``device_id`` once a device with its meter is registered."""
    device = _device_of(row["meter_hash"])
    # Refused or not: that it was registered all the same is what the reader has to know, and as what.
    if device is None or device == row["previous_device"]:
        return {**row, "device_id": None, "differs": []}
    return {**row, "device_id": device, "state": DONE, "differs": _differing(row["device"], device)}


def _differing(wanted: Model, device_id: str) -> list[str]:
    """Fields of a request that the registered device has otherwise."""
    device = explorer().one("SELECT * FROM device WHERE device_id = ?", device_id) or {}
    return [name for name in COMPARED if device.get(name) != wanted[name]]


def _device_of(meter_hash: str) -> str | None:
    """The device that has this meter, or had it last."""
    row = explorer().one(
        "SELECT device_id FROM device WHERE meter_hash = ? ORDER BY block DESC, log_index DESC LIMIT 1", meter_hash
    )
    return str(row["device_id"]) if row else None


def _form(values: Model, faults: dict[str, str]) -> str:
    return render_template(
        "operators/request_form.html", values=values, faults=faults, kinds_=KIND_WORDS, visibilities=VISIBILITY_WORDS,
        granularities=GRANULARITIES, codes_=CODES, json_url=None,
    )  # fmt: skip


def _operator() -> Operator:
    operator = signed_in()
    assert operator is not None, "the view is not guarded"
    return operator
