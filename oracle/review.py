"""Signed decisions about held device-days: what a collaborator signs, and which decision counts.

A decision is an EIP-191 personal message over the canonical JSON of its facts. It names the profile hash it
is about, so that it never carries over to other data, and it is only ever added to a trail that travels with
the batch. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from .errors import OracleError
from .protocol import manifest_bytes

ACCEPT, REJECT = "accept", "reject"
MAX_REASON = 2_000

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

Entry = dict[str, Any]


class ReviewError(OracleError):
    """A decision is malformed, not signed by a known reviewer, or about something that cannot be decided."""

    exit_code = 7


def sign(
    account: LocalAccount,
    *,
    device_id: int,
    start: int,
    version: int,
    decision: str,
    reason: str,
    profile_hash: bytes,
    decided_at: int,
) -> Entry:
    """An entry of the trail. ``start`` and ``decided_at`` in UTC seconds, ``decision`` "accept" or "reject"."""
    facts = {
        "deviceId": device_id,
        "start": start,
        "version": version,
        "decision": decision,
        "reason": reason,
        "profileHash": "0x" + profile_hash.hex(),
        "decidedAt": decided_at,
    }
    _check(facts)
    signature = account.sign_message(encode_defunct(manifest_bytes(facts))).signature
    return {**facts, "reviewer": account.address, "signature": "0x" + bytes(signature).hex()}


def verify(entry: Entry, reviewers: Iterable[str]) -> None:
    """Raise ReviewError unless ``entry`` is well-formed and signed by the reviewer it names, one of ``reviewers``."""
    facts = {name: entry.get(name) for name in _FACTS}
    _check(facts)
    if set(entry) != {*_FACTS, "reviewer", "signature"}:
        raise ReviewError(f"a decision has the fields {', '.join(_FACTS)}, reviewer and signature, not {sorted(entry)}")
    try:
        signer = Account.recover_message(encode_defunct(manifest_bytes(facts)), signature=entry["signature"])
    except Exception:
        # The libraries below raise many kinds of errors over hostile bytes; all mean the same.
        raise ReviewError(f"the signature of the decision about {_called(facts)} is not readable") from None
    if signer != entry["reviewer"]:
        raise ReviewError(f"the decision about {_called(facts)} is signed by {signer}, not by {entry['reviewer']}")
    if signer not in set(reviewers):
        raise ReviewError(f"{signer}, who decided about {_called(facts)}, is not among the configured reviewers")


def standing(trail: Sequence[Entry], reviewers: Iterable[str]) -> dict[tuple[int, int, int, str], Entry]:
    """The decision that counts for each (device, start, version, profile hash): the latest one.

    Every signature is checked; ReviewError on the first that fails. Where two were made in one second, the one
    with the greater signature counts, so that all who read the trail agree whatever its order.
    """
    known = set(reviewers)
    latest: dict[tuple[int, int, int, str], Entry] = {}
    for entry in trail:
        verify(entry, known)
        key = (entry["deviceId"], entry["start"], entry["version"], entry["profileHash"])
        if key not in latest or _rank(entry) > _rank(latest[key]):
            latest[key] = entry
    return latest


def _rank(entry: Entry) -> tuple[int, str]:
    return int(entry["decidedAt"]), str(entry["signature"])


def _called(facts: Entry) -> str:
    return f"device {facts['deviceId']} at {facts['start']}"


def _check(facts: Entry) -> None:
    for name, kind in _FACTS.items():
        value = facts[name]
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            raise ReviewError(f"the field {name} of a decision is {value!r:.80}, not a fitting {kind.__name__}")
    if facts["decision"] not in (ACCEPT, REJECT):
        raise ReviewError(f"a decision is {ACCEPT!r} or {REJECT!r}, not {facts['decision']!r:.80}")
    if not facts["reason"].strip() or len(facts["reason"]) > MAX_REASON:
        raise ReviewError(f"a decision needs a reason of 1 to {MAX_REASON} characters")
