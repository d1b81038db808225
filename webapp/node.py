"""Raw JSON-RPC: what the index needs, with an unreachable node kept apart from an answer."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from oracle.errors import ChainError, ChainUnreachable


class NodeRefused(ChainError):
    """The node answered with a JSON-RPC error. Attributes: ``code``, ``data`` (revert data as 0x text, or None)."""

    def __init__(self, message: str, *, code: int | None, data: Any = None):
        self.code, self.data = code, data
        super().__init__(f"the node refused: {message}")


class Node:
    """A connection per thread to the first of ``urls`` that answers; ``timeout_seconds`` bounds connecting and each read.

    A node that does not answer is left for the next one, until that one fails in turn.
    """

    def __init__(self, urls: str | Sequence[str], timeout_seconds: float = 5):
        self.urls = (urls,) if isinstance(urls, str) else tuple(urls)
        self.timeout_seconds = timeout_seconds
        self._chosen = 0
        self._local = threading.local()

    @property
    def url(self) -> str:
        """The node that is asked now."""
        return self.urls[self._chosen]

    def call(self, method: str, *params: Any) -> Any:
        """Result of one call. Raises NodeRefused on a JSON-RPC error, ChainUnreachable without an answer."""
        answer = self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return self._result(answer)

    def batch(self, method: str, parameters: Sequence[Sequence[Any]], size: int = 100) -> list[Any]:
        """Results of the same method for each parameter list, in order, ``size`` calls a request."""
        results: list[Any] = []
        for first in range(0, len(parameters), size):
            part = parameters[first : first + size]
            answers = self._post(
                [{"jsonrpc": "2.0", "id": i, "method": method, "params": p} for i, p in enumerate(part)]
            )
            if not isinstance(answers, list):
                self._result(answers)
                raise ChainUnreachable(f"{method}: no batch in the node's answer")
            by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
            results += [self._result(by_id.get(i)) for i in range(len(part))]
        return results

    def _post(self, body: Any) -> Any:
        for left in reversed(range(len(self.urls))):
            chosen = self._chosen
            try:
                return self._ask(self.urls[chosen], body)
            except ChainUnreachable:
                self._chosen = (chosen + 1) % len(self.urls)
                if not left:
                    raise

    def _ask(self, url: str, body: Any) -> Any:
        kept: dict[str, HTTPConnection] | None = getattr(self._local, "connections", None)
        if kept is None:
            kept = self._local.connections = {}
        for fresh in (url not in kept, True):
            connection = kept.get(url) or kept.setdefault(url, self._connection(url))
            try:
                # The answer is read in one piece: many small reads would each wait for the interpreter's lock.
                connection.request("POST", _path(url), orjson.dumps(body), _headers(url))
                with connection.getresponse() as response:
                    status, content = response.status, response.read()
                break
            except (HTTPException, OSError) as fault:
                kept.pop(url).close()
                # A connection kept from before may have been closed meanwhile: that says nothing of the node.
                if fresh or isinstance(fault, TimeoutError):
                    raise ChainUnreachable(f"the node does not answer ({type(fault).__name__})") from None
        if status >= 300:
            raise ChainUnreachable(f"the node answered HTTP {status}")
        try:
            return orjson.loads(content)
        except ValueError:
            raise ChainUnreachable("the node's answer is not JSON") from None

    def _connection(self, url: str) -> HTTPConnection:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self.timeout_seconds)

    @staticmethod
    def _result(answer: Any) -> Any:
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise ChainUnreachable("the node's answer is not JSON-RPC")
        error = answer.get("error")
        if error is not None:
            error = error if isinstance(error, dict) else {"message": str(error)}
            raise NodeRefused(
                str(error.get("message", "no reason"))[:300], code=error.get("code"), data=error.get("data")
            )
        return answer["result"]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


@lru_cache
def _headers(url: str) -> dict[str, str]:
    """Headers of every request; a name and password in the address go where HTTP wants them."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = "Basic " + b64encode(secret).decode()
    return headers
