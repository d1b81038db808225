"""Checks: four separate answers about a statement, from its archive and the chain alone.

*data*: does what was archived hash to what was stated? *inclusion*: is the statement in a notarized root?
*finality*: is the notarizing transaction in the chain for good? *authority*: did enough of the witnesses that
were appointed at that block sign? What each answer proves and what it does not: docs/checks.md.

The oracle's database is never asked. A node that does not answer gives "cannot check", never "not found".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from eth_abi.exceptions import EncodingError
from eth_keys import keys
from eth_keys.exceptions import BadSignature, ValidationError
from eth_utils import is_address, to_checksum_address

from .archive import Archive, ArchivedStatement, read_archive, roots_in
from .chain import (
    LOG_RANGE_BLOCKS,
    BlockGone,
    BlockRef,
    ChainView,
    Notarization,
    NotarizedEvent,
    Receipt,
    SignerSet,
    notarize_call,
)
from .domain import SLOT_SECONDS, Batch, BatchStatus, CheckResult, Finding, NotaryDomain, Quality, Statement, Verdict
from .errors import ArchiveError, ChainError, ChainUnreachable, ProtocolError
from .merkle import root_from_proof
from .protocol import BYTES_PER_SLOT, batch_digest, day_parts, keccak256, pack_profile, statement_leaf, unpack_profile

REORG_ATTEMPTS = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StatementEvidence:
    """What somebody shows about one statement; a check believes none of it.

    ``root`` of the batch, ``record`` the statement with profile and salts (None if there is no archive),
    ``proof`` siblings from leaf to root, ``archive_problem`` what :func:`oracle.archive.read_archive` found wrong,
    ``archive_hash`` keccak256 of the manifest (None where there is none: a record shown alone, or nothing at all). Optional claims about the
    chain: ``transaction`` that notarized, ``signatures`` over the batch (65 bytes each), ``signer_set`` of its epoch.
    """

    root: bytes
    record: ArchivedStatement | None
    proof: tuple[bytes, ...] = ()
    archive_problem: str | None = None
    archive_hash: bytes | None = None
    transaction: bytes | None = None
    signatures: tuple[bytes, ...] | None = None
    signer_set: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StatementCheck:
    """The check of one statement of an archive; ``device_id`` and ``start`` are None if it cannot be read."""

    root: bytes
    device_id: int | None
    start: int | None
    result: CheckResult


def gather(archive: Archive, record: ArchivedStatement) -> StatementEvidence:
    """The evidence that an archive holds about one of its statements; it claims nothing about the chain."""
    try:
        proof = tuple(archive.tree.proof(statement_leaf(record.statement)))
    except ProtocolError:
        proof = ()
    return StatementEvidence(archive.root, record, proof, archive.problem, archive.archive_hash)


class ChainFacts:
    """What checks read from the chain, all of it at one block and each thing once.

    The first error is remembered and raised again: with a silent node a thousand checks wait for one timeout.
    """

    def __init__(self, chain: ChainView):
        self.chain = chain
        self._known: dict[tuple[Any, ...], Any] = {}
        self._fault: ChainError | None = None

    def forget(self) -> None:
        """Begin again from the chain's present head."""
        self._known.clear()
        self._fault = None

    @property
    def failed(self) -> bool:
        """Whether the chain could not be read; every further question answers with the same error."""
        return self._fault is not None

    @property
    def domain(self) -> NotaryDomain:
        return self.chain.domain

    def head(self) -> BlockRef:
        def ask() -> BlockRef:
            self.chain.check_identity()
            return self.chain.head()

        return self._once(("head",), ask)

    def final_number(self) -> int:
        return self._once(("final",), self.chain.final_number)

    def block(self, number: int) -> BlockRef | None:
        return self._once(("block", number), lambda: self.chain.block(number))

    def notarization(self, root: bytes) -> Notarization:
        head = self.head()
        return self._once(("notarization", root), lambda: self.chain.notarization(root, head))

    def event(self, root: bytes) -> NotarizedEvent | None:
        """The event that notarized ``root``, in a block that is part of the chain."""
        if self.notarization(root).status == BatchStatus.NONE:
            return None
        head = self.head()
        event = self._once(("event", root), lambda: self.chain.find_notarization(root, head))
        if event is None:
            return None
        block = self.block(event.block_number)
        return event if block and block.hash == event.block_hash else None

    def prefetch(self, roots: Sequence[bytes]) -> None:
        """Read what checks of many roots need in few round trips; what a node refuses is read one by one later."""
        head = self.head()
        try:
            records = self.chain.notarizations(roots, head)
            self._known |= {("notarization", root): record for root, record in zip(roots, records, strict=True)}
            sweep = (head.number - self.chain.book.deployed_block) // LOG_RANGE_BLOCKS + 1
            if sweep > len(roots):
                return
            wanted = set(roots)
            events = [event for event in self.chain.notarized_events(None, head.number) if event.batch.root in wanted]
            self._known |= {("event", event.batch.root): event for event in events}
            numbers = sorted({event.block_number for event in events})
            blocks = self.chain.blocks(numbers)
            self._known |= {("block", number): block for number, block in zip(numbers, blocks, strict=True)}
            inputs = self.chain.inputs([event.transaction for event in events])
            self._known |= {("input", event.transaction): data for event, data in zip(events, inputs, strict=True)}
        except ChainError as fault:
            if isinstance(fault, ChainUnreachable):
                self._fault = fault

    def receipt(self, transaction: bytes) -> Receipt | None:
        return self._once(("receipt", transaction), lambda: self.chain.receipt(transaction))

    def notarize_call(self, event: NotarizedEvent) -> tuple[Batch, tuple[bytes, ...]] | None:
        """Batch and signatures as they were handed to the Notary."""
        data = self._once(("input", event.transaction), lambda: self.chain.inputs([event.transaction])[0])
        return notarize_call(data, event.batch.root) if data is not None else None

    def signer_set(self, epoch: int) -> SignerSet:
        head = self.head()
        return self._once(("signers", epoch), lambda: self.chain.signer_set(epoch, head))

    def _once(self, key: tuple[Any, ...], ask: Callable[[], T]) -> T:
        if self._fault:
            raise self._fault
        if key not in self._known:
            try:
                self._known[key] = ask()
            except ChainError as fault:
                self._fault = fault
                raise
        return self._known[key]  # type: ignore[no-any-return]


def check(evidence: StatementEvidence, chain: ChainView | ChainFacts) -> CheckResult:
    """The four verdicts about one statement. Pass the same :class:`ChainFacts` to check many at one block."""
    facts = chain if isinstance(chain, ChainFacts) else ChainFacts(chain)
    for _ in range(REORG_ATTEMPTS):
        try:
            return CheckResult(
                _check_data(evidence, facts),
                _asked(_check_inclusion, evidence, facts),
                _asked(_check_finality, evidence, facts),
                _asked(_check_authority, evidence, facts),
            )
        except BlockGone:
            facts.forget()
    moving = Finding(Verdict.CANNOT_CHECK, "Cannot check: the chain kept being reorganised while it was read.")
    return CheckResult(_data_alone(evidence), moving, moving, moving)


def check_batch(folder: Path, root: bytes, chain: ChainView | ChainFacts) -> list[StatementCheck]:
    """Check every statement of one archive; one entry without a statement if the archive cannot be read."""
    facts = chain if isinstance(chain, ChainFacts) else ChainFacts(chain)
    try:
        archive = read_archive(folder, root)
    except ArchiveError as fault:
        manifest = folder / f"{root.hex()}.json"
        there = manifest.exists() and (folder / f"{root.hex()}.parquet").exists()
        damaged = keccak256(manifest.read_bytes()) if there else None
        nothing = StatementEvidence(root, None, archive_problem=fault.reason, archive_hash=damaged)
        return [StatementCheck(root, None, None, check(nothing, facts))]
    return [
        StatementCheck(root, record.statement.device_id, record.statement.start, check(gather(archive, record), facts))
        for record in archive.records
    ]


def check_archive(
    folder: Path, chain: ChainView, progress: Callable[[str, int, int], None] | None = None
) -> list[StatementCheck]:
    """Check every statement of every archive in ``folder``. ``progress(what, done, total)`` is called for each batch."""
    roots = roots_in(folder)
    facts = ChainFacts(chain)
    # Without the chain each check says so for itself.
    with contextlib.suppress(ChainError):
        facts.prefetch(roots)
    checks: list[StatementCheck] = []
    for done, root in enumerate(roots, 1):
        checks += check_batch(folder, root, facts)
        if progress:
            progress("checking batches", done, len(roots))
    return checks


# -- data -----------------------------------------------------------------------------------------------


def _check_data(evidence: StatementEvidence, facts: ChainFacts) -> Finding:
    """Archive and statement against each other, then the archive's hash against the notarized one."""
    found = _data_alone(evidence)
    if found.verdict != Verdict.VERIFIED or evidence.archive_hash is None:
        return found
    try:
        event = facts.event(evidence.root)
    except BlockGone:
        raise
    except ChainError:
        return _with(found, f"{found.reason} The archive's own hash was not compared: the chain cannot be read.")
    if event is None:
        return _with(found, f"{found.reason} There is no notarized archive hash to compare with.")
    figures = {"archive_hash": _hex(evidence.archive_hash), "notarized_archive_hash": _hex(event.batch.archive_hash)}
    if event.batch.archive_hash != evidence.archive_hash:
        reason = "The archive's manifest is not the one whose hash was notarized."
        return Finding(Verdict.MISMATCH, reason, found.evidence | figures)
    return Finding(Verdict.VERIFIED, found.reason, found.evidence | figures)


def _data_alone(evidence: StatementEvidence) -> Finding:
    """What can be said about the data without the chain."""
    record = evidence.record
    if record is None:
        problem = evidence.archive_problem or "no archive is shown"
        if evidence.archive_hash is None:
            return Finding(Verdict.CANNOT_CHECK, f"Cannot check: {problem}.")
        return Finding(Verdict.MISMATCH, f"The archive is damaged: {problem}.")
    statement = record.statement
    figures: dict[str, Any] = {"profile_hash": _hex(statement.profile_hash), "energy_wh": statement.energy_wh}
    if evidence.archive_problem:
        return Finding(Verdict.MISMATCH, f"The archive is not what it was: {evidence.archive_problem}.", figures)
    try:
        recomputed = record.recomputed_profile_hash()
        certified_wh, certified_slots = _certified(statement, record.profile)
    except ProtocolError as fault:
        return Finding(Verdict.MISMATCH, f"The profile does not fit its statement: {fault}.", figures)
    figures |= {
        "recomputed_profile_hash": _hex(recomputed),
        "certified_wh": certified_wh,
        "certified_slots": certified_slots,
        "slots": len(record.profile) // BYTES_PER_SLOT,
    }
    if recomputed != statement.profile_hash:
        return Finding(Verdict.MISMATCH, "The archived readings and salts do not hash to the statement.", figures)
    if certified_wh != statement.energy_wh:
        reason = f"The certified slots hold {certified_wh} Wh; the statement says {statement.energy_wh} Wh."
        return Finding(Verdict.MISMATCH, reason, figures)
    reason = f"The archived readings hash to the statement, and {certified_slots} certified slots add up to {certified_wh} Wh."
    return Finding(Verdict.VERIFIED, reason, figures)


def _certified(statement: Statement, packed: bytes) -> tuple[int, int]:
    """Energy (Wh) and number of the certified slots of a packed profile; ProtocolError if a slot is impossible."""
    energy_wh = slots = at = 0
    certified = int(Quality.CERTIFIED)
    for start, duration in day_parts(statement.start, statement.duration):
        size = duration // SLOT_SECONDS * BYTES_PER_SLOT
        profile = unpack_profile(start, packed[at : at + size])
        pack_profile(profile)
        energy_wh += profile.certified_wh
        slots += sum(bool(quality & certified) for quality in profile.quality)
        at += size
    return energy_wh, slots


# -- inclusion, finality, authority ---------------------------------------------------------------------


def _asked(
    answer: Callable[[StatementEvidence, ChainFacts], Finding], evidence: StatementEvidence, facts: ChainFacts
) -> Finding:
    """A verdict that needs the chain; an error of the chain's is a reason, never an answer."""
    try:
        return answer(evidence, facts)
    except BlockGone:
        raise
    except ChainError as fault:
        return Finding(Verdict.CANNOT_CHECK, f"Cannot check: {fault}.")


def _check_inclusion(evidence: StatementEvidence, facts: ChainFacts) -> Finding:
    if evidence.record is None:
        return Finding(Verdict.CANNOT_CHECK, "Cannot check: without the archive the statement is not known.")
    try:
        leaf = statement_leaf(evidence.record.statement)
    except EncodingError as fault:
        return Finding(Verdict.MISMATCH, f"The statement has values that no statement can have: {fault}.")
    reached = root_from_proof(leaf, evidence.proof)
    figures = {"leaf": _hex(leaf), "proof_nodes": len(evidence.proof), "root": _hex(evidence.root)}
    if reached != evidence.root:
        reason = "The statement and its proof do not lead to the batch's root."
        return Finding(Verdict.MISMATCH, reason, figures | {"reached_root": _hex(reached)})
    record = facts.notarization(evidence.root)
    if record.status == BatchStatus.NONE:
        return Finding(Verdict.NOT_FOUND, "No batch with this root is notarized on this chain.", figures)
    figures |= {
        "notarized_at": record.notarized_at,
        "statements": record.statements,
        "batch_energy_wh": record.energy_wh,
    }
    if record.status == BatchStatus.REVOKED:
        return Finding(Verdict.REVOKED, "The statement is in a batch that was notarized and has been revoked.", figures)
    reason = f"The statement is one of {record.statements} in the batch notarized on {_day(record.notarized_at)}."
    return Finding(Verdict.VERIFIED, reason, figures)


def _check_finality(evidence: StatementEvidence, facts: ChainFacts) -> Finding:
    event = facts.event(evidence.root)
    if event is None:
        return Finding(Verdict.NOT_FOUND, "No transaction in the chain notarized this root.")
    claimed = evidence.transaction if evidence.transaction is not None else event.transaction
    figures: dict[str, Any] = {"transaction": _hex(claimed)}
    if claimed != event.transaction:
        if len(claimed) != 32 or facts.receipt(claimed) is None:
            return Finding(Verdict.NOT_FOUND, "The chain has no transaction with the hash shown.", figures)
        reason = "The transaction shown is not the one that notarized this root."
        return Finding(Verdict.MISMATCH, reason, figures | {"notarizing_transaction": _hex(event.transaction)})
    block = facts.block(event.block_number)
    if block is None or block.hash != event.block_hash:
        return Finding(Verdict.NOT_FOUND, "The transaction's block is no longer part of the chain.", figures)
    final = facts.final_number()
    figures |= {"block": block.number, "block_hash": _hex(block.hash), "final_block": max(final, 0)}
    if block.number > final:
        reason = f"The transaction is in block {block.number}; blocks are final up to {max(final, 0)}."
        return Finding(Verdict.NOT_FINAL, reason, figures)
    return Finding(Verdict.VERIFIED, f"The transaction is in block {block.number}, which is final.", figures)


def _check_authority(evidence: StatementEvidence, facts: ChainFacts) -> Finding:
    event = facts.event(evidence.root)
    block = facts.block(event.block_number) if event else None
    if event is None or block is None:
        return Finding(Verdict.NOT_FOUND, "No notarization of this root is in the chain, so nobody signed one there.")
    appointed = facts.signer_set(event.batch.signer_epoch)
    figures: dict[str, Any] = {
        "epoch": appointed.epoch,
        "threshold": appointed.threshold,
        "signer_set": list(appointed.signers),
        "block": block.number,
    }
    if not appointed.was_current_at(block.time):
        reason = f"The signers of epoch {appointed.epoch} were not in office at block {block.number}."
        return Finding(Verdict.MISMATCH, reason, figures)
    if evidence.signer_set is not None and _addresses(evidence.signer_set) != set(appointed.signers):
        reason = f"The signer set shown is not the one that the chain has for epoch {appointed.epoch}."
        return Finding(Verdict.MISMATCH, reason, figures | {"shown_signer_set": list(evidence.signer_set)})
    called = facts.notarize_call(event)
    if called is None:
        return Finding(Verdict.CANNOT_CHECK, "Cannot check: the transaction does not carry the signatures.", figures)
    batch, signatures = called
    digest = batch_digest(event.batch, facts.domain)
    figures["digest"] = _hex(digest)
    if batch != event.batch:
        return Finding(Verdict.MISMATCH, "The batch that was signed is not the one that the event names.", figures)
    signed = [signatures] if evidence.signatures is None else [signatures, evidence.signatures]
    for set_of_signatures in signed:
        signers = [recover_signer(digest, signature) for signature in set_of_signatures]
        figures["signers"] = [signer or "unreadable" for signer in signers]
        strangers = [signer for signer in signers if signer not in appointed.signers]
        if strangers:
            reason = f"{strangers[0] or 'An unreadable signature'} is not among the signers of epoch {appointed.epoch}."
            return Finding(Verdict.MISMATCH, reason, figures)
        if len(set(signers)) < appointed.threshold:
            reason = f"{len(set(signers))} appointed witnesses signed; {appointed.threshold} are needed."
            return Finding(Verdict.MISMATCH, reason, figures)
    reason = (
        f"{len(set(signers))} of {len(appointed.signers)} witnesses signed, {appointed.threshold} were needed; "
        f"all were in office at block {block.number}."
    )
    return Finding(Verdict.VERIFIED, reason, figures)


@lru_cache(maxsize=4_096)
def recover_signer(digest: bytes, signature: bytes) -> str | None:
    """Address whose key made a 65-byte signature; None if it is no signature."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    try:
        parsed = keys.Signature(signature[:64] + bytes((signature[64] - 27,)))
        return parsed.recover_public_key_from_msg_hash(digest).to_checksum_address()
    except (BadSignature, ValidationError):
        return None


def _addresses(shown: Sequence[str]) -> set[str]:
    return {to_checksum_address(address) if is_address(address) else address for address in shown}


def _with(found: Finding, reason: str) -> Finding:
    return Finding(found.verdict, reason, found.evidence)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
