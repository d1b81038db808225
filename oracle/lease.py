"""One process at a time: a lease in the database, renewed while its holder works, taken over when the holder died.

Holding it is a courtesy that keeps two processes from doing the same work; what makes them safe is :meth:`AccountLease.renew`
within the very transaction that writes what only the holder may write: who lost the lease writes nothing.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .errors import StoreError
from .store import Lease, Store, utc_now


class LeaseHeld(StoreError):
    """Another process sends from this account. ``holder`` names it."""

    def __init__(self, name: str, holder: str):
        self.name, self.holder = name, holder
        super().__init__(f"{holder} holds {name}; wait for it to end, or for its lease to run out")


class AccountLease:
    """The lease ``name`` as one process sees it; another one may take it ``seconds`` after it was last renewed.

    Here the machine's clock counts: a stopped chain must not keep a dead process's lease alive. Where that clock was
    ahead when the holder died, whoever waits takes the lease after seeing it stand still for ``seconds``.
    """

    def __init__(self, store: Store, name: str, seconds: float):
        self.store, self.name, self.seconds = store, name, seconds
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def acquire(self, end: float, poll_seconds: float) -> None:
        """Wait for the lease until ``end`` (:func:`time.monotonic`), then raise :class:`LeaseHeld`."""
        seen: tuple[str, datetime] | None = None
        since = time.monotonic()
        while not self.take(seen if time.monotonic() - since > self.seconds else None):
            with self.store.session() as session:
                lease = session.get(Lease, self.name)
            stands = (lease.holder, lease.expires_at) if lease else None
            if stands != seen:
                seen, since = stands, time.monotonic()
            if time.monotonic() > end:
                raise LeaseHeld(self.name, lease.holder if lease else "another process")
            time.sleep(poll_seconds)

    def take(self, dead: tuple[str, datetime] | None = None) -> bool:
        """Take the lease if it is free, has run out, is ours, or is the one of ``dead`` (holder, end)."""
        now = utc_now()
        expires = now + timedelta(seconds=self.seconds)
        try:
            with self.store.session() as session:
                session.add(Lease(name=self.name, holder=self.holder, expires_at=expires))
            return True
        except IntegrityError:
            pass
        free = [Lease.holder == self.holder, Lease.expires_at < now]
        if dead:
            free.append((Lease.holder == dead[0]) & (Lease.expires_at == dead[1]))
        with self.store.session() as session:
            taken = session.execute(
                update(Lease).where(Lease.name == self.name, or_(*free)).values(holder=self.holder, expires_at=expires)
            )
            return taken.rowcount == 1  # type: ignore[attr-defined]

    def renew(self, session: Session) -> None:
        """Renew the lease within ``session``'s transaction; :class:`LeaseHeld` if someone else has it."""
        renewed = session.execute(
            update(Lease)
            .where(Lease.name == self.name, Lease.holder == self.holder)
            .values(expires_at=utc_now() + timedelta(seconds=self.seconds))
        )
        if renewed.rowcount != 1:  # type: ignore[attr-defined]
            raise LeaseHeld(self.name, "another process")

    def release(self) -> None:
        """Let the next one have it at once, if it is still ours."""
        with self.store.session() as session:
            session.execute(
                update(Lease)
                .where(Lease.name == self.name, Lease.holder == self.holder)
                .values(expires_at=datetime.fromtimestamp(0, UTC))
            )
