"""The audit trail: for everybody what notarized archives carry, for operators what is under way and what changed who may do what."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import orjson
from apiflask.fields import Boolean, Integer, List
from flask import Blueprint, abort, current_app, render_template, request
from werkzeug.wrappers import Response

from oracle import review

from .. import api
from ..app import explorer, services
from ..authority import ROLE_WORDS
from ..operators import needs, signed_in
from ..queries import csv_cell
from ..review_trail import TrailReader
from ..reviews import trail
from . import Model, Pages, json_response
from .reviews import DECISIONS, PROGRESS, decisions_folder

pages = Pages("audit")
html = Blueprint("audit_desk", __name__)

ROWS = 100
COLUMNS = (
    "device_id", "start", "version", "decision", "reason", "reviewer", "decided_at", "edits", "evidence", "profile_hash", "signature",
    "signature_holds", "manifest_is_notarized", "root", "archive_hash", "notarized_at", "tx",
)  # fmt: skip
DESK_COLUMNS = (
    "device_id", "start", "version", "decision", "reason", "reviewer", "decided_at", "edits", "evidence", "progress", "refusal", "sha256",
    "signature",
)  # fmt: skip
ACT_COLUMNS = ("time", "block", "contract", "name", "args", "sender", "tx")
#: Acts that the page shows, the newest; JSON and CSV have all.
SHOWN_ACTS = 300
#: Events of every act that needs a role. What holders and witnesses do is not among them.
ACTS = (
    "RoleGranted", "RoleRevoked", "RoleLabel", "RoleAdminChanged", "RoleGuardianChanged", "RoleGrantDelayChanged",
    "TargetFunctionRoleUpdated", "TargetAdminDelayUpdated", "TargetClosed", "OperationScheduled", "OperationExecuted",
    "OperationCanceled", "AuthorityUpdated", "CertificateBound", "ConverterBound", "NotarizingPaused", "NotarizingResumed",
    "IssuingPaused", "IssuingResumed", "Revoked", "SignersSet", "SignerRemoved", "DeviceRegistered", "AccountSet", "CapacitySet",
    "DeviceDeactivated", "FactorPublished", "FactorSuperseded", "Authorised", "StateAdvanced",
)  # fmt: skip
_ENTRY = api.shape(
    "ReviewTrailEntry", device_id=api.text(), start=api.maybe(Integer()), version=api.maybe(Integer()), decision=api.text(),
    reason=api.text(), reviewer=api.text(), decided_at=api.maybe(Integer()), edits=List(List(Integer())), evidence=api.text(),
    profile_hash=api.text(), signature=api.text(), signature_holds=Boolean(), manifest_is_notarized=Boolean(), root=api.text(),
    archive_hash=api.text(), notarized_at=Integer(), tx=api.text(),
)  # fmt: skip
_QUERY = {
    "device": api.Parameter("Device id", "[0-9]{1,20}"),
    "decision": api.Parameter("What was decided", choices=(review.ACCEPT, review.EDIT, review.REJECT)),
    "reviewer": api.Parameter("Address of the reviewer", "0x[0-9a-fA-F]{40}"),
    "page": api.Parameter("Which hundred of them, from 1 on", "[0-9]{1,6}"),
}


@pages.page(
    "/audit",
    "audit.html",
    query=_QUERY,
    schema=api.shape("AuditPage", rows=api.many(_ENTRY), count=Integer(), page=Integer(), pages=Integer()),
)
def audit() -> Model:
    """Every reviewer's decision that a notarized batch carries, with the signature, the archive's hash and the batch."""
    rows = notarized_decisions()
    page = max(request.args.get("page", 1, type=int), 1)
    shown = rows[(page - 1) * ROWS : page * ROWS]
    return {
        "rows": [{name: row[name] for name in COLUMNS} for row in shown],
        "count": len(rows),
        "page": page,
        "pages": (len(rows) + ROWS - 1) // ROWS,
    }


@pages.html.app_context_processor
def names() -> Model:
    return {"decision_names": DECISIONS}


@pages.html.get("/audit.csv")
def audit_csv() -> Response:
    """The same as CSV, all of it."""
    return csv_of("audit", COLUMNS, notarized_decisions())


def notarized_decisions() -> list[Model]:
    """Decisions of all notarized archives that are here, the newest first, as the address filters them."""
    kept, s = services().kept, services()
    if "trails" not in kept:
        kept["trails"] = (None, TrailReader(s.config.archive_folder))
    reader: TrailReader = kept["trails"][1]
    batches = explorer().all(
        "SELECT n.root, n.tx, n.archive_hash, b.timestamp AS notarized_at FROM notarization n JOIN block b ON b.number = n.block"
        " WHERE n.kind = 1 ORDER BY n.block DESC"
    )
    device, decision, reviewer = (request.args.get(name, "").strip() for name in ("device", "decision", "reviewer"))
    rows = [
        row
        for batch in batches
        for row in reader.of(batch)
        if (not device or row["device_id"] == device)
        and (not decision or row["decision"] == decision)
        and (not reviewer or row["reviewer"].lower() == reviewer.lower())
    ]
    return sorted(rows, key=lambda row: (row["decided_at"] or 0, row["root"], row["signature"]), reverse=True)


# -- for operators ----------------------------------------------------------------------------------


@html.get("/operators/audit")
@needs(*ROLE_WORDS)
def desk() -> str:
    """Decisions under way and refused, sign-ins that hold, and every act on the chain that needed a role."""
    told = _told()
    return render_template(
        "operators/audit.html",
        **told,
        shown_acts=SHOWN_ACTS,
        progress=PROGRESS,
        decision_words=DECISIONS,
        role_names=ROLE_WORDS,
        json_url=None,
    )


@html.get("/operators/audit.json")
@needs(*ROLE_WORDS)
def desk_json() -> Response:
    return json_response(_told())


@html.get("/operators/audit/<part>.csv")
@needs(*ROLE_WORDS)
def desk_csv(part: str) -> Response:
    told = _told()
    if part == "decisions":
        return csv_of("decisions", DESK_COLUMNS, told["decisions"])
    if part == "acts":
        return csv_of("acts", ACT_COLUMNS, told["acts"])
    abort(404)


def _told() -> Model:
    operator = signed_in()
    is_admin = operator is not None and "administrator" in operator.roles
    marks = ",".join("?" * len(ACTS))
    acts = explorer().all(
        "SELECT e.block, e.contract, e.name, e.args, e.tx, t.sender, b.timestamp AS time FROM event e"
        " JOIN block b ON b.number = e.block LEFT JOIN tx t ON t.hash = e.tx"
        f" WHERE e.name IN ({marks}) ORDER BY e.block DESC, e.log_index DESC", *ACTS)  # fmt: skip
    return {
        "decisions": trail(services().oracle_days, decisions_folder()),
        "acts": [{**row, "args": orjson.loads(row["args"])} for row in acts],
        "sign_ins": services().desk.sign_ins() if is_admin else None,
    }


def csv_of(name: str, columns: Sequence[str], rows: Iterable[Model]) -> Response:
    """Rows as a CSV download that no spreadsheet computes; times as ISO 8601 in UTC."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(_time(column, row.get(column))) for column in columns])
    answer = current_app.response_class(out.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="wattmark-{name}.csv"'
    return answer


def _time(column: str, value: Any) -> Any:
    """Times as ISO 8601 in UTC; a day by its name."""
    if value is None or column not in ("start", "decided_at", "notarized_at", "time") or abs(value) > 1 << 38:
        return value
    moment = datetime.fromtimestamp(value, UTC)
    return moment.strftime("%Y-%m-%d" if column == "start" and value % 86_400 == 0 else "%Y-%m-%dT%H:%M:%SZ")
