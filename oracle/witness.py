"""Witnesses: who recomputes a batch from raw files of their own, and signs it or says what differs.

A witness is a process of its own (``python -m oracle witness``) with its own key, database, raw files and device
keys. The coordinator sends it the batch's parameters and the archive's manifest (which carries the signed review
decisions), never readings. It signs the EIP-712 digest of what it recomputed itself, and remembers every statement
it signed: a second version 0 for a device and slot gets no signature, whoever asks.

Requests and answers are JSON over HTTP, each signed in a header by its sender (EIP-191 over the keccak256 of the
body): docs/witness.md. Both sides survive the other being down, slow or lying.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson
import structlog
from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address
from prometheus_client import Counter
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from .agreement import assessments_hash, difference
from .archive import SCHEMA as ARCHIVE_SCHEMA
from .archive import ArchivedStatement, build_tree
from .chain import ChainView
from .config import OracleConfig
from .domain import Batch, BatchKind, BatchStatus, NotaryDomain, Statement, Visibility
from .errors import CannotListen, ChainError, ConfigError, OracleError, ProtocolError, WitnessRefused
from .merkle import root_from_proof
from .messages import (
    BatchMessage,
    Difference,
    DifferencesAnswer,
    DifferencesMessage,
    Malformed,
    ProposalMessage,
    RefuseAnswer,
    SignAnswer,
    json_schemas,
)
from .metrics import CONTENT_TYPE, exposition, registry_of
from .protocol import batch_digest, batch_energy_wh, keccak256, manifest_bytes, statement_leaf, token_id
from .signer import Signer, SignerError, as_signer
from .store import SignedStatement, Store
from .units import day_list

SIGNATURE_HEADER = "X-Wattmark-Signature"
_NO_SIGNER = "the signer of this witness does not sign now; ask again"

MAX_BODY_BYTES = 16 * 1024 * 1024
READ_SECONDS, WORK_SECONDS = 30.0, 110.0
#: A witness refuses to sign for longer than this ahead of the later of the chain's time and now, in seconds.
MAX_DEADLINE_SECONDS = 86_400
#: By how much figures of floating point may differ between machines; the oracle rounds them to three digits.
VERDICT_TOLERANCE = 0.001
ZERO = b"\0" * 32

DeviceDay = tuple[int, int]
T = TypeVar("T")

log = structlog.get_logger("oracle.witness")


class Recomputed(Protocol):
    """A batch as this machine sees it: all device-days of its time that own raw files and decisions certify."""

    @property
    def records(self) -> Sequence[ArchivedStatement]: ...
    @property
    def policy(self) -> dict[str, Any]: ...
    @property
    def visibility(self) -> Visibility: ...


#: From a batch, the signed review decisions, the visibility of its devices and, of a batch of corrections, the
#: notarized statements before them (None else).
Recompute = Callable[[Batch, Sequence[dict[str, Any]], Visibility, Mapping[DeviceDay, Statement] | None], Recomputed]


class Refused(OracleError):
    """A witness does not sign. ``code`` is for machines, ``device_days`` are (device, start) it is about."""

    def __init__(self, code: str, reason: str, device_days: Collection[DeviceDay] = ()):
        self.code, self.reason, self.device_days = code, reason, tuple(sorted(device_days))
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a coordinator asks witnesses to sign: the batch, where it is to count, and its archive's manifest.

    ``assessments`` of its statements, in the archive's order, for a witness whose own figures differ a little.
    """

    domain: NotaryDomain
    batch: Batch
    manifest: dict[str, Any]
    assessments: tuple[str, ...] | None = None

    @property
    def digest(self) -> bytes:
        return batch_digest(self.batch, self.domain)

    def to_json(self) -> dict[str, Any]:
        return ProposalMessage(
            chainId=self.domain.chain_id,
            notary=self.domain.contract,
            batch=BatchMessage.of(self.batch),
            manifest=self.manifest,
            assessments=None if self.assessments is None else list(self.assessments),
        ).to_json()

    @classmethod
    def parse(cls, message: Any) -> Proposal:
        """From JSON values; Malformed names the first field that does not fit."""
        return cls.of(ProposalMessage.parse(message))

    @classmethod
    def of(cls, message: ProposalMessage) -> Proposal:
        return cls(
            NotaryDomain(message.chainId, to_checksum_address(message.notary)),
            message.batch.batch(),
            message.manifest,
            None if message.assessments is None else tuple(message.assessments),
        )


# -- remembering ----------------------------------------------------------------------------------------


def sign_own(
    store: Store, account: Signer | LocalAccount, proposal: Proposal, records: Sequence[ArchivedStatement]
) -> tuple[str, bytes]:
    """``(address, signature)`` over statements that this process computed itself, remembered before it is given.

    Raises WitnessRefused with the device-days if it has signed other statements for them before.
    """
    try:
        return account.address, _remember_and_sign(store, as_signer(account), proposal, records)
    except Refused as refused:
        raise WitnessRefused(
            refused.reason, refusals={account.address: refused.reason}, device_days=refused.device_days
        ) from None


def _remember_and_sign(store: Store, signer: Signer, proposal: Proposal, records: Sequence[ArchivedStatement]) -> bytes:
    chain_id, root = proposal.domain.chain_id, _hex(proposal.batch.root)
    if proposal.batch.kind is BatchKind.INTERIM:
        # Evidence of a moment: it binds nobody to the day's figures, and nothing can be issued from it.
        return signer.sign_batch(proposal.batch, proposal.domain)
    wanted = {
        (r.statement.device_id, r.statement.start, r.statement.version): (
            r.statement,
            _hex(statement_leaf(r.statement)),
        )
        for r in records
    }
    try:
        # No other process may sign between what is read here and what is written.
        with store.writing() as session:
            known = _signed_within(session, chain_id, proposal.batch.start, proposal.batch.end)
            conflicts = {
                (statement.device_id, statement.start)
                for statement, leaf in wanted.values()
                for row in known.get((statement.device_id, statement.version), ())
                if row.start < statement.end and statement.start < row.start + row.duration and row.leaf != leaf
            }
            if conflicts:
                raise Refused(
                    "already-signed", f"other figures are signed already for {day_list(conflicts)}", conflicts
                )
            rows = {(row.device_id, row.start, row.version): row for several in known.values() for row in several}
            for key, (statement, leaf) in wanted.items():
                if key in rows:
                    rows[key].root, rows[key].deadline = root, proposal.batch.deadline
                    continue
                device_id, start, version = key
                session.add(
                    SignedStatement(
                        chain_id=chain_id,
                        device_id=device_id,
                        start=start,
                        version=version,
                        duration=statement.duration,
                        leaf=leaf,
                        root=root,
                        deadline=proposal.batch.deadline,
                    )
                )
    except IntegrityError:
        raise Refused("busy", "the same statements are being signed by another process; ask again") from None
    return signer.sign_batch(proposal.batch, proposal.domain)


def _signed_within(session: Any, chain_id: int, start: int, end: int) -> dict[tuple[int, int], list[SignedStatement]]:
    """What was signed about periods that touch [start, end), by device and version."""
    query = select(SignedStatement).where(
        SignedStatement.chain_id == chain_id,
        SignedStatement.start < end,
        SignedStatement.start + SignedStatement.duration > start,
    )
    found: dict[tuple[int, int], list[SignedStatement]] = {}
    for row in session.scalars(query):
        found.setdefault((row.device_id, row.version), []).append(row)
    return found


# -- the witness ----------------------------------------------------------------------------------------


class Witness:
    """Judges proposals. ``recompute`` works on this process's own raw files, ``coordinators`` are who may ask."""

    def __init__(
        self,
        chain: ChainView,
        store: Store,
        account: Signer | LocalAccount,
        coordinators: Iterable[str],
        recompute: Recompute,
        tolerance: float = VERDICT_TOLERANCE,
    ):
        self.chain, self.store, self.signer, self.recompute = chain, store, as_signer(account), recompute
        self.tolerance = tolerance
        self.coordinators = {to_checksum_address(address) for address in coordinators}
        if not self.coordinators:
            raise ConfigError("a witness needs the address of at least one coordinator; set coordinators")
        self._one_at_a_time = threading.Lock()

    def sign(self, proposal: Proposal) -> bytes:
        """The signature over the proposal, if everything in it is what this machine finds; else raises Refused."""
        with self._one_at_a_time:
            self._check_manifest(proposal)
            self._check_chain(proposal)
            records = self._check_figures(proposal)
            return _remember_and_sign(self.store, self.signer, proposal, records)

    def differences(
        self, proposal: Proposal, theirs: Iterable[tuple[int, int, int, bytes]]
    ) -> list[tuple[int, int, bytes | None, bytes | None]]:
        """``(device, start, own leaf, their leaf)`` of the statements that differ; None where one side has none."""
        with self._one_at_a_time:
            self._check_manifest(proposal)
            records, _ = self._recomputed(proposal)
        ours = {
            (r.statement.device_id, r.statement.start, r.statement.version): statement_leaf(r.statement)
            for r in records
        }
        given = {(device_id, start, version): leaf for device_id, start, version, leaf in theirs}
        return [
            (key[0], key[1], ours.get(key), given.get(key))
            for key in sorted(ours.keys() | given.keys())
            if ours.get(key) != given.get(key)
        ]

    def _check_manifest(self, proposal: Proposal) -> None:
        batch, manifest = proposal.batch, proposal.manifest
        own = self.chain.domain
        if proposal.domain.chain_id != own.chain_id:
            raise Refused("chain", f"this witness signs for chain {own.chain_id}, not {proposal.domain.chain_id}")
        if proposal.domain.contract != own.contract:
            raise Refused("notary", f"this witness signs for the Notary at {own.contract}")
        try:
            hashed = keccak256(manifest_bytes(manifest))
        except ProtocolError as fault:
            raise Refused("archive-hash", str(fault)) from None
        if hashed != batch.archive_hash:
            raise Refused("archive-hash", f"the manifest hashes to {_hex(hashed)}, not to the batch's archive hash")
        if manifest.get("schema") != ARCHIVE_SCHEMA or manifest.get("root") != _hex(batch.root):
            raise Refused("manifest", "the manifest is not of this batch's archive")
        if manifest.get("statements") != batch.statements:
            raise Refused("count", f"the manifest has {manifest.get('statements')!r} statements")

    def _check_chain(self, proposal: Proposal) -> None:
        batch = proposal.batch
        self.chain.check_identity()
        now = self.chain.head()
        epoch = self.chain.call("Notary", "signerEpoch", at=now)
        if batch.signer_epoch != epoch:
            raise Refused("epoch", f"epoch {epoch} is current, not {batch.signer_epoch}")
        if self.signer.address not in self.chain.signer_set(epoch, now).signers:
            raise Refused("not-appointed", f"{self.signer.address} is not a signer of epoch {epoch}")
        head = self.chain.call("Notary", "head", at=now) if batch.kind == BatchKind.FINAL else ZERO
        if batch.head != head:
            raise Refused("head", f"the chain of batches stands at {_hex(head)}")
        # The last block of a quiet chain may be hours old, and the next one has the time of the clock.
        clock = max(now.time, int(time.time()))
        if not clock <= batch.deadline <= clock + MAX_DEADLINE_SECONDS:
            raise Refused("deadline", f"the deadline is not within {MAX_DEADLINE_SECONDS} s of {clock}")
        if batch.end > clock:
            raise Refused("period", "the period has not ended")
        if self.chain.notarization(batch.root, now).status != BatchStatus.NONE:
            raise Refused("already-notarized", "this root is notarized already")

    def _check_figures(self, proposal: Proposal) -> list[ArchivedStatement]:
        batch, manifest = proposal.batch, proposal.manifest
        records, policy = self._recomputed(proposal)
        if not records:
            raise Refused("root", "there is nothing to certify here in this time")
        root = build_tree(records).root
        if root != batch.root:
            raise Refused("root", f"own raw files lead to root {_hex(root)} over {len(records)} statements")
        if manifest.get("policy") != policy:
            raise Refused("policy", f"the policy differs in {_differing_keys(manifest.get('policy'), policy)}")
        self._check_assessments(proposal, records)
        statements = [record.statement for record in records]
        energy_wh = batch_energy_wh(statements)
        if batch.energy_wh != energy_wh:
            raise Refused("energy", f"the statements hold {energy_wh} Wh, not {batch.energy_wh}")
        if batch.statements != len(statements):
            raise Refused("count", f"there are {len(statements)} statements, not {batch.statements}")
        if batch.start != min(s.start for s in statements) or batch.end != max(s.end for s in statements):
            raise Refused("period", "start and end are not those of the statements")
        return records

    def _check_assessments(self, proposal: Proposal, records: Sequence[ArchivedStatement]) -> None:
        """Verdicts and whole numbers must be the same; figures of floating point may differ by the tolerance."""
        wanted = proposal.manifest.get("assessments")
        if wanted == assessments_hash([record.assessment for record in records]):
            return
        if proposal.assessments is None:
            raise Refused("assessments", "figures of the assessments differ; send the assessments to compare them")
        if wanted != assessments_hash(proposal.assessments) or len(proposal.assessments) != len(records):
            raise Refused("manifest", "the assessments sent are not those of the manifest")
        differing = {
            (record.statement.device_id, record.statement.start): where
            for record, theirs in zip(records, proposal.assessments, strict=True)
            if (where := difference(record.assessment, theirs, self.tolerance)) is not None
        }
        if differing:
            day, where = min(differing.items())
            raise Refused("assessments", f"the assessment of {day_list([day])} differs in {where}", differing)
        log.info("figures within tolerance", root=_hex(proposal.batch.root), tolerance=self.tolerance)

    def _recomputed(self, proposal: Proposal) -> tuple[list[ArchivedStatement], dict[str, Any]]:
        """Own statements of the batch's time and the policy behind them, in the archive's order.

        Left out is what the proposer openly withholds and what is in another notarized batch already.
        """
        batch, manifest = proposal.batch, proposal.manifest
        names = {"public": Visibility.PUBLIC, "private": Visibility.PRIVATE}
        visibility = names.get(str(manifest.get("visibility")))
        if visibility is None:
            raise Refused("manifest", "the manifest states no visibility")
        decisions = manifest.get("reviewTrail")
        if not isinstance(decisions, list) or not all(isinstance(entry, dict) for entry in decisions):
            raise Refused("review", "the review trail is not a list of decisions")
        previous = self._previous(manifest) if "corrects" in manifest else None
        if (manifest.get("kind") == "interim") is not (batch.kind is BatchKind.INTERIM):
            raise Refused("manifest", "the manifest is of another kind of batch")
        try:
            own = self.recompute(batch, decisions, visibility, previous)
        except ChainError:
            raise
        except OracleError as fault:
            # A raw file that was altered names the days that rest on it.
            raise Refused("recompute", str(fault), getattr(fault, "device_days", ())) from None
        if batch.kind is BatchKind.INTERIM:
            records = list(own.records)
        elif previous is not None:
            # What a correction leaves out stays as it is notarized; nothing is hidden by that.
            withheld = _withheld(manifest)
            records = [r for r in own.records if (r.statement.device_id, r.statement.start) not in withheld]
        else:
            left_out = _withheld(manifest) | self._notarized_elsewhere(batch)
            records = [r for r in own.records if (r.statement.device_id, r.statement.start) not in left_out]
        if records and build_tree(records).root != batch.root:
            # A witness that was away when others notarized finds their certificates on the chain.
            certified = self.chain.certified([_period(r) for r in records], self.chain.head())
            records = [r for r in records if r.statement.version or _period(r) not in certified]
        records.sort(key=lambda r: (r.statement.device_id, r.statement.start, r.statement.version))
        return records, _restricted(own.policy, {record.statement.device_id for record in records})

    def _previous(self, manifest: dict[str, Any]) -> dict[DeviceDay, Statement]:
        """The statements that a batch of corrections follows, each seen to be in a notarized batch and the newest one there.

        What the chain has corrected already to that version or beyond cannot be followed from an older one.
        """
        previous: dict[DeviceDay, Statement] = {}
        for entry in _list(manifest["corrects"]):
            if not isinstance(entry, dict):
                raise Refused("manifest", "corrects is not a list of statements")
            try:
                statement = Statement(
                    _whole(entry, "deviceId", 64),
                    _whole(entry, "start", 40),
                    _whole(entry, "duration", 32),
                    _whole(entry, "version", 32),
                    _whole(entry, "energyWh", 64),
                    _whole(entry, "previousWh", 64),
                    _bytes32(entry.get("profileHash"), "profileHash"),
                )
                root = _bytes32(entry.get("root"), "root")
                proof = [_bytes32(part, "proof") for part in _list(entry.get("proof"))]
            except Malformed as fault:
                raise Refused("manifest", f"corrects: {fault}") from None
            day = statement.device_id, statement.start
            notarization = self.chain.notarization(root)
            if notarization.status is BatchStatus.NONE or notarization.kind != BatchKind.FINAL:
                raise Refused(
                    "version", f"no final batch {_hex(root)} is notarized that {day_list([day])} could follow", [day]
                )
            if root_from_proof(statement_leaf(statement), proof) != root:
                raise Refused("version", f"the statement before {day_list([day])} is not in batch {_hex(root)}", [day])
            name = token_id(statement.device_id, statement.start, statement.duration)
            if self.chain.call("EnergyCertificate", "correctionOf", name)[0] > statement.version:
                raise Refused("version", f"the chain has a later version of {day_list([day])}", [day])
            if self._has_signed_after(statement):
                raise Refused("already-signed", f"a version after that is signed already for {day_list([day])}", [day])
            previous[day] = statement
        return previous

    def _has_signed_after(self, statement: Statement) -> bool:
        """Whether this witness signed a version that is two or more ahead of ``statement``."""
        ahead = select(SignedStatement.version).where(
            SignedStatement.chain_id == self.chain.config.chain_id,
            SignedStatement.device_id == statement.device_id,
            SignedStatement.start == statement.start,
            SignedStatement.version > statement.version + 1,
        )
        with self.store.session() as session:
            return session.scalars(ahead).first() is not None

    def _notarized_elsewhere(self, batch: Batch) -> set[DeviceDay]:
        with self.store.session() as session:
            signed = _signed_within(session, self.chain.config.chain_id, batch.start, batch.end)
        rows = [row for several in signed.values() for row in several if row.root != _hex(batch.root)]
        roots = sorted({row.root for row in rows})
        kept = self.chain.notarizations([bytes.fromhex(root[2:]) for root in roots], self.chain.head())
        notarized = {root for root, one in zip(roots, kept, strict=True) if one.status != BatchStatus.NONE}
        return {(row.device_id, row.start) for row in rows if row.root in notarized}


def _period(record: ArchivedStatement) -> tuple[int, int, int]:
    return record.statement.device_id, record.statement.start, record.statement.duration


def _withheld(manifest: dict[str, Any]) -> set[DeviceDay]:
    entries = manifest.get("withheld", [])
    try:
        return {(int(entry["deviceId"]), int(entry["start"])) for entry in entries}
    except (TypeError, KeyError, ValueError):
        raise Refused("manifest", "withheld is not a list of {deviceId, start, reason}") from None


def _restricted(policy: dict[str, Any], device_ids: Collection[int]) -> dict[str, Any]:
    """The part of a policy that decided about these devices."""
    if "devices" not in policy:
        return policy
    devices = {key: value for key, value in policy["devices"].items() if int(key) in device_ids}
    used = {name for device in devices.values() for name in device.get("stations", ())}
    stations = {name: value for name, value in policy.get("stations", {}).items() if name in used}
    return policy | {"devices": devices, "stations": stations}


def _differing_keys(theirs: Any, ours: dict[str, Any], path: str = "") -> str:
    if not isinstance(theirs, dict):
        return path or "everything"
    for key in sorted(theirs.keys() | ours.keys(), key=str):
        if theirs.get(key) != ours.get(key):
            inner = ours.get(key)
            here = f"{path}.{key}" if path else str(key)
            return _differing_keys(theirs.get(key), inner, here) if isinstance(inner, dict) else here
    return path


# -- the service ----------------------------------------------------------------------------------------


def serve(config: OracleConfig) -> None:
    """Run the witness of ``config`` until it is told to end."""
    from . import sealing
    from .signer import open_signer

    if config.key is None:
        raise ConfigError(f"{config.file} names no key, so this witness could not sign; `keys create` makes one")
    store = Store.open(config.database_url)

    chain, recompute = ChainView(config.network), functools.partial(sealing.recompute, config, store)
    witness = Witness(chain, store, open_signer(config.key), config.coordinators, recompute, config.verdict_tolerance)
    host, _, port = config.listen.rpartition(":")
    log.info("listening", host=host, port=int(port), address=witness.signer.address)
    try:
        web.run_app(application(witness), host=host, port=int(port), print=None, access_log=None)
    except OSError as fault:
        raise CannotListen(config.listen, fault, setting="listen") from None


def application(witness: Witness) -> web.Application:
    """The HTTP service of a witness."""
    registry = registry_of(witness.store, witness.chain)
    answers = Counter("wattmark_witness_answers", "Answers to proposals", ["decision", "code"], registry=registry)

    async def proposals(request: web.Request) -> web.Response:
        async def judge(message: Any) -> dict[str, Any]:
            proposal = Proposal.parse(message)
            root = _hex(proposal.batch.root)
            try:
                signature = await _in_thread(witness.sign, proposal)
            except Refused as refused:
                log.info("refused", root=root, code=refused.code)
                answers.labels("refuse", refused.code).inc()
                days = list(refused.device_days)
                return RefuseAnswer(root=root, code=refused.code, reason=str(refused), deviceDays=days).to_json()
            log.info("signed", root=root)
            answers.labels("sign", "").inc()
            return SignAnswer(root=root, signer=witness.signer.address, signature=_hex(signature)).to_json()

        return await _answer(witness, request, judge)

    async def differences(request: web.Request) -> web.Response:
        async def compare(message: Any) -> dict[str, Any]:
            asked = DifferencesMessage.parse(message)
            proposal = Proposal.of(asked.proposal)
            if request.match_info["root"] != _hex(proposal.batch.root):
                raise Malformed("the root in the path is not the proposal's")
            theirs = [
                (device, start, version, bytes.fromhex(leaf[2:])) for device, start, version, leaf in asked.statements
            ]
            try:
                found = await _in_thread(witness.differences, proposal, theirs)
            except Refused as refused:
                raise Malformed(str(refused)) from None
            days = [
                Difference(deviceId=device, start=start, ours=_hex_or_none(ours), theirs=_hex_or_none(given))
                for device, start, ours, given in found
            ]
            return DifferencesAnswer(root=_hex(proposal.batch.root), deviceDays=days).to_json()

        return await _answer(witness, request, compare)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"address": witness.signer.address, "chainId": witness.chain.config.chain_id})

    async def schemas(_: web.Request) -> web.Response:
        return web.json_response(json_schemas())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await _in_thread(exposition, registry), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/schemas", schemas)
    app.router.add_get("/v1/health", health)
    app.router.add_post("/v1/proposals", proposals)
    app.router.add_post("/v1/proposals/{root}/differences", differences)
    return app


async def _in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(work, *arguments), WORK_SECONDS)


async def _answer(witness: Witness, request: web.Request, work: Callable[[Any], Any]) -> web.Response:
    """Read, authenticate, work, and sign the answer; every fault is a short JSON answer, never a traceback."""
    status, message = await _worked(witness, request, work)
    body = json.dumps(message).encode()
    try:
        headers = {SIGNATURE_HEADER: await _in_thread(sign_message, witness.signer, body)}
    except (SignerError, TimeoutError) as fault:
        log.error("answer not signed", error=str(fault))
        return web.json_response({"error": _NO_SIGNER}, status=503)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


async def _worked(witness: Witness, request: web.Request, work: Callable[[Any], Any]) -> tuple[int, dict[str, Any]]:
    """HTTP status and answer to a request."""
    try:
        body = await asyncio.wait_for(request.read(), READ_SECONDS)
    except web.HTTPRequestEntityTooLarge:
        return 413, {"error": f"the body exceeds {MAX_BODY_BYTES} bytes"}
    except TimeoutError:
        return 408, {"error": f"the body did not arrive within {READ_SECONDS:.0f} s"}
    sender = message_signer(body, request.headers.get(SIGNATURE_HEADER, ""))
    if sender not in witness.coordinators:
        return 401, {"error": f"{SIGNATURE_HEADER} is not of a coordinator known here"}
    try:
        return 200, await work(parse_json(body))
    except Malformed as fault:
        return 400, {"error": str(fault)}
    except ChainError as fault:
        return 503, {"error": f"the chain cannot be read: {fault}"}
    except SignerError as fault:
        log.error("not signed", error=str(fault))
        return 503, {"error": _NO_SIGNER}
    except TimeoutError:
        return 503, {"error": "recomputing took too long; ask again"}
    except Exception as fault:
        log.error("failed", error=type(fault).__name__)
        return 500, {"error": "internal error; the witness's log has more"}


def sign_message(account: Signer | LocalAccount, body: bytes) -> str:
    """Header value for a body: EIP-191 personal signature over its keccak256."""
    return _hex(as_signer(account).sign_message(keccak256(body)))


def message_signer(body: bytes, signature: str) -> str | None:
    """Who signed a body; None if the header is no signature."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{130}", signature):
        return None
    try:
        return str(Account.recover_message(encode_defunct(keccak256(body)), signature=signature))
    except Exception:
        # The libraries below raise many kinds of errors over hostile bytes; all mean the same.
        return None


# -- message fields -------------------------------------------------------------------------------------


def parse_json(body: bytes) -> Any:
    """A body as JSON; Malformed if it is none."""
    try:
        # Not json.loads: a library below lifts Python's recursion limit, and deep nesting would end the process.
        return orjson.loads(body)
    except ValueError:
        raise Malformed("the body is not JSON") from None


def _whole(message: dict[str, Any], name: str, bits: int) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise Malformed(f"{name} must be a whole number of at most {bits} bits")
    return value


def _bytes32(value: Any, name: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-f]{64}", value):
        raise Malformed(f"{name} must be 0x and 64 hex digits")
    return bytes.fromhex(value[2:])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _hex_or_none(value: bytes | None) -> str | None:
    return None if value is None else _hex(value)
