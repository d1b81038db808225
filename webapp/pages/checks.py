"""Notarization checks: the table, one statement with its four verdicts, and Validate."""

from __future__ import annotations

import time

from apiflask.fields import Boolean, List, String
from flask import abort, redirect, request, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response

from oracle.domain import CheckResult, Finding
from oracle.merkle import root_from_proof

from .. import api
from ..abi import plain
from ..app import csrf_is_right, explorer, services
from ..queries import Query, Row
from ..said import VERSION, newer
from ..tables import BATCHES, CHECKS
from . import Model, Pages, asked, json_response
from .public import finality, hash_of, shape_of, statement_names

pages = Pages("checks")


def _beside(query: Query) -> Model:
    """What the table is about beside its rows."""
    return {"counts": explorer().statement_counts(), "job": services().catalogue.last_job()}


@pages.list(
    "/checks",
    CHECKS,
    "checks.html",
    more=_beside,
    schema={"counts": api.counts(), "job": api.maybe(api.one(api.JOB))},
)
def table(rows: list[Row]) -> None:
    """Every notarized statement with its last validation."""
    statement_names(rows)


@pages.page(
    "/checks/<root>/<device_id>/<int:start>",
    "statement.html",
    schema=api.shape(
        "StatementPage", statement=api.one(api.STATEMENT), check=api.one(api.CHECK), calculated=api.maybe(api.text()),
        reached_root=api.maybe(api.text()), proof=List(String()), evidence=List(String()), salts=api.maybe(api.text()),
        batch=api.maybe(api.one(api.rows_of(BATCHES))), profile=api.maybe(api.one(api.PROFILE)), issued=Boolean(),
        token=api.maybe(api.text()), finality=api.one(api.FINALITY_SCHEMA), newer=api.many(VERSION), days=api.many(api.SHAPE_DAY),
        private=Boolean(),
    ),
    query=api.DAY_OF_PERIOD,
)  # fmt: skip
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
        s.catalogue.keep_soon([(row, result, calculated)])
    shape = (
        shape_of(device_id, start, row["duration"]) if device_id else {"profile": None, "days": [], "private": False}
    )
    record = evidence.record
    return {
        "statement": {
            **{k: v for k, v in row.items() if k != "reasons"},
            "device_name": s.facts.name(device_id),
        },
        "check": check_model(result),
        "calculated": calculated,
        "reached_root": "0x" + root_from_proof(bytes.fromhex(calculated[2:]), evidence.proof).hex()
        if calculated
        else None,
        "proof": ["0x" + node.hex() for node in evidence.proof],
        "evidence": ["0x" + digest.hex() for digest in record.evidence] if record else [],
        "salts": "0x" + record.salts.hex() if record and shape["profile"] else None,
        "batch": found | finality(found["block"]) if (found := ask.batch(root)) else None,
        **shape,
        "issued": bool(
            ask.one("SELECT 1 FROM issuance WHERE event = 'Issued' AND device_id = ? AND start = ?", device_id, start)
        ),
        "token": f"0x{int(device_id) << 192 | start << 152 | row['duration'] << 120:064x}" if device_id else None,
        "finality": finality(row["block"]),
        "newer": newer(ask, device_id, row) if device_id else [],
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
    wanted = {name: text for name in CHECKS.filter if (text := request.form.get(name, "").strip())}
    asked(CHECKS.where, {"values": wanted})
    job = services().validator.ask(wanted)
    if request.accept_mimetypes.best == "application/json":
        return json_response(_job(job)), 202
    return redirect(url_for("checks.job", job_id=job), 303)


def _job(job_id: int) -> Model:
    found = services().catalogue.job(job_id) if job_id < 1 << 62 else None
    if found is None:
        abort(404)
    return found


@pages.page("/checks/jobs/<int:job_id>", "job.html", schema=api.shape("JobPage", job=api.one(api.JOB)))
def job(job_id: int) -> Model:
    """A validation's progress and counts."""
    return {"job": _job(job_id)}
