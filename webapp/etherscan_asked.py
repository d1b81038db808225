"""What scripts written for Etherscan ask: the parameters of ``/api``, each read and refused in Etherscan's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eth_utils.address import is_address, to_checksum_address

MOST_ROWS = 1_000
HASH = re.compile("0x[0-9a-fA-F]{64}")
QUANTITY = re.compile("0x(0|[1-9a-fA-F][0-9a-fA-F]{0,15})")

Parameters = Mapping[str, str]


class Refused(Exception):
    """A request that Etherscan answers with status 0: ``result`` in its words under ``message``."""

    def __init__(self, result: Any, message: str = "NOTOK"):
        self.result, self.message = result, message
        super().__init__(message)


def address(given: Parameters, name: str = "address", error: str = "Error! Invalid address format") -> str:
    text = given.get(name, "").strip()
    if not re.fullmatch("0x[0-9a-fA-F]{40}", text) or not is_address(text.lower()):
        raise Refused(error)
    return str(to_checksum_address(text.lower()))


def tx(given: Parameters) -> str:
    text = given.get("txhash", "").strip()
    if not HASH.fullmatch(text):
        raise Refused("Error! Invalid transaction hash")
    return text.lower()


def number(given: Parameters, name: str, otherwise: int) -> int:
    text = given.get(name, "").strip()
    if not text:
        return otherwise
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Refused(f"Error! Invalid {name}")
    return int(text)


def block(given: Parameters, name: str, otherwise: int) -> int:
    text = given.get(name, "").strip()
    return otherwise if text in ("latest", "pending") else 0 if text == "earliest" else number(given, name, otherwise)


def tag(given: Parameters, name: str = "tag") -> str:
    text = given.get(name, "latest").strip() or "latest"
    if text in ("latest", "earliest", "pending", "safe", "finalized") or QUANTITY.fullmatch(text):
        return text
    raise Refused("Error! Invalid tag")


def data(given: Parameters, name: str = "data") -> str:
    text = given.get(name, "0x") or "0x"
    if not re.fullmatch("0x(?:[0-9a-fA-F]{2})*", text):
        raise Refused("Error! Invalid data")
    return text


def page(given: Parameters) -> tuple[int, int]:
    """Rows to take and rows to pass over."""
    which, offset = number(given, "page", 1), number(given, "offset", MOST_ROWS)
    rows = min(max(offset, 1), MOST_ROWS)
    if max(which, 1) * rows > 10_000:
        raise Refused(None, "Result window is too large, PageNo x Offset size must be less than or equal to 10000")
    return rows, (max(which, 1) - 1) * rows


def order(given: Parameters) -> str:
    return "DESC" if given.get("sort", "asc").lower() == "desc" else "ASC"


def span(given: Parameters) -> tuple[int, int]:
    last = (1 << 62) - 1
    return block(given, "startblock", 0), block(given, "endblock", last)
