"""The event index: what the chain alone says, in a SQLite file that can be thrown away and rebuilt.

Event tables are only added to; every row carries its block, so that a reorganisation is undone by deleting
from a block on. Balances are the one running figure, and are undone by the deleted transfers themselves.
The hash of every block that holds events is kept; a stored hash that is no longer canonical rewinds the
index to the last one that is.

Events come first; who sent a transaction, and what it called, is read afterwards (``block.transactions`` is empty until
then), because a node takes many times as long to tell it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracle.store import keep_write_ahead_log

from .abi import ZERO
from .connections import Connections, execute_each, transaction

VERSION = 3
#: Blocks without events whose hash is kept, so that a short reorganisation rewinds a short way.
CHECKPOINTS = 128
PAGE_BYTES = 8_192
#: Pages that may wait in the write-ahead log before they are written back: 128 MiB.
PAGES_BETWEEN_CHECKPOINTS = 16_384

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE block (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, timestamp INTEGER NOT NULL, events INTEGER NOT NULL,
    transactions INTEGER);
CREATE TABLE tx (hash TEXT PRIMARY KEY, block INTEGER NOT NULL, position INTEGER NOT NULL, sender TEXT NOT NULL,
    receiver TEXT, function TEXT, value TEXT NOT NULL, succeeded INTEGER NOT NULL);
CREATE TABLE event (block INTEGER, log_index INTEGER, tx TEXT NOT NULL, contract TEXT NOT NULL, name TEXT NOT NULL,
    args TEXT NOT NULL, PRIMARY KEY (block, log_index)) WITHOUT ROWID;
CREATE TABLE account (address TEXT, block INTEGER, log_index INTEGER, PRIMARY KEY (address, block, log_index)) WITHOUT ROWID;
CREATE TABLE balance (contract TEXT, account TEXT, id TEXT, amount INTEGER NOT NULL, PRIMARY KEY (contract, account, id)) WITHOUT ROWID;
CREATE INDEX balance_emptied ON balance (amount) WHERE amount = 0;
CREATE INDEX block_unread ON block (number) WHERE events > 0 AND transactions IS NULL;
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
_PLACES = {"event": 6, "account": 3, "tx": 8, "block": 5} | {
    name: 5 + columns.count(",") for name, (columns, _) in _EVENT_TABLES.items()
}


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
    """How far the index has come. Times in UTC seconds; ``problem`` why the last look at the chain failed, or None.

    ``unread_blocks`` have events whose transactions are still to be read.
    """

    block: int | None
    block_hash: str | None
    block_time: int | None
    head: int | None
    final: int | None
    looked_at: float | None
    problem: str | None
    unread_blocks: int = 0


def hex_id(value: int) -> str:
    """A token id as the index, URLs and JSON write it: 0x and 64 hex digits."""
    return f"0x{value:064x}"


class Index:
    """The index file: opened for reading anywhere, written by one :class:`Follower`."""

    def __init__(self, path: Path, contracts: Contracts):
        self.path, self.contracts = path, contracts
        self._readers: dict[str | None, Connections] = {}
        self._writers = Connections(self._writer)
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = json.dumps(
            [VERSION, contracts.chain_id, contracts.deployed_block, sorted(contracts.addresses.items())]
        )
        with self.writing() as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            keep_write_ahead_log(db)
            with transaction(db):
                known = None
                if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                    known = db.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
                if not known or known[0] != identity:
                    self._empty(db)
                    db.execute("INSERT INTO meta VALUES ('identity', ?)", (identity,))

    @contextmanager
    def reading(self, web_database: str | None = None) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the index until the block ends, and cannot write it.

        ``web_database`` is the file that is attached as ``web``.
        """

        def opened() -> sqlite3.Connection:
            address = f"{self.path.resolve().as_uri()}?mode=ro"
            db = sqlite3.connect(address, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            if web_database:
                db.execute("ATTACH ? AS web", (web_database,))
            return db

        if web_database not in self._readers:
            self._readers[web_database] = Connections(opened)
        with self._readers[web_database].one() as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self._writers.one() as db:
            yield db

    def _writer(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        # A power cut may lose the last blocks, never the file: they are read from the chain again.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -65536")
        db.execute(f"PRAGMA wal_autocheckpoint = {PAGES_BETWEEN_CHECKPOINTS}")
        return db

    @staticmethod
    def _empty(db: sqlite3.Connection) -> None:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            db.execute(f"DROP TABLE {name}")
        execute_each(db, _schema())

    def rebuild(self) -> None:
        """Forget everything; the next look at the chain reads it anew."""
        with self.writing() as db:
            db.execute("BEGIN IMMEDIATE")
            for table in (*_BY_BLOCK, "balance"):
                db.execute(f"DELETE FROM {table}")
            db.execute("DELETE FROM meta WHERE key = 'scanned'")
            for name in _INDEXES:
                db.execute(f"DROP INDEX IF EXISTS {name}")
            db.execute("COMMIT")

    @staticmethod
    def complete(db: sqlite3.Connection) -> None:
        """Make the indexes that searches use, where they are not there yet."""
        present = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        if present.issuperset(_INDEXES):
            return
        db.execute("BEGIN IMMEDIATE")
        for name, what in _INDEXES.items():
            db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {what}")
        db.execute("COMMIT")

    # -- written by the follower, each call inside a transaction of its own ------------------------------

    @staticmethod
    def add(db: sqlite3.Connection, rows: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
        """Add rows of event tables, blocks and parties; balances move with the transfers among them."""
        with transaction(db):
            for table, entries in rows.items():
                marks = ",".join("?" * _PLACES[table])
                db.executemany(f"INSERT INTO {table} VALUES ({marks})", entries)
            _move_balances(db, rows.get("transfer", ()), 1)
            last = max(row[0] for row in rows["block"])
            db.execute(
                "DELETE FROM block WHERE events = 0 AND COALESCE(transactions, 0) = 0 AND number <= ?",
                (last - CHECKPOINTS,),
            )

    @staticmethod
    def add_transactions(
        db: sqlite3.Connection,
        blocks: Sequence[tuple[Any, ...]],
        rows: Sequence[tuple[Any, ...]],
        scanned: Scanned | None,
    ) -> None:
        """Add what blocks (rows of ``block``, their transactions counted) say of transactions, and how far they were ``scanned``."""
        with transaction(db):
            db.executemany("INSERT OR REPLACE INTO tx VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            for number, block_hash, timestamp, _, count in blocks:
                known = db.execute("UPDATE block SET transactions = ? WHERE number = ?", (count, number)).rowcount
                if count and not known:
                    db.execute("INSERT INTO block VALUES (?, ?, ?, 0, ?)", (number, block_hash, timestamp, count))
            if scanned:
                _keep_scanned(db, scanned)

    @staticmethod
    def take_back(db: sqlite3.Connection, fork: int, fork_hash: str | None = None) -> None:
        """Forget every block after ``fork``, whose hash is ``fork_hash`` where it is known."""
        with transaction(db):
            moved = db.execute("SELECT * FROM transfer WHERE block > ?", (fork,)).fetchall()
            _move_balances(db, moved, -1)
            for table in _BY_BLOCK:
                db.execute(f"DELETE FROM {table} WHERE {'number' if table == 'block' else 'block'} > ?", (fork,))
            scanned = Index.scanned(db)
            if scanned and scanned.last > fork:
                _keep_scanned(db, Scanned(scanned.first, max(fork, scanned.first - 1), fork_hash))

    @staticmethod
    def scanned(db: sqlite3.Connection) -> Scanned | None:
        row = db.execute("SELECT value FROM meta WHERE key = 'scanned'").fetchone()
        return Scanned(*json.loads(row[0])) if row else None


@dataclass(frozen=True, slots=True)
class Scanned:
    """Blocks ``first`` to ``last`` whose every transaction was looked at; ``last_hash`` None where it is not known."""

    first: int
    last: int
    last_hash: str | None


def _keep_scanned(db: sqlite3.Connection, scanned: Scanned) -> None:
    value = json.dumps([scanned.first, scanned.last, scanned.last_hash])
    db.execute("INSERT OR REPLACE INTO meta VALUES ('scanned', ?)", (value,))


def _move_balances(db: sqlite3.Connection, transfers: Iterable[Sequence[Any]], sign: int) -> None:
    """Apply rows of ``transfer`` to the balances, or take them back with ``sign`` -1. Emptied balances leave no row."""
    changes: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for _, _, _, _, contract, _, sender, receiver, token, amount in transfers:
        changes[contract, sender, token] -= amount
        changes[contract, receiver, token] += amount
    moved = sorted((*key, sign * change) for key, change in changes.items() if change and key[1] != ZERO)
    db.executemany(
        "INSERT INTO balance (contract, account, id, amount) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (contract, account, id) DO UPDATE SET amount = amount + excluded.amount",
        moved,
    )
    db.execute("DELETE FROM balance WHERE amount = 0")
