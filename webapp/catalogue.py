"""The web app's own database: what the archives contain, and what validations found, with their times.

Statements are listed here so that tables can be searched and paged; nothing in this file is evidence. A
validation reads the archive and the chain anew each time (:mod:`webapp.validation`).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock
from typing import Any

from oracle.archive import Archive, read_archive
from oracle.domain import CheckResult
from oracle.errors import ArchiveError
from oracle.protocol import BYTES_PER_SLOT, statement_leaf
from oracle.store import keep_write_ahead_log

from .connections import Connections, execute_each, transaction

_EVIDENCE = """
CREATE TABLE evidence (file_hash TEXT, root TEXT, device_id TEXT, start INTEGER, PRIMARY KEY (file_hash, root, device_id, start))
    WITHOUT ROWID;
CREATE INDEX evidence_root ON evidence (root);
DELETE FROM archive;
PRAGMA user_version = 2;
"""
_SCHEMA = """
CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE archive (root TEXT PRIMARY KEY, stamp TEXT NOT NULL, present INTEGER NOT NULL, problem TEXT);
CREATE TABLE statement (root TEXT, device_id TEXT, start INTEGER, duration INTEGER NOT NULL, version INTEGER,
    energy_wh INTEGER NOT NULL, previous_wh INTEGER NOT NULL, profile_hash TEXT NOT NULL, leaf TEXT NOT NULL,
    readings INTEGER NOT NULL, PRIMARY KEY (root, device_id, start, version));
CREATE INDEX statement_device ON statement (device_id, start);
CREATE INDEX statement_leaf ON statement (leaf);
CREATE TABLE validation (root TEXT, device_id TEXT, start INTEGER, version INTEGER, headline TEXT NOT NULL, data TEXT NOT NULL,
    inclusion TEXT NOT NULL, finality TEXT NOT NULL, authority TEXT NOT NULL, reasons TEXT NOT NULL, calculated TEXT,
    checked_at INTEGER NOT NULL, PRIMARY KEY (root, device_id, start, version));
CREATE TABLE job (id INTEGER PRIMARY KEY, scope TEXT NOT NULL, state TEXT NOT NULL, total INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '{}', problem TEXT, created_at INTEGER NOT NULL,
    finished_at INTEGER, seconds REAL);
"""

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
#: Results of pages that are looked at in close succession are written together, so often.
SECONDS_BETWEEN_WRITES = 1.0


class Catalogue:
    """The open web database, and the archive folder that it lists."""

    def __init__(self, path: Path, archive_folder: Path):
        self.path, self.archive_folder = path, archive_folder
        self._connections = Connections(self._opened)
        self._waiting: list[tuple[Any, ...]] = []
        self._waiting_lock = Lock()
        self._kept_at = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        # It holds the key that signs web sessions; the write-ahead log takes the mode of its database.
        path.touch(mode=0o600)
        with self.connection() as db:
            keep_write_ahead_log(db)
            with transaction(db):
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if not version:
                    execute_each(db, _SCHEMA)
                if version < 2:
                    execute_each(db, _EVIDENCE)

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        # A power cut may lose the last results, never the file.
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def connection(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._connections.one()

    def secret(self, name: str) -> str:
        """A random text made on first use and kept."""
        with self.connection() as db:
            db.execute("INSERT OR IGNORE INTO setting VALUES (?, ?)", (name, secrets.token_hex(32)))
            value: str = db.execute("SELECT value FROM setting WHERE key = ?", (name,)).fetchone()[0]
            return value

    def mark(self) -> str:
        """Changes whenever anything in the database does."""
        parts = []
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                status = path.stat()
                parts.append(f"{status.st_mtime_ns}:{status.st_size}")
            except OSError:
                parts.append("-")
        return " ".join(parts)

    # -- archives -----------------------------------------------------------------------------------

    def refresh(self, roots: Iterable[str]) -> None:
        """List the statements of archives that are new or whose files changed since they were last read.

        What was listed while an archive still led to its root stays listed when it no longer does.
        """
        with self.connection() as db:
            known = {row["root"]: row["stamp"] for row in db.execute("SELECT root, stamp FROM archive")}
            for root in roots:
                stamp = self.stamp(root)
                if known.get(root) != stamp:
                    self._list(db, root, stamp)

    def stamp(self, root: str) -> str:
        """Changes whenever a file of the archive does."""
        parts = []
        for suffix in (".json", ".parquet"):
            try:
                status = (self.archive_folder / f"{root[2:]}{suffix}").stat()
                parts.append(f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}")
            except OSError:
                parts.append("-")
        return " ".join(parts)

    def _list(self, db: sqlite3.Connection, root: str, stamp: str) -> None:
        archive: Archive | None = None
        try:
            archive = read_archive(self.archive_folder, bytes.fromhex(root[2:]))
            problem = archive.problem
        except (ArchiveError, OSError) as fault:
            problem = fault.reason if isinstance(fault, ArchiveError) else type(fault).__name__
        db.execute("BEGIN IMMEDIATE")
        listed = db.execute("SELECT 1 FROM statement WHERE root = ? LIMIT 1", (root,)).fetchone()
        if archive and (archive.tree.root == archive.root or not listed):
            db.execute("DELETE FROM statement WHERE root = ?", (root,))
            db.executemany("INSERT INTO statement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [
                (root, str(s.device_id), s.start, s.duration, s.version, s.energy_wh, s.previous_wh, "0x" + s.profile_hash.hex(),
                 "0x" + statement_leaf(s).hex(), sum(1 for quality in record.profile[BYTES_PER_SLOT - 1 :: BYTES_PER_SLOT] if quality))
                for record in archive.records
                for s in (record.statement,)
            ])  # fmt: skip
            db.execute("DELETE FROM evidence WHERE root = ?", (root,))
            db.executemany("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?)", [
                ("0x" + digest.hex(), root, str(record.statement.device_id), record.statement.start)
                for record in archive.records
                for digest in record.evidence
            ])  # fmt: skip
        db.execute("INSERT OR REPLACE INTO archive VALUES (?, ?, ?, ?)", (root, stamp, archive is not None, problem))
        db.execute("COMMIT")

    # -- validations --------------------------------------------------------------------------------

    def keep(self, results: Iterable[tuple[dict[str, Any], CheckResult, str | None]]) -> None:
        """Keep the results of checks: ``(statement key, result, address calculated)``, checked now."""
        self.keep_soon(results)
        self.keep_waiting()

    def keep_soon(self, results: Iterable[tuple[dict[str, Any], CheckResult, str | None]]) -> None:
        """The same, but results that come close upon each other are written together."""
        now, rows = int(time.time()), []
        for key, result, calculated in results:
            findings = (result.data, result.inclusion, result.finality, result.authority)
            reasons = json.dumps([finding.reason for finding in findings])
            verdicts = (result.headline.value, *(finding.verdict.value for finding in findings))
            rows.append(
                (key["root"], key["device_id"], key["start"], key["version"], *verdicts, reasons, calculated, now)
            )
        with self._waiting_lock:
            self._waiting += rows
        if time.monotonic() - self._kept_at > SECONDS_BETWEEN_WRITES:
            self.keep_waiting()

    def keep_waiting(self) -> None:
        """Write the results that wait to be kept."""
        with self._waiting_lock:
            rows, self._waiting = self._waiting, []
            self._kept_at = time.monotonic()
        if not rows:
            return
        with self.connection() as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR REPLACE INTO validation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("COMMIT")

    # -- jobs ---------------------------------------------------------------------------------------

    def open_job(self, scope: dict[str, Any]) -> int:
        """Id of a queued job with this scope; one that still waits or runs is given again."""
        text = json.dumps(scope, sort_keys=True)
        with self.connection() as db:
            db.execute("BEGIN IMMEDIATE")
            row = db.execute(
                "SELECT id FROM job WHERE scope = ? AND state IN (?, ?)", (text, QUEUED, RUNNING)
            ).fetchone()
            if row:
                db.execute("ROLLBACK")
                found: int = row["id"]
                return found
            created = db.execute(
                "INSERT INTO job (scope, state, created_at) VALUES (?, ?, ?)", (text, QUEUED, int(time.time()))
            )
            db.execute("DELETE FROM job WHERE id <= ?", ((created.lastrowid or 0) - 500,))
            db.execute("COMMIT")
            return created.lastrowid or 0

    def next_job(self) -> int | None:
        """Id of the job that has waited longest."""
        with self.connection() as db:
            row = db.execute("SELECT id FROM job WHERE state = ? ORDER BY id LIMIT 1", (QUEUED,)).fetchone()
            return row["id"] if row else None

    def queue_again(self) -> None:
        """Let jobs that were running wait again. Only for who knows that nobody works on them any more."""
        with self.connection() as db:
            db.execute("UPDATE job SET state = ?, done = 0, counts = '{}' WHERE state = ?", (QUEUED, RUNNING))

    def update_job(self, job_id: int, **changes: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in changes)
        with self.connection() as db:
            db.execute(f"UPDATE job SET {names} WHERE id = ?", (*changes.values(), job_id))

    def job(self, job_id: int) -> dict[str, Any] | None:
        with self.connection() as db:
            return _job(db.execute("SELECT * FROM job WHERE id = ?", (job_id,)).fetchone())

    def last_job(self) -> dict[str, Any] | None:
        """The validation that was asked for last."""
        with self.connection() as db:
            return _job(db.execute("SELECT * FROM job ORDER BY id DESC LIMIT 1").fetchone())


def _job(row: sqlite3.Row | None) -> dict[str, Any] | None:
    return (
        None if row is None else {**dict(row), "scope": json.loads(row["scope"]), "counts": json.loads(row["counts"])}
    )
