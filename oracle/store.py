"""The oracle's own state in SQL: what was taken in, decided, sealed, signed and sent.

Readings live in archives, one packed profile per device-day here. Nothing in this database is evidence:
checks read archives and the chain alone, and everything public can be rebuilt from them.
SQLite (WAL) by default, PostgreSQL by URL.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Engine,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.types import TypeDecorator

from .domain import DayState, DecisionState, SagaState
from .errors import StoreError

#: How long a process waits for others that write a SQLite database.
SQLITE_PATIENCE_SECONDS = 30


def crash_point(number: int) -> None:
    """Kill this process if a running test asks for it by ``CRASH_AT``; nothing happens outside of pytest."""
    if os.environ.get("CRASH_AT") == str(number) and "PYTEST_CURRENT_TEST" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on databases that forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        # SQLite forgets the zone; PostgreSQL answers in the zone of its server.
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """This machine's time, in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables; integers have 64 bits, times are aware and in UTC."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        bytes: LargeBinary,
        int: BigInteger,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


def _enum(kind: type) -> Enum:
    return Enum(kind, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members])


# Any constant will do, as long as every process takes the same one.
_WRITER = 0x5772

_Serial = BigInteger().with_variant(Integer, "sqlite")


class RawFile(Base):
    """A file as one source of the sites file reads it (``device:1``, ``station:roof``); kept under its sha256.

    Two meters may deliver the same bytes, and one file may hold two meters: each is a record of its own.
    """

    __tablename__ = "raw_file"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(String(200), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(40))
    size_bytes: Mapped[int]
    rows_used: Mapped[int]
    rows_refused: Mapped[int]
    received_at: Mapped[datetime] = mapped_column(default=utc_now)


class RefusedRow(Base):
    """A row that was not used, with the reason; rows are never dropped silently."""

    __tablename__ = "refused_row"
    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(200))
    line: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        ForeignKeyConstraint(["sha256", "source"], ["raw_file.sha256", "raw_file.source"]),
        Index("refused_row_file", "sha256", "source"),
    )


class Version(Base):
    """What is said about one device and UTC day, and how far that has come; ``version`` 0 is the first."""

    __abstract__ = True
    device_id: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(sort_order=1)
    state: Mapped[DayState] = mapped_column(_enum(DayState), index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    profile: Mapped[bytes]
    assessed: Mapped[bytes | None]  # the profile as the files alone have it, where a reviewer edited it
    energy_wh: Mapped[int]
    evidence: Mapped[list[Any]]  # sha256 hex of the raw files
    assessment: Mapped[dict[str, Any]]
    for_review: Mapped[dict[str, Any] | None]  # what a decision must name, and what files that disagree say
    root: Mapped[str | None] = mapped_column(String(66), index=True)
    disputed: Mapped[str] = mapped_column(Text, default="")  # what witnesses say against the profile as it is
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class SourceState(Base):
    """How far a source of files has been looked at (:mod:`oracle.sources`); ``problem`` of the last look, None if it went well."""

    __tablename__ = "source_state"
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    cursor: Mapped[dict[str, Any]]
    looked_at: Mapped[datetime] = mapped_column(default=utc_now)
    succeeded_at: Mapped[datetime | None]
    problem: Mapped[str | None] = mapped_column(Text)


class RefusedFile(Base):
    """A file that a source brought and nothing was taken of; its bytes, if any came, lie in ``raw_folder/refused``."""

    __tablename__ = "refused_file"
    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    source: Mapped[str] = mapped_column(String(200), index=True)
    name: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(default=utc_now)


class DeviceDay(Version):
    """The first version of a device-day, whatever became of it."""

    __tablename__ = "device_day"
    version: Mapped[int] = mapped_column(default=0)
    pending: Mapped[str] = mapped_column(Text, default="")  # what newer data say against what is sealed


class Correction(Version):
    """A later version of a notarized device-day, out of late or corrected data; goes through the same states.

    ``previous_wh`` is the energy of the version before. The newest version that is sealed is what is certified.
    """

    __tablename__ = "correction"
    version: Mapped[int] = mapped_column(primary_key=True, sort_order=1)
    previous_wh: Mapped[int]
    owed_wh: Mapped[int | None]  # by how much the chain raised the device's debt; empty until it is applied


VERSIONS: tuple[type[Version], ...] = (DeviceDay, Correction)


class ReviewDecision(Base):
    """A collaborator's signed decision about a held device-day; only ever added to."""

    __tablename__ = "review_decision"
    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    device_id: Mapped[int]
    start: Mapped[int]
    version: Mapped[int]
    decision: Mapped[str] = mapped_column(String(16))  # accept, edit, reject
    edits: Mapped[list[Any] | None]  # of an edit: [slot, Wh before, Wh after]
    evidence: Mapped[str | None] = mapped_column(String(64))  # of an edit: sha256 hex of what it rests on
    conflict: Mapped[str | None] = mapped_column(String(64))  # sha256 hex of what the files say that disagree
    reason: Mapped[str] = mapped_column(Text)
    profile_hash: Mapped[str] = mapped_column(String(66))
    reviewer: Mapped[str] = mapped_column(String(42))
    decided_at: Mapped[datetime]
    signature: Mapped[str] = mapped_column(Text)
    __table_args__ = (Index("review_decision_day", "device_id", "start"),)

    @classmethod
    def of(cls, entry: dict[str, Any]) -> ReviewDecision:
        """The row of an entry of the review trail (oracle/review.py)."""
        told = {
            name: entry.get(name)
            for name in ("version", "decision", "edits", "evidence", "conflict", "reason", "reviewer", "signature")
        }
        decided_at = datetime.fromtimestamp(entry["decidedAt"], UTC)
        return cls(
            device_id=entry["deviceId"], start=entry["start"], profile_hash=entry["profileHash"], decided_at=decided_at, **told
        )  # fmt: skip


class ReceivedDecision(Base):
    """A signed decision that came as a file, whatever became of it; ``content`` unless it was too large or unfinished."""

    __tablename__ = "received_decision"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    state: Mapped[DecisionState] = mapped_column(_enum(DecisionState))
    reason: Mapped[str] = mapped_column(Text)
    content: Mapped[bytes | None]
    received_at: Mapped[datetime] = mapped_column(default=utc_now)


class KeptReport(Base):
    """A report over all days as it was last made (``clocks``, ``balances``, ``estimates``), for others to show."""

    __tablename__ = "kept_report"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    content: Mapped[list[Any]]
    made_at: Mapped[datetime] = mapped_column(default=utc_now)


class SealedBatch(Base):
    """A batch whose archive is written; ``parameters`` are those of the signed struct, as JSON."""

    __tablename__ = "batch"
    root: Mapped[str] = mapped_column(String(66), primary_key=True)
    kind: Mapped[int] = mapped_column(Integer)
    start: Mapped[int]
    end: Mapped[int]
    statements: Mapped[int]
    energy_wh: Mapped[int]
    archive_hash: Mapped[str] = mapped_column(String(66))
    state: Mapped[DayState] = mapped_column(_enum(DayState))
    parameters: Mapped[dict[str, Any] | None]
    sealed_at: Mapped[datetime] = mapped_column(default=utc_now)


class WitnessSignature(Base):
    """A signature collected for a batch."""

    __tablename__ = "witness_signature"
    root: Mapped[str] = mapped_column(ForeignKey("batch.root"), primary_key=True)
    signer: Mapped[str] = mapped_column(String(42), primary_key=True)
    digest: Mapped[str] = mapped_column(String(66), primary_key=True)
    signature: Mapped[str] = mapped_column(Text)


class SignedStatement(Base):
    """What this process has put its name to: one history per device and period, remembered for ever."""

    __tablename__ = "signed_statement"
    chain_id: Mapped[int] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    duration: Mapped[int]
    leaf: Mapped[str] = mapped_column(String(66))
    root: Mapped[str] = mapped_column(String(66))
    deadline: Mapped[int | None]  # UTC seconds until which the chain takes the signature; None where it was not kept
    signed_at: Mapped[datetime] = mapped_column(default=utc_now)


class Act(Base):
    """One thing to be done on the chain exactly once, named by ``key`` (``notarize:<root>``, ``issue:<root>:<which>``)."""

    __tablename__ = "act"
    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    chain_id: Mapped[int]
    key: Mapped[str] = mapped_column(String(160))
    sender: Mapped[str | None] = mapped_column(String(42))  # the account it is sent from
    state: Mapped[SagaState] = mapped_column(_enum(SagaState), index=True)
    to: Mapped[str] = mapped_column(String(42))
    data: Mapped[bytes]
    gas: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    transaction: Mapped[str | None] = mapped_column(String(66))  # the one that was mined
    block: Mapped[int | None]
    block_hash: Mapped[str | None] = mapped_column(String(66))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
    __table_args__ = (UniqueConstraint("chain_id", "key"),)


class SignedTransaction(Base):
    """Signed bytes, stored before they are sent. One act may have several with one nonce (fee replacement)."""

    __tablename__ = "signed_transaction"
    hash: Mapped[str] = mapped_column(String(66), primary_key=True)
    act_id: Mapped[int] = mapped_column(ForeignKey("act.id"), index=True)
    sender: Mapped[str] = mapped_column(String(42))
    nonce: Mapped[int]
    raw: Mapped[bytes]
    max_fee_wei: Mapped[int]
    priority_fee_wei: Mapped[int]
    signed_at: Mapped[datetime] = mapped_column(default=utc_now)
    sent_at: Mapped[datetime | None]
    __table_args__ = (Index("signed_transaction_nonce", "sender", "nonce"),)


class Lease(Base):
    """At most one process at a time sends from an account; an expired lease may be taken over."""

    __tablename__ = "lease"
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    holder: Mapped[str] = mapped_column(String(80))
    expires_at: Mapped[datetime]


class Store:
    """An open database at its newest schema."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @classmethod
    def open(cls, url: str) -> Store:
        """Open ``url`` (``sqlite:///path`` or ``postgresql+psycopg://…``) and bring its schema up to date.

        A new SQLite file is readable by its owner alone. Raises StoreError where it cannot be opened.
        """
        # No error may show what was written: parameters are readings.
        options: dict[str, Any] = {"hide_parameters": True}
        if url.startswith("sqlite:///"):
            file = Path(url.removeprefix("sqlite:///"))
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                # Before SQLite makes it: the write-ahead log takes the mode of its database.
                file.touch(mode=0o600)
            except OSError as fault:
                raise StoreError(f"{file} cannot be opened: {fault.strerror}") from None
        else:
            # Whatever the server's own default is: what `writing` reads must be younger than its lock. And a
            # connection that was kept may have died with the server.
            options |= {"isolation_level": "READ COMMITTED", "pool_pre_ping": True}
        engine = create_engine(url, **options)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_pragmas)
        from .migrations import upgrade

        upgrade(engine)
        return cls(engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block, rolled back on any exception.

        Raises StoreError where the database does not answer: others write for too long, the disk is full, the server is gone.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except OperationalError as fault:
            told = " ".join(str(fault.orig).split())
            raise StoreError(f"the database cannot be used now: {told}; nothing is lost, run again") from None

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is the only writing one from its start, so that what it read still holds when it writes."""
        with self.session() as session:
            if self.engine.dialect.name == "sqlite":
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            elif self.engine.dialect.name == "postgresql":
                session.execute(select(func.pg_advisory_xact_lock(_WRITER)))
            yield session


def _sqlite_pragmas(connection: sqlite3.Connection, _record: Any) -> None:
    for pragma in (f"busy_timeout={SQLITE_PATIENCE_SECONDS * 1_000}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    keep_write_ahead_log(connection)


def keep_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Have this database keep a write-ahead log, from the first who opens it on.

    Of two that change the mode at once SQLite refuses one without waiting, whatever its busy timeout is, because each
    holds what the other needs (https://www.sqlite.org/c3ref/busy_handler.html). Raises sqlite3.Error when the file is
    no database or stays locked.
    """
    until = time.monotonic() + SQLITE_PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)
