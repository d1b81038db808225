"""What the chain says, as values: blocks, events, receipts, and the Notary's records. Nothing here asks a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils import to_checksum_address

from .domain import Batch, BatchKind, BatchStatus
from .protocol import BATCH_TYPES, keccak256

_BATCH = f"({','.join(BATCH_TYPES)})"
_NOTARIZE = keccak256(f"notarize({_BATCH},bytes[])".encode())[:4]


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block by number and hash. ``time`` UTC seconds, ``base_fee_wei`` None on chains without one."""

    number: int
    hash: bytes
    time: int
    base_fee_wei: int | None = None


@dataclass(frozen=True, slots=True)
class Notarization:
    """What the Notary keeps of a root; ``status`` NONE if it was never notarized. Times in UTC seconds."""

    notarized_at: int
    start: int
    end: int
    statements: int
    energy_wh: int
    kind: int
    status: BatchStatus
    signer_epoch: int


@dataclass(frozen=True, slots=True)
class NotarizedEvent:
    """The event of a notarization and where it lies in the chain."""

    batch: Batch
    new_head: bytes
    signers: tuple[str, ...]
    transaction: bytes
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class SignerSet:
    """Who vouches in an epoch, ``threshold`` at a time, from ``since`` to ``until`` (UTC seconds; 0 while current)."""

    epoch: int
    signers: tuple[str, ...]
    threshold: int
    since: int
    until: int

    def was_current_at(self, time: int) -> bool:
        return self.since > 0 and self.since <= time and (self.until == 0 or time <= self.until)


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event of one of our contracts."""

    contract: str
    name: str
    values: Mapping[str, Any]
    transaction: bytes
    log_index: int
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction. ``succeeded`` False if it reverted."""

    transaction: bytes
    succeeded: bool
    block_number: int
    block_hash: bytes
    gas_used: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction the node knows; ``block_number`` None while it waits."""

    hash: bytes
    sender: str
    to: str | None
    nonce: int
    input: bytes
    value_wei: int
    block_number: int | None
    block_hash: bytes | None


def as_block(found: Mapping[str, Any] | None) -> BlockRef | None:
    """A block as JSON-RPC answers it."""
    if found is None:
        return None
    fee = found.get("baseFeePerGas")
    number, time_ = int(found["number"], 16), int(found["timestamp"], 16)
    return BlockRef(number, bytes.fromhex(found["hash"][2:]), time_, None if fee is None else int(fee, 16))


def as_notarization(fields: Sequence[Any]) -> Notarization:
    """The Notary's record of a root from its fields in order."""
    notarized_at, start, end, statements, energy_wh, kind, status, epoch = fields
    return Notarization(notarized_at, start, end, statements, energy_wh, kind, BatchStatus(status), epoch)


def as_notarized(event: Event) -> NotarizedEvent:
    """A ``Notarized`` event as values."""
    values = event.values
    batch = values["batch"]
    fields = tuple(batch.values()) if isinstance(batch, Mapping) else tuple(batch)
    return NotarizedEvent(
        _batch(fields),
        bytes(values["newHead"]),
        tuple(to_checksum_address(signer) for signer in values["signers"]),
        event.transaction,
        event.block_number,
        event.block_hash,
    )


def notarize_call(data: bytes, root: bytes) -> tuple[Batch, tuple[bytes, ...]] | None:
    """Batch and signatures of the ``notarize`` call for ``root`` in a transaction's input, None if there is none.

    The call may be wrapped in another one (a multi-signature wallet's), so the selector is looked for anywhere.
    """
    at = data.find(_NOTARIZE)
    while at >= 0:
        try:
            fields, signatures = decode([_BATCH, "bytes[]"], data[at + 4 :])
            batch = _batch(fields)
        except (DecodingError, ValueError):
            batch = None
        if batch is not None and batch.root == root:
            return batch, tuple(signatures)
        at = data.find(_NOTARIZE, at + 1)
    return None


def _batch(fields: Sequence[Any]) -> Batch:
    kind, epoch, head, root, start, end, statements, energy_wh, archive_hash, deadline = fields
    return Batch(
        BatchKind(kind),
        epoch,
        bytes(head),
        bytes(root),
        start,
        end,
        statements,
        energy_wh,
        bytes(archive_hash),
        deadline,
    )
