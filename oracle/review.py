"""Signed decisions about held device-days: what a collaborator signs, and which decision counts.

A decision is an EIP-191 personal message over the canonical JSON of its facts. It names the hash of the profile it
is about, as the raw files alone have it, so that it never carries over to other data, and it is only ever added to a
trail that travels with the batch. An edit also says what each slot held before and holds after, and the sha256 of
what shows it. A correction of a clock is about all that a meter stamped in a time, and names no profile. Nothing here
does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from .domain import DAY_SECONDS, MAX_SLOT_WH, SLOTS_PER_DAY, Profile, Quality
from .errors import OracleError
from .protocol import manifest_bytes

ACCEPT, EDIT, REJECT, CLOCK = "accept", "edit", "reject", "clock"
MAX_REASON = 2_000
#: A decision as a file, and a file that an edit rests on, are no larger.
MAX_DECISION_BYTES, MAX_EVIDENCE_BYTES = 64 << 10, 16 << 20
_SHA256 = re.compile("[0-9a-f]{64}")

#: What is signed, and the type of each.
_FACTS: dict[str, type[int] | type[str]] = {
    "deviceId": int,
    "start": int,
    "version": int,
    "decision": str,
    "reason": str,
    "profileHash": str,
    "decidedAt": int,
}

#: What an edit has besides: ``edits`` is a list of [slot, Wh before, Wh after], ``evidence`` a sha256 in hex.
_EDIT_FACTS = ("edits", "evidence")

#: What a decision about a day on which files disagree has besides.
_CONFLICT = frozenset({"conflict"})

#: What is signed of a clock: ``seconds`` are taken off stamps that say ``from`` to ``until`` (UTC seconds).
_CLOCK_FACTS: dict[str, type[int] | type[str]] = {
    "deviceId": int,
    "from": int,
    "until": int,
    "seconds": int,
    "decision": str,
    "reason": str,
    "decidedAt": int,
}

Entry = dict[str, Any]


class ReviewError(OracleError):
    """A decision is malformed, not signed by a known reviewer, or about something that cannot be decided."""

    exit_code = 7


def draft(
    *,
    device_id: int,
    start: int,
    version: int,
    decision: str,
    reason: str,
    profile_hash: bytes,
    decided_at: int,
    edits: Sequence[tuple[int, int, int]] = (),
    evidence: str = "",
    conflict: str = "",
) -> Entry:
    """The facts of a decision, checked. ``start`` and ``decided_at`` in UTC seconds, ``decision`` "accept", "edit" or "reject".

    An edit has ``edits``, (slot, Wh before, Wh after), and ``evidence``, the sha256 (hex) of what shows them. Where files
    disagree about the day, ``conflict`` is the sha256 (hex) of what they say, so that a further voice opens it again.
    """
    facts: Entry = {
        "deviceId": device_id,
        "start": start,
        "version": version,
        "decision": decision,
        "reason": reason,
        "profileHash": "0x" + profile_hash.hex(),
        "decidedAt": decided_at,
    }
    if decision == EDIT:
        facts |= {"edits": [list(edit) for edit in edits], "evidence": evidence}
    if conflict:
        facts["conflict"] = conflict
    _check(facts)
    return facts


def draft_clock(*, device_id: int, start: int, end: int, seconds: int, reason: str, decided_at: int) -> Entry:
    """The facts of a clock's correction: ``seconds`` (positive: it was fast) are taken off stamps from ``start`` to ``end``, UTC seconds."""
    facts = {
        "deviceId": device_id,
        "from": start,
        "until": end,
        "seconds": seconds,
        "decision": CLOCK,
        "reason": reason,
        "decidedAt": decided_at,
    }
    _check(facts)
    return facts


def message(facts: Entry) -> bytes:
    """The bytes that are signed as a personal message (EIP-191): canonical JSON."""
    return manifest_bytes(facts)


def sign(account: LocalAccount, facts: Entry) -> Entry:
    """An entry of the trail out of facts as :func:`draft` and :func:`draft_clock` give them."""
    signature = account.sign_message(encode_defunct(message(facts))).signature
    return {**facts, "reviewer": account.address, "signature": "0x" + bytes(signature).hex()}


def verify(entry: Entry, reviewers: Iterable[str]) -> None:
    """Raise ReviewError unless ``entry`` is well-formed and signed by the reviewer it names, one of ``reviewers``."""
    names = _names(entry)
    facts = {name: entry.get(name) for name in names}
    _check(facts)
    if set(entry) != {*names, "reviewer", "signature"}:
        raise ReviewError(f"a decision has the fields {', '.join(names)}, reviewer and signature, not {sorted(entry)}")
    try:
        signer = Account.recover_message(encode_defunct(message(facts)), signature=entry["signature"])
    except Exception:
        # The libraries below raise many kinds of errors over hostile bytes; all mean the same.
        raise ReviewError(f"the signature of the decision about {called(facts)} is not readable") from None
    if signer != entry["reviewer"]:
        raise ReviewError(f"the decision about {called(facts)} is signed by {signer}, not by {entry['reviewer']!r:.80}")
    if signer not in set(reviewers):
        raise ReviewError(f"{signer}, who decided about {called(facts)}, is not among the configured reviewers")


def _names(entry: Entry) -> tuple[str, ...]:
    if entry.get("decision") == CLOCK:
        return tuple(_CLOCK_FACTS)
    return (*_FACTS, *(_EDIT_FACTS if entry.get("decision") == EDIT else ()), *_CONFLICT.intersection(entry))


def standing(trail: Sequence[Entry], reviewers: Iterable[str]) -> dict[tuple[int, int, int, str], Entry]:
    """The decision that counts for each (device, start, version, profile hash): the latest one.

    Every signature is checked; ReviewError on the first that fails. Where two were made in one second, the one
    with the greater signature counts, so that all who read the trail agree whatever its order. Corrections of clocks
    stand in the trail, too, and decide about no day of themselves.
    """
    known = set(reviewers)
    latest: dict[tuple[int, int, int, str], Entry] = {}
    for entry in trail:
        verify(entry, known)
        if entry["decision"] == CLOCK:
            continue
        key = (entry["deviceId"], entry["start"], entry["version"], entry["profileHash"])
        if key not in latest or rank(entry) > rank(latest[key]):
            latest[key] = entry
    return latest


def edited(profile: Profile, entry: Entry) -> Profile:
    """The profile after an edit: its slots carry the edited and the certified bit, and no longer measured or suspect.

    Raises ReviewError where the profile does not hold what the edit says was there before.
    """
    energy_wh, quality = list(profile.energy_wh), list(profile.quality)
    for slot, before_wh, after_wh in entry["edits"]:
        if slot >= len(energy_wh) or energy_wh[slot] != before_wh:
            raise ReviewError(f"slot {slot} of {called(entry)} does not hold the {before_wh} Wh that the edit names")
        energy_wh[slot] = after_wh
        quality[slot] = int(quality[slot] & Quality.COARSE | Quality.EDITED | Quality.CERTIFIED)
    return Profile(profile.start, tuple(energy_wh), tuple(quality))


def rank(entry: Entry) -> tuple[int, str]:
    """Of two decisions about the same figures the one that ranks higher counts."""
    return int(entry["decidedAt"]), str(entry["signature"])


def called(facts: Entry) -> str:
    """What a decision is about, for messages."""
    if facts["decision"] == CLOCK:
        return f"the clock of device {facts['deviceId']} from {facts['from']} to {facts['until']}"
    return f"device {facts['deviceId']} at {facts['start']}"


def _check(facts: Entry) -> None:
    for name, kind in (_CLOCK_FACTS if facts.get("decision") == CLOCK else _FACTS).items():
        value = facts[name]
        within = not isinstance(value, int) or (0 if name != "seconds" else -DAY_SECONDS) <= value < 1 << 62
        if not isinstance(value, kind) or isinstance(value, bool) or not within:
            raise ReviewError(f"the field {name} of a decision is {value!r:.80}, not a fitting {kind.__name__}")
    if facts["decision"] not in (ACCEPT, EDIT, REJECT, CLOCK):
        raise ReviewError(f"a decision is {ACCEPT!r}, {EDIT!r} or {REJECT!r}, not {facts['decision']!r:.80}")
    if "conflict" in facts and not (isinstance(facts["conflict"], str) and _SHA256.fullmatch(facts["conflict"])):
        raise ReviewError("the field conflict of a decision is not a sha256 in hex")
    if facts["decision"] == EDIT:
        _check_edits(facts)
    if facts["decision"] == CLOCK and (not 0 < abs(facts["seconds"]) <= DAY_SECONDS or facts["until"] <= facts["from"]):
        raise ReviewError("a clock is corrected by 1 s to a day, either way, in a time that ends after it begins")
    if not facts["reason"].strip() or len(facts["reason"]) > MAX_REASON or "\0" in facts["reason"]:
        raise ReviewError(f"a decision needs a reason of 1 to {MAX_REASON} characters")


def _check_edits(facts: Entry) -> None:
    edits, evidence = facts["edits"], facts["evidence"]
    sound = isinstance(edits, list) and edits and all(isinstance(edit, list) and len(edit) == 3 for edit in edits)
    if not sound or not all(type(part) is int and 0 <= part <= MAX_SLOT_WH for edit in edits for part in edit):
        raise ReviewError("an edit needs at least one [slot, Wh before, Wh after], whole numbers all")
    slots = [slot for slot, _, _ in edits]
    if slots != sorted(set(slots)) or slots[-1] >= SLOTS_PER_DAY:
        raise ReviewError(f"an edit names each slot once, in order, from 0 to {SLOTS_PER_DAY - 1}")
    if not isinstance(evidence, str) or not _SHA256.fullmatch(evidence):
        raise ReviewError("an edit needs evidence: the sha256 (hex) of a file that shows the figures")
