"""The operators' database: who is signed in, and what is asked of the registrar. ``operators.sqlite3`` in the state folder.

It is apart from the web database because it cannot be made again from chain and archives, and because looking at pages must
not wait for it. Every process that serves the app shares it. Only the hash of a session's id is kept: who reads the file cannot
act by it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oracle.store import keep_write_ahead_log

from .connections import execute_each, transaction

#: A sign-in ends after this long in any case, and this long after its last request.
ABSOLUTE_SECONDS, IDLE_SECONDS = 8 * 3_600, 30 * 60
#: How exactly the last request is known; each note is a write.
SEEN_SECONDS = 60
#: States of a request. That it was fulfilled is told by the chain alone.
OPEN, REFUSED, WITHDRAWN = "open", "refused", "withdrawn"
MOST_OPEN_REQUESTS = 50

_SCHEMA = """
CREATE TABLE sign_in (id_hash TEXT PRIMARY KEY, address TEXT NOT NULL, created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL);
CREATE INDEX sign_in_address ON sign_in (address);
CREATE TABLE spent_nonce (nonce TEXT PRIMARY KEY, until INTEGER NOT NULL);
CREATE TABLE request (id INTEGER PRIMARY KEY, filed_by TEXT NOT NULL, filed_at INTEGER NOT NULL, device TEXT NOT NULL, meter_hash TEXT NOT NULL,
    previous_device TEXT, state TEXT NOT NULL, decided_by TEXT, decided_at INTEGER, reason TEXT);
CREATE INDEX request_filed_by ON request (filed_by);
PRAGMA user_version = 1;
"""


class Desk:
    """The open database. Times are UTC seconds; ``now`` is for tests of what time does."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with self.connection() as db:
            keep_write_ahead_log(db)
            with transaction(db):
                if not db.execute("PRAGMA user_version").fetchone()[0]:
                    execute_each(db, _SCHEMA)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            yield db
        finally:
            db.close()

    # -- sign-ins -----------------------------------------------------------------------------------

    def spend(self, nonce: str, until: int, *, now: float | None = None) -> bool:
        """Whether nobody used ``nonce`` before; it is used from now on. It may be forgotten after ``until``."""
        with self.connection() as db:
            db.execute("DELETE FROM spent_nonce WHERE until < ?", (int(_now(now)),))
            return db.execute("INSERT OR IGNORE INTO spent_nonce VALUES (?, ?)", (nonce, until)).rowcount == 1

    def sign_in(self, address: str, *, instead_of: str | None, now: float | None = None) -> str:
        """A new sign-in's id, which never was anybody's; the one that the browser had before ends."""
        new, moment = secrets.token_urlsafe(32), int(_now(now))
        with self.connection() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM sign_in WHERE id_hash = ? OR created_at <= ?", (_hash(instead_of or ""), moment - ABSOLUTE_SECONDS))  # fmt: skip
            db.execute("INSERT INTO sign_in VALUES (?, ?, ?, ?)", (_hash(new), address, moment, moment))
            db.execute("COMMIT")
        return new

    def address_of(self, sign_in: str, *, now: float | None = None) -> str | None:
        """Who is signed in by this id; None where it is nobody's or over."""
        moment = int(_now(now))
        with self.connection() as db:
            row = db.execute(
                "SELECT address, seen_at FROM sign_in WHERE id_hash = ? AND created_at > ? AND seen_at > ?",
                (_hash(sign_in), moment - ABSOLUTE_SECONDS, moment - IDLE_SECONDS)).fetchone()  # fmt: skip
            if row is None:
                return None
            if moment - row["seen_at"] >= SEEN_SECONDS:
                db.execute("UPDATE sign_in SET seen_at = ? WHERE id_hash = ?", (moment, _hash(sign_in)))
            return str(row["address"])

    def sign_ins(self, *, now: float | None = None) -> list[dict[str, Any]]:
        """Sign-ins that hold: account, since when, last request. Not by what: ids are nobody's but their browser's."""
        moment = _now(now)
        with self.connection() as db:
            rows = db.execute(
                "SELECT address, created_at, seen_at FROM sign_in WHERE created_at > ? AND seen_at > ? ORDER BY seen_at DESC",
                (moment - ABSOLUTE_SECONDS, moment - IDLE_SECONDS),
            )
            return [dict(row) for row in rows]

    def sign_out(self, sign_in: str) -> None:
        with self.connection() as db:
            db.execute("DELETE FROM sign_in WHERE id_hash = ?", (_hash(sign_in),))

    def sign_out_everywhere(self, address: str) -> None:
        with self.connection() as db:
            db.execute("DELETE FROM sign_in WHERE address = ?", (address,))

    # -- requests for a device's registration -------------------------------------------------------

    def file(self, filed_by: str, device: dict[str, Any], meter_hash: str, previous_device: str | None) -> int | None:
        """Id of a new open request; None where the account has as many open ones as it may.

        ``previous_device`` has the meter now: the request is fulfilled once another has it.
        """
        with self.connection() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                query = "SELECT COUNT(*) FROM request WHERE filed_by = ? AND state = ?"
                if db.execute(query, (filed_by, OPEN)).fetchone()[0] >= MOST_OPEN_REQUESTS:
                    return None
                row = (filed_by, int(time.time()), json.dumps(device), meter_hash, previous_device, OPEN)
                return db.execute(
                    "INSERT INTO request (filed_by, filed_at, device, meter_hash, previous_device, state) VALUES (?, ?, ?, ?, ?, ?)", row
                ).lastrowid  # fmt: skip
            finally:
                db.execute("COMMIT")

    def decide(self, request_id: int, state: str, by: str, reason: str) -> bool:
        """Refuse or withdraw an open request; False where it is not open (any more)."""
        with self.connection() as db:
            changed = db.execute(
                "UPDATE request SET state = ?, decided_by = ?, decided_at = ?, reason = ? WHERE id = ? AND state = ?",
                (state, by, int(time.time()), reason, request_id, OPEN))  # fmt: skip
            return changed.rowcount == 1

    def request(self, request_id: int) -> dict[str, Any] | None:
        found = self._requests("WHERE id = ?", request_id)
        return found[0] if found else None

    def requests(self, filed_by: str | None = None) -> list[dict[str, Any]]:
        """Requests of one account or all, newest first."""
        return self._requests("WHERE filed_by = ?", filed_by) if filed_by else self._requests("")

    def _requests(self, condition: str, *values: Any) -> list[dict[str, Any]]:
        with self.connection() as db:
            rows = db.execute(f"SELECT * FROM request {condition} ORDER BY id DESC LIMIT 1000", values).fetchall()
            return [{**dict(row), "device": json.loads(row["device"])} for row in rows]


def _hash(sign_in: str) -> str:
    return hashlib.sha256(sign_in.encode()).hexdigest()


def _now(now: float | None) -> float:
    return time.time() if now is None else now
