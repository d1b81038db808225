"""A contract's error in the reader's language, as static/wallet/words.js tells it before a wallet opens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import operator_words, wallet_words
from .tables import OUTCOME
from .words import kwh, mass, short, tame, token_name, utc

_TIMES = {"deadline", "time", "start", "end", "earliest", "activeUntil"}
_NAMED = re.compile("%\\(([A-Za-z0-9]+)\\)s")


def refusal(contract: str | None, name: str, args: Mapping[str, Any]) -> str:
    """The error ``name`` with its arguments as the ABI names them (integers, or texts); empty where there are no words for it."""
    sentence = wallet_words.ERRORS.get(name) or operator_words.ERRORS.get(name)
    if sentence is None:
        return ""
    return _NAMED.sub(lambda found: _shown(contract, found[1], args.get(found[1])), str(sentence))


def _shown(contract: str | None, name: str, value: Any) -> str:
    text = "" if value is None else str(value)
    number = int(text) if re.fullmatch("[0-9]{1,78}", text) else None
    if number is not None:
        grams = contract == OUTCOME and not name.endswith("Wh")
        if name.endswith(("Wh", "G")) or name in ("balance", "needed"):
            return f"{mass(number)} kg CO₂e" if grams or name.endswith("G") else f"{kwh(number)} kWh"
        if name in _TIMES:
            return utc(number)
        if name == "tokenId" and not number % (1 << 120):
            return token_name(f"0x{number:064x}", "outcomes" if contract == OUTCOME else "certificates")
        if name == "tokenId":
            return short(f"0x{number:064x}")
    if re.fullmatch("0x([0-9a-f]{4}|[0-9a-f]{32})", text):
        text = bytes.fromhex(text[2:]).rstrip(b"\0").decode("ascii", "replace")
    if name == "field":
        return str({**operator_words.FIELDS, **wallet_words.FIELDS}.get(text, tame(text, 40)))
    return short(text) if text.startswith("0x") else tame(text, 200)
