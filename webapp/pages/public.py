"""The explorer: overview, devices, batches, certificates, accounts, transactions, retirements, outcomes, search."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from eth_utils.address import is_address, is_checksum_formatted_address, to_checksum_address
from flask import abort, redirect, request, url_for
from flask_babel import gettext
from werkzeug.wrappers import Response

from oracle.domain import DAY_SECONDS
from oracle.errors import ChainUnreachable, ProtocolError

from ..abi import artifacts, checksum, plain
from ..app import explorer, freshness, services
from ..explorer import OUTCOME, TOKENS
from ..node import NodeRefused
from ..readings import day_profile, device_days
from . import Model, Pages, cursor

pages = Pages("public")

_HASH = re.compile(r"0x[0-9a-f]{64}")


def hash_of(text: str) -> str:
    """A 32-byte hash or id as the index writes it; 404 for anything else."""
    value = text.lower()
    if not _HASH.fullmatch(value):
        abort(404)
    return value


def address_of(text: str) -> str:
    if not is_address(text):
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


@pages.page("/", "overview.html")
def overview() -> Model:
    """What was notarized, issued, retired and converted, and how fresh these figures are."""
    ask, s = explorer(), services()
    wallet = s.config.demo_wallet
    return {
        "totals": ask.totals(),
        "batches": [row | finality(row["block"]) for row in ask.batches(rows=6)["rows"]],
        "retirements": ask.retirements(rows=5)["rows"],
        "checks": ask.statement_counts(),
        "chain": {
            "chain_id": s.book.chain_id,
            "chain_id_hex": hex(s.book.chain_id),
            "name": s.config.network.name,
            "rpc_url": s.config.public_rpc_url,
            "currency": s.config.currency,
            "contracts": {name: entry.address for name, entry in s.book.contracts.items()},
        },
        "demo_wallet": {"name": wallet.name, "address": wallet.address, "key_command": wallet.key_command}
        if wallet
        else None,
        "freshness": freshness_model(),
    }


@pages.page("/devices", "devices.html")
def devices() -> Model:
    """Every registered device with its totals."""
    rows = explorer().devices()
    for row in rows:
        row["name"] = services().facts.name(row["device_id"])
        row["place"] = services().facts.place(row["device_id"])
    return {"devices": rows}


@pages.page("/devices/<device_id>", "device.html")
def device(device_id: str) -> Model:
    """A device: its terms, what is known of it, its days, and one day's 15-minute profile (query: day=YYYY-MM-DD)."""
    ask, s = explorer(), services()
    found = ask.device(device_id)
    if found is None:
        abort(404)
    days = device_days(ask, s.oracle_days, device_id, final_block())
    start = _chosen_day(days)
    known = next((d for d in days if d["start"] == start), None)
    profile = day_profile(ask, s.archives, s.oracle_days, device_id, start) if start is not None else None
    if profile and profile["irradiance"]:
        profile["irradiance"]["title"] = s.facts.station_title(profile["irradiance"]["station"])
    earlier = [d["start"] for d in days if start is not None and d["start"] < start]
    later = [d["start"] for d in days if start is not None and d["start"] > start]
    return {
        "device": {**found, "name": s.facts.name(device_id), "place": s.facts.place(device_id)},
        "facts": s.facts.table(device_id),
        "days": days,
        "day": {
            "start": start,
            "known": known,
            "profile": profile,
            "previous": max(earlier, default=None),
            "next": min(later, default=None),
        },
        "certificates": ask.certificates(device_id=device_id, rows=8)["rows"],
    }


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


@pages.page("/batches", "batches.html")
def batches() -> Model:
    """Notarized batches, newest first (query: after)."""
    page = explorer().batches(cursor())
    for row in page["rows"]:
        row |= finality(row["block"])
    return page


@pages.page("/batches/<root>", "batch.html")
def batch(root: str) -> Model:
    """A batch: who signed it, what it holds, what was issued from it."""
    root = hash_of(root)
    found = explorer().batch(root)
    if found is None:
        abort(404)
    statements = explorer().statements(root=root, cursor=cursor())
    return {
        "batch": {**found, **finality(found["block"])},
        "statements": statements["rows"],
        "next": statements["next"],
    }


@pages.page("/certificates", "certificates.html")
def certificates() -> Model:
    """Issued certificates, newest first (query: device, after)."""
    device_id = request.args.get("device") or None
    return {**explorer().certificates(device_id=device_id, cursor=cursor()), "device_id": device_id}


@pages.page("/certificates/<token>", "certificate.html")
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
    row = ask.one("SELECT start FROM web.statement WHERE root = ? AND device_id = ? AND start = ?",
                  found["issued"]["root"], found["device_id"], found["start"])  # fmt: skip
    statement = ask.statement(found["issued"]["root"], found["device_id"], found["start"]) if row else None
    profile = day_profile(
        ask, s.archives, s.oracle_days, found["device_id"], found["start"] // DAY_SECONDS * DAY_SECONDS
    )
    if profile and profile["irradiance"]:
        profile["irradiance"]["title"] = s.facts.station_title(profile["irradiance"]["station"])
    sums = {
        "live_wh": sum(h["amount"] for h in found["holders"]),
        "retired_wh": sum(r["amount"] for r in found["retirements"]),
        "converted_wh": sum(c["amount_wh"] for c in found["conversions"]),
    }
    return {
        "certificate": {**found, **sums, "device_name": s.facts.name(found["device_id"])},
        "batch": ask.batch(found["issued"]["root"]),
        "statement": statement,
        "profile": profile,
        "finality": finality(found["issued"]["block"]),
    }


@pages.page("/accounts/<address>", "account.html")
def account(address: str) -> Model:
    """An account's balances, retirements and history (query: after)."""
    address = address_of(address)
    ask = explorer()
    history = ask.history(address, cursor())
    return {
        "account": ask.account(address),
        "retirements": ask.retirements(account=address, rows=20)["rows"],
        "history": history["rows"],
        "next": history["next"],
    }


@pages.page("/transactions/<tx>", "transaction.html")
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
        "input_bytes": len(data),
        "call": {"contract": called, "name": call.name, "args": plain(call.args)} if call else None,
        "status": "waiting",
        "reason": None,
        "time": None,
        "logs": [],
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
        }
        block = node.call("eth_getBlockByNumber", receipt["blockNumber"], False)
        live["time"] = int(block["timestamp"], 16) if block else None
        if live["status"] == "reverted":
            live["reason"] = _revert_reason(found)
    return live


def _log(entry: dict[str, Any]) -> Model:
    contract = services().index.contracts.name_of(entry["address"])
    topics = [bytes.fromhex(topic[2:]) for topic in entry["topics"]]
    event = artifacts().event(contract, topics, bytes.fromhex(entry["data"][2:])) if contract else None
    return {
        "log_index": int(entry["logIndex"], 16),
        "address": checksum(entry["address"]),
        "contract": contract,
        "name": event.name if event else None,
        "args": plain(event.args) if event else {"topics": entry["topics"], "data": entry["data"][:2_000]},
    }


def _revert_reason(tx: dict[str, Any]) -> Model | None:
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


@pages.page("/retirements", "retirements.html")
def retirements() -> Model:
    """Retirements of certificates and outcomes, newest first (query: after)."""
    return explorer().retirements(cursor=cursor())


@pages.page("/retirements/<token>/<int:number>", "retirement.html")
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


@pages.page("/outcomes", "outcomes.html")
def outcomes() -> Model:
    """Mitigation outcomes and the conversions they came from (query: after)."""
    conversions = explorer().conversions(cursor=cursor())
    return {"outcomes": explorer().outcomes(), "conversions": conversions["rows"], "next": conversions["next"]}


@pages.page("/outcomes/<token>", "outcome.html")
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
        "conversions": ask.conversions(outcome_id=token)["rows"],
        "retirements": ask.retirement_items(OUTCOME, token),
    }


@pages.page("/factors", "factors.html")
def factors() -> Model:
    """Emission factors with their sources; none is ever edited, only superseded."""
    return {"factors": explorer().factors()}


@pages.html.get("/search")
def search() -> Response | str:
    """Find by address, transaction, root, certificate id, device or retirement number."""
    from flask import render_template

    text = request.args.get("q", "").strip()
    found = _found(text)
    if len(found) == 1:
        return redirect(found[0]["url"])
    return render_template("search.html", q=text, found=found, json_url=None)


def _found(text: str) -> list[dict[str, str]]:
    ask = explorer()
    results: list[dict[str, str]] = []

    def add(kind: str, name: str, endpoint: str, **values: Any) -> None:
        results.append({"kind": kind, "name": name, "url": url_for(f"public.{endpoint}", **values)})

    if is_address(text) and (text == text.lower() or is_checksum_formatted_address(text)):
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
        if ask.one("SELECT 1 FROM tx WHERE hash = ?", value):
            add(gettext("Transaction"), value, "transaction", tx=value)
        statement = ask.one(
            "SELECT root, device_id, start FROM web.statement WHERE leaf = ? OR profile_hash = ? LIMIT 1", value, value
        )
        if statement:
            results.append(
                {"kind": gettext("Statement"), "name": value, "url": url_for("checks.statement", **statement)}
            )
    if text.isdecimal() and len(text) <= 78:
        as_id = f"0x{int(text):064x}"
        if len(text) > 20 and len(as_id) == 66 and ask.one("SELECT 1 FROM issuance WHERE id = ? LIMIT 1", as_id):
            add(gettext("Certificate"), as_id, "certificate", token=as_id)
        if ask.device(text):
            add(gettext("Device"), services().facts.name(text) or text, "device", device_id=text)
        if len(text) < 19:
            for token, contract in TOKENS.items():
                if ask.one("SELECT 1 FROM retirement WHERE contract = ? AND number = ? LIMIT 1", contract, int(text)):
                    add(gettext("Retirement"), f"{contract} {text}", "retirement", token=token, number=int(text))
    sites = services().facts.sites
    for known in sites.devices if sites and len(text) >= 2 else ():
        if text.casefold() in known.name.casefold() and ask.device(str(known.device_id)):
            add(gettext("Device"), known.name, "device", device_id=str(known.device_id))
    return results
