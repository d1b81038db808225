"""Open connections to a SQLite file, kept for whoever asks next; and what one process at a time may do with its neighbours' files."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: More than threads that serve requests at once; others are closed after use.
KEPT = 16


class Connections:
    """What ``opened`` opens, used by one at a time.

    Opening a connection and reading the schema costs as much as answering a page, and closing a file's last connection
    writes its whole log back.
    """

    def __init__(self, opened: Callable[[], sqlite3.Connection]):
        self._opened = opened
        # A connection must never be used, nor closed, by a process forked from the one that opened it.
        self._idle: dict[int, list[sqlite3.Connection]] = {}

    @contextmanager
    def one(self) -> Iterator[sqlite3.Connection]:
        """A connection of the caller's own; what it left uncommitted is taken back."""
        idle = self._idle.setdefault(os.getpid(), [])
        try:
            db = idle.pop()
        except IndexError:
            db = self._opened()
        try:
            yield db
        finally:
            kept = False
            with suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
                kept = len(idle) < KEPT
            if kept:
                idle.append(db)
            else:
                db.close()


class Claim:
    """A lock on ``path`` that one process at a time holds, until it lets go or ends however it ends."""

    def __init__(self, path: Path):
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Whether this process holds the lock now; it is taken if nobody has it."""
        if self._file is None:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return False
            self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of what the block writes, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def execute_each(db: sqlite3.Connection, statements: str) -> None:
    """Run ``statements``, each ended by a semicolon and a line's end, within the transaction that is open.

    ``executescript`` would commit it first.
    """
    for statement in statements.strip().split(";\n"):
        db.execute(statement)
