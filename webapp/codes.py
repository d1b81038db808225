"""Whether the code at each contract's address is the code that was deployed: asked of the node, kept, shown everywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import MappingProxyType

from oracle.chain import AddressBook
from oracle.errors import ChainError
from oracle.protocol import keccak256

from .node import Node

MATCHES, DIFFERS, MISSING, UNKNOWN = "matches", "differs", "missing", "unknown"
#: Code does not change without a reorganisation to before its deployment; once a minute is often.
SECONDS = 60


class Codes:
    """State of each contract of the address book: ``matches``, ``differs``, ``missing``, or ``unknown`` where no node answered."""

    def __init__(self, book: AddressBook, node: Node):
        self._book, self._node = book, node
        self._lock = threading.Lock()
        self._states: Mapping[str, str] = MappingProxyType(dict.fromkeys(book.contracts, UNKNOWN))
        self._looked_at = 0.0

    @property
    def states(self) -> Mapping[str, str]:
        return self._states

    def mark(self) -> str:
        """Changes whenever a state does."""
        return " ".join(self._states.values())

    def look(self, *, now: float | None = None) -> None:
        """Ask the node, unless it was asked within the last minute. What no answer came for is unknown, not wrong."""
        now = time.monotonic() if now is None else now
        with self._lock:
            settled = UNKNOWN not in self._states.values()
            if settled and now - self._looked_at < SECONDS:
                return
            self._looked_at = now
            self._states = MappingProxyType({name: self._state(name) for name in self._book.contracts})

    def _state(self, name: str) -> str:
        entry = self._book.contracts[name]
        try:
            code = bytes.fromhex(self._node.call("eth_getCode", entry.address, "latest")[2:])
        except (ChainError, TypeError, ValueError):
            return UNKNOWN
        if not code:
            return MISSING
        return MATCHES if keccak256(code) == entry.code_hash else DIFFERS
