"""The auditor's view of a period: every statement and what became of it, totals that must agree, a sample, and the gaps.

A statement belongs to the period in which it starts. Notarized energy is a statement's gain over the version before it
(docs/protocol.md), so that corrections count once. What became of it, each part counted by itself:

    notarized = issued + held back (its batch was revoked) + closed by a correction + not yet issued
    issued    = live + retired + converted + settled against debts
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from oracle.domain import DAY_SECONDS
from oracle.verify import pack_zip

from .explorer import Explorer
from .oracle_state import OracleState
from .queries import csv_cell
from .readings import device_days
from .tables import CERTIFICATE
from .words import isoday

MAX_DAYS = 3_660
MAX_SAMPLE = 1_000
FATES = ("issued_wh", "held_back_wh", "closed_wh", "not_yet_issued_wh")
USES = ("live_wh", "retired_wh", "converted_wh", "settled_wh")
STATEMENT_COLUMNS = (
    "root", "device_id", "start", "duration", "version", "energy_wh", "previous_wh", "notarized_wh", "state", "certificate_id",
    "issued_wh", "leaf", "profile_hash", "tx", "block", "notarized_at", "headline", "checked_at",
)  # fmt: skip
GAP_COLUMNS = ("device_id", "day", "state", "energy_wh", "reason")
_TEXTS = {"root", "device_id", "state", "certificate_id", "leaf", "profile_hash", "tx", "headline"}


@dataclass(frozen=True, slots=True)
class Audit:
    """``first`` and ``last`` are the starts of the period's first and last UTC day."""

    first: int
    last: int
    statements: list[dict[str, Any]]
    totals: dict[str, int]
    identities: list[dict[str, Any]]
    devices: list[dict[str, Any]]
    gaps: list[dict[str, Any]]
    seed: str
    sample: list[dict[str, Any]]


def audit(
    ask: Explorer, oracle_days: OracleState, first: int, last: int, *, seed: str | None, size: int, final_block: int | None
) -> Audit:  # fmt: skip
    """The period from the UTC day ``first`` to ``last``, both included (UTC seconds), with a sample of ``size`` statements.

    Without a ``seed`` the hash of the last block that notarized any of them is taken: nobody chose it, and anyone finds it again.
    """
    end = last + DAY_SECONDS
    rows = _statements(ask, first, end)
    uses = _uses(ask, first, end)
    issued = {row["id"]: row["wh"] for row in ask.all(
        "SELECT id, SUM(energy_wh) AS wh FROM issuance WHERE event = 'Issued' AND start >= ? AND start < ? GROUP BY id", first, end)}  # fmt: skip
    fates = _judge(rows, issued)
    totals = {
        "statements": len(rows),
        "notarized_wh": sum(row["notarized_wh"] for row in rows),
        **fates,
        **uses,
        "debt_wh": _debt(ask, first, end),
        "unlisted_wh": ask.number(
            "SELECT SUM(energy_wh) FROM notarization WHERE kind = 1 AND start < ? AND end > ?"
            " AND root NOT IN (SELECT root FROM web.statement)", end, first),
    }  # fmt: skip
    identities = [
        _identity("notarized_wh", FATES, totals),
        _identity("issued_wh", USES, totals),
        _batches(ask, first, end),
    ]
    gaps, held_wh = _gaps(ask, oracle_days, first, end, final_block)
    totals |= {"held_days": sum(gap["state"] == "held" for gap in gaps), "held_wh": held_wh}
    totals["gap_days"] = sum(gap["state"] == "missing" for gap in gaps)
    seed = seed or _block_hash(ask, rows)
    return Audit(
        first, last, rows, totals, identities, _by_device(rows, issued), gaps, seed, sample(rows, seed, size)
    )  # fmt: skip


def sample(rows: Sequence[dict[str, Any]], seed: str, size: int) -> list[dict[str, Any]]:
    """The ``size`` statements whose SHA-256 of seed and leaf, as text, is smallest: the same for everyone who has the list."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}{row['leaf']}".encode()).digest())[:size]


def _statements(ask: Explorer, first: int, end: int) -> list[dict[str, Any]]:
    rows = ask.all(
        "SELECT s.root, s.device_id, s.start, s.duration, s.version, s.energy_wh, s.previous_wh, s.leaf, s.profile_hash, n.tx, n.block,"
        " b.timestamp AS notarized_at, r.root IS NOT NULL AS revoked, v.headline, v.checked_at"
        " FROM web.statement s JOIN notarization n USING (root) JOIN block b ON b.number = n.block"
        " LEFT JOIN revocation r ON r.root = s.root LEFT JOIN web.validation v ON v.root = s.root AND v.device_id = s.device_id"
        " AND v.start = s.start AND v.version = s.version WHERE n.kind = 1 AND s.start >= ? AND s.start < ?"
        " ORDER BY LENGTH(s.device_id), s.device_id, s.start, s.version, n.block", first, end)  # fmt: skip
    for row in rows:
        token = int(row["device_id"]) << 192 | row["start"] << 152 | row["duration"] << 120
        row["certificate_id"] = f"0x{token:064x}"
        row["notarized_wh"] = max(0, row["energy_wh"] - row["previous_wh"])
    acts = ask.all(
        "SELECT id, root, SUM(CASE event WHEN 'Issued' THEN energy_wh ELSE 0 END) AS issued_wh FROM issuance"
        " WHERE event IN ('Issued', 'Corrected') AND start >= ? AND start < ? GROUP BY id, root", first, end)  # fmt: skip
    used = {(act["id"], act["root"]): act["issued_wh"] for act in acts}
    for row in rows:
        taken = used.get((row["certificate_id"], row["root"]))
        row["issued_wh"] = taken or 0
        row["state"] = "issued" if taken is not None else "held back" if row.pop("revoked") else "not yet issued"
        row.pop("revoked", None)
    return rows


def _judge(rows: Iterable[dict[str, Any]], issued: dict[str, int]) -> dict[str, int]:
    """What became of the notarized energy, for each certificate; also marks what a correction closed.

    ``issued`` (Wh by certificate) is what events say. The other parts come from the statements alone, so that they agree with the
    whole only where exactly what the statements entitle to was issued.
    """
    fates = dict.fromkeys(FATES, 0)
    by_certificate: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_certificate[row["certificate_id"]].append(row)
    for certificate_id, versions in by_certificate.items():
        standing_wh, gained_wh, waiting = 0, 0, []
        # Of the same version in two batches the one that was used comes last: it closes the other.
        for row in sorted(versions, key=lambda row: (row["version"], row["state"] == "issued")):
            if row["state"] == "held back":
                fates["held_back_wh"] += row["notarized_wh"]
                continue
            gained_wh += row["notarized_wh"]
            waiting.append(row)
            if row["state"] == "issued":
                # All that was gained since the version used before is issued as far as this one stands above that, and closed beyond.
                fates["closed_wh"] += gained_wh - max(0, row["energy_wh"] - standing_wh)
                for skipped in waiting[:-1]:
                    skipped["state"] = "closed"
                standing_wh, gained_wh, waiting = row["energy_wh"], 0, []
        # Of several versions none of which was used, the last one is what can be issued.
        used = any(row["state"] == "issued" for row in versions)
        pending_wh = gained_wh if used or not waiting else waiting[-1]["energy_wh"]
        fates["issued_wh"] += issued.get(certificate_id, 0)
        fates["not_yet_issued_wh"] += pending_wh
        fates["closed_wh"] += gained_wh - pending_wh
    return fates


def _uses(ask: Explorer, first: int, end: int) -> dict[str, int]:
    """Where the period's issued energy is now; each figure from tables of its own, whether or not an id was ever seen issued."""
    # A certificate's id spells its start in ten hexadecimal digits (docs/protocol.md).
    begins = "substr({id}, 19, 10) >= printf('%010x', ?) AND substr({id}, 19, 10) < printf('%010x', ?)"
    of_id, converted = begins.format(id="id"), begins.format(id="certificate_id")
    return {
        "live_wh": ask.number(f"SELECT SUM(amount) FROM balance WHERE contract = '{CERTIFICATE}' AND {of_id}", first, end),
        "retired_wh": ask.number(f"SELECT SUM(amount) FROM retirement WHERE contract = '{CERTIFICATE}' AND {of_id}", first, end),
        "converted_wh": ask.number(f"SELECT SUM(amount_wh) FROM conversion WHERE {converted}", first, end),
        "settled_wh": ask.number("SELECT SUM(energy_wh) FROM issuance WHERE event = 'Settled' AND start >= ? AND start < ?", first, end),
    }  # fmt: skip


def _debt(ask: Explorer, first: int, end: int) -> int:
    """Debt that stands now (Wh) of devices that have a statement in the period."""
    return ask.number(
        "SELECT SUM(debt_wh) FROM (SELECT debt_wh, MAX(block * 100000 + log_index) FROM issuance WHERE debt_wh IS NOT NULL"
        " AND device_id IN (SELECT device_id FROM web.statement WHERE start >= ? AND start < ?) GROUP BY device_id)", first, end)  # fmt: skip


def _identity(whole: str, parts: Sequence[str], totals: dict[str, int]) -> dict[str, Any]:
    difference = totals[whole] - sum(totals[part] for part in parts)
    return {"whole": whole, "parts": list(parts), "difference_wh": difference, "holds": difference == 0}


def _batches(ask: Explorer, first: int, end: int) -> dict[str, Any]:
    """Every batch of the period against its own archive: the chain's figure and the statements' sum."""
    difference = ask.number(
        "SELECT SUM(ABS(n.energy_wh - (SELECT SUM(MAX(0, s.energy_wh - s.previous_wh)) FROM web.statement s WHERE s.root = n.root)))"
        " FROM notarization n WHERE n.kind = 1 AND n.root IN (SELECT root FROM web.statement WHERE start >= ? AND start < ?)",
        first, end)  # fmt: skip
    return {"whole": "batches_wh", "parts": ["archives_wh"], "difference_wh": difference, "holds": difference == 0}


def _by_device(rows: Iterable[dict[str, Any]], issued: dict[str, int]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    counted: set[str] = set()
    for row in rows:
        sums = found.setdefault(
            row["device_id"], {"device_id": row["device_id"], "statements": 0, "notarized_wh": 0, "issued_wh": 0}
        )
        sums["statements"] += 1
        sums["notarized_wh"] += row["notarized_wh"]
        if row["certificate_id"] not in counted:
            counted.add(row["certificate_id"])
            sums["issued_wh"] += issued.get(row["certificate_id"], 0)
    return list(found.values())


def _gaps(
    ask: Explorer, oracle_days: OracleState, first: int, end: int, final_block: int | None
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Days of the period that are not notarized, of every device active then; and the energy (Wh) of those held."""
    gaps, held_wh = [], 0
    for device in ask.all(
        "SELECT device_id, active_from, active_until FROM device ORDER BY LENGTH(device_id), device_id"
    ):
        days = {
            day["start"]: day
            for day in device_days(ask, oracle_days, device["device_id"], final_block)
            if first <= day["start"] < end
        }
        known = sorted(days)
        begin, stop = max(first, device["active_from"]), min(end, device["active_until"])
        # Days before the first and after the last that anybody knows of are not gaps but time without the meter.
        begin, stop = (max(begin, known[0]), min(stop, known[-1] + DAY_SECONDS)) if known else (begin, begin)
        for start in range(begin // DAY_SECONDS * DAY_SECONDS, stop, DAY_SECONDS):
            day = days.get(start, {"state": "missing", "energy_wh": None, "reason": ""})
            if day["state"] in ("notarized", "issued", "final"):
                continue
            held_wh += day["energy_wh"] or 0 if day["state"] == "held" else 0
            gaps.append({"device_id": device["device_id"], "day": isoday(start), "state": day["state"],
                         "energy_wh": day["energy_wh"], "reason": day["reason"]})  # fmt: skip
    return gaps, held_wh


def _block_hash(ask: Explorer, rows: Sequence[dict[str, Any]]) -> str:
    block = max((row["block"] for row in rows), default=None)
    found = ask.one("SELECT hash FROM block WHERE number = ?", block) if block is not None else None
    return found["hash"] if found else ""


# -- files ------------------------------------------------------------------------------------------


def csv_bytes(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows as CSV (RFC 4180), UTF-8; texts that a spreadsheet would compute are defused."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(row[name]) for name in columns])
    return buffer.getvalue().encode()


def parquet_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """The statements as Parquet: texts as text, Wh and times as 64-bit integers."""
    schema = pa.schema([(name, pa.string() if name in _TEXTS else pa.int64()) for name in STATEMENT_COLUMNS])
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist([{name: row[name] for name in STATEMENT_COLUMNS} for row in rows], schema), sink
    )
    return sink.getvalue().to_pybytes()


README = """Auditor's export of {first} to {last} (UTC days, both included), chain {chain_id}, index at block {block}.

totals.json         figures and identities; energies in Wh
statements.csv      every notarized statement of the period, a row each; the same in statements.parquet
sample.csv          random sample: the statements whose SHA-256 of seed and leaf (as text, joined) is smallest
gaps.csv            days that are not notarized, with the reason; "missing" where nobody has readings

notarized_wh        gain of a statement over the version before it; 0 where a correction lowers it
state               issued, held back (its batch was revoked), closed (a correction came first), not yet issued
certificate_id      the certificate that the statement is for, whether issued or not

Energies come from the archives (notarized) and from events of the chain (issued, retired, converted, settled, debts).
Days that are held and their reasons come from the operator's database: nobody has signed them.
Each row's bundle: /bundles/statement/<root>/<device_id>/<start>.zip
"""


def export(found: Audit, *, chain_id: int, block: int | None) -> bytes:
    """The whole export as a zip; the same state gives the same bytes."""
    period = {"first": isoday(found.first), "last": isoday(found.last), "chain_id": chain_id, "block": block}
    totals = {
        **period,
        "totals": found.totals,
        "identities": found.identities,
        "seed": found.seed,
        "sample": len(found.sample),
    }
    return pack_zip(
        {
            "README.txt": README.format(**period).encode(),
            "totals.json": (json.dumps(totals, indent=1) + "\n").encode(),
            "statements.csv": csv_bytes(STATEMENT_COLUMNS, found.statements),
            "statements.parquet": parquet_bytes(found.statements),
            "sample.csv": csv_bytes(STATEMENT_COLUMNS, found.sample),
            "gaps.csv": csv_bytes(GAP_COLUMNS, found.gaps),
        }
    )
