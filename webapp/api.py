"""The API beside the pages: the shape of every answer as OpenAPI, entity tags, rate limits and cross-origin reads.

Every model that a page gives has its schema here. A schema allows no field that it does not name: tests/webapp/test_api.py
holds live answers against them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from apiflask import APIFlask, Schema
from apiflask.fields import Boolean, Dict, Field, Float, Integer, List, Nested, String
from flask import Response, current_app, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from marshmallow import RAISE
from werkzeug.middleware.proxy_fix import ProxyFix

from oracle.domain import DayState, Verdict

from . import tables
from .app import freshness, services
from .queries import DAY as UTC_DAY
from .queries import MOST_ROWS, Table

#: Tags of answers made by another run of the program are never taken for this one's.
_STARTED = str(time.time_ns())

# -- answers ----------------------------------------------------------------------------------------


def answer(model: Callable[[], Any], *, steady: bool) -> Response:
    """The model as JSON; a ``steady`` one with the tag of the state it comes from, and 304 where the asker has it already."""
    from .pages import json_response

    if not steady:
        return json_response(model())
    tag = entity_tag()
    if request.if_none_match.contains_weak(tag):
        response = current_app.response_class(status=304)
    else:
        response = json_response(model())
    response.set_etag(tag, weak=True)
    return response


def entity_tag() -> str:
    """Names the state that an answer depends on: newest block, what is final, the catalogue and the question itself."""
    s, fresh = services(), freshness()
    question = sorted((name, value) for name, value in request.args.items(multi=True) if name != "lang")
    state = (_STARTED, fresh.block_hash, fresh.head, fresh.final, fresh.problem, s.catalogue.mark(), s.codes.mark())
    return hashlib.sha256(repr((state, request.path, question)).encode()).hexdigest()[:32]


# -- the form of requests ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of the address, as OpenAPI tells it."""

    says: str
    pattern: str | None = None
    choices: tuple[str, ...] = ()

    def described(self, name: str) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        # A form sends the fields left empty too.
        if self.choices:
            schema["enum"] = ["", *self.choices]
        elif self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})?$"
        return {"name": name, "in": "query", "required": False, "description": self.says, "schema": schema}


def list_query(table: Table) -> dict[str, Parameter]:
    """What the address of a table may ask."""
    sorts = tuple(sign + column.name for column in table.sorts for sign in ("", "-"))
    return {
        **{
            wanted.name: Parameter(f"Only rows where this holds: {wanted.name}", wanted.kind.pattern, tuple(wanted.choices))
            for wanted in table.filters
        },
        "sort": Parameter(f"Column to order by, - before it for falling order (left out: {table.order})", choices=sorts),
        "rows": Parameter(f"Rows in a page, 1 to {MOST_ROWS}", "[1-9][0-9]?|[1-4][0-9]{2}|500"),
        "after": Parameter("The field `next` of the page before", "(?:[0-9a-f]{2})+"),
    }  # fmt: skip


def described(query: Mapping[str, Parameter] | None) -> list[dict[str, Any]]:
    return [parameter.described(name) for name, parameter in (query or {}).items()]


# -- the form of answers ----------------------------------------------------------------------------


AnyField = Field[Any]


class Whole(Field[Any]):
    """An integer of any size: past 2**53 - 1 it is decimal text, so that every JSON reader keeps it whole."""

    def __init__(self, **options: Any):
        nothing = [{"type": "null"}] if options.get("allow_none") else []
        parts = [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]+$"}, *nothing]
        super().__init__(**options, metadata={"anyOf": parts})


def shape(name: str, /, **fields: AnyField) -> type[Schema]:
    """A schema of exactly these fields, all of them always there."""
    for field in fields.values():
        field.required = True
    meta = type("Meta", (), {"unknown": RAISE})
    return cast("type[Schema]", type(name, (Schema,), {**fields, "Meta": meta}))


def text() -> String:
    return String()


def maybe(field: AnyField) -> AnyField:
    field.allow_none = True
    if isinstance(field, Whole):
        return Whole(allow_none=True)
    return field


def one(schema: type[Schema]) -> Nested:
    return Nested(schema)


def many(schema: type[Schema]) -> List[Any]:
    return List(Nested(schema))


def _open() -> Dict:
    """A mapping whose keys the contracts' ABI names, not this API."""
    return Dict(keys=String())


_WHOLE = ("_wh", "_g", "_micrograms", "amount", "number")


def _column(name: str, type_: str, nullable: bool) -> AnyField:
    field: AnyField
    if type_ == "integer":
        field = Whole() if name.endswith(_WHOLE) else Integer()
    elif type_ == "boolean":
        field = Boolean()
    elif type_ == "object":
        field = _OBJECTS[name]()
    else:
        field = String()
    return maybe(field) if nullable else field


def row_schema(table: Table) -> type[Schema]:
    fields = {column.name: _column(column.name, column.type, column.nullable) for column in table.columns}
    return shape(f"{table.name.capitalize()}Row", **fields)


_ROWS: dict[str, type[Schema]] = {}


def rows_of(table: Table) -> type[Schema]:
    """The schema of a table's rows, the same object each time, so that OpenAPI names it once."""
    if table.name not in _ROWS:
        _ROWS[table.name] = row_schema(table)
    return _ROWS[table.name]


def list_schema(table: Table, more: Mapping[str, Any]) -> type[Schema]:
    return shape(
        f"{table.name.capitalize()}Page",
        rows=many(rows_of(table)),
        next=maybe(text()),
        sort=text(),
        filters=Dict(keys=String(), values=String()),
        **more,
    )


PLACE = shape("Place", name=text(), latitude=Float(), longitude=Float(), altitude_m=Float())
FACTOR = shape(
    "Factor", factor_id=Integer(), grid_zone=text(), year=Integer(), grams_per_mwh=Integer(), illustrative=Boolean(),
    approver=text(), source_hash=text(), source=text(), published_at=Integer(), superseded_by=maybe(Integer()), tx=text(),
    block=Integer(), log_index=Integer(), item=Integer(),
)  # fmt: skip
OUTCOME_PARTS = shape(
    "OutcomeParts", factor_id=Integer(), year=Integer(), country=text(), authorisation_id=text(), estimate=Boolean(),
    illustrative=Boolean(),
)  # fmt: skip
#: Fields of tables that are no plain values.
_OBJECTS: dict[str, Callable[[], AnyField]] = {
    "place": lambda: one(PLACE),
    "factor": lambda: one(FACTOR),
    "outcome": lambda: one(OUTCOME_PARTS),
    "signers": lambda: List(String()),
    "reasons": lambda: List(String()),
    "args": _open,
}

ERROR = shape("Error", error=one(shape("Fault", status=Integer(), title=text(), detail=maybe(text()))))
FRESHNESS = shape(
    "Freshness", block=maybe(Integer()), block_time=maybe(Integer()), head=maybe(Integer()), final_block=maybe(Integer()),
    looked_at=maybe(Integer()), problem=maybe(text()),
)  # fmt: skip


def finality() -> dict[str, AnyField]:
    """Fields of whatever lies in a block: how many are on top of it, and whether that is enough."""
    return {"confirmations": maybe(Integer()), "final": maybe(Boolean())}


FINALITY_SCHEMA = shape("Finality", **finality())
CODE = shape("ContractCode", address=text(), code=text(), code_hash=text(), block=Integer())
CHAIN = shape(
    "Chain", chain_id=Integer(), chain_id_hex=text(), name=text(), rpc_url=maybe(text()), currency=text(),
    contracts=Dict(keys=String(), values=String()), code=Dict(keys=String(), values=Nested(CODE)),
)  # fmt: skip
TOTALS = shape(
    "Totals", issued_wh=Whole(), live_wh=Whole(), retired_wh=Whole(), converted_wh=Whole(), settled_wh=Whole(), co2e_g=Whole(),
    estimate=Boolean(), illustrative=Boolean(), co2e_retired_g=Whole(), batches=Integer(), statements=Integer(),
    notarized_wh=Whole(), readings=Integer(), retirements=Integer(), devices=Integer(),
)  # fmt: skip
SHARE = shape("Share", key=text(), issued_wh=Whole(), live_wh=Whole(), retired_wh=Whole(), converted_wh=Whole())
BREAKDOWN = shape("Breakdown", technology=many(SHARE), grid_zone=many(SHARE), month=many(SHARE))
WALLET = shape("DemoWallet", name=text(), address=text(), key_command=text())


def counts() -> Dict:
    """How many by name."""
    return Dict(keys=String(), values=Integer())


JOB = shape(
    "Job", id=Integer(), scope=Dict(keys=String(), values=String()), state=text(), total=Integer(), done=Integer(),
    counts=counts(), problem=maybe(text()), created_at=Integer(), finished_at=maybe(Integer()),
    seconds=maybe(Float()),
)  # fmt: skip

IRRADIANCE = shape("Irradiance", station=text(), kind=text(), w_m2=List(Integer(allow_none=True)), title=text())
CORROBORATION = shape(
    "Corroboration", result=text(), reasons=List(String()), figures=Dict(keys=String(), values=String())
)
NOTE = shape("Note", rule=text(), says=text(), slots=Integer())
PROFILE = shape(
    "Profile", source=text(), root=maybe(text()), state=maybe(text()), reason=text(), start=Integer(), energy_wh=List(Integer()),
    quality=List(Integer()), certified_wh=Whole(), total_wh=Whole(), irradiance=maybe(one(IRRADIANCE)),
    corroboration=maybe(one(CORROBORATION)), findings=many(NOTE),
)  # fmt: skip
_RUN = shape("SlotRun", first=Integer(), slots=Integer(), state=text())


def day_figures() -> dict[str, AnyField]:
    """Fields of a day by quality, as the charts of several days draw it."""
    return {
        "start": Integer(), "certified_wh": maybe(Whole()), "irradiation_wh_m2": maybe(Integer()),
        "energy_wh": Dict(keys=String(), values=Whole()), "slots": Dict(keys=String(), values=Integer()), "runs": many(_RUN),
    }  # fmt: skip


SHAPE_DAY = shape("ShapeDay", **day_figures())
DAY_OF_PERIOD = {
    "day": Parameter("UTC day whose profile is wanted, of a period of several, as 2016-07-14", UTC_DAY.pattern)
}
DAY = shape(
    "Day", start=Integer(), state=String(metadata={"enum": [state.value for state in DayState]}), reason=maybe(text()),
    energy_wh=maybe(Whole()), root=maybe(text()), headline=maybe(text()), statement_start=maybe(Integer()),
)  # fmt: skip
CHANGE = shape("DeviceChange", field=text(), value=text(), since=Integer(), tx=text(), time=Integer())
DEVICE = shape(
    "Device", device_id=text(), name=maybe(text()), place=maybe(one(PLACE)), account=text(), meter_hash=text(), capacity_w=Whole(),
    kind=Integer(), visibility=Integer(), country=text(), granularity=Integer(), fuel_code=Integer(), technology_code=Integer(),
    active_from=Integer(), active_until=maybe(Integer()), grid_zone=text(), active=Boolean(), registered_at=Integer(), tx=text(),
    block=Integer(), log_index=Integer(), item=Integer(), changes=many(CHANGE), issued_wh=Whole(), statements=Integer(),
    notarized_wh=Whole(), first_start=maybe(Integer()), last_start=maybe(Integer()), debt_wh=Whole(),
)  # fmt: skip
FACT = shape("Fact", what=text(), value=text(), basis=text(), source=text())

ISSUANCE = shape(
    "Issuance", event=text(), id=text(), device_id=text(), start=Integer(), duration=Integer(), root=maybe(text()),
    account=maybe(text()), energy_wh=maybe(Whole()), previous_wh=maybe(Whole()), version=maybe(Integer()),
    profile_hash=maybe(text()), debt_wh=maybe(Whole()), time=Integer(), tx=text(), block=Integer(), log_index=Integer(),
    item=Integer(),
)  # fmt: skip
HOLDER = shape("Holder", account=text(), amount=Whole())
TRANSFER = shape(
    "Transfer", contract=text(), operator=text(), sender=text(), receiver=text(), id=text(), amount=Whole(), time=Integer(), tx=text(),
    block=Integer(), log_index=Integer(), item=Integer(),
)  # fmt: skip


def _retired() -> dict[str, AnyField]:
    return {
        "contract": text(), "number": Whole(), "account": text(), "beneficiary": text(), "beneficiary_name": text(),
        "purpose": text(), "country": text(), "location": text(), "consumption_start": Integer(), "consumption_end": Integer(),
        "time": Integer(), "tx": text(), "block": Integer(), "log_index": Integer(), "amount": Whole(),
    }  # fmt: skip


RETIRED = shape("RetiredItem", **_retired(), id=text(), item=Integer())
MOVED = shape("Moved", contract=text(), sender=text(), receiver=text(), id=text(), amount=Whole())
LOG = shape("Log", log_index=Integer(), address=text(), contract=maybe(text()), name=maybe(text()), args=_open())
INDEXED_EVENT = shape("IndexedEvent", log_index=Integer(), contract=text(), name=text(), args=_open())
INDEXED = shape(
    "IndexedTransaction", hash=text(), block=Integer(), position=Integer(), sender=text(), receiver=maybe(text()),
    function=maybe(text()), value=text(), succeeded=Boolean(), time=Integer(), block_hash=text(), events=many(INDEXED_EVENT),
    moved=many(MOVED),
)  # fmt: skip
CALL = shape("Call", contract=text(), name=text(), args=_open())
REASON = shape("RevertReason", name=text(), args=_open())
LIVE = shape(
    "LiveTransaction", block=maybe(Integer()), block_hash=maybe(text()), sender=text(), receiver=maybe(text()), nonce=Integer(),
    value_wei=text(), input=text(), input_bytes=Integer(), call=maybe(one(CALL)), status=text(), reason=maybe(one(REASON)),
    time=maybe(Integer()), logs=many(LOG), gas_used=maybe(Integer()), gas_limit=maybe(Integer()), gas_price_wei=maybe(text()),
    fee_wei=maybe(text()), moved=many(MOVED),
)  # fmt: skip
TRANSACTION = shape(
    "TransactionFacts", hash=text(), time=maybe(Integer()), indexed=maybe(one(INDEXED)), live=maybe(one(LIVE)),
    problem=maybe(text()), **finality(),
)  # fmt: skip

FINDING = shape(
    "Finding",
    verdict=String(metadata={"enum": [verdict.value for verdict in Verdict]}),
    reason=text(),
    evidence=_open(),
)
CHECK = shape(
    "Check", headline=text(), data=one(FINDING), inclusion=one(FINDING), finality=one(FINDING), authority=one(FINDING)
)
STATEMENT = shape(
    "Statement", root=text(), device_id=text(), device_name=maybe(text()), start=Integer(), duration=Integer(), version=Integer(),
    energy_wh=maybe(Whole()), previous_wh=maybe(Whole()), profile_hash=maybe(text()), leaf=maybe(text()),
    readings=maybe(Integer()), block=Integer(), tx=text(), kind=Integer(), notarized_at=Integer(), headline=maybe(text()),
    data=maybe(text()), inclusion=maybe(text()), finality=maybe(text()), authority=maybe(text()), calculated=maybe(text()),
    checked_at=maybe(Integer()),
)  # fmt: skip
CERTIFICATE = shape(
    "Certificate", id=text(), device_id=text(), device_name=maybe(text()), start=Integer(), duration=Integer(),
    issued=one(ISSUANCE), issued_wh=Whole(), events=many(ISSUANCE), holders=many(HOLDER), transfers=many(TRANSFER),
    retirements=many(RETIRED), conversions=many(rows_of(tables.CONVERSIONS)), settled_wh=Whole(), live_wh=Whole(),
    retired_wh=Whole(), converted_wh=Whole(),
)  # fmt: skip
HELD_CERTIFICATE = shape(
    "AccountCertificate",
    contract=text(),
    id=text(),
    amount=Whole(),
    device_id=text(),
    start=Integer(),
    duration=Integer(),
)
HELD_OUTCOME = shape(
    "AccountOutcome", contract=text(), id=text(), amount=Whole(), factor_id=Integer(), year=Integer(), country=text(),
    authorisation_id=text(), estimate=Boolean(), factor=maybe(one(FACTOR)),
)  # fmt: skip
ACCOUNT = shape(
    "Account", address=text(), seen=Boolean(), live_wh=Whole(), live_g=Whole(), retired_wh=Whole(), retired_g=Whole(),
    certificates=many(HELD_CERTIFICATE), outcomes=many(HELD_OUTCOME),
)  # fmt: skip


class _RetiredPart(Schema):
    """A part of a retirement: a certificate's device and period, or an outcome's factor and vintage."""

    class Meta:
        unknown = RAISE

    id, amount, device_name = String(required=True), Whole(required=True), String(required=True, allow_none=True)
    device_id, start, duration = String(), Integer(), Integer()
    factor_id, year, country = Integer(), Integer(), String()
    authorisation_id, estimate, factor = String(), Boolean(), Nested(FACTOR, allow_none=True)


RETIREMENT = shape(
    "Retirement",
    **_retired(),
    kind=text(),
    items=many(_RetiredPart),
    **finality(),
)
FOUND = shape("Found", kind=text(), name=text(), url=text())


# -- what is added to the app -----------------------------------------------------------------------


def install(app: APIFlask) -> None:
    """Limits, cross-origin reads and the finished OpenAPI document."""
    config = services_config(app)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    app.config.update(MAX_FORM_PARTS=50, OPENAPI_VERSION="3.1.0")
    _limit(app)
    app.after_request(_cross_origin)
    app.spec_processor(_finished)


def services_config(app: APIFlask) -> Any:
    return app.extensions["wattmark"].config


def scope() -> str:
    """What a request counts as among the limits: pages, api, exports or validations; empty for static files."""
    path = request.path
    if path.startswith("/static/"):
        return ""
    if request.method == "POST":
        return "validations"
    if path.endswith((".csv", ".zip", ".pdf")):
        return "exports"
    # A page asks for the progress of its validation twice a second.
    machine = (
        path == "/api" or path.startswith("/api/") or path.endswith(".json") and not path.startswith("/checks/jobs/")
    )
    return "api" if machine else "pages"


def _limit(app: APIFlask) -> None:
    limits = services_config(app).limits

    def allowed() -> str:
        return str(getattr(limits, scope(), None) or "")

    limiter = Limiter(
        key_func=lambda: f"{scope()} {get_remote_address()}", application_limits=[allowed], headers_enabled=True,
        storage_uri=limits.storage, strategy="moving-window",
    )  # fmt: skip
    limiter.request_filter(lambda: not scope() or not allowed())
    limiter.init_app(app)


def _cross_origin(response: Response) -> Response:
    """Any site may read what is public here; nobody's cookies go with it."""
    path = request.path
    machine = path == "/api" or path.startswith("/api/") or path.endswith((".json", ".csv"))
    if machine and request.method in ("GET", "HEAD", "OPTIONS"):
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, HEAD"
            response.headers["Access-Control-Allow-Headers"] = "If-None-Match"
            response.headers["Access-Control-Max-Age"] = "86400"
    return response


_PATHS = {
    "root": "0x[0-9a-fA-F]{64}", "tx": "0x[0-9a-fA-F]{64}", "token": "0x[0-9a-fA-F]{64}", "address": "0x[0-9a-fA-F]{40}",
    "device_id": "[0-9]{1,20}|-",
    "month": "(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])",
}  # fmt: skip
_FAULTS = {
    400: "The query cannot be read", 404: "Not there", 429: "Too many requests: wait as long as Retry-After says",
    503: "The node cannot be reached and the index does not know",
}  # fmt: skip


def _finished(spec: Any) -> Any:
    """The document with query parameters, forms of path values and the one form of errors."""
    fault = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    properties = {"status": {"type": "integer"}, "title": {"type": "string"}, "detail": {"type": ["string", "null"]}}
    inner = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    spec.setdefault("components", {}).setdefault("schemas", {})["Error"] = {
        "type": "object", "properties": {"error": inner}, "required": ["error"], "additionalProperties": False,
    }  # fmt: skip
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                retirement = path.startswith("/api/v1/retirements/") and parameter["name"] == "token"
                pattern = "certificate|outcome" if retirement else _PATHS.get(parameter["name"])
                if pattern:
                    parameter["schema"] = {"type": "string", "pattern": f"^(?:{pattern})$"}
            query = operation.pop("x-query", [])
            if query:
                operation["parameters"] = [*operation.get("parameters", ()), *query]
            for status, says in _FAULTS.items():
                if status == 404 and "{" not in path or status == 503 and "/transactions/{" not in path:
                    operation["responses"].pop(str(status), None)
                    continue
                operation["responses"][str(status)] = {"description": says, "content": fault}
            operation["responses"]["304"] = {"description": "As the tag in If-None-Match says, nothing has changed"}
    return spec
