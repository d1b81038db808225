"""The oracle's database made again from raw files, archives and chain.

Kept as they are, because they exist nowhere else: review decisions, what this process has put its signature to, and
the outbox with its signed bytes. Where the database is new, decisions come back out of the archives that carry them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import delete, select

from . import review
from .archive import Archive, read_archive, roots_in
from .chain import Chain, NotarizedEvent
from .config import OracleConfig
from .domain import DAY_SECONDS, BatchKind
from .errors import RefusedInput, StoreError
from .intake import Progress, names_of, no_progress, take_again
from .issuance import batch_json, confirm
from .pipeline import AssessedDay, Decisions, assess_all, assess_raw, outcome_of, trail
from .protocol import batch_digest, pack_profile
from .sealing import batch_row
from .store import (
    Correction,
    DeviceDay,
    RawFile,
    RefusedRow,
    ReviewDecision,
    SealedBatch,
    Store,
    Version,
    WitnessSignature,
)

log = structlog.get_logger("oracle.rebuild")

#: What is made again, in an order in which it can be emptied.
DERIVED = (WitnessSignature, SealedBatch, Correction, DeviceDay, RefusedRow, RawFile)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was made again. ``unread``: raw files that no source takes any more, with the reason."""

    files: int
    batches: int
    statements: int
    decisions: int
    unread: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "batches": self.batches,
            "statements": self.statements,
            "decisions": self.decisions,
            "unread": list(self.unread),
        }


def rebuild(config: OracleConfig, store: Store, chain: Chain, progress: Progress = no_progress) -> Rebuilt:
    """Empty what is derived and make it again; ends the same however often it is run, also after a crash in it.

    Nothing else may use the database meanwhile. Raises StoreError where an archive of a notarized batch is damaged or
    missing: restore it first, because the readings that were certified are in it.
    """
    events = {event.batch.root: event for event in chain.notarized_events()}
    archives = _archives(config, events)
    names = _names(store)
    with store.writing() as session:
        for table in DERIVED:
            session.execute(delete(table))
    files, unread = _take_raw(config, store, names, progress)
    decisions = _restore_decisions(config, store, archives)
    # What was sealed is laid down before the rest is judged, so that nothing is sealed a second time.
    days = {day.key: day for day in assess_raw(config, store, progress)}
    standing = review.standing(trail(config, store), config.reviewers)
    for done, archive in enumerate(archives):
        progress("reading archives", done, len(archives))
        _restore_batch(config, store, chain, archive, events[archive.root], days, standing)
    progress("reading archives", len(archives), len(archives))
    assess_all(config, store, progress)
    confirm(config, store, chain)
    return Rebuilt(
        files,
        len(archives),
        sum(len(archive.records) for archive in archives),
        decisions,
        tuple(unread),
    )


def _archives(config: OracleConfig, events: Mapping[bytes, NotarizedEvent]) -> list[Archive]:
    """Archives of notarized batches, oldest notarization first. One that was never notarized is sealed again anyway."""
    here = set(roots_in(config.archive_folder))
    mine = []
    for root, event in sorted(events.items(), key=lambda pair: pair[1].block_number):
        if root not in here:
            log.warning("no archive here of a notarized batch", root="0x" + root.hex(), end=event.batch.end)
            continue
        archive = read_archive(config.archive_folder, root)
        if archive.problem:
            raise StoreError(f"the archive of batch 0x{root.hex()} is damaged ({archive.problem}); restore it first")
        mine.append(archive)
    return mine


def _names(store: Store) -> dict[str, str]:
    """Names of raw files as the database that is about to be emptied knows them."""
    with store.session() as session:
        return {row.sha256: row.name for row in session.scalars(select(RawFile))}


def _take_raw(
    config: OracleConfig, store: Store, names: Mapping[str, str], progress: Progress
) -> tuple[int, list[str]]:
    kept = sorted(file for file in config.raw_folder.glob("*") if len(file.name) == 64)
    unread = []
    for done, file in enumerate(kept):
        progress("reading raw files", done, len(kept))
        for name in names_of(file) or [names.get(file.name, file.name)]:
            try:
                take_again(config, store, file, name)
            except RefusedInput as refusal:
                unread.append(f"{file.name}: {refusal}")
    progress("reading raw files", len(kept), len(kept))
    return len(kept) - len(unread), unread


def _restore_decisions(config: OracleConfig, store: Store, archives: list[Archive]) -> int:
    """Decisions that archives carry and the database lacks; each is checked like any other whenever it is used."""
    restored = 0
    with store.writing() as session:
        known = set(session.scalars(select(ReviewDecision.signature)))
        entries = [entry for archive in archives for entry in archive.manifest.get("reviewTrail", ())]
        for entry in sorted(entries, key=lambda one: (one["decidedAt"], one["signature"])):
            # Corrections of clocks live beside the sites file, not in the database.
            if entry["signature"] in known or entry["decision"] == review.CLOCK:
                continue
            review.verify(entry, config.reviewers)
            known.add(entry["signature"])
            restored += 1
            session.add(ReviewDecision.of(entry))
    return restored


def _restore_batch(
    config: OracleConfig,
    store: Store,
    chain: Chain,
    archive: Archive,
    event: NotarizedEvent,
    days: Mapping[tuple[int, int], AssessedDay],
    standing: Decisions,
) -> None:
    root = "0x" + archive.root.hex()
    block = chain.block(event.block_number)
    with store.writing() as session:
        batch = batch_row(archive)
        batch.parameters = batch_json(event.batch)
        batch.sealed_at = datetime.fromtimestamp(block.time if block else event.batch.end, UTC)
        session.add(batch)
        session.flush()
        digest = "0x" + batch_digest(event.batch, chain.domain).hex()
        for signer, signature in _signatures(chain, event).items():
            session.add(WitnessSignature(root=root, signer=signer, digest=digest, signature="0x" + signature.hex()))
        for record in archive.records if archive.kind is BatchKind.FINAL else ():
            statement = record.statement
            if statement.duration != DAY_SECONDS:
                continue
            day = days.get((statement.device_id, statement.start))
            outcome = outcome_of(config, day, standing, statement.version) if day else None
            of: type[Version] = Correction if statement.version else DeviceDay
            fields: dict[str, Any] = {"previous_wh": statement.previous_wh} if statement.version else {"pending": ""}
            session.add(
                of(
                    device_id=statement.device_id,
                    start=statement.start,
                    version=statement.version,
                    state=batch.state,
                    reason=outcome.reason if outcome and pack_profile(outcome.profile) == record.profile else "",
                    profile=record.profile,
                    energy_wh=statement.energy_wh,
                    evidence=[sha256.hex() for sha256 in record.evidence],
                    assessment=json.loads(record.assessment),
                    root=root,
                    **fields,
                )
            )


def _signatures(chain: Chain, event: NotarizedEvent) -> dict[str, bytes]:
    """Who signed what, out of the transaction that notarized: its call data have the signatures in the signers' order."""
    from .chain import notarize_call

    [data] = chain.inputs([event.transaction])
    call = notarize_call(data, event.batch.root) if data else None
    return dict(zip(event.signers, call[1], strict=True)) if call else {}
