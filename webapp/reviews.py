"""Held device-days as a reviewer sees them, and the decisions that a reviewer's wallet signs.

The web app holds no key and writes nothing into the oracle's database: a signed decision becomes a file in the decisions folder,
named by its sha256, and the oracle takes it or refuses it (docs/oracle.md). What is signed is drafted here by the oracle's own
rules and compared again, byte for byte, when the signature comes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from oracle import review
from oracle.archive import write_whole
from oracle.domain import DAY_SECONDS
from oracle.protocol import unpack_profile
from oracle.review import MAX_DECISION_BYTES, MAX_EVIDENCE_BYTES, ReviewError

from .oracle_state import OracleState

Model = dict[str, Any]
SIGNED = "signed"
CHOOSE = "choose"


class DecisionsFolder:
    """Signed decisions on their way to the oracle, each a file that never changes, and what edits rest on."""

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[str, Model] = {}

    def entries(self) -> dict[str, Model]:
        """Every whole decision in the folder by its sha256. Files that do not hash to their name are left out."""
        try:
            names = {name.removesuffix(".json") for name in os.listdir(self.path) if name.endswith(".json")}
        except OSError:
            return {}
        for name in names - set(self._known):
            entry = self._read(name)
            if entry:
                self._known[name] = entry
        return {name: self._known[name] for name in names if name in self._known}

    def _read(self, name: str) -> Model | None:
        try:
            with (self.path / f"{name}.json").open("rb") as file:
                content = file.read(MAX_DECISION_BYTES + 1)
            told = orjson.loads(content) if hashlib.sha256(content).hexdigest() == name else None
        except (OSError, orjson.JSONDecodeError):
            return None
        return told if isinstance(told, dict) else None

    def lay(self, entry: Model) -> str:
        """Write a decision, whole or not at all; its sha256. The same decision again is the same file."""
        content = orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)
        sha256 = hashlib.sha256(content).hexdigest()
        self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_whole(self.path / f"{sha256}.json", content, 0o640)
        return sha256

    def lay_evidence(self, content: bytes) -> str:
        """Keep a file that an edit will rest on; its sha256. Raises ReviewError where it is empty or too large."""
        if not content or len(content) > MAX_EVIDENCE_BYTES:
            raise ReviewError(f"evidence has 1 to {MAX_EVIDENCE_BYTES} bytes, not {len(content)}")
        sha256 = hashlib.sha256(content).hexdigest()
        folder = self.path / "evidence"
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not (folder / sha256).exists():
            write_whole(folder / sha256, content, 0o640)
        return sha256

    def has_evidence(self, sha256: str) -> bool:
        return len(sha256) == 64 and sha256.isalnum() and (self.path / "evidence" / sha256).is_file()


# -- what is held -----------------------------------------------------------------------------------


def kinds_of(reason: str) -> list[str]:
    """The rules and verdicts that a reason names at the start of its parts: "incomplete", "conflict", "frozen", …"""
    parts = (part.partition(": ")[0].strip() for part in reason.split("; "))
    return sorted({part for part in parts if part and len(part) <= 24 and " " not in part})


def neighbours(days: Sequence[Model], start: int, each_side: int = 7) -> list[Model]:
    """The days around one, out of all of a device's, with what they hold."""
    near = each_side * DAY_SECONDS
    return [day for day in days if abs(day["start"] - start) <= near]


def findings_of(assessment: Any) -> list[Model]:
    """What each rule found on a day: its name, effect, words, slots and figures; whatever is not of the expected form is left out."""
    report = assessment.get("report") if isinstance(assessment, dict) else None
    findings = report.get("findings") if isinstance(report, dict) else None
    return [
        {
            "rule": str(one.get("rule", "")),
            "effect": str(one.get("effect", "")),
            "says": str(one.get("says", "")),
            "slots": [slot for slot in one.get("slots") or () if isinstance(slot, int)][:96],
            "figures": {str(name): str(value) for name, value in list((one.get("figures") or {}).items())[:20]},
        }
        for one in findings or ()
        if isinstance(one, dict)
        and isinstance(one.get("figures") or {}, dict)
        and isinstance(one.get("slots") or [], list)
    ]


# -- what is decided --------------------------------------------------------------------------------


def draft(case: Model, asked: Mapping[str, Any], folder: DecisionsFolder) -> review.Entry:
    """The facts to sign about a case, out of what the reviewer's form says. Raises ReviewError that says what is missing.

    ``asked``: ``decision`` (accept, edit, reject, or choose with ``file``, the sha256 of a side), ``reason``, and of an edit
    ``edits``, [slot, Wh after], and ``evidence``.
    """
    known = case["for_review"] or {}
    if not known.get("profileHash"):
        raise ReviewError(
            "the oracle has not told yet what a decision about this day must name, or lacks the device's key"
        )
    decision, edits, evidence = str(asked.get("decision")), asked.get("edits") or [], str(asked.get("evidence") or "")
    before = unpack_profile(case["start"], case["assessed"]).energy_wh
    if decision == CHOOSE:
        sides = [side for side in known.get("said", ()) if side["sha256"] == asked.get("file")]
        if not sides:
            raise ReviewError("choose one of the files that disagree")
        decision, edits, evidence = review.EDIT, sides[0]["slots"], sides[0]["sha256"]
    elif decision == review.EDIT and not folder.has_evidence(evidence):
        raise ReviewError("an edit needs the file that shows its figures: send it first")
    elif decision not in (review.ACCEPT, review.EDIT, review.REJECT):
        raise ReviewError("a day is accepted, edited or rejected")
    return review.draft(
        device_id=int(case["device_id"]),
        start=case["start"],
        version=case["version"],
        decision=decision,
        reason=str(asked.get("reason") or ""),
        profile_hash=bytes.fromhex(known["profileHash"][2:]),
        decided_at=int(time.time()),
        edits=_with_before(edits, before) if decision == review.EDIT else (),
        evidence=evidence,
        conflict=known.get("conflict", ""),
    )


def _with_before(edits: Any, before: Sequence[int]) -> list[tuple[int, int, int]]:
    try:
        pairs = sorted((int(slot), int(wh)) for slot, wh in edits)
    except (TypeError, ValueError):
        raise ReviewError("an edit is a list of slots, each with its Wh") from None
    if any(not 0 <= slot < len(before) for slot, _ in pairs):
        raise ReviewError(f"a day has slots 0 to {len(before) - 1}")
    return [(slot, before[slot], wh) for slot, wh in pairs]


def draft_clock(shifts: Sequence[Model], asked: Mapping[str, Any]) -> review.Entry:
    """The facts to sign about a clock: the correction of a shift that the oracle found. Raises ReviewError."""
    for shift in shifts:
        if (str(shift.get("device_id")), shift.get("start")) == (str(asked.get("device_id")), asked.get("start")):
            seconds = int(shift["minutes"]) * 60
            return review.draft_clock(
                device_id=int(shift["device_id"]),
                start=int(shift["start"]) + seconds,
                end=int(shift["end"]) + seconds,
                seconds=seconds,
                reason=str(asked.get("reason") or ""),
                decided_at=int(time.time()),
            )
    raise ReviewError("the oracle's last report names no such shift")


def accept_signed(text: str, signature: str, reviewer: str) -> review.Entry:
    """The entry out of the exact text that was signed. Raises ReviewError unless it is canonical and signed by ``reviewer``."""
    try:
        facts = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ReviewError("what was signed is not a decision") from None
    if not isinstance(facts, dict) or any(isinstance(value, float) for value in facts.values()):
        raise ReviewError("what was signed is not a decision")
    entry = {**facts, "reviewer": reviewer, "signature": signature}
    review.verify(entry, [reviewer])
    if review.message(facts).decode() != text:
        raise ReviewError("what was signed is not written as decisions are")
    return entry


def stale(case: Model | None, entry: review.Entry) -> bool:
    """Whether a decision is not about the figures as the oracle has them now; it would be refused."""
    known = (case or {}).get("for_review") or {}
    return (
        case is None
        or known.get("profileHash") != entry["profileHash"]
        or case["version"] != entry["version"]
        or known.get("conflict", "") != entry.get("conflict", "")
    )


def trail(state: OracleState, folder: DecisionsFolder | None) -> list[Model]:
    """Every decision there is, the newest first, each with how far it has come: signed, taken, refused or waiting, and why.

    Those that the oracle holds without a file were signed at its own command line.
    """
    received, found = state.received(), {}
    waiting = folder.entries() if folder else {}
    for sha256 in {**waiting, **received}:
        entry = received.get(sha256, {}).get("entry") or waiting.get(sha256) or {}
        told = received.get(sha256)
        row = row_of(entry) | {
            "sha256": sha256,
            "progress": told["state"] if told else SIGNED,
            "refusal": told["reason"] if told else "",
        }
        found[str(entry.get("signature", sha256))] = row
    for entry in state.decisions():
        row = found.setdefault(entry["signature"], {**entry, "sha256": "", "progress": "taken", "refusal": ""})
        row["progress"], row["refusal"] = "taken", ""
    return sorted(found.values(), key=lambda row: (row["decided_at"] or 0, row["sha256"]), reverse=True)


def row_of(entry: Model) -> Model:
    """An entry's facts as far as they are of the expected form; it may be hostile."""

    def text(name: str, longest: int = 2_000) -> str:
        return entry[name][:longest] if isinstance(entry.get(name), str) else ""

    def whole(name: str) -> int | None:
        value = entry.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 48 else None

    edits = entry.get("edits") if isinstance(entry.get("edits"), list) else []
    return {
        "device_id": str(whole("deviceId")) if whole("deviceId") is not None else "",
        "start": whole("start") if entry.get("decision") != review.CLOCK else whole("from"),
        "version": whole("version"),
        "decision": text("decision", 20),
        "reason": text("reason"),
        "reviewer": text("reviewer", 42),
        "decided_at": whole("decidedAt"),
        "edits": [edit for edit in edits or () if isinstance(edit, list) and len(edit) == 3][:96],
        "evidence": text("evidence", 64),
        "profile_hash": text("profileHash", 66),
        "seconds": whole("seconds"),
        "signature": text("signature", 140),
    }
