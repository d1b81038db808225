"""From sealed batches to certificates on the chain: notarize with k witnesses, issue, correct, and read back what holds.

What is done on the chain goes through the outbox, exactly once. How far a device-day has come is never inferred
from what was sent: :func:`confirm` reads notarizations, issued ids and corrections from the chain and sets the states by them,
forward and, after a reorganisation, back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import select
from sqlalchemy.orm import Session

from .archive import Archive, ArchivedStatement, read_archive
from .chain import BlockRef, Chain, Event
from .config import OracleConfig
from .coordinator import collect_signatures
from .decisions import take_waiting
from .domain import Batch, BatchKind, BatchStatus, DayState, DeviceKind, SagaState, Visibility
from .errors import ArchiveError, StoreError, WitnessRefused
from .findings import keep, keep_daily
from .intake import Progress, no_progress
from .outbox import ActReport, Driven, Outbox
from .pipeline import SEALED_STATES, assess_all, ingest
from .protocol import (
    batch_digest,
    batch_energy_wh,
    batch_fields,
    keccak256,
    statement_fields,
    statement_leaf,
    token_id,
)
from .sealing import seal, unseal
from .signer import Signer
from .sites import SitesConfig, load_sites
from .store import (
    VERSIONS,
    Act,
    Correction,
    DeviceDay,
    SealedBatch,
    Store,
    Version,
    WitnessSignature,
    crash_point,
    utc_now,
)
from .witness import Proposal, sign_own

log = structlog.get_logger("oracle.issuance")

#: Statements in one ``issueMany``. Measured on anvil: see docs/oracle.md, "How many certificates in one transaction".
ISSUE_CHUNK = 100
#: How long signatures of witnesses hold, in seconds from the later of the chain's time and now.
DEADLINE_SECONDS = 3_600
#: How often the rest of a batch is proposed again after witnesses refused some of its device-days.
PROPOSALS = 3
_UNDER_WAY = (DayState.SEALED, DayState.NOTARIZED, DayState.ISSUED)
#: Errors of the contract that stay as they are, whatever is set in the registry: such an act is not tried again.
FOR_GOOD = frozenset(
    {
        "BatchExhausted",
        "NotGeneration",
        "PeriodInvalid",
        "PeriodOutsideActivity",
        "PeriodOutsideBatch",
        "ProofInvalid",
        "SlotAlreadyCertified",
        "VersionNotZero",
    }
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a step did on the chain: ``transactions`` newly sent, ``failed`` acts with their reasons."""

    transactions: int = 0
    failed: tuple[ActReport, ...] = ()

    def __add__(self, other: Sent) -> Sent:
        return Sent(self.transactions + other.transactions, self.failed + other.failed)

    def to_json(self) -> dict[str, Any]:
        return {
            "transactions": self.transactions,
            "failed": [{"act": act.key, "reason": act.error} for act in self.failed],
        }


#: Gets the signatures for a proposed batch out of its witnesses: ``(address, 65 bytes)`` of each who signed.
Collect = Callable[[Batch, Archive], Sequence[tuple[str, bytes]]]


def batch_json(batch: Batch) -> dict[str, Any]:
    """A batch as plain JSON values; bytes as 0x texts."""
    fields = asdict(batch) | {"kind": int(batch.kind)}
    return {name: "0x" + value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


# -- notarize ---------------------------------------------------------------------------------------


def notarize(
    config: OracleConfig,
    store: Store,
    chain: Chain,
    account: Signer | LocalAccount,
    progress: Progress = no_progress,
    collect: Collect | None = None,
) -> Sent:
    """Have every sealed batch signed by the witnesses and notarized, oldest first.

    ``collect`` gets the signatures; left out, this oracle signs and asks the configured witnesses. Device-days that witnesses refuse are held and the rest is sealed and proposed again. Raises WitnessRefused where
    too few sign and no device-day explains it, or some are still refused after three proposals.
    """
    confirm(config, store, chain)
    outbox = Outbox(store, chain, account)
    sent = Sent()
    for proposal in range(1, PROPOSALS + 1):
        again = False
        roots = _roots(store, DayState.SEALED)
        for done, root in enumerate(roots):
            progress("notarizing batches", done, len(roots))
            try:
                sent += _notarize(config, store, chain, outbox, root, collect or _asking(config, store, chain, account))
            except WitnessRefused as refusal:
                if not refusal.device_days or proposal == PROPOSALS:
                    raise
                log.warning(
                    "device-days refused by witnesses", root=root, days=len(refusal.device_days), reason=str(refusal)
                )
                reason = f"refused by witnesses: {refusal}"
                withdraw = functools.partial(
                    outbox.withdraw, key=_key_of(root), reason="taken back: witnesses refuse device-days of it"
                )
                unseal(config, store, root, set(refusal.device_days), reason, withdraw)
                again = True
        if not again:
            break
        seal(config, store, progress)
    confirm(config, store, chain)
    return sent


def _key_of(root: str) -> str:
    return f"notarize:{root}"


def _roots(store: Store, *states: DayState) -> list[str]:
    with store.session() as session:
        query = (
            select(SealedBatch.root)
            .where(SealedBatch.state.in_(states))
            .order_by(SealedBatch.sealed_at, SealedBatch.root)
        )
        return list(session.scalars(query))


def _act(store: Store, chain: Chain, key: str) -> Act | None:
    with store.session() as session:
        return session.scalars(select(Act).where(Act.chain_id == chain.config.chain_id, Act.key == key)).one_or_none()


def _act_state(store: Store, chain: Chain, key: str) -> SagaState | None:
    act = _act(store, chain, key)
    return act.state if act else None


def _failed_for_good(act: Act | None) -> bool:
    if act is None or act.state is not SagaState.FAILED:
        return False
    return (act.error or "").removeprefix("the transaction reverted: ").partition("(")[0] in FOR_GOOD


def _notarize(config: OracleConfig, store: Store, chain: Chain, outbox: Outbox, root: str, collect: Collect) -> Sent:
    key = _key_of(root)
    # Bytes that are signed already are followed to their end; only then would other signatures be asked for.
    if _act_state(store, chain, key) in (None, SagaState.QUEUED, SagaState.FAILED):
        archive = _archive(config, root)
        batch = propose_batch(chain, archive)
        signatures = sorted(collect(batch, archive), key=lambda pair: int(pair[0], 16))
        call = chain.encode("Notary", "notarize", batch_fields(batch), [signature for _, signature in signatures])
        with store.writing() as session:
            if session.get_one(SealedBatch, root).state is not DayState.SEALED:
                return Sent()  # another process took it back, or saw it notarized, meanwhile
            _keep_signatures(session, chain, batch, signatures)
            crash_point(21)
            outbox.enqueue(key, chain.address("Notary"), call, within=session)
    return _driven(outbox.drive(SagaState.MINED), key)


def _asking(config: OracleConfig, store: Store, chain: Chain, account: Signer | LocalAccount) -> Collect:
    """Sign oneself, where one is of the signer set, and ask the configured witnesses."""

    def collect(batch: Batch, archive: Archive) -> Sequence[tuple[str, bytes]]:
        proposal = Proposal(chain.domain, batch, archive.manifest)
        signer_set = chain.signer_set(batch.signer_epoch)
        appointed = account.address in signer_set.signers
        own = (lambda: sign_own(store, account, proposal, archive.records)) if appointed else None
        return collect_signatures(proposal, archive.records, config.witnesses, account, signer_set, own=own)

    return collect


def _keep_signatures(session: Session, chain: Chain, batch: Batch, signatures: Sequence[tuple[str, bytes]]) -> None:
    root, digest = "0x" + batch.root.hex(), "0x" + batch_digest(batch, chain.domain).hex()
    session.get_one(SealedBatch, root).parameters = batch_json(batch)
    for signer, signature in signatures:
        session.merge(WitnessSignature(root=root, signer=signer, digest=digest, signature="0x" + signature.hex()))


def _archive(config: OracleConfig, root: str) -> Archive:
    archive = read_archive(config.archive_folder, bytes.fromhex(root[2:]))
    if archive.problem:
        raise ArchiveError(archive.problem, root=root)
    return archive


def propose_batch(chain: Chain, archive: Archive) -> Batch:
    """The parameters under which an archive's statements would be notarized now."""
    statements = [record.statement for record in archive.records]
    head = chain.head()
    return Batch(
        kind=archive.kind,
        signer_epoch=chain.call("Notary", "signerEpoch", at=head),
        head=chain.call("Notary", "head", at=head) if archive.kind is BatchKind.FINAL else bytes(32),
        root=archive.root,
        start=min(statement.start for statement in statements),
        end=max(statement.end for statement in statements),
        statements=len(statements),
        energy_wh=batch_energy_wh(statements),
        archive_hash=archive.archive_hash,
        # The last block of a quiet chain may be hours old, and the next one has the time of the clock.
        deadline=max(head.time, int(time.time())) + DEADLINE_SECONDS,
    )


def _driven(driven: Driven, prefix: str) -> Sent:
    return Sent(driven.sent, tuple(act for act in driven.failed if act.key.startswith(prefix)))


# -- issue ------------------------------------------------------------------------------------------


def issue(
    config: OracleConfig, store: Store, chain: Chain, account: Signer | LocalAccount, progress: Progress = no_progress
) -> Sent:
    """Issue the certificates of every notarized batch whose devices are public and generate, and apply corrections.

    Where a whole ``issueMany`` would revert, each statement of it is issued alone, so that one cannot hold up others;
    a statement that still fails stays notarized with the contract's reason, and is asked for again in the next run
    unless the reason can never pass. Revoked batches are left out.
    """
    confirm(config, store, chain)
    sites = load_sites(config.sites_file)
    outbox = Outbox(store, chain, account)
    sent = Sent()
    roots = _roots(store, DayState.NOTARIZED)
    for done, root in enumerate(roots):
        progress("issuing certificates", done, len(roots))
        archive = _archive(config, root)
        if archive.kind is not BatchKind.FINAL or chain.notarization(archive.root).status is not BatchStatus.OPEN:
            continue
        crash_point(22)
        if issuable(sites, archive.records):
            sent += _issue(store, chain, outbox, archive, sites)
        if correctable(sites, archive.records):
            sent += _correct(store, chain, outbox, archive, sites)
    progress("issuing certificates", len(roots), len(roots))
    confirm(config, store, chain)
    return sent


def issuable(sites: SitesConfig, records: Sequence[ArchivedStatement]) -> list[ArchivedStatement]:
    """First statements of public generation devices: what the oracle itself may issue."""
    entitled = _entitled(sites)
    return [record for record in records if record.statement.device_id in entitled and record.statement.version == 0]


def correctable(sites: SitesConfig, records: Sequence[ArchivedStatement]) -> list[ArchivedStatement]:
    """Later statements of the same devices: what corrects their certificates."""
    entitled = _entitled(sites)
    return [record for record in records if record.statement.device_id in entitled and record.statement.version > 0]


def _entitled(sites: SitesConfig) -> set[int]:
    return {d.device_id for d in sites.devices if d.kind is DeviceKind.GENERATION and d.visibility is Visibility.PUBLIC}


def _issue(store: Store, chain: Chain, outbox: Outbox, archive: Archive, sites: SitesConfig) -> Sent:
    prefix = f"issue:0x{archive.root.hex()}"
    # Named by what is in them: with other devices in the sites file than before they are other pieces.
    chunks = {f"{prefix}:{_name(chunk)}": chunk for chunk in _chunks(issuable(sites, archive.records))}
    for key, chunk in chunks.items():
        if _act_state(store, chain, key) in (None, SagaState.QUEUED):
            outbox.enqueue(key, chain.address("EnergyCertificate"), _issue_many(chain, archive, chunk))
    sent = _driven(outbox.drive(SagaState.MINED), prefix)
    asked = set()
    for refused in [chunk for key, chunk in chunks.items() if _act_state(store, chain, key) is SagaState.FAILED]:
        for record in refused:
            statement = record.statement
            key = f"{prefix}:{statement.device_id}:{statement.start}"
            if _failed_for_good(_act(store, chain, key)):
                continue
            asked.add(key)
            proof = archive.tree.proof(statement_leaf(statement))
            call = chain.encode("EnergyCertificate", "issue", archive.root, statement_fields(statement), proof)
            outbox.enqueue(key, chain.address("EnergyCertificate"), call)
    if not asked:
        return Sent(sent.transactions)
    alone = _driven(outbox.drive(SagaState.MINED), prefix)
    failed = tuple(act for act in alone.failed if act.key in asked)
    _note_failures(store, failed)
    return Sent(sent.transactions + alone.transactions, failed)


def _chunks(records: Sequence[ArchivedStatement]) -> list[list[ArchivedStatement]]:
    """Even pieces of at most :data:`ISSUE_CHUNK`, a device's days together: one account, one run of mints."""
    count = -(-len(records) // ISSUE_CHUNK)
    return [list(records[len(records) * n // count : len(records) * (n + 1) // count]) for n in range(count)]


def _name(chunk: Sequence[ArchivedStatement]) -> str:
    return keccak256(b"".join(statement_leaf(record.statement) for record in chunk))[:8].hex()


def _issue_many(chain: Chain, archive: Archive, chunk: Sequence[ArchivedStatement]) -> bytes:
    by_leaf = {statement_leaf(record.statement): record.statement for record in chunk}
    leaves, proof, flags = archive.tree.multi_proof(list(by_leaf))
    statements = [statement_fields(by_leaf[leaf]) for leaf in leaves]
    return chain.encode("EnergyCertificate", "issueMany", archive.root, statements, proof, flags)


def _correct(store: Store, chain: Chain, outbox: Outbox, archive: Archive, sites: SitesConfig) -> Sent:
    """Apply each correction of a batch, each in a transaction of its own: a refused one holds up no other."""
    prefix, asked = f"correct:0x{archive.root.hex()}", set()
    for record in correctable(sites, archive.records):
        statement = record.statement
        key = f"{prefix}:{statement.device_id}:{statement.start}:{statement.version}"
        act = _act(store, chain, key)
        if _failed_for_good(act):
            continue
        asked.add(key)
        if act is None or act.state in (SagaState.QUEUED, SagaState.FAILED):
            proof = archive.tree.proof(statement_leaf(statement))
            call = chain.encode("EnergyCertificate", "correct", archive.root, statement_fields(statement), proof)
            outbox.enqueue(key, chain.address("EnergyCertificate"), call)
    crash_point(23)
    driven = _driven(outbox.drive(SagaState.MINED), prefix)
    failed = tuple(act for act in driven.failed if act.key in asked)
    _note_failures(store, failed)
    return Sent(driven.transactions, failed)


def _note_failures(store: Store, failed: Sequence[ActReport]) -> None:
    with store.session() as session:
        for act in failed:
            _, _, device_id, start, *version = act.key.split(":")
            key = int(device_id), int(start)
            row: Version | None = (
                session.get(Correction, (*key, int(version[0]))) if version else session.get(DeviceDay, key)
            )
            if row is not None:
                row.reason = f"not {'corrected' if version else 'issued'}: {act.error}"


# -- confirm ----------------------------------------------------------------------------------------


def confirm(config: OracleConfig, store: Store, chain: Chain) -> None:
    """Set batches and their device-days to what the chain shows: sealed, notarized, issued or final.

    Goes forward and back: what a reorganisation took away is done again by the next run. INTERIM batches, of which there
    are very many and nothing ever comes, are left alone once they are final. Raises StoreError where the chain has a batch
    that was taken back here: only :mod:`oracle.rebuild` puts that right.
    """
    sites = load_sites(config.sites_file)
    head, final = chain.head(), chain.final_number()
    with store.session() as session:
        batches = session.scalars(select(SealedBatch).where(SealedBatch.state.in_((*SEALED_STATES, DayState.REJECTED))))
        wanted = [one for one in batches if one.kind == BatchKind.FINAL or one.state in _UNDER_WAY]
    wanted.sort(key=lambda one: (one.sealed_at, one.root))
    kept = chain.notarizations([bytes.fromhex(one.root[2:]) for one in wanted], head) if wanted else []
    for batch, notarization in zip(wanted, kept, strict=True):
        root, status = batch.root, notarization.status
        if batch.state is DayState.REJECTED:
            if status is not BatchStatus.NONE:
                raise StoreError(f"batch {root} was taken back here and is notarized all the same; run rebuild")
            continue
        if batch.state is DayState.FINAL and status is BatchStatus.OPEN:
            continue
        states = _states(config, sites, chain, root, status, head, final)
        _set_states(store, root, states, status is BatchStatus.REVOKED)


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far the chain shows a version to have come; ``note`` says why no further, where the chain says so.

    ``owed_wh``: by how much the device's debt grew with a correction; None where it is not applied.
    """

    state: DayState
    note: str = ""
    owed_wh: int | None = None


def _states(
    config: OracleConfig, sites: SitesConfig, chain: Chain, root: str, status: BatchStatus, head: BlockRef, final: int
) -> dict[tuple[int, int, int], _Reached]:
    """What the chain shows of each statement of a batch, by device, start and version."""
    archive, raw_root = _archive(config, root), bytes.fromhex(root[2:])
    records = archive.records
    event = None if status is BatchStatus.NONE else chain.find_notarization(raw_root, head)
    if event is None:
        return {_key(record): _Reached(DayState.SEALED) for record in records}

    def found(name: str) -> list[Event]:
        return list(chain.events("EnergyCertificate", name, event.block_number, head.number, {"root": raw_root}))

    def seen(name: str) -> dict[int, int]:
        return {one.values["id"]: one.block_number for one in found(name)}

    # An INTERIM batch is evidence: nothing comes of it.
    first = issuable(sites, records) if archive.kind is BatchKind.FINAL else []
    issued, certified, refused = (
        (seen("Issued"), seen("SkippedCertified"), seen("SkippedRefused")) if first else ({}, {}, {})
    )
    later = correctable(sites, records) if archive.kind is BatchKind.FINAL else []
    corrected = {one.values["id"]: one for one in found("Corrected")} if later else {}
    mine, known = {record.statement for record in (*first, *later)}, {device.device_id for device in sites.devices}
    states = {}
    for record in records:
        statement, key = record.statement, _key(record)
        name = token_id(statement.device_id, statement.start, statement.duration)
        if statement.device_id not in known:
            states[key] = _Reached(DayState.NOTARIZED, "not issued: its device is not in the sites file")
        elif statement not in mine:
            states[key] = _Reached(DayState.FINAL if event.block_number <= final else DayState.NOTARIZED)
        elif statement.version and name in corrected:
            applied = corrected[name]
            state = DayState.FINAL if applied.block_number <= final else DayState.ISSUED
            states[key] = _Reached(state, owed_wh=_owed_wh(chain, applied))
        elif name in issued and not statement.version:
            states[key] = _Reached(DayState.FINAL if issued[name] <= final else DayState.ISSUED)
        elif name in refused:
            states[key] = _Reached(DayState.NOTARIZED, "not issued: the account refused the certificate")
        elif name in certified:
            states[key] = _Reached(
                DayState.NOTARIZED, "not issued: a slot of it was certified before, from another batch"
            )
        else:
            states[key] = _Reached(DayState.NOTARIZED)
    return states


def _key(record: ArchivedStatement) -> tuple[int, int, int]:
    return record.statement.device_id, record.statement.start, record.statement.version


def _owed_wh(chain: Chain, applied: Event) -> int:
    """By how much a correction raised its device's debt, out of the events of its own transaction."""
    block = applied.block_number
    incurred = chain.events("EnergyCertificate", "DebtIncurred", block, block, {"id": applied.values["id"]})
    return sum(one.values["amountWh"] for one in incurred if one.transaction == applied.transaction)


def debts_wh(chain: Chain, device_ids: Collection[int]) -> dict[int, int]:
    """What the chain says that each device owes now, in Wh; without those that owe nothing."""
    owed = {
        device_id: int(chain.call("EnergyCertificate", "debtOf", device_id)) for device_id in sorted(set(device_ids))
    }
    return {device_id: debt_wh for device_id, debt_wh in owed.items() if debt_wh}


def _set_states(store: Store, root: str, reached: dict[tuple[int, int, int], _Reached], revoked: bool) -> None:
    order = list(DayState)
    with store.writing() as session:
        batch = session.get_one(SealedBatch, root)
        if batch.state not in SEALED_STATES:
            return  # another process took it back meanwhile
        least = min((one.state for one in reached.values()), key=order.index)
        if batch.state is not least:
            batch.state = least
        for of in VERSIONS:
            for day in session.scalars(select(of).where(of.root == root)):
                one = reached[day.device_id, day.start, day.version]
                note = "its batch is revoked on the chain" if revoked else one.note
                if day.state is not one.state:
                    day.state = one.state
                if note and day.reason != note:
                    day.reason = note
                if isinstance(day, Correction) and day.owed_wh != one.owed_wh:
                    day.owed_wh = one.owed_wh


# -- all of it --------------------------------------------------------------------------------------


def run(
    config: OracleConfig,
    store: Store,
    chain: Chain,
    account: Signer | LocalAccount,
    files: Collection[Any] = (),
    progress: Progress = no_progress,
    collect: Collect | None = None,
) -> dict[str, Any]:
    """All steps once: look at the sources, ingest ``files`` (paths), assess, take decisions in, seal, notarize, issue. Run again, it sends nothing new."""
    looked = _look_at_sources(config, store, progress)
    report = ingest(config, store, files, progress) if files else None
    assessed = report.assessed if report else assess_all(config, store, progress)
    received = take_waiting(config, store)
    if received:
        assessed = assess_all(config, store, progress)
    if assessed.changed or received:
        keep(config, store)
    keep_daily(config, store, utc_now())
    sealed = seal(config, store, progress)
    sent = notarize(config, store, chain, account, progress, collect) + issue(config, store, chain, account, progress)
    return {
        "files": [file.to_json() for file in report.files] if report else [],
        "sources": looked,
        "decisions": [one.to_json() for one in received],
        **assessed.to_json(),
        "sealed": ["0x" + archive.root.hex() for archive in sealed],
        **sent.to_json(),
    }


def _look_at_sources(config: OracleConfig, store: Store, progress: Progress) -> list[dict[str, Any]]:
    if not config.sources:
        return []
    # Its libraries for SFTP and MQTT are loaded only where there is something to look at.
    from .sources import collect as look

    return [one.to_json() for one in look(config, store, progress=progress)]
