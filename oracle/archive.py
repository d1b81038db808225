"""Batch archives: one Parquet file and one manifest for each root, both named by it.

``<root>.parquet`` holds a row per statement: its fields, the packed profile, the salts, the sha256 of the raw
files behind it and the assessment. ``<root>.json`` is the manifest; the keccak256 of its bytes is the
``archiveHash`` that the witnesses sign. Anyone who has the two files can recompute the root.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from .domain import BatchKind, Statement, Visibility
from .errors import ArchiveError
from .merkle import MerkleTree
from .protocol import (
    BYTES_PER_SLOT,
    SLOT_SECONDS,
    day_hash,
    day_parts,
    keccak256,
    manifest_bytes,
    profile_hash,
    statement_leaf,
)

SCHEMA = "wattmark/archive/1"

_COLUMNS = pa.schema(
    [
        pa.field("device_id", pa.uint64(), False),
        pa.field("start", pa.uint64(), False),
        pa.field("duration", pa.uint32(), False),
        pa.field("version", pa.uint32(), False),
        pa.field("energy_wh", pa.uint64(), False),
        pa.field("previous_wh", pa.uint64(), False),
        pa.field("profile_hash", pa.binary(32), False),
        pa.field("profile", pa.binary(), False),
        pa.field("salts", pa.binary(), False),
        pa.field("evidence", pa.list_(pa.field("sha256", pa.binary(32), False)), False),
        pa.field("assessment", pa.string(), False),
    ],
    metadata={"wattmark": SCHEMA},
)


@dataclass(frozen=True, slots=True)
class ArchivedStatement:
    """A statement with what it was computed from.

    ``profile`` packed slots of the whole period (5 bytes a slot), ``salts`` 32 bytes for each UTC day or
    part of one, ``evidence`` sha256 of the raw files, ``assessment`` JSON text of the verdicts and figures.
    """

    statement: Statement
    profile: bytes
    salts: bytes
    evidence: tuple[bytes, ...] = ()
    assessment: str = "{}"

    def recomputed_profile_hash(self) -> bytes:
        """The profile hash that profile and salts lead to; compare with ``statement.profile_hash``."""
        parts = day_parts(self.statement.start, self.statement.duration)
        hashes, at = [], 0
        for index, (_, duration) in enumerate(parts):
            size = duration // SLOT_SECONDS * BYTES_PER_SLOT
            hashes.append(day_hash(self.salts[32 * index : 32 * index + 32], self.profile[at : at + size]))
            at += size
        if at != len(self.profile) or len(self.salts) != 32 * len(parts):
            return b""
        return profile_hash(hashes)


@dataclass(frozen=True, slots=True)
class Archive:
    """A batch as it was read back. ``problem`` says what no longer hashes to its name, None if all does."""

    root: bytes
    archive_hash: bytes
    manifest: dict[str, Any]
    records: tuple[ArchivedStatement, ...]
    problem: str | None = None
    tree: MerkleTree = field(repr=False, default=None)  # type: ignore[assignment]

    @property
    def kind(self) -> BatchKind:
        """What the batch was made for; only a FINAL one can issue."""
        return BatchKind.INTERIM if self.manifest.get("kind") == "interim" else BatchKind.FINAL

    @property
    def is_public(self) -> bool:
        """Whether readings and manifest are for everybody; those of private devices stay with operator and witnesses."""
        return self.manifest.get("visibility") == Visibility.PUBLIC.name.lower()

    def record(self, device_id: int, start: int) -> ArchivedStatement | None:
        """The statement of a device and period start in this batch, if there is one."""
        # Records stand in this order in every archive that leads to its root; a damaged one may lose the order too.
        at = bisect_left(self.records, (device_id, start), key=_place)
        if at < len(self.records) and _place(self.records[at]) == (device_id, start):
            return self.records[at]
        return next((record for record in self.records if _place(record) == (device_id, start)), None)


def _place(record: ArchivedStatement) -> tuple[int, int]:
    return record.statement.device_id, record.statement.start


def build_tree(records: Iterable[ArchivedStatement]) -> MerkleTree:
    """The tree over the leaves of statements, in the order given; its root names the archive. ProtocolError for fields out of range."""
    return MerkleTree.of([statement_leaf(record.statement) for record in records])


def write_archive(
    folder: Path,
    records: Sequence[ArchivedStatement],
    *,
    visibility: Visibility,
    policy: dict[str, Any],
    review_trail: Sequence[dict[str, Any]] = (),
    withheld: Sequence[dict[str, Any]] = (),
    kind: BatchKind = BatchKind.FINAL,
    corrects: Sequence[dict[str, Any]] = (),
) -> Archive:
    """Write a batch's archive and return it; both files appear whole or not at all.

    ``policy`` states the thresholds that certified (strings and integers only), ``review_trail`` the signed
    decisions, ``withheld`` the device-days of the batch's time that it leaves out, with their reasons. ``corrects``: of
    a batch of corrections the statements before them with their proofs (docs/protocol.md). An archive
    that is whole is never written again, because its manifest may be signed already: it is returned as it is.
    Archives of private devices are readable by their owner alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mode = 0o644 if visibility is Visibility.PUBLIC else 0o600
    ordered = sorted(records, key=lambda r: (r.statement.device_id, r.statement.start, r.statement.version))
    tree = build_tree(ordered)
    name = tree.root.hex()
    if (folder / f"{name}.json").exists() and (folder / f"{name}.parquet").exists():
        there = read_archive(folder, tree.root)
        if there.problem:
            raise ArchiveError(f"{there.problem}; restore it or move it away", root="0x" + name)
        return there
    table = pa.table(
        {
            "device_id": [r.statement.device_id for r in ordered],
            "start": [r.statement.start for r in ordered],
            "duration": [r.statement.duration for r in ordered],
            "version": [r.statement.version for r in ordered],
            "energy_wh": [r.statement.energy_wh for r in ordered],
            "previous_wh": [r.statement.previous_wh for r in ordered],
            "profile_hash": [r.statement.profile_hash for r in ordered],
            "profile": [r.profile for r in ordered],
            "salts": [r.salts for r in ordered],
            "evidence": [list(r.evidence) for r in ordered],
            "assessment": [r.assessment for r in ordered],
        },
        schema=_COLUMNS,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    parquet = sink.getvalue().to_pybytes()
    manifest = {
        "schema": SCHEMA,
        "root": "0x" + name,
        "statements": len(ordered),
        "visibility": Visibility(visibility).name.lower(),
        "files": [{"name": f"{name}.parquet", "bytes": len(parquet), "keccak256": "0x" + keccak256(parquet).hex()}],
        "policy": policy,
        "reviewTrail": list(review_trail),
        "withheld": list(withheld),
        "assessments": "0x" + keccak256("\n".join(r.assessment for r in ordered).encode()).hex(),
    }
    if kind is not BatchKind.FINAL:
        manifest["kind"] = kind.name.lower()
    if corrects:
        manifest["corrects"] = list(corrects)
    raw_manifest = manifest_bytes(manifest)
    write_whole(folder / f"{name}.parquet", parquet, mode)
    write_whole(folder / f"{name}.json", raw_manifest, mode)
    return Archive(tree.root, keccak256(raw_manifest), manifest, tuple(ordered), None, tree)


def read_archive(folder: Path, root: bytes) -> Archive:
    """Read a batch back. What still can be read is returned with ``problem`` set; ArchiveError if nothing can."""
    name = root.hex()
    try:
        raw_manifest = (folder / f"{name}.json").read_bytes()
        parquet = (folder / f"{name}.parquet").read_bytes()
    except FileNotFoundError as missing:
        raise ArchiveError(f"{Path(missing.filename).name} is not here", root="0x" + name) from None
    except PermissionError as denied:
        raise ArchiveError(f"{Path(denied.filename).name} may not be read by this user", root="0x" + name) from None
    problem = None
    try:
        # Not json.loads: a library below lifts Python's recursion limit, and deep nesting would end the process.
        manifest = orjson.loads(raw_manifest)
        stated = manifest["files"][0]["keccak256"]
    except (ValueError, LookupError, TypeError):
        manifest, stated = {}, ""
        problem = "the manifest is not readable"
    if not problem and "0x" + keccak256(parquet).hex() != stated:
        problem = f"{name}.parquet is not the file that its manifest names"
    try:
        rows = pq.read_table(pa.BufferReader(parquet)).to_pylist()
        records = tuple(_record(row) for row in rows)
        tree = build_tree(records)
    except Exception as fault:
        # A damaged Parquet file fails in as many ways as it has bytes.
        raise ArchiveError(f"{name}.parquet is not readable ({type(fault).__name__})", root="0x" + name) from None
    if not problem and tree.root != root:
        problem = f"its statements lead to root 0x{tree.root.hex()}"
    return Archive(root, keccak256(raw_manifest), manifest, records, problem, tree)


def roots_in(folder: Path) -> list[bytes]:
    """Roots that have an archive in ``folder``, sorted."""
    return sorted(bytes.fromhex(path.stem) for path in folder.glob("*.json") if len(path.stem) == 64)


def _record(row: dict[str, Any]) -> ArchivedStatement:
    statement = Statement(
        row["device_id"],
        row["start"],
        row["duration"],
        row["version"],
        row["energy_wh"],
        row["previous_wh"],
        row["profile_hash"],
    )
    return ArchivedStatement(statement, row["profile"], row["salts"], tuple(row["evidence"]), row["assessment"])


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write beside, flush to disk, then rename: a crash leaves the old file or the new one, with this file mode."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
