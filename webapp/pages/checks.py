"""Notarization checks: the table, one statement with its four verdicts, and Validate."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from flask import abort, jsonify, redirect, request, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response

from oracle.domain import CheckResult, Finding, Verdict
from oracle.merkle import root_from_proof

from ..abi import plain
from ..app import csrf_is_right, explorer, services
from ..readings import day_profile
from . import Model, Pages, cursor
from .public import finality, hash_of

pages = Pages("checks")

_RESULTS = {verdict.value for verdict in Verdict} | {"unchecked"}


def _filters() -> dict[str, Any]:
    """The table's filters as the address has them; those that cannot be read are left out."""
    return {
        "root": _root(request.values.get("root")),
        "device_id": _digits(request.values.get("device")),
        "first": _day(request.values.get("from")),
        "last": _day(request.values.get("to")),
        "result": request.values.get("result") if request.values.get("result") in _RESULTS else None,
    }


def _root(text: str | None) -> str | None:
    return hash_of(text) if text else None


def _digits(text: str | None) -> str | None:
    return text if text and text.isdecimal() and len(text) <= 20 else None


def _day(text: str | None) -> int | None:
    try:
        return int(datetime.strptime(text or "", "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


@pages.page("/checks", "checks.html")
def table() -> Model:
    """Every notarized statement with its last validation (query: device, root, from, to, result, after)."""
    filters = _filters()
    ask = explorer()
    page = ask.statements(**filters, cursor=cursor())
    for row in page["rows"]:
        row["device_name"] = services().facts.name(row["device_id"])
        row["reasons"] = json.loads(row["reasons"]) if row["reasons"] else None
    return {
        **page,
        "filters": {**filters, "from": request.args.get("from"), "to": request.args.get("to")},
        "counts": ask.statement_counts(),
        "devices": [
            {"device_id": d["device_id"], "name": services().facts.name(d["device_id"])} for d in ask.devices()
        ],
        "job": services().catalogue.last_job(),
    }


@pages.page("/checks/<root>/<device_id>/<int:start>", "statement.html")
def statement(root: str, device_id: str, start: int) -> Model:
    """One statement, checked now from its archive and the chain: four verdicts and what they rest on."""
    root = hash_of(root)
    ask, s = explorer(), services()
    device_id = "" if device_id == "-" else device_id
    row = ask.statement(root, device_id, start) if start < 1 << 40 else None
    if row is None:
        abort(404)
    result, calculated, evidence = s.validator.check_now(row)
    if row["headline"] != result.headline.value or row["checked_at"] < time.time() - 60:
        s.catalogue.keep([(row, result, calculated)])
    profile = day_profile(ask, s.archives, s.oracle_days, device_id, start // 86_400 * 86_400) if device_id else None
    if profile and profile["irradiance"]:
        profile["irradiance"]["title"] = s.facts.station_title(profile["irradiance"]["station"])
    record = evidence.record
    return {
        "statement": {
            **{k: v for k, v in row.items() if k not in ("reasons", "device_order")},
            "device_name": s.facts.name(device_id),
        },
        "check": check_model(result),
        "calculated": calculated,
        "reached_root": "0x" + root_from_proof(bytes.fromhex(calculated[2:]), evidence.proof).hex()
        if calculated
        else None,
        "proof": ["0x" + node.hex() for node in evidence.proof],
        "evidence": ["0x" + digest.hex() for digest in record.evidence] if record else [],
        "salts": "0x" + record.salts.hex() if record else None,
        "batch": ask.batch(root),
        "profile": profile,
        "issued": bool(
            ask.one("SELECT 1 FROM issuance WHERE event = 'Issued' AND device_id = ? AND start = ?", device_id, start)
        ),
        "token": f"0x{int(device_id) << 192 | start << 152 | row['duration'] << 120:064x}" if device_id else None,
        "finality": finality(row["block"]),
    }


def check_model(result: CheckResult) -> Model:
    def finding(found: Finding) -> Model:
        return {"verdict": found.verdict.value, "reason": found.reason, "evidence": plain(found.evidence)}

    return {
        "headline": result.headline.value,
        "data": finding(result.data),
        "inclusion": finding(result.inclusion),
        "finality": finding(result.finality),
        "authority": finding(result.authority),
    }


@pages.html.post("/checks/validate")
def validate() -> Response | tuple[Response, int]:
    """Start a validation of what the filters leave. Scripts get the job as JSON, forms are led back to the table."""
    if not csrf_is_right():
        abort(403, gettext("This form is no longer valid: load the page again."))
    filters = _filters()
    start = _digits(request.form.get("start"))
    if start:
        filters["first"] = filters["last"] = int(start)
    job = services().validator.ask({key: value for key, value in filters.items() if value is not None})
    if request.accept_mimetypes.best == "application/json":
        return jsonify(_job(job)), 202
    return redirect(url_for("checks.job", job_id=job), 303)


def _job(job_id: int) -> Model:
    found = services().catalogue.job(job_id) if job_id < 1 << 62 else None
    if found is None:
        abort(404)
    return found


@pages.page("/checks/jobs/<int:job_id>", "job.html")
def job(job_id: int) -> Model:
    """A validation's progress and counts."""
    return {"job": _job(job_id)}
