"""An account's own page: what it holds, what it may have issued, and what its wallet can do with it.

The server gives models, proofs and the ABI; calls are made and signed in the browser. Signed retirements that cost their
holder nothing are handed on to the relay, a process of its own (:mod:`webapp.relay`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from typing import Any

import orjson
import requests
from apiflask.fields import Boolean, Integer
from flask import Response, abort, current_app, jsonify, redirect, render_template, request, url_for
from flask_babel import gettext

from oracle.errors import ArchiveError, ProtocolError
from oracle.protocol import statement_fields, statement_leaf

from .. import wallet_words, words
from ..abi import artifacts, plain
from ..api import Whole, many, one, shape, text
from ..app import explorer, services
from ..clear_signing import NAMES as CLEAR_SIGNING
from ..clear_signing import descriptor
from ..explorer import CERTIFICATE, OUTCOME
from . import Model, Pages
from .public import address_of, hash_of

pages = Pages("portfolio")

#: Rows that the page shows; its JSON has all.
SHOWN_ROWS = 200
#: Statements that one transaction issues (docs/oracle.md, "How many certificates in one transaction").
ISSUE_ROWS = 100
RELAY_TIMEOUT_SECONDS = 20
MAX_RELAY_BODY_BYTES = 64 * 1024
#: What wallets call, by contract. The browser gets these functions and every contract's errors.
WALLET_CALLS = {
    CERTIFICATE: (
        "safeTransferFrom", "safeBatchTransferFrom", "retire", "retireBatch", "retireBySig", "retireBatchBySig", "nonces",
        "setApprovalForAll", "issue", "issueMany", "balanceOf",
    ),
    OUTCOME: (
        "safeTransferFrom", "safeBatchTransferFrom", "retire", "retireBatch", "retireBySig", "retireBatchBySig", "nonces",
        "setApprovalForAll", "convert", "balanceOf",
    ),
}  # fmt: skip
_REQUEST_ID = re.compile(r"[0-9a-f]{64}")

HELD = shape(
    "HeldCertificate", id=text(), amount=Whole(), device_id=text(), device=text(), start=Integer(), duration=Integer(), month=text(),
    technology=text(), grid_zone=text(), country=text(),
)  # fmt: skip
OUTCOME_HELD = shape(
    "HeldOutcome", id=text(), amount=Whole(), name=text(), factor_id=Integer(), year=Integer(), country=text(),
    authorisation_id=text(), estimate=Boolean(), illustrative=Boolean(), retirable=Boolean(),
)  # fmt: skip
ISSUABLE = shape(
    "IssuableStatement",
    root=text(),
    device_id=text(),
    device=text(),
    start=Integer(),
    duration=Integer(),
    energy_wh=Whole(),
)
ALLOWANCE = shape("Allowance", contract=text(), operator=text())
AUTHORISATION = shape("OpenAuthorisation", authorisation_id=text(), country=text(), reference=text())
TOTALS = shape(
    "PortfolioTotals", live_wh=Whole(), retired_wh=Whole(), issuable_wh=Whole(), live_g=Whole(), retired_g=Whole()
)
PORTFOLIO = shape(
    "Portfolio", address=text(), totals=one(TOTALS), certificates=many(HELD), outcomes=many(OUTCOME_HELD), issuable=many(ISSUABLE),
    allowances=many(ALLOWANCE), authorisations=many(AUTHORISATION), relay=Boolean(),
)  # fmt: skip


# -- the page ---------------------------------------------------------------------------------------


@pages.html.get("/portfolio")
def entrance() -> Response | str:
    """Where a wallet is chosen, or any account looked at."""
    asked = request.args.get("account", "").strip()
    if asked:
        return redirect(url_for("portfolio.portfolio", address=address_of(asked)))  # type: ignore[return-value]
    return render_template("portfolio.html", address=None, wallet=wallet_setup(None), json_url=None)


@pages.page("/portfolio/<address>", "portfolio.html", schema=PORTFOLIO, steady=True)
def portfolio(address: str) -> Model:
    """What an account holds, what is ready to be issued to it, and who may move its certificates."""
    address = address_of(address)
    ask = explorer()
    retired = "SELECT SUM(amount) FROM retirement WHERE contract = ? AND account = ?"
    certificates, outcomes, issuable = _certificates(address), _outcomes(address), issuable_to(address)
    return {
        "address": address,
        "totals": {
            "live_wh": sum(row["amount"] for row in certificates),
            "retired_wh": ask.number(retired, CERTIFICATE, address),
            "issuable_wh": sum(row["energy_wh"] for row in issuable),
            "live_g": sum(row["amount"] for row in outcomes),
            "retired_g": ask.number(retired, OUTCOME, address),
        },
        "certificates": certificates,
        "outcomes": outcomes,
        "issuable": issuable,
        "allowances": _allowances(address),
        "authorisations": _authorisations(),
        "relay": services().config.relay_url is not None,
    }


def wallet_setup(address: str | None) -> Model:
    """What the page's script starts from: the chain, the account shown, and its texts in the reader's language."""
    s = services()
    return {
        "account": address,
        "chain": {
            "chainId": hex(s.book.chain_id),
            "name": s.config.network.name,
            "rpcUrl": s.config.public_rpc_url,
            "currency": s.config.currency,
        },
        "contracts": {name: entry.address for name, entry in s.book.contracts.items()},
        "relay": s.config.relay_url is not None,
        "abi": url_for("portfolio.abi"),
        "words": {key: str(word) for key, word in wallet_words.WORDS.items()},
        "errors": {key: str(word) for key, word in wallet_words.ERRORS.items()},
        "fields": {key: str(word) for key, word in wallet_words.FIELDS.items()},
    }


def months_of(rows: list[Model]) -> list[tuple[str, str]]:
    """The UTC months that certificates are of, newest first, each as ``2016-07`` and in words."""
    starts = {row["month"]: row["start"] for row in rows}
    return [
        (month, words.month(words.datetime.fromtimestamp(starts[month], words.UTC)))
        for month in sorted(starts, reverse=True)
    ]


def _certificates(address: str) -> list[Model]:
    """Certificates held, by period. Amounts in Wh, times in UTC seconds."""
    rows = explorer().all(
        "SELECT b.id, b.amount, i.device_id, i.start, i.duration, d.fuel_code, d.technology_code, d.grid_zone, d.country"
        " FROM balance b JOIN (SELECT id, device_id, start, duration FROM issuance WHERE event = 'Issued' GROUP BY id) i USING (id)"
        " JOIN device d USING (device_id) WHERE b.contract = ? AND b.account = ? ORDER BY i.start, i.device_id",
        CERTIFICATE, address)  # fmt: skip
    for row in rows:
        row["device"] = _device_name(row["device_id"])
        row["month"] = words.isoday(row["start"])[:7]
        row["technology"] = words.technology(row.pop("fuel_code"), row.pop("technology_code"))
    return rows


def _outcomes(address: str) -> list[Model]:
    """Mitigation outcomes held, in g CO2e; ``retirable`` as their authorisation stands."""
    ask = explorer()
    states = {row["authorisation_id"]: row["state"] for row in _states()}
    rows = []
    for held in ask.account(address)["outcomes"]:
        state = states.get(held["authorisation_id"], 0)
        rows.append({
            **{name: held[name] for name in ("id", "amount", "factor_id", "year", "country", "authorisation_id", "estimate")},
            "name": words.token_name(held["id"], "outcomes"),
            "illustrative": bool(held["factor"] and held["factor"]["illustrative"]),
            "retirable": held["estimate"] or state >= 2,
        })  # fmt: skip
    return rows


def _states() -> list[Model]:
    """Where each authorisation stands (1 authorised, 2 first transferred, …)."""
    return explorer().all(
        "SELECT a.authorisation_id, a.country, a.details, COALESCE((SELECT MAX(state) FROM authorisation_state s"
        " WHERE s.authorisation_id = a.authorisation_id), 1) AS state FROM authorisation a ORDER BY a.block, a.log_index"
    )


def _authorisations() -> list[Model]:
    """Authorisations under which certificates can be converted now."""
    rows = []
    for row in _states():
        if row["state"] == 1:
            details = orjson.loads(row["details"])
            reference = words.tame(details.get("reference_", ""), 60)
            rows.append(
                {"authorisation_id": row["authorisation_id"], "country": row["country"], "reference": reference}
            )
    return rows


def _allowances(address: str) -> list[Model]:
    """Who may move all of an account's tokens of a contract, as ``ApprovalForAll`` last said."""
    rows = explorer().all(
        "SELECT e.contract, e.args FROM account a JOIN event e USING (block, log_index)"
        " WHERE a.address = ? AND e.name = 'ApprovalForAll' ORDER BY e.block, e.log_index", address)  # fmt: skip
    standing: dict[tuple[str, str], bool] = {}
    for row in rows:
        args = orjson.loads(row["args"])
        if args["account"] == address:
            standing[row["contract"], args["operator"]] = bool(args["approved"])
    return [
        {"contract": contract, "operator": operator} for (contract, operator), allowed in standing.items() if allowed
    ]


def _device_name(device_id: str) -> str:
    return words.tame(services().facts.name(device_id) or gettext("Device %(id)s", id=device_id), 80)


# -- what may be issued -----------------------------------------------------------------------------


def issuable_to(address: str) -> list[Model]:
    """First statements of notarized final batches that no certificate covers yet and whose account is ``address``.

    The account is the one in force at the statement's start; energies in Wh. Oldest first.
    """
    ask = explorer()
    devices = (
        "SELECT device_id FROM device WHERE account = ?1"
        " UNION SELECT device_id FROM device_change WHERE field = 'account' AND value = ?1"
    )
    account_then = (
        "COALESCE((SELECT c.value FROM device_change c WHERE c.device_id = s.device_id AND c.field = 'account'"
        " AND c.since <= s.start ORDER BY c.since DESC, c.block DESC, c.log_index DESC LIMIT 1), d.account)"
    )
    rows = ask.all(
        "SELECT s.root, s.device_id, s.start, s.duration, s.energy_wh FROM web.statement s JOIN notarization n USING (root)"
        " JOIN device d USING (device_id)"
        f" WHERE n.kind = 1 AND s.version = 0 AND d.kind = 1 AND s.device_id IN ({devices}) AND {account_then} = ?1"
        " AND NOT EXISTS (SELECT 1 FROM revocation r WHERE r.root = s.root) ORDER BY s.start, s.device_id", address)  # fmt: skip
    issued = defaultdict(list)
    for row in ask.all(
        "SELECT device_id, start, start + duration AS end FROM issuance WHERE event = 'Issued' AND device_id IN"
        f" ({devices}) GROUP BY id ORDER BY start", address):  # fmt: skip
        issued[row["device_id"]].append((row["start"], row["end"]))
    free = [row for row in rows if not _covered(issued[row["device_id"]], row["start"], row["start"] + row["duration"])]
    return [{**row, "device": _device_name(row["device_id"])} for row in free]


def _covered(periods: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether any of these periods, sorted and apart from each other, has a second in common with [start, end)."""
    at = bisect_left(periods, (end, 0))
    return at > 0 and periods[at - 1][1] > start


@pages.html.get("/portfolio/<address>/issue/<root>.json")
def issue_call(address: str, root: str) -> Response:
    """The call that issues an account's statements of one batch: function and arguments, with the proof from the archive.

    Query: device and start for one statement alone.
    """
    address, root = address_of(address), hash_of(root)
    wanted = [row for row in issuable_to(address) if row["root"] == root]
    if "device" in request.args:
        only = (request.args["device"], request.args.get("start", type=int))
        wanted = [row for row in wanted if (row["device_id"], row["start"]) == only]
    wanted = wanted[:ISSUE_ROWS]
    if not wanted:
        abort(404, gettext("Nothing of this batch is left to be issued to this account."))
    try:
        archive = services().archives.read(root)
        found = [archive.record(int(row["device_id"]), row["start"]) for row in wanted]
        by_leaf = {statement_leaf(record.statement): record.statement for record in found if record}
        leaves, proof, flags = archive.tree.multi_proof(list(by_leaf))
    except (ArchiveError, ProtocolError, OSError):
        abort(
            503,
            gettext(
                "The archive of this batch cannot be read at this moment, so there is no proof to show the contract."
            ),
        )
    statements = [_json_fields(statement_fields(by_leaf[leaf])) for leaf in leaves]
    if len(statements) == 1:
        args: list[Any] = [root, statements[0], [_hex(one) for one in archive.tree.proof(leaves[0])]]
    else:
        args = [root, statements, [_hex(one) for one in proof], flags]
    energy = sum(row["energy_wh"] for row in wanted)
    return jsonify(plain({
        "contract": CERTIFICATE, "function": "issue" if len(statements) == 1 else "issueMany", "args": args,
        "statements": wanted, "energy_wh": energy,
    }))  # fmt: skip


def _json_fields(fields: tuple[Any, ...]) -> list[Any]:
    """Fields of a statement for the script: whole numbers as text, since JSON readers round them."""
    return [_hex(field) if isinstance(field, bytes) else str(field) for field in fields]


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


# -- what wallets need ------------------------------------------------------------------------------


@pages.html.get("/wallet/abi.json")
def abi() -> Response:
    """The published ABI as far as wallets use it: functions by contract, and the errors of every contract."""
    known = artifacts().abis
    functions = {
        contract: [entry for entry in known[contract] if entry["type"] == "function" and entry["name"] in names]
        for contract, names in WALLET_CALLS.items()
    }
    errors = {(e["name"], str(e["inputs"])): e for entries in known.values() for e in entries if e["type"] == "error"}
    response = jsonify({"functions": functions, "errors": list(errors.values())})
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


@pages.html.get("/clear-signing/<name>.json")
def clear_signing(name: str) -> Response:
    """An ERC-7730 file with the addresses of this chain, for wallets that show what is signed in words."""
    if name not in CLEAR_SIGNING:
        abort(404)
    s = services()
    body = descriptor(name, s.book.chain_id, {contract: entry.address for contract, entry in s.book.contracts.items()})
    return jsonify(body)


# -- the relay --------------------------------------------------------------------------------------


@pages.html.post("/relay/retirements.json")
def relay_submit() -> Response:
    """Hand a signed retirement on to the relay. It carries no cookie on; the signature in it says who asks for what."""
    if request.content_length is None or request.content_length > MAX_RELAY_BODY_BYTES:
        abort(413)
    if request.mimetype != "application/json" or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        abort(403, gettext("Retirements are handed over by this site's own pages alone."))
    return _relayed("POST", "/retirements", request.get_data())


@pages.html.get("/relay/retirements/<request_id>.json")
def relay_ticket(request_id: str) -> Response:
    if not _REQUEST_ID.fullmatch(request_id):
        abort(404)
    return _relayed("GET", f"/retirements/{request_id}")


@pages.html.get("/relay/health.json")
def relay_health() -> Response:
    return _relayed("GET", "/health")


def _relayed(method: str, path: str, body: bytes | None = None) -> Response:
    url = services().config.relay_url
    if url is None:
        abort(404, gettext("This site has no relay: retire from your wallet."))
    headers = {"Content-Type": "application/json", "X-Forwarded-For": request.remote_addr or ""}
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method, url + path, data=body, headers=headers, timeout=RELAY_TIMEOUT_SECONDS, allow_redirects=False
            )
        content = orjson.dumps(orjson.loads(answer.content))
    except (requests.RequestException, orjson.JSONDecodeError):
        abort(502, gettext("The relay does not answer. Nothing was lost: retire from your wallet, or try again later."))
    response = current_app.response_class(content, answer.status_code, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def context() -> Model:
    """What only the template of this page asks."""
    return {"wallet_setup": wallet_setup, "months_of": months_of, "shown_rows": SHOWN_ROWS, "issue_rows": ISSUE_ROWS}


pages.html.app_context_processor(context)
