"""The explorer: overview, devices, batches, certificates, accounts, transactions, retirements, outcomes, search."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from apiflask.fields import Boolean, Integer
from eth_utils.address import is_address, is_checksum_address, to_checksum_address
from flask import abort, redirect, render_template, request, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response

from oracle.domain import DAY_SECONDS, Visibility
from oracle.errors import ChainError, ChainUnreachable, ProtocolError

from .. import api, tables, words
from ..abi import artifacts, checksum, plain
from ..app import explorer, freshness, label, services
from ..decoding import event_rows
from ..explorer import OUTCOME, TOKENS
from ..node import NodeRefused
from ..queries import DAY, Row
from ..readings import day_profile, device_days, figures
from ..refusals import refusal
from ..said import METHODS, SAID, VERSION, operator_says, versions
from ..tables import CHECKS
from . import Listing, Model, Pages

pages = Pages("public")
pages.html.app_context_processor(lambda: {"estimate_methods": METHODS, "refusal": refusal})

_HASH = re.compile(r"0x[0-9a-f]{64}")


def hash_of(text: str) -> str:
    """A 32-byte hash or id as the index writes it; 404 for anything else."""
    value = text.lower()
    if not _HASH.fullmatch(value):
        abort(404)
    return value


def is_sound_address(text: str) -> bool:
    """Whether an address is written in one case, or in both as its checksum asks: anything else is mistyped."""
    return bool(is_address(text)) and (
        text[2:] in (text[2:].lower(), text[2:].upper()) or bool(is_checksum_address(text))
    )


def address_of(text: str) -> str:
    if not is_sound_address(text):
        abort(404)
    return str(to_checksum_address(text))


def final_block() -> int | None:
    """Highest final block, None while the node has never answered."""
    return freshness().final


def finality(block: int | None) -> Model:
    """What can be said of a block: its confirmations and whether it is final; None where the node never answered."""
    fresh = freshness()
    if block is None or fresh.head is None or fresh.final is None:
        return {"confirmations": None, "final": None}
    return {"confirmations": max(fresh.head - block + 1, 0), "final": block <= fresh.final}


def freshness_model() -> Model:
    fresh = freshness()
    return {
        "block": fresh.block, "block_time": fresh.block_time, "head": fresh.head, "final_block": fresh.final,
        "looked_at": None if fresh.looked_at is None else int(fresh.looked_at), "problem": fresh.problem,
    }  # fmt: skip


@pages.page(
    "/",
    "overview.html",
    steady=True,
    schema=api.shape(
        "Overview", totals=api.one(api.TOTALS), breakdown=api.one(api.BREAKDOWN), batches=api.many(api.rows_of(tables.BATCHES)),
        retirements=api.many(api.rows_of(tables.RETIREMENTS)), checks=api.counts(), chain=api.one(api.CHAIN),
        demo_wallet=api.maybe(api.one(api.WALLET)), freshness=api.one(api.FRESHNESS),
    ),
)  # fmt: skip
def overview() -> Model:
    """What was notarized, issued, retired and converted, and how fresh these figures are."""
    ask, s = explorer(), services()
    wallet = s.config.demo_wallet
    return {
        "totals": ask.totals(),
        "breakdown": _breakdown(),
        "batches": [row | finality(row["block"]) for row in ask.batches(rows=6)],
        "retirements": ask.retirements(rows=5),
        "checks": ask.statement_counts(),
        "chain": {
            "chain_id": s.book.chain_id,
            "chain_id_hex": hex(s.book.chain_id),
            "name": s.config.network.name,
            "rpc_url": s.config.public_rpc_url,
            "currency": s.config.currency,
            "contracts": {name: entry.address for name, entry in s.book.contracts.items()},
            "code": {
                name: {
                    "address": entry.address, "code": s.codes.states[name], "code_hash": "0x" + entry.code_hash.hex(),
                    "block": entry.block,
                }
                for name, entry in s.book.contracts.items()
            },
        },
        "demo_wallet": {"name": wallet.name, "address": wallet.address, "key_command": wallet.key_command}
        if wallet
        else None,
        "freshness": freshness_model(),
    }  # fmt: skip


def _breakdown() -> Model:
    """The breakdown of everything issued, reckoned once for each newest block."""
    kept, newest = services().kept, explorer().newest()
    if kept.get("breakdown", ("", None))[0] != newest:
        kept["breakdown"] = (newest, explorer().breakdown())
    found: Model = kept["breakdown"][1]
    return found


@pages.list("/devices", tables.DEVICES)
def devices(rows: list[Row]) -> None:
    """Every registered device with its totals."""
    facts = services().facts
    for row in rows:
        place = None if row["visibility"] == Visibility.PRIVATE else facts.place(row["device_id"])
        row |= {"name": facts.name(row["device_id"]) or "", "place": place}


@pages.page(
    "/devices/<device_id>",
    "device.html",
    query={"day": api.Parameter("UTC day whose profile is wanted, as 2016-07-14", DAY.pattern)},
    schema=api.shape(
        "DevicePage", device=api.one(api.DEVICE), facts=api.many(api.FACT), days=api.many(api.DAY),
        day=api.one(api.shape("ChosenDay", start=api.maybe(Integer()), known=api.maybe(api.one(api.DAY)),
                              profile=api.maybe(api.one(api.PROFILE)), previous=api.maybe(Integer()), next=api.maybe(Integer()))),
        versions=api.many(VERSION), said=api.one(SAID), certificates=api.many(api.rows_of(tables.CERTIFICATES)),
    ),
)  # fmt: skip
def device(device_id: str) -> Model:
    """A device: its terms, what is known of it, its days, and one day's 15-minute profile (query: day=YYYY-MM-DD)."""
    ask, s = explorer(), services()
    found = ask.device(device_id)
    if found is None:
        abort(404)
    hidden = ask.is_private(device_id)
    days = device_days(ask, s.oracle_days, device_id, final_block())
    start = _chosen_day(days)
    known = next((d for d in days if d["start"] == start), None)
    earlier = [d["start"] for d in days if start is not None and d["start"] < start]
    later = [d["start"] for d in days if start is not None and d["start"] > start]
    return {
        "device": {**found, "name": s.facts.name(device_id), "place": None if hidden else s.facts.place(device_id)},
        "facts": [] if hidden else s.facts.table(device_id),
        "days": days,
        "day": {
            "start": start,
            "known": known,
            "profile": titled_profile(device_id, start) if start is not None else None,
            "previous": max(earlier, default=None),
            "next": min(later, default=None),
        },
        "versions": versions(ask, device_id, start) if start is not None else [],
        "said": operator_says(s.oracle_days, device_id, -1 if start is None or hidden else start),
        "certificates": ask.certificates(device_id, rows=8),
    }


def titled_profile(device_id: str, start: int) -> Model | None:
    """The profile of the UTC day that begins at ``start``, with the title of its irradiance station."""
    s = services()
    profile = day_profile(explorer(), s.archives, s.oracle_days, device_id, start)
    if profile and profile["irradiance"]:
        profile["irradiance"]["title"] = s.facts.station_title(profile["irradiance"]["station"])
    return profile


def shape_of(device_id: str, start: int, duration: int) -> Model:
    """A period's readings: ``profile`` of one UTC day, the first or that which ``?day=`` names, and ``days``, figures of each
    day if the period touches several; neither where they are ``private``."""
    if explorer().is_private(device_id):
        return {"profile": None, "days": [], "private": True}
    first = start // DAY_SECONDS * DAY_SECONDS
    starts = list(range(first, start + duration, DAY_SECONDS))
    chosen = _day_asked_for()
    profiles = [titled_profile(device_id, one) for one in starts]
    known = {one: profile for one, profile in zip(starts, profiles, strict=True) if profile}
    return {
        "profile": known.get(chosen if chosen in known else min(known, default=first)),
        "days": [{"start": one, **figures(known.get(one))} for one in starts] if len(starts) > 1 else [],
        "private": False,
    }


def _day_asked_for() -> int | None:
    try:
        return int(datetime.strptime(request.args.get("day", ""), "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _chosen_day(days: list[dict[str, Any]]) -> int | None:
    """UTC seconds of the day asked for, else the last with a statement, else the last of all."""
    text = request.args.get("day")
    if text:
        try:
            return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
        except ValueError:
            abort(404)
    certified = [d["start"] for d in days if d["root"]]
    return max(certified or [d["start"] for d in days], default=None)


@pages.list("/batches", tables.BATCHES)
def batches(rows: list[Row]) -> None:
    """Notarized batches."""
    for row in rows:
        row |= finality(row["block"])


@pages.page(
    "/batches/<root>",
    "batch.html",
    steady=True,
    query=api.list_query(CHECKS),
    schema=api.shape(
        "BatchPage", batch=api.one(api.rows_of(tables.BATCHES)), statements=api.many(api.rows_of(CHECKS)), next=api.maybe(api.text()),
    ),
)  # fmt: skip
def batch(root: str) -> Model:
    """A batch: who signed it, what it holds, what was issued from it."""
    root = hash_of(root)
    found = explorer().batch(root)
    if found is None:
        abort(404)
    query = CHECKS.query(request.args, fixed={"root": root}, forgiving=True)
    page = explorer().page(query, statement_names)
    listing = Listing(query, f"/batches/{root}", page["rows"], page["next"])
    return {
        "batch": found | finality(found["block"]),
        "statements": page["rows"],
        "next": page["next"],
        "listing": listing,
    }


def statement_names(rows: list[Row]) -> None:
    for row in rows:
        row["device_name"] = services().facts.name(row["device_id"]) or ""


@pages.list("/certificates", tables.CERTIFICATES)
def certificates(rows: list[Row]) -> None:
    """Issued certificates."""


@pages.page(
    "/certificates/<token>",
    "certificate.html",
    steady=True,
    schema=api.shape(
        "CertificatePage", batch=api.maybe(api.one(api.rows_of(tables.BATCHES))), finality=api.one(api.FINALITY_SCHEMA),
        statement=api.maybe(api.one(api.rows_of(CHECKS))), profile=api.maybe(api.one(api.PROFILE)),
        days=api.many(api.SHAPE_DAY), private=Boolean(), certificate=api.one(api.CERTIFICATE),
    ),
    query=api.DAY_OF_PERIOD,
)  # fmt: skip
def certificate(token: str) -> Model:
    """A certificate from its readings to its retirements."""
    token = hash_of(token)
    ask, s = explorer(), services()
    try:
        found = ask.certificate(token)
    except ProtocolError:
        found = None
    if found is None:
        abort(404)
    statement = ask.statement_row(found["issued"]["root"], found["device_id"], found["start"])
    if statement:
        statement_names([statement])
    sums = {
        "live_wh": sum(h["amount"] for h in found["holders"]),
        "retired_wh": sum(r["amount"] for r in found["retirements"]),
        "converted_wh": sum(c["amount_wh"] for c in found["conversions"]),
    }
    return {
        "certificate": {**found, **sums, "device_name": s.facts.name(found["device_id"])},
        "batch": _with_finality(ask.batch(found["issued"]["root"])),
        "statement": statement,
        **shape_of(found["device_id"], found["start"], found["duration"]),
        "finality": finality(found["issued"]["block"]),
    }


def _with_finality(row: Row | None) -> Row | None:
    return row | finality(row["block"]) if row else None


@pages.list("/accounts", tables.ACCOUNTS)
def accounts(rows: list[Row]) -> None:
    """Accounts that took part in anything."""
    for row in rows:
        known = label(row["address"])
        row["label"] = known["text"] if known else None


@pages.page(
    "/accounts/<address>",
    "account.html",
    steady=True,
    schema=api.shape(
        "AccountPage", account=api.one(api.ACCOUNT), retirements=api.many(api.rows_of(tables.RETIREMENTS)),
        history=api.many(api.rows_of(tables.ACTIVITY)),
    ),
)  # fmt: skip
def account(address: str) -> Model:
    """An account's balances, its last retirements and its last events."""
    address = address_of(address)
    ask = explorer()
    return {
        "account": ask.account(address),
        "retirements": ask.retirements(account=address, rows=20),
        "history": ask.page(tables.ACTIVITY.query({}, base=(address,), rows=20))["rows"],
    }


def _account_of(address: str) -> tuple[str]:
    return (address_of(address),)


@pages.list("/accounts/<address>/holdings", tables.HOLDINGS, base=_account_of)
def holdings(rows: list[Row]) -> None:
    """What an account holds."""


@pages.list("/accounts/<address>/activity", tables.ACTIVITY, base=_account_of)
def activity(rows: list[Row]) -> None:
    """Every event that names an account."""


@pages.list("/transactions", tables.TRANSACTIONS)
def transactions(rows: list[Row]) -> None:
    """Transactions that left events of these contracts."""
    try:
        receipts = services().node.batch("eth_getTransactionReceipt", [[row["hash"]] for row in rows])
    except ChainError:
        # Fee and status are the node's alone to tell; without it they are not known.
        receipts = [None] * len(rows)
    for row, receipt in zip(rows, receipts, strict=True):
        row |= finality(row["block"])
        if receipt:
            row["fee_wei"] = str(int(receipt["gasUsed"], 16) * int(receipt.get("effectiveGasPrice") or "0x0", 16))
            row["status"] = "succeeded" if int(receipt["status"], 16) == 1 else "reverted"


@pages.page(
    "/transactions/<tx>",
    "transaction.html",
    schema=api.shape("TransactionPage", transaction=api.one(api.TRANSACTION)),
)
def transaction(tx: str) -> Model:
    """A transaction as the node tells it now, with its input, logs and moved tokens decoded."""
    tx = hash_of(tx)
    indexed = explorer().transaction(tx)
    live, problem = None, None
    try:
        live = _live_transaction(tx)
    except (ChainUnreachable, NodeRefused) as fault:
        problem = str(fault)
    if indexed is None and live is None:
        if problem:
            abort(503, gettext("The node cannot be reached, and the index does not know this transaction."))
        abort(404)
    block = live["block"] if live else indexed["block"] if indexed else None
    timestamp = indexed["time"] if indexed else live["time"] if live else None
    return {
        "transaction": {
            "hash": tx,
            "time": timestamp,
            "indexed": indexed,
            "live": live,
            "problem": problem,
            **finality(block),
        }
    }


def _live_transaction(tx: str) -> Model | None:
    node, contracts, known = services().node, services().index.contracts, artifacts()
    found, receipt = node.call("eth_getTransactionByHash", tx), node.call("eth_getTransactionReceipt", tx)
    if found is None:
        return None
    data = bytes.fromhex(found["input"][2:])
    called = contracts.name_of(found["to"])
    call = known.call(data) if called else None
    live: Model = {
        "block": int(found["blockNumber"], 16) if found.get("blockNumber") else None,
        "block_hash": found.get("blockHash"),
        "sender": checksum(found["from"]),
        "receiver": checksum(found["to"]) if found["to"] else None,
        "nonce": int(found["nonce"], 16),
        "value_wei": str(int(found["value"], 16)),
        "input": found["input"],
        "input_bytes": len(data),
        "call": {"contract": called, "name": call.name, "args": plain(call.args)} if call else None,
        "status": "waiting",
        "reason": None,
        "time": None,
        "logs": [],
        "moved": [],
        **dict.fromkeys(("gas_used", "gas_limit", "gas_price_wei", "fee_wei")),
    }
    if receipt:
        price = int(receipt.get("effectiveGasPrice") or found.get("gasPrice") or "0x0", 16)
        live |= {
            "status": "succeeded" if int(receipt["status"], 16) == 1 else "reverted",
            "gas_used": int(receipt["gasUsed"], 16),
            "gas_limit": int(found["gas"], 16),
            "gas_price_wei": str(price),
            "fee_wei": str(int(receipt["gasUsed"], 16) * price),
            "logs": [_log(entry) for entry in receipt["logs"]],
            "moved": [row for entry in receipt["logs"] for row in _moved(entry)],
        }
        block = node.call("eth_getBlockByNumber", receipt["blockNumber"], False)
        live["time"] = int(block["timestamp"], 16) if block else None
        if live["status"] == "reverted":
            live["reason"] = revert_reason(found)
    return live


def _event(entry: dict[str, Any]) -> tuple[str | None, Any]:
    """Contract and decoded event of a raw log; None for what is not ours."""
    contract = services().index.contracts.name_of(entry["address"])
    topics = [bytes.fromhex(topic[2:]) for topic in entry["topics"]]
    return contract, artifacts().event(contract, topics, bytes.fromhex(entry["data"][2:])) if contract else None


def _log(entry: dict[str, Any]) -> Model:
    contract, event = _event(entry)
    return {
        "log_index": int(entry["logIndex"], 16),
        "address": checksum(entry["address"]),
        "contract": contract,
        "name": event.name if event else None,
        "args": plain(event.args) if event else {"topics": entry["topics"], "data": entry["data"][:2_000]},
    }


def _moved(entry: dict[str, Any]) -> list[Model]:
    """Tokens that a raw log moved, in the index's words."""
    _, event = _event(entry)
    rows = [row for table, row in event_rows(event) if table == "transfer"] if event else []
    return [{key: row[key] for key in ("contract", "sender", "receiver", "id", "amount")} for row in rows]


def revert_reason(tx: dict[str, Any]) -> Model | None:
    """The contract's error, by repeating the call on the block before; None where the node no longer has that state."""
    before = hex(int(tx["blockNumber"], 16) - 1)
    request_ = {"from": tx["from"], "to": tx["to"], "data": tx["input"], "value": tx["value"], "gas": tx["gas"]}
    try:
        services().node.call("eth_call", request_, before)
    except NodeRefused as refused:
        data = refused.data.get("data") if isinstance(refused.data, dict) else refused.data
        error = artifacts().error(bytes.fromhex(data[2:])) if isinstance(data, str) and data.startswith("0x") else None
        if error:
            return {"name": error.name, "args": plain(error.args)}
    except ChainUnreachable:
        pass
    return None


@pages.list("/retirements", tables.RETIREMENTS)
def retirements(rows: list[Row]) -> None:
    """Retirements of certificates and outcomes."""


@pages.page(
    "/retirements/<token>/<int:number>",
    "retirement.html",
    steady=True,
    schema=api.shape("RetirementPage", retirement=api.one(api.RETIREMENT), chain_id=Integer()),
)
def retirement(token: str, number: int) -> Model:
    """A retirement's public statement; token is certificate or outcome."""
    contract = TOKENS.get(token)
    found = explorer().retirement(contract, number) if contract and number < 1 << 63 else None
    if found is None:
        abort(404)
    for item in found["items"]:
        item["device_name"] = services().facts.name(item.get("device_id", ""))
        if contract == OUTCOME and "factor_id" in item:
            item["factor"] = explorer().factor(item["factor_id"])
    return {"retirement": {**found, "kind": token, **finality(found["block"])}, "chain_id": services().book.chain_id}


@pages.list("/outcomes", tables.OUTCOMES)
def outcomes(rows: list[Row]) -> None:
    """Mitigation outcomes."""


@pages.list("/conversions", tables.CONVERSIONS)
def conversions(rows: list[Row]) -> None:
    """Conversions of certificates to mitigation outcomes."""


@pages.page(
    "/outcomes/<token>",
    "outcome.html",
    steady=True,
    schema=api.shape(
        "OutcomePage", outcome=api.one(api.rows_of(tables.OUTCOMES)), holders=api.many(api.HOLDER),
        conversions=api.many(api.rows_of(tables.CONVERSIONS)), retirements=api.many(api.RETIRED),
    ),
)  # fmt: skip
def outcome(token: str) -> Model:
    """One outcome id: its factor, its holders, conversions and retirements."""
    token = hash_of(token)
    found = explorer().outcome(token)
    if found is None:
        abort(404)
    ask = explorer()
    return {
        "outcome": found,
        "holders": ask.holders(OUTCOME, token),
        "conversions": ask.conversions(outcome=token),
        "retirements": ask.retirement_items(OUTCOME, token),
    }


@pages.list("/factors", tables.FACTORS)
def factors(rows: list[Row]) -> None:
    """Emission factors with their sources; none is ever edited, only superseded."""


@pages.api.get("/search")
@pages.api.doc(
    summary="What an address, hash, id, number or name stands for",
    extensions={"x-query": api.described({"q": api.Parameter("What is looked for, at most 200 characters")})},
)
@pages.api.output(api.shape("Search", q=api.text(), found=api.many(api.FOUND)))
def search_api() -> Response:
    text = request.args.get("q", "").strip()[:200]
    return api.answer(lambda: {"q": text, "found": _found(text)}, steady=True)


@pages.html.get("/search")
def search() -> Response | str:
    """Find by address, transaction, root, certificate id, device, retirement number or the hash of a meter file."""
    text = request.args.get("q", "").strip()
    found = _found(text)
    if len(found) == 1:
        return redirect(found[0]["url"])
    return render_template("search.html", q=text, found=found, json_url=None)


def _known_to_node(tx: str) -> bool:
    """Whether the node knows a transaction that left no event of ours, as refused ones do not."""
    try:
        return services().node.call("eth_getTransactionByHash", tx) is not None
    except ChainError:
        return False


def _by_short_name(text: str) -> list[Row]:
    """Certificates and outcomes that pages call so (:func:`webapp.words.token_name`)."""
    certificate = re.fullmatch(r"([0-9]{1,20})-([0-9]{8})(?:T([0-9]{4}))?", text)
    outcome = re.fullmatch(r"([0-9]{1,10})-([0-9]{4})-([A-Za-z]{2})-([0-9]{1,20})", text)
    try:
        if certificate:
            device_id, day, clock = certificate.groups()
            start = int(datetime.strptime(day + (clock or "0000"), "%Y%m%d%H%M").replace(tzinfo=UTC).timestamp())
            sql = "SELECT DISTINCT id, 'certificate' AS noun FROM issuance WHERE device_id = ? AND start = ?"
            return explorer().all(sql, str(int(device_id)), start)
        if outcome:
            factor, year, country, rest = outcome.groups()
            two = int.from_bytes(country.upper().encode(), "big")
            value = int(factor) << 224 | int(year) << 208 | two << 192 | int(rest) << 128
            sql = "SELECT outcome_id AS id, 'outcome' AS noun FROM conversion WHERE outcome_id = ? LIMIT 1"
            return explorer().all(sql, f"0x{value:064x}")
    except ValueError:
        pass
    return []


def _found(text: str) -> list[dict[str, str]]:
    ask = explorer()
    results: list[dict[str, str]] = []

    def add(kind: str, name: str, endpoint: str, **values: Any) -> None:
        results.append({"kind": kind, "name": name, "url": url_for(f"public.{endpoint}", **values)})

    if is_sound_address(text):
        add(gettext("Account"), text, "account", address=to_checksum_address(text))
    value = text.lower()
    value = value if value.startswith("0x") else "0x" + value
    if _HASH.fullmatch(value):
        if ask.batch(value):
            add(gettext("Batch"), value, "batch", root=value)
        if ask.one("SELECT 1 FROM issuance WHERE id = ? LIMIT 1", value):
            add(gettext("Certificate"), value, "certificate", token=value)
        if ask.one("SELECT 1 FROM conversion WHERE outcome_id = ? LIMIT 1", value):
            add(gettext("Mitigation outcome"), value, "outcome", token=value)
        if ask.one("SELECT 1 FROM tx WHERE hash = ?", value) or _known_to_node(value):
            add(gettext("Transaction"), value, "transaction", tx=value)
        statement = ask.one(
            "SELECT root, device_id, start FROM web.statement WHERE leaf = ? OR profile_hash = ? LIMIT 1", value, value
        )
        if statement:
            results.append(
                {"kind": gettext("Statement"), "name": value, "url": url_for("checks.statement", **statement)}
            )
        for row in ask.evidence(value)[:20]:
            day = datetime.fromtimestamp(row["start"], UTC).strftime("%Y-%m-%d")
            name = f"{services().facts.name(row['device_id']) or row['device_id']}, {day}"
            results.append(
                {"kind": gettext("Rests on this file"), "name": name, "url": url_for("checks.statement", **row)}
            )
    if text.isdecimal() and len(text) <= 78:
        as_id = f"0x{int(text):064x}"
        for noun, kind, sql in (
            ("certificate", gettext("Certificate"), "SELECT 1 FROM issuance WHERE id = ? LIMIT 1"),
            ("outcome", gettext("Mitigation outcome"), "SELECT 1 FROM conversion WHERE outcome_id = ? LIMIT 1"),
        ):
            # Wallets show an id so.
            if len(text) > 20 and len(as_id) == 66 and ask.one(sql, as_id):
                add(kind, as_id, noun, token=as_id)
        if ask.device(text):
            add(gettext("Device"), services().facts.name(text) or text, "device", device_id=text)
        if len(text) < 19:
            for token, contract in TOKENS.items():
                if ask.one("SELECT 1 FROM retirement WHERE contract = ? AND number = ? LIMIT 1", contract, int(text)):
                    name = f"{words.CONTRACTS[contract]}, {gettext('No. %(n)s', n=text)}"
                    add(gettext("Retirement"), name, "retirement", token=token, number=int(text))
    for found in _by_short_name(text):
        kind = gettext("Certificate") if found["noun"] == "certificate" else gettext("Mitigation outcome")
        add(kind, text, found["noun"], token=found["id"])
    sites = services().facts.sites
    for known in sites.devices if sites and len(text) >= 2 else ():
        if text.casefold() in known.name.casefold() and ask.device(str(known.device_id)):
            add(gettext("Device"), known.name, "device", device_id=str(known.device_id))
    return results
