"""Open connections to a SQLite file, kept for whoever asks next."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
