"""Keeps the index in step with a node.

Each look reads the events of new blocks first, in ranges that are committed one by one; then, from the blocks themselves, the
transactions: those that left events, and those that were sent to our contracts and refused, which leave none.
"""

from __future__ import annotations

import gc
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from oracle.errors import ChainError, ChainUnreachable

from .abi import Artifacts, checksum
from .connections import Claim
from .decoding import decode_logs
from .index import CHECKPOINTS, Freshness, Index, Scanned
from .node import Node, NodeRefused

logger = logging.getLogger(__name__)

BLOCKS_PER_REQUEST = 2_000
FIRST_BLOCKS = 25
#: Ranges are made as long as hold about so many events: an answer of a few MB, and bounded memory.
EVENTS_PER_REQUEST = 6_000
OBJECTS_BETWEEN_COLLECTIONS = 200_000
#: Blocks with all their transactions that one request asks for, and requests under way at once.
FULL_BLOCKS_PER_REQUEST, FULL_REQUESTS = 10, 2
#: So far back from the head blocks without events are searched for refused transactions. Every one of them is read in full.
SCANNED_BLOCKS = 10_000

REORGANISED = "the chain was reorganised while it was read; reading it again"
Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a node says of the blocks ``first`` to ``last``: their ``logs`` of our contracts, and rows of the blocks with any.

    ``parent`` is the hash of the block before ``first``, ``tip`` the header of ``last``.
    """

    first: int
    last: int
    parent: str
    tip: Block
    logs: list[dict[str, Any]]
    blocks: list[tuple[int, str, int, int, None]]

    def next_step(self) -> int:
        """How many blocks to ask for next, so that answers stay of one size whether blocks are full or empty."""
        blocks = self.last - self.first + 1
        return max(1, min(BLOCKS_PER_REQUEST, 2 * blocks, blocks * EVENTS_PER_REQUEST // max(1, len(self.logs))))


@contextmanager
def _rare_collection() -> Iterator[None]:
    """A range makes a hundred thousand objects and no cycle: seeking cycles among them as often as usual takes a fifth of the time."""
    usual = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class Follower:
    """Keeps an index in step with a node, on its own thread once started.

    ``finality_depth`` is the number of blocks on top that make a block final; None asks for the node's own tag.
    A look reads transactions for at most ``transactions_seconds`` (0: not at all), so that new events need not wait; the
    next look goes on.
    """

    def __init__(
        self,
        index: Index,
        node: Node,
        artifacts: Artifacts,
        *,
        finality_depth: int | None = None,
        interval_seconds: float = 3,
        transactions_seconds: float = 10,
    ):
        self.index, self.node, self.artifacts = index, node, artifacts
        self.finality_depth, self.interval_seconds = finality_depth, interval_seconds
        self.transactions_seconds = transactions_seconds
        #: Of the processes that serve an index one keeps it, and another goes on where it ends.
        self._claim = Claim(index.path.with_suffix(".lock"))
        self._by_address = {address.lower(): name for name, address in index.contracts.addresses.items()}
        self._wake, self._ended = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int | None, int | None, float | None, str | None] = (None, None, None, None)
        self._unfinished = False

    # -- running ------------------------------------------------------------------------------------

    def start(self, after: Callable[[], None] = lambda: None) -> None:
        """Look at the chain now and every ``interval_seconds``; ``after`` is called after each look."""
        self._after = after
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=30)
        self._claim.release()

    def nudge(self) -> None:
        """Look at the chain soon, without waiting for it."""
        self._wake.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.sync()
            try:
                self._after()
            except Exception:
                logger.exception("what follows a look at the chain failed")
            if not self._unfinished:
                self._wake.wait(self.interval_seconds)
            self._wake.clear()

    def freshness(self) -> Freshness:
        head, final, looked_at, problem = self._seen
        with self.index.reading() as db:
            row = db.execute("SELECT number, hash, timestamp FROM block ORDER BY number DESC LIMIT 1").fetchone()
            unread = db.execute("SELECT COUNT(*) FROM block WHERE events > 0 AND transactions IS NULL").fetchone()[0]
        number, block_hash, timestamp = row if row else (None, None, None)
        return Freshness(number, block_hash, timestamp, head, final, looked_at, problem, unread)

    # -- one look at the chain ----------------------------------------------------------------------

    def sync(self) -> Freshness:
        """Bring the index to the node's newest block. An unreachable or wrong node is told in ``problem``, never raised."""
        with self._lock:
            head, final, looked_at, _ = self._seen
            self._unfinished = False
            try:
                head, final = self._sync()
                self._seen = (head, final, time.time(), None)
            except (ChainError, OverflowError, sqlite3.Error, KeyError, TypeError, ValueError) as fault:
                # A malformed answer must not end the thread: what is indexed stays served, with its age.
                kind = "" if isinstance(fault, ChainError) else f"{type(fault).__name__}: "
                self._seen = (head, final, looked_at, f"{kind}{fault}")
        return self.freshness()

    def _sync(self) -> tuple[int, int]:
        contracts = self.index.contracts
        chain_id = int(self.node.call("eth_chainId"), 16)
        if chain_id != contracts.chain_id:
            raise ChainError(f"the node is of chain {chain_id}, the address book of chain {contracts.chain_id}")
        head = int(self.node.call("eth_blockNumber"), 16)
        if self._claim.take():
            with self.index.writing() as db:
                self._read_events(db, head)
                if self.transactions_seconds:
                    self._read_transactions(db, head)
        return head, self._final(head)

    def _final(self, head: int) -> int:
        if self.finality_depth is not None:
            return head - self.finality_depth
        try:
            block = self.node.call("eth_getBlockByNumber", "finalized", False)
        except NodeRefused:
            block = None
        return int(block["number"], 16) if block else -1

    # -- events -------------------------------------------------------------------------------------

    def _read_events(self, db: sqlite3.Connection, head: int) -> None:
        fork, parent = self._rewind(db)
        first, step, waiting = fork + 1, FIRST_BLOCKS, None
        # One range is fetched while the one before is decoded and stored.
        with _rare_collection(), ThreadPoolExecutor(1, "fetch") as fetcher:
            while first <= head or waiting:
                coming = fetcher.submit(self._fetch, first, head, step) if first <= head else None
                if waiting:
                    self._store(db, waiting)
                if coming is None:
                    break
                waiting = coming.result()
                if parent and waiting.parent != parent:
                    # What was stored before no longer leads here; the next look takes it back.
                    raise ChainUnreachable(REORGANISED)
                first, parent = waiting.last + 1, waiting.tip["hash"]
                step = waiting.next_step()
        self.index.complete(db)

    def _rewind(self, db: sqlite3.Connection) -> tuple[int, str | None]:
        """Number and hash of the last indexed block that is still canonical; what came after it is taken back."""
        stored = db.execute("SELECT number, hash FROM block ORDER BY number DESC")
        newest, fork, fork_hash = None, self.index.contracts.deployed_block - 1, None
        for number, block_hash in stored:
            newest = number if newest is None else newest
            block = self.node.call("eth_getBlockByNumber", hex(number), False)
            if block and block["hash"] == block_hash:
                fork, fork_hash = number, block_hash
                break
        stored.close()
        if newest is not None and newest > fork:
            self.index.take_back(db, fork, fork_hash)
        return fork, fork_hash

    def _fetch(self, first: int, head: int, step: int) -> Stretch:
        """The blocks from ``first`` on, at most ``step``: fewer where the node refuses as many."""
        while True:
            try:
                return self._fetch_to(first, min(first + step - 1, head))
            except NodeRefused:
                # Nodes limit a range by blocks or by answers, each in its own words.
                if step == 1:
                    raise
                step = max(1, step // 4)

    def _fetch_to(self, first: int, last: int) -> Stretch:
        tip = self._header(last)
        parent = (tip if first == last else self._header(first))["parentHash"]
        addresses = list(self.index.contracts.addresses.values())
        logs = self.node.call("eth_getLogs", {"fromBlock": hex(first), "toBlock": hex(last), "address": addresses})
        blocks: dict[str, list[Any]] = {}
        for log in logs:
            number = log["blockNumber"]
            if number not in blocks:
                blocks[number] = [int(number, 16), log["blockHash"], log.get("blockTimestamp"), 0, None]
            blocks[number][3] += 1
            if log["blockHash"] != blocks[number][1]:
                raise ChainUnreachable(REORGANISED)
        # Nodes that do not tell a log's time are asked for the headers.
        timeless = [number for number, row in blocks.items() if row[2] is None]
        for number, header in zip(
            timeless, self.node.batch("eth_getBlockByNumber", [[n, False] for n in timeless]), strict=True
        ):
            if not header or header["hash"] != blocks[number][1]:
                raise ChainUnreachable(REORGANISED)
            blocks[number][2] = header["timestamp"]
        # The same tip before and after: the answers belong to one chain.
        if self._header(last)["hash"] != tip["hash"] or blocks.get(tip["number"], (0, tip["hash"]))[1] != tip["hash"]:
            raise ChainUnreachable(REORGANISED)
        rows = [(number, block_hash, int(when, 16), n, None) for number, block_hash, when, n, _ in blocks.values()]
        return Stretch(first, last, parent, tip, logs, rows)

    def _store(self, db: sqlite3.Connection, read: Stretch) -> None:
        """Decode a stretch and commit it as a whole."""
        blocks: list[tuple[Any, ...]] = list(read.blocks)
        if not any(row[0] == read.last for row in blocks):
            blocks.append((read.last, read.tip["hash"], int(read.tip["timestamp"], 16), 0, None))
        self.index.add(db, {**decode_logs(read.logs, self._by_address, self.artifacts), "block": blocks})

    def _header(self, number: int) -> Block:
        block: Block | None = self.node.call("eth_getBlockByNumber", hex(number), False)
        if block is None:
            raise ChainUnreachable(f"the node no longer has block {number}")
        return block

    # -- transactions -------------------------------------------------------------------------------

    def _read_transactions(self, db: sqlite3.Connection, head: int) -> None:
        """Read the newest blocks in full, one after the other; then older ones that have events."""
        end = time.monotonic() + self.transactions_seconds
        scanned = self.index.scanned(db)
        earliest = max(self.index.contracts.deployed_block, head - SCANNED_BLOCKS + 1)
        if scanned is None or scanned.last + 1 < earliest:
            scanned = Scanned(earliest, earliest - 1, None)
        for asked, blocks in self._full_blocks(range(scanned.last + 1, head + 1)):
            if None in blocks:
                raise ChainUnreachable(f"the node no longer has block {asked[blocks.index(None)]}")
            scanned = self._follow(db, scanned, blocks)
            self._store_transactions(db, blocks, scanned)
            if self._is_late(end):
                return
        unread = db.execute("SELECT number FROM block WHERE events > 0 AND transactions IS NULL ORDER BY number DESC")
        for _, blocks in self._full_blocks([number for (number,) in unread]):
            # Blocks that a node no longer keeps stay unread; their events are known.
            self._store_transactions(db, [block for block in blocks if block], None)
            if self._is_late(end):
                return

    def _is_late(self, end: float) -> bool:
        self._unfinished = time.monotonic() > end
        return self._unfinished or self._ended.is_set()

    def _full_blocks(self, numbers: Sequence[int]) -> Iterator[tuple[Sequence[int], list[Any]]]:
        """Blocks with their transactions, some at a time, while the next ones are on their way."""
        parts = (numbers[at : at + FULL_BLOCKS_PER_REQUEST] for at in range(0, len(numbers), FULL_BLOCKS_PER_REQUEST))

        def ask(part: Sequence[int]) -> list[Any]:
            return self.node.batch("eth_getBlockByNumber", [[hex(number), True] for number in part])

        with ThreadPoolExecutor(FULL_REQUESTS, "blocks") as fetcher:
            coming = [(part, fetcher.submit(ask, part)) for part in islice(parts, FULL_REQUESTS)]
            while coming:
                part, answer = coming.pop(0)
                found = answer.result()
                coming += [(later, fetcher.submit(ask, later)) for later in islice(parts, 1)]
                yield part, found

    def _follow(self, db: sqlite3.Connection, scanned: Scanned, blocks: Sequence[Block]) -> Scanned:
        """How far is scanned with ``blocks``. Raises ChainUnreachable where they do not follow one another."""
        before = scanned.last_hash
        for block in blocks:
            if before and block["parentHash"] != before:
                # Which of them is of another chain cannot be told: all that may be is read again.
                self.index.take_back(db, max(scanned.first, scanned.last - CHECKPOINTS) - 1)
                raise ChainUnreachable(REORGANISED)
            before = block["hash"]
        return Scanned(scanned.first, int(blocks[-1]["number"], 16), before)

    def _store_transactions(self, db: sqlite3.Connection, blocks: Sequence[Block], scanned: Scanned | None) -> None:
        rows, counted = [], []
        silent: list[tuple[dict[str, Any], int]] = []
        for block in blocks:
            number = int(block["number"], 16)
            known = db.execute("SELECT hash FROM block WHERE number = ?", (number,)).fetchone()
            if known and known["hash"] != block["hash"]:
                self.index.take_back(db, number - 1)
                raise ChainUnreachable(REORGANISED)
            heard = {tx for (tx,) in db.execute("SELECT tx FROM event WHERE block = ?", (number,))}
            sent = [t for t in block["transactions"] if t["hash"] in heard or self._is_ours(t["to"])]
            rows += [self._tx_row(t, number, True) for t in sent if t["hash"] in heard]
            silent += [(t, number) for t in sent if t["hash"] not in heard]
            counted.append((number, block["hash"], int(block["timestamp"], 16), None, len(sent)))
        # Without an event of ours a transaction was refused, or had nothing to say: its receipt tells.
        receipts = self.node.batch("eth_getTransactionReceipt", [[t["hash"]] for t, _ in silent])
        for (sent_, number), receipt in zip(silent, receipts, strict=True):
            if not receipt or receipt["blockHash"] != sent_["blockHash"]:
                raise ChainUnreachable(REORGANISED)
            rows.append(self._tx_row(sent_, number, int(receipt["status"], 16) == 1))
        self.index.add_transactions(db, counted, rows, scanned)

    def _is_ours(self, address: str | None) -> bool:
        return address is not None and address.lower() in self._by_address

    def _tx_row(self, tx: dict[str, Any], number: int, succeeded: bool) -> tuple[Any, ...]:
        """A row of ``tx``, in the order of its columns."""
        receiver = checksum(tx["to"]) if tx["to"] else None
        function = self.artifacts.function(tx["input"]) if receiver else None
        value = str(int(tx["value"], 16))
        position = int(tx["transactionIndex"], 16)
        return tx["hash"], number, position, checksum(tx["from"]), receiver, function, value, int(succeeded)
