"""The auditor's export: a period's totals that must agree, its statements, a random sample and the gaps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from apiflask.fields import Boolean, Integer, List, String
from flask import Response, abort, request
from flask_babel import gettext

from oracle.domain import DAY_SECONDS

from .. import api
from ..app import explorer, freshness, services
from ..audit import GAP_COLUMNS, MAX_DAYS, MAX_SAMPLE, STATEMENT_COLUMNS, Audit, audit, csv_bytes, export, parquet_bytes
from ..words import isoday
from . import Model, Pages
from .public import final_block

pages = Pages("auditor")

SHOWN_GAPS = 100
SAMPLE = 10

_TOTALS = api.shape(
    "AuditTotals", statements=Integer(), held_days=Integer(), gap_days=Integer(),
    **{name: api.Whole() for name in ("notarized_wh", "issued_wh", "held_back_wh", "closed_wh", "not_yet_issued_wh", "live_wh",
                                      "retired_wh", "converted_wh", "settled_wh", "debt_wh", "unlisted_wh", "held_wh")},
)  # fmt: skip
_IDENTITY = api.shape(
    "AuditIdentity", whole=api.text(), parts=List(String()), difference_wh=api.Whole(), holds=Boolean()
)
_SAMPLED = api.shape(
    "AuditSample", root=api.text(), device_id=api.text(), start=Integer(), duration=Integer(), version=Integer(),
    energy_wh=api.Whole(), leaf=api.text(), state=api.text(), headline=api.maybe(api.text()), device_name=api.maybe(api.text()),
)  # fmt: skip
_GAP = api.shape(
    "AuditGap",
    device_id=api.text(),
    day=api.text(),
    state=api.text(),
    energy_wh=api.maybe(api.Whole()),
    reason=api.text(),
)
_DEVICE = api.shape(
    "AuditDevice", device_id=api.text(), statements=Integer(), notarized_wh=api.Whole(), issued_wh=api.Whole(),
    device_name=api.maybe(api.text()),
)  # fmt: skip
_SCHEMA = api.shape(
    "AuditPage", first=api.text(), last=api.text(), totals=api.one(_TOTALS), identities=api.many(_IDENTITY), seed=api.text(),
    sample=api.many(_SAMPLED), devices=api.many(_DEVICE), gaps=api.many(_GAP), gaps_in_all=Integer(),
)  # fmt: skip
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_QUERY: Mapping[str, api.Parameter] = {
    "from": api.Parameter("First UTC day of the period", _DAY),
    "to": api.Parameter("Last UTC day of the period", _DAY),
    "seed": api.Parameter("Seed of the sample, at most 100 characters (left out: hash of the last notarizing block)"),
    "sample": api.Parameter(f"Size of the sample, 1 to {MAX_SAMPLE}", "[1-9][0-9]{0,3}"),
}


@pages.page("/auditor", "auditor.html", schema=_SCHEMA, query=_QUERY)
def period() -> Model:
    """A period's totals, whether they agree, a random sample of its statements, and its gaps."""
    found = _asked()
    names = services().facts.name
    sampled = [name for name in _SAMPLED._declared_fields if name != "device_name"]
    return {
        "first": isoday(found.first),
        "last": isoday(found.last),
        "totals": found.totals,
        "identities": found.identities,
        "seed": found.seed,
        "sample": [{**{n: row[n] for n in sampled}, "device_name": names(row["device_id"])} for row in found.sample],
        "devices": [{**row, "device_name": names(row["device_id"])} for row in found.devices],
        "gaps": found.gaps[:SHOWN_GAPS],
        "gaps_in_all": len(found.gaps),
    }


@pages.html.get("/auditor.zip")
def archive() -> Response:
    """The whole export."""
    content = export(_asked(), chain_id=services().book.chain_id, block=freshness().block)
    return _file(content, "application/zip", "zip")


@pages.html.get("/auditor/<name>")
def part(name: str) -> Response:
    """One file of the export by itself: statements.csv, statements.parquet, sample.csv or gaps.csv."""
    makers: dict[str, Any] = {
        "statements.csv": lambda found: csv_bytes(STATEMENT_COLUMNS, found.statements),
        "statements.parquet": lambda found: parquet_bytes(found.statements),
        "sample.csv": lambda found: csv_bytes(STATEMENT_COLUMNS, found.sample),
        "gaps.csv": lambda found: csv_bytes(GAP_COLUMNS, found.gaps),
    }
    if name not in makers:
        abort(404)
    kind = "text/csv" if name.endswith("csv") else "application/vnd.apache.parquet"
    return _file(makers[name](_asked()), kind, name)


def _file(content: bytes, kind: str, name: str) -> Response:
    answer = Response(content, mimetype=kind)
    answer.headers["Content-Disposition"] = f'attachment; filename="wattmark-audit-{name}"' if "." in name else f'attachment; filename="wattmark-audit.{name}"'  # fmt: skip
    answer.headers["Access-Control-Allow-Origin"] = "*"
    return answer


def _asked() -> Audit:
    """The period of the address; left out, all that is notarized."""
    ask, s = explorer(), services()
    span = ask.one("SELECT MIN(start) AS first, MAX(start) AS last FROM web.statement") or {}
    first = _day("from", span.get("first") or 0)
    last = _day("to", span.get("last") or 0)
    if last < first or last - first > MAX_DAYS * DAY_SECONDS:
        abort(400, gettext("The period must end after it begins and have at most %(days)s days.", days=MAX_DAYS))
    size = request.args.get("sample") or str(SAMPLE)
    if not size.isdecimal() or not 1 <= int(size) <= MAX_SAMPLE:
        abort(400, gettext("A sample has 1 to %(most)s statements.", most=MAX_SAMPLE))
    seed = (request.args.get("seed") or "")[:100]
    return audit(ask, s.oracle_days, first, last, seed=seed or None, size=int(size), final_block=final_block())


def _day(name: str, otherwise: int) -> int:
    text = request.args.get(name)
    if not text:
        return otherwise // DAY_SECONDS * DAY_SECONDS
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        abort(400, gettext("%(text)s is no day like 2016-07-14.", text=text[:20]))
