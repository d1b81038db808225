"""The event index: what the chain alone says, in a SQLite file that can be thrown away and rebuilt.

Event tables are only added to; every row carries its block, so that a reorganisation is undone by deleting
from a block on. Balances are the one running figure, and are undone by the deleted transfers themselves.
The hash of every block that holds events is kept; a stored hash that is no longer canonical rewinds the
index to the last one that is.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from oracle.errors import ChainError, ChainUnreachable

from .abi import ZERO, Artifacts, Call, checksum, plain
from .node import Node, NodeRefused

logger = logging.getLogger(__name__)

VERSION = 2
BLOCKS_PER_REQUEST = 2_000
FIRST_BLOCKS = 200
#: Ranges are made as long as hold about so many events: an answer of a few MB, and bounded memory.
EVENTS_PER_REQUEST = 4_000
#: Blocks without events whose hash is kept, so that a short reorganisation rewinds a short way.
CHECKPOINTS = 128

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE block (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, timestamp INTEGER NOT NULL, events INTEGER NOT NULL);
CREATE TABLE tx (hash TEXT PRIMARY KEY, block INTEGER NOT NULL, position INTEGER NOT NULL, sender TEXT NOT NULL,
    receiver TEXT, function TEXT, value TEXT NOT NULL);
CREATE TABLE event (block INTEGER, log_index INTEGER, tx TEXT NOT NULL, contract TEXT NOT NULL, name TEXT NOT NULL,
    args TEXT NOT NULL, PRIMARY KEY (block, log_index)) WITHOUT ROWID;
CREATE TABLE account (address TEXT, block INTEGER, log_index INTEGER, PRIMARY KEY (address, block, log_index)) WITHOUT ROWID;
CREATE TABLE balance (contract TEXT, account TEXT, id TEXT, amount INTEGER NOT NULL, PRIMARY KEY (contract, account, id)) WITHOUT ROWID;
"""

# Columns of the event tables beside block, log_index, item and tx. The second member lists what is searched.
# Device and authorisation ids are 64-bit on the chain, one bit more than SQLite's integers: kept as decimal text.
_EVENT_TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "device": (
        "device_id TEXT, account TEXT, meter_hash TEXT, capacity_w INTEGER, kind INTEGER, visibility INTEGER, country TEXT,"
        " granularity INTEGER, fuel_code INTEGER, technology_code INTEGER, active_from INTEGER, active_until INTEGER, grid_zone TEXT",
        ("device_id",),
    ),
    "device_change": ("device_id TEXT, field TEXT, value TEXT, since INTEGER", ("device_id",)),
    "notarization": (
        "root TEXT, new_head TEXT, kind INTEGER, signer_epoch INTEGER, head TEXT, start INTEGER, end INTEGER,"
        " statements INTEGER, energy_wh INTEGER, archive_hash TEXT, deadline INTEGER, signers TEXT",
        ("root",),
    ),
    "revocation": ("root TEXT, by TEXT, reason TEXT", ("root",)),
    "signer_set": ("epoch INTEGER, threshold INTEGER, signers TEXT, removed TEXT, reason TEXT", ()),
    "issuance": (
        "event TEXT, id TEXT, device_id TEXT, start INTEGER, duration INTEGER, root TEXT, account TEXT, energy_wh INTEGER,"
        " previous_wh INTEGER, version INTEGER, profile_hash TEXT, debt_wh INTEGER",
        ("id", "device_id", "root"),
    ),
    "transfer": (
        "contract TEXT, operator TEXT, sender TEXT, receiver TEXT, id TEXT, amount INTEGER",
        ("contract, id",),
    ),
    "retirement": (
        "contract TEXT, number INTEGER, account TEXT, id TEXT, amount INTEGER, beneficiary TEXT, beneficiary_name TEXT,"
        " purpose TEXT, country TEXT, location TEXT, consumption_start INTEGER, consumption_end INTEGER",
        ("contract, number", "contract, id", "account"),
    ),
    "conversion": (
        "account TEXT, certificate_id TEXT, outcome_id TEXT, amount_wh INTEGER, co2e_g INTEGER, rest_micrograms INTEGER",
        ("certificate_id", "outcome_id"),
    ),
    "levy": ("outcome_id TEXT, share_of_proceeds_g INTEGER, overall_mitigation_g INTEGER", ("outcome_id",)),
    "factor": (
        "factor_id INTEGER, grid_zone TEXT, year INTEGER, grams_per_mwh INTEGER, illustrative INTEGER, approver TEXT,"
        " source_hash TEXT, source TEXT",
        ("factor_id",),
    ),
    "factor_supersession": ("factor_id INTEGER, superseded_by INTEGER", ("factor_id",)),
    "authorisation": ("authorisation_id TEXT, country TEXT, details TEXT", ("authorisation_id",)),
    "authorisation_state": ("authorisation_id TEXT, state INTEGER, evidence_hash TEXT", ("authorisation_id",)),
}
#: Made once the first stretches are in: sorted whole they cost a third of what they cost row by row.
_INDEXES = {
    "tx_block": "tx (block)",
    "tx_sender": "tx (sender, block)",
    "event_tx": "event (tx)",
    "account_block": "account (block)",
    "balance_id": "balance (contract, id)",
} | {
    f"{table}_{i}": f"{table} ({what})"
    for table, (_, searched) in _EVENT_TABLES.items()
    for i, what in enumerate(searched)
}
_BY_BLOCK = (*_EVENT_TABLES, "event", "account", "tx", "block")


def _schema() -> str:
    parts = [_TABLES]
    for name, (columns, _) in _EVENT_TABLES.items():
        parts.append(
            f"CREATE TABLE {name} (block INTEGER, log_index INTEGER, item INTEGER, tx TEXT, {columns}, PRIMARY KEY (block, log_index, item)) WITHOUT ROWID;"
        )
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Contracts:
    """Where the contracts are: ``addresses`` by contract name, checksummed; ``deployed_block`` of the first."""

    chain_id: int
    deployed_block: int
    addresses: dict[str, str]

    def name_of(self, address: str | None) -> str | None:
        return next((name for name, at in self.addresses.items() if address and at.lower() == address.lower()), None)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the index has come. Times in UTC seconds; ``problem`` why the last look at the chain failed, or None."""

    block: int | None
    block_hash: str | None
    block_time: int | None
    head: int | None
    final: int | None
    looked_at: float | None
    problem: str | None


def hex_id(value: int) -> str:
    """A token id as the index, URLs and JSON write it: 0x and 64 hex digits."""
    return f"0x{value:064x}"


def ascii_of(value: str) -> str:
    """Text of a right-padded bytes field (country, grid zone)."""
    return bytes.fromhex(value[2:]).rstrip(b"\0").decode("ascii", "replace")


class Index:
    """The index file: opened for reading anywhere, written by one :class:`Follower`."""

    def __init__(self, path: Path, contracts: Contracts):
        self.path, self.contracts = path, contracts
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = json.dumps(
            [VERSION, contracts.chain_id, contracts.deployed_block, sorted(contracts.addresses.items())]
        )
        with self.writing() as db:
            db.execute("PRAGMA journal_mode=WAL")
            known = None
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                known = db.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
            if not known or known[0] != identity:
                self._empty(db)
                db.execute("INSERT INTO meta VALUES ('identity', ?)", (identity,))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the index until the block ends, and cannot write."""
        db = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            db.execute("BEGIN")
            yield db
        finally:
            db.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        db.row_factory = sqlite3.Row
        # A power cut may lose the last blocks, never the file: they are read from the chain again.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -65536")
        try:
            yield db
        finally:
            db.close()

    @staticmethod
    def _empty(db: sqlite3.Connection) -> None:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            db.execute(f"DROP TABLE {name}")
        db.executescript(_schema())

    def rebuild(self) -> None:
        """Forget everything; the next look at the chain reads it anew."""
        with self.writing() as db:
            db.execute("BEGIN IMMEDIATE")
            for table in (*_BY_BLOCK, "balance"):
                db.execute(f"DELETE FROM {table}")
            for name in _INDEXES:
                db.execute(f"DROP INDEX IF EXISTS {name}")
            db.execute("COMMIT")

    @staticmethod
    def complete(db: sqlite3.Connection) -> None:
        """Make the indexes that searches use, where they are not there yet."""
        db.execute("BEGIN IMMEDIATE")
        for name, what in _INDEXES.items():
            db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {what}")
        db.execute("COMMIT")


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a node says of the blocks ``first`` to ``last``: their ``logs`` of our contracts, and the ``blocks`` with any.

    ``parent`` is the hash of the block before ``first``.
    """

    first: int
    last: int
    parent: str
    tip: dict[str, Any]
    logs: list[dict[str, Any]]
    blocks: dict[int, dict[str, Any]]

    def next_step(self) -> int:
        """How many blocks to ask for next, so that answers stay of one size whether blocks are full or empty."""
        blocks = self.last - self.first + 1
        return max(1, min(BLOCKS_PER_REQUEST, 4 * blocks, blocks * EVENTS_PER_REQUEST // max(1, len(self.logs))))


class Follower:
    """Keeps an index in step with a node, on its own thread once started.

    ``finality_depth`` is the number of blocks on top that make a block final; None asks for the node's own tag.
    """

    def __init__(
        self,
        index: Index,
        node: Node,
        artifacts: Artifacts,
        *,
        finality_depth: int | None = None,
        interval_seconds: float = 3,
    ):
        self.index, self.node, self.artifacts = index, node, artifacts
        self.finality_depth, self.interval_seconds = finality_depth, interval_seconds
        self._claim: int | None = None
        self._by_address = {address.lower(): name for name, address in index.contracts.addresses.items()}
        self._wake, self._ended = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int | None, int | None, float | None, str | None] = (None, None, None, None)

    # -- running ------------------------------------------------------------------------------------

    def start(self, after: Callable[[], None] = lambda: None) -> None:
        """Look at the chain now and every ``interval_seconds``; ``after`` is called after each look."""
        self._after = after
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=30)
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def nudge(self) -> None:
        """Look at the chain soon, without waiting for it."""
        self._wake.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.sync()
            try:
                self._after()
            except Exception:
                logger.exception("what follows a look at the chain failed")
            self._wake.wait(self.interval_seconds)
            self._wake.clear()

    def freshness(self) -> Freshness:
        head, final, looked_at, problem = self._seen
        with self.index.reading() as db:
            row = db.execute("SELECT number, hash, timestamp FROM block ORDER BY number DESC LIMIT 1").fetchone()
        number, block_hash, timestamp = row if row else (None, None, None)
        return Freshness(number, block_hash, timestamp, head, final, looked_at, problem)

    # -- one look at the chain ----------------------------------------------------------------------

    def sync(self) -> Freshness:
        """Bring the index to the node's newest block. An unreachable or wrong node is told in ``problem``, never raised."""
        with self._lock:
            head, final, looked_at, _ = self._seen
            try:
                head, final = self._sync()
                self._seen = (head, final, time.time(), None)
            except (ChainError, OverflowError, sqlite3.Error, KeyError, TypeError, ValueError) as fault:
                # A malformed answer must not end the thread: what is indexed stays served, with its age.
                kind = "" if isinstance(fault, ChainError) else f"{type(fault).__name__}: "
                self._seen = (head, final, looked_at, f"{kind}{fault}")
        return self.freshness()

    def _sync(self) -> tuple[int, int]:
        contracts = self.index.contracts
        chain_id = int(self.node.call("eth_chainId"), 16)
        if chain_id != contracts.chain_id:
            raise ChainError(f"the node is of chain {chain_id}, the address book of chain {contracts.chain_id}")
        head = int(self.node.call("eth_blockNumber"), 16)
        if not self._writes():
            return head, self._final(head)
        with self.index.writing() as db, ThreadPoolExecutor(1, "fetch") as fetcher:
            # One range is fetched while the one before is decoded and stored.
            waiting, step = None, FIRST_BLOCKS
            fork, parent = self._rewind(db)
            first = fork + 1
            while first <= head or waiting:
                coming = None
                if first <= head:
                    coming = fetcher.submit(self._fetch, first, head, step)
                if waiting:
                    self._store(db, waiting)
                if coming is None:
                    break
                waiting = coming.result()
                if parent and waiting.parent != parent:
                    # What was stored before no longer leads here; the next look takes it back.
                    raise ChainUnreachable("the chain was reorganised while it was read; reading it again")
                first, parent = waiting.last + 1, waiting.tip["hash"]
                step = waiting.next_step()
            self.index.complete(db)
        return head, self._final(head)

    def _writes(self) -> bool:
        """Whether this process keeps the index: one of those that serve it does, and another goes on where it ends."""
        if self._claim is None:
            claim = os.open(self.index.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(claim)
                return False
            self._claim = claim
        return True

    def _final(self, head: int) -> int:
        if self.finality_depth is not None:
            return head - self.finality_depth
        try:
            block = self.node.call("eth_getBlockByNumber", "finalized", False)
        except NodeRefused:
            block = None
        return int(block["number"], 16) if block else -1

    def _rewind(self, db: sqlite3.Connection) -> tuple[int, str | None]:
        """Number and hash of the last indexed block that is still canonical; what came after it is taken back."""
        stored = db.execute("SELECT number, hash FROM block ORDER BY number DESC").fetchall()
        fork, fork_hash = self.index.contracts.deployed_block - 1, None
        for number, block_hash in stored:
            block = self.node.call("eth_getBlockByNumber", hex(number), False)
            if block and block["hash"] == block_hash:
                fork, fork_hash = number, block_hash
                break
        if stored and stored[0]["number"] > fork:
            db.execute("BEGIN IMMEDIATE")
            _move_balances(db, db.execute("SELECT * FROM transfer WHERE block > ?", (fork,)).fetchall(), -1)
            for table in _BY_BLOCK:
                db.execute(f"DELETE FROM {table} WHERE {'number' if table == 'block' else 'block'} > ?", (fork,))
            db.execute("COMMIT")
        return fork, fork_hash

    def _fetch(self, first: int, head: int, step: int) -> Stretch:
        """The blocks from ``first`` on, at most ``step``: fewer where the node refuses as many."""
        while True:
            try:
                return self._fetch_to(first, min(first + step - 1, head))
            except NodeRefused:
                # Nodes limit a range by blocks or by answers, each in its own words.
                if step == 1:
                    raise
                step = max(1, step // 4)

    def _fetch_to(self, first: int, last: int) -> Stretch:
        parent, tip = self._header(first)["parentHash"], self._header(last)
        logs = self.node.call(
            "eth_getLogs",
            {"fromBlock": hex(first), "toBlock": hex(last), "address": list(self.index.contracts.addresses.values())},
        )
        numbers = sorted({int(log["blockNumber"], 16) for log in logs})
        blocks = {
            int(b["number"], 16): b
            for b in self.node.batch("eth_getBlockByNumber", [[hex(n), True] for n in numbers])
            if b
        }
        # The same tip before and after, and every log's block on its way: the answers belong to one chain.
        moved = self._header(last)["hash"] != tip["hash"]
        if moved or any(blocks.get(int(log["blockNumber"], 16), {}).get("hash") != log["blockHash"] for log in logs):
            raise ChainUnreachable("the chain was reorganised while it was read; reading it again")
        return Stretch(first, last, parent, tip, logs, blocks)

    def _store(self, db: sqlite3.Connection, read: Stretch) -> None:
        """Decode a stretch and commit it as a whole."""
        last, tip, logs, blocks = read.last, read.tip, read.logs, read.blocks
        rows: dict[str, list[dict[str, Any]]] = {}
        named: list[tuple[Any, ...]] = []
        parties: list[tuple[str, int, int]] = []
        events: dict[int, int] = {}
        for log in logs:
            number, log_index = int(log["blockNumber"], 16), int(log["logIndex"], 16)
            events[number] = events.get(number, 0) + 1
            event = self._event(log)
            if event is None:
                continue
            tx = log["transactionHash"]
            args = orjson.dumps(plain(event.args)).decode()
            named.append((number, log_index, tx, event.contract, event.name, args))
            parties += [(address, number, log_index) for address in event.addresses()]
            for item, (table, row) in enumerate(event_rows(event)):
                rows.setdefault(table, []).append(
                    {"block": number, "log_index": log_index, "item": item, "tx": tx, **row}
                )
        wanted = {log["transactionHash"] for log in logs}
        for number, block in blocks.items():
            rows.setdefault("block", []).append(_block_row(block, events[number]))
            rows.setdefault("tx", []).extend(
                self._tx_row(t, number) for t in block["transactions"] if t["hash"] in wanted
            )
        if last not in blocks:
            rows.setdefault("block", []).append(_block_row(tip, 0))
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", named)
            db.executemany("INSERT INTO account VALUES (?, ?, ?)", sorted(parties))
            for table, entries in rows.items():
                names = list(entries[0])
                marks = ",".join(f":{name}" for name in names)
                db.executemany(f"INSERT INTO {table} ({','.join(names)}) VALUES ({marks})", entries)
            _move_balances(db, rows.get("transfer", []), 1)
            db.execute("DELETE FROM block WHERE events = 0 AND number <= ?", (last - CHECKPOINTS,))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def _header(self, number: int) -> dict[str, Any]:
        block: dict[str, Any] | None = self.node.call("eth_getBlockByNumber", hex(number), False)
        if block is None:
            raise ChainUnreachable(f"the node no longer has block {number}")
        return block

    def _tx_row(self, tx: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "hash": tx["hash"],
            "block": number,
            "position": int(tx["transactionIndex"], 16),
            "sender": checksum(tx["from"]),
            "receiver": checksum(tx["to"]) if tx["to"] else None,
            "function": self.artifacts.function(tx["input"]) if tx["to"] else None,
            "value": str(int(tx["value"], 16)),
        }

    def _event(self, log: dict[str, Any]) -> Call | None:
        contract = self._by_address.get(log["address"].lower())
        return self.artifacts.log(contract, log["topics"], log["data"]) if contract else None


def _block_row(block: dict[str, Any], events: int) -> dict[str, Any]:
    return {
        "number": int(block["number"], 16),
        "hash": block["hash"],
        "timestamp": int(block["timestamp"], 16),
        "events": events,
    }


def _move_balances(db: sqlite3.Connection, transfers: list[Any], sign: int) -> None:
    """Apply transfers to the balances, or take them back with ``sign`` -1. Emptied balances leave no row."""
    changes: dict[tuple[str, str, str], int] = {}
    for t in transfers:
        for account, amount in ((t["sender"], -t["amount"]), (t["receiver"], t["amount"])):
            if account != ZERO:
                key = (t["contract"], account, t["id"])
                changes[key] = changes.get(key, 0) + sign * amount
    moved = [(*key, change) for key, change in changes.items() if change]
    db.executemany(
        "INSERT INTO balance (contract, account, id, amount) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (contract, account, id) DO UPDATE SET amount = amount + excluded.amount",
        moved,
    )
    db.executemany(
        "DELETE FROM balance WHERE contract = ? AND account = ? AND id = ? AND amount = 0",
        [key for *key, change in moved if change < 0],
    )


def event_rows(event: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows that one event adds to the event tables."""
    a = event.args
    match event.name:
        case "DeviceRegistered":
            d = a["device"]
            yield "device", {
                "device_id": str(a["deviceId"]), "account": d["account"], "meter_hash": d["meterHash"], "capacity_w": d["capacityW"],
                "kind": d["kind"], "visibility": d["visibility"], "country": ascii_of(d["country"]), "granularity": d["granularity"],
                "fuel_code": d["fuelCode"], "technology_code": d["technologyCode"], "active_from": d["activeFrom"],
                "active_until": d["activeUntil"], "grid_zone": ascii_of(d["gridZone"]),
            }  # fmt: skip
        case "AccountSet":
            yield (
                "device_change",
                {"device_id": str(a["deviceId"]), "field": "account", "value": a["account"], "since": a["since"]},
            )
        case "CapacitySet":
            yield (
                "device_change",
                {
                    "device_id": str(a["deviceId"]),
                    "field": "capacity_w",
                    "value": str(a["capacityW"]),
                    "since": a["since"],
                },
            )
        case "DeviceDeactivated":
            until = a["activeUntil"]
            yield (
                "device_change",
                {"device_id": str(a["deviceId"]), "field": "active_until", "value": str(until), "since": until},
            )
        case "Notarized":
            b = a["batch"]
            yield "notarization", {
                "root": a["root"], "new_head": a["newHead"], "kind": b["kind"], "signer_epoch": b["signerEpoch"], "head": b["head"],
                "start": b["start"], "end": b["end"], "statements": b["statements"], "energy_wh": b["energyWh"],
                "archive_hash": b["archiveHash"], "deadline": b["deadline"], "signers": json.dumps(a["signers"]),
            }  # fmt: skip
        case "Revoked":
            yield "revocation", {"root": a["root"], "by": a["by"], "reason": a["reason"]}
        case "SignersSet":
            signers = {"epoch": a["epoch"], "threshold": a["threshold"], "signers": json.dumps(a["signers"])}
            yield "signer_set", {**signers, "removed": None, "reason": None}
        case "SignerRemoved":
            yield (
                "signer_set",
                {
                    "epoch": a["epoch"],
                    "threshold": None,
                    "signers": None,
                    "removed": a["signer"],
                    "reason": a["reason"],
                },
            )
        case "Issued" | "Settled" | "SkippedCertified" | "SkippedRefused" | "Corrected" | "DebtIncurred":
            token = a["id"]
            yield "issuance", {
                "event": event.name, "id": hex_id(token), "device_id": str(token >> 192), "start": token >> 152 & (1 << 40) - 1,
                "duration": token >> 120 & (1 << 32) - 1, "root": a.get("root"), "account": a.get("account"),
                "energy_wh": a.get("energyWh", a.get("amountWh")), "previous_wh": a.get("previousWh"), "version": a.get("version"),
                "profile_hash": a.get("profileHash"), "debt_wh": a.get("debtWh"),
            }  # fmt: skip
        case "TransferSingle":
            yield "transfer", _transfer(event, a["id"], a["value"])
        case "TransferBatch":
            for token, amount in zip(a["ids"], a["values"], strict=True):
                yield "transfer", _transfer(event, token, amount)
        case "Retired":
            yield "retirement", _retirement(event, a["id"], a["amount"])
        case "RetiredBatch":
            for token, amount in zip(a["ids"], a["amounts"], strict=True):
                yield "retirement", _retirement(event, token, amount)
        case "Converted":
            yield "conversion", {
                "account": a["account"], "certificate_id": hex_id(a["certificateId"]), "outcome_id": hex_id(a["outcomeId"]),
                "amount_wh": a["amountWh"], "co2e_g": a["co2eG"], "rest_micrograms": a["restMicrograms"],
            }  # fmt: skip
        case "LeviesTaken":
            levies = {"share_of_proceeds_g": a["shareOfProceedsG"], "overall_mitigation_g": a["overallMitigationG"]}
            yield "levy", {"outcome_id": hex_id(a["outcomeId"]), **levies}
        case "FactorPublished":
            f = a["factor"]
            yield "factor", {
                "factor_id": a["factorId"], "grid_zone": ascii_of(f["gridZone"]), "year": f["year"], "grams_per_mwh": f["gramsPerMWh"],
                "illustrative": int(f["illustrative"]), "approver": f["approver"], "source_hash": f["sourceHash"], "source": f["source"],
            }  # fmt: skip
        case "FactorSuperseded":
            yield "factor_supersession", {"factor_id": a["factorId"], "superseded_by": a["supersededBy"]}
        case "Authorised":
            details = json.dumps(plain(a["authorisation"]))
            yield (
                "authorisation",
                {"authorisation_id": str(a["authorisationId"]), "country": ascii_of(a["country"]), "details": details},
            )
        case "StateAdvanced":
            state = {"state": a["state"], "evidence_hash": a["evidenceHash"]}
            yield "authorisation_state", {"authorisation_id": str(a["authorisationId"]), **state}


def _transfer(event: Call, token: int, amount: int) -> dict[str, Any]:
    a = event.args
    parties = {"operator": a["operator"], "sender": a["from"], "receiver": a["to"]}
    return {"contract": event.contract, **parties, "id": hex_id(token), "amount": amount}


def _retirement(event: Call, token: int, amount: int) -> dict[str, Any]:
    a, d = event.args, event.args["details"]
    return {
        "contract": event.contract, "number": a["number"], "account": a["account"], "id": hex_id(token), "amount": amount,
        "beneficiary": d["beneficiary"], "beneficiary_name": d["beneficiaryName"], "purpose": d["purpose"],
        "country": ascii_of(d["country"]), "location": d["location"], "consumption_start": d["consumptionStart"],
        "consumption_end": d["consumptionEnd"],
    }  # fmt: skip
