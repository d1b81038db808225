"""Checks on demand: one statement at once, many in the background, each from the archive and the chain anew."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections import Counter
from dataclasses import replace
from itertools import groupby
from threading import Event, Lock, Thread
from typing import Any

from oracle.archive import Archive, ArchivedStatement, read_archive
from oracle.chain import ChainView
from oracle.checks import ChainFacts, StatementEvidence, check, gather
from oracle.domain import CheckResult
from oracle.errors import ArchiveError, ChainError, ProtocolError
from oracle.protocol import keccak256, statement_leaf

from .catalogue import DONE, FAILED, RUNNING, Catalogue
from .connections import Claim
from .explorer import Explorer
from .index import Index
from .node import Node
from .readings import Archives

logger = logging.getLogger(__name__)

Key = dict[str, Any]
#: How often a process looks for validations that others were asked for, and whether the one that works on them has ended.
SECONDS_BETWEEN_LOOKS = 0.5


def calculated_leaf(record: ArchivedStatement) -> bytes | None:
    """The leaf that the readings themselves lead to: profile hash and leaf computed again. None if they lead nowhere."""
    try:
        again = replace(record.statement, profile_hash=record.recomputed_profile_hash())
        return statement_leaf(again) if len(again.profile_hash) == 32 else None
    except ProtocolError:
        return None


class Validator:
    """Works off validations one after the other on a thread of its own, and keeps what they found.

    They wait in the catalogue. Of several processes one works on them; what it leaves when it ends another begins again.
    """

    def __init__(
        self, index: Index, catalogue: Catalogue, archives: Archives, chain: ChainView, node: Node, head_seconds: float
    ):
        self._index, self._catalogue, self._archives, self._chain, self._node = index, catalogue, archives, chain, node
        self._claim = Claim(catalogue.path.with_name("validation.lock"))
        self._wake, self._ended = Event(), Event()
        self._thread: Thread | None = None
        self._facts_lock = Lock()
        self._facts: tuple[str, ChainFacts] | None = None
        self._head_seconds, self._asked_at = head_seconds, 0.0

    def start(self) -> None:
        self._thread = Thread(target=self._run, name="validation", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=30)
        self._claim.release()

    def ask(self, scope: dict[str, str]) -> int:
        """Queue a validation of the statements that ``scope`` (filters of the checks table, as text) leaves. Its job's id."""
        job = self._catalogue.open_job(scope)
        self._wake.set()
        return job

    def check_now(
        self, key: Key, *, fresh: bool = False, facts: ChainFacts | None = None
    ) -> tuple[CheckResult, str | None, StatementEvidence]:
        """The check of one statement with the address its readings lead to.

        ``fresh`` reads the files again; the same ``facts`` for several statements read the chain once.
        """
        return self._check(self._read(key["root"], fresh), key, facts or self._facts_now())

    def _facts_now(self) -> ChainFacts:
        """What the chain says at its present head: asked once for each block and shared until the next one.

        Whether there is a next one is asked every ``head_seconds`` at most, however many check at once.
        """
        with self._facts_lock:
            if self._facts and not self._facts[1].failed and time.monotonic() - self._asked_at < self._head_seconds:
                return self._facts[1]
        asked_at = time.monotonic()
        try:
            head = str(self._node.call("eth_getBlockByNumber", "latest", False)["hash"])
        except (ChainError, TypeError, KeyError):
            # Each check says for itself what it could not read.
            return ChainFacts(self._chain)
        with self._facts_lock:
            if self._facts is None or self._facts[0] != head or self._facts[1].failed:
                self._facts = (head, ChainFacts(self._chain))
            self._asked_at = asked_at
            return self._facts[1]

    # -- inside -------------------------------------------------------------------------------------

    def _run(self) -> None:
        first = True
        while not self._ended.is_set():
            self._wake.clear()
            try:
                if self._claim.take():
                    if first:
                        self._catalogue.queue_again()
                        first = False
                    job = self._catalogue.next_job()
                    if job is not None:
                        self.work(job)
                        continue
            except (OSError, sqlite3.Error):
                logger.exception("validations cannot be looked for or kept")
            self._wake.wait(SECONDS_BETWEEN_LOOKS)

    def work(self, job_id: int) -> None:
        """Do a queued validation now, on the calling thread."""
        began = time.monotonic()
        job = self._catalogue.job(job_id)
        if job is None:
            return
        try:
            with Explorer.open(self._index, str(self._catalogue.path)) as explorer:
                keys = explorer.statement_keys(job["scope"])
            self._catalogue.update_job(job_id, state=RUNNING, total=len(keys))
            counts: Counter[str] = Counter()
            facts = ChainFacts(self._chain)
            roots = list(dict.fromkeys(key["root"] for key in keys))
            # Without the chain each check says so for itself.
            with contextlib.suppress(ChainError):
                facts.prefetch([bytes.fromhex(root[2:]) for root in roots])
            done = 0
            for root, group in groupby(keys, key=lambda key: key["root"]):
                archive = self._read(root, fresh=True)
                results = []
                for key in group:
                    result, calculated, _ = self._check(archive, key, facts)
                    results.append((key, result, calculated))
                    counts[result.headline.value] += 1
                    if self._ended.is_set():
                        break
                self._catalogue.keep(results)
                done += len(results)
                self._catalogue.update_job(job_id, done=done, counts=json.dumps(counts))
                if self._ended.is_set():
                    break
            # What is left when the process ends stays "running", and is begun again.
            if done == len(keys):
                finished = {"finished_at": int(time.time()), "seconds": round(time.monotonic() - began, 3)}
                self._catalogue.update_job(job_id, state=DONE, **finished)
        except Exception as fault:
            # One validation that fails must not end the thread that the others wait for.
            logger.exception("validation %d failed", job_id)
            self._catalogue.update_job(job_id, state=FAILED, problem=type(fault).__name__, finished_at=int(time.time()))

    def _read(self, root: str, fresh: bool) -> Archive | StatementEvidence:
        """The archive, or what can be shown without it."""
        folder, name = self._catalogue.archive_folder, bytes.fromhex(root[2:])
        try:
            return read_archive(folder, name) if fresh else self._archives.read(root)
        except ArchiveError as fault:
            manifest, parquet = folder / f"{root[2:]}.json", folder / f"{root[2:]}.parquet"
            damaged = keccak256(manifest.read_bytes()) if manifest.exists() and parquet.exists() else None
            return StatementEvidence(name, None, archive_problem=fault.reason, archive_hash=damaged)

    @staticmethod
    def _check(
        archive: Archive | StatementEvidence, key: Key, facts: ChainFacts
    ) -> tuple[CheckResult, str | None, StatementEvidence]:
        if isinstance(archive, StatementEvidence):
            return check(archive, facts), None, archive
        record = archive.record(int(key["device_id"]), key["start"]) if key["device_id"] else None
        if record is None:
            problem = archive.problem or "the archive does not hold this statement"
            evidence = StatementEvidence(archive.root, None, archive_problem=problem, archive_hash=archive.archive_hash)
            return check(evidence, facts), None, evidence
        evidence = gather(archive, record)
        leaf = calculated_leaf(record)
        return check(evidence, facts), "0x" + leaf.hex() if leaf else None, evidence
