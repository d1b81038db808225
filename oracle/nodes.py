"""Several nodes asked as one.

Two errors mean two things and are never mixed: :class:`ChainUnreachable`, no answer, says nothing about the chain;
:class:`ChainError`, an answer that must stop us (another chain id, other code, a revert).

Of several nodes the first that answers is believed, unless the network asks for ``agreeing_nodes``: then so many must
give the same answer, the head is the highest block that so many have, and nodes that differ mean no answer yet
(:class:`NodesDisagree`). A node that is silent rests for a while; one of another chain stops us, whatever the others say.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from requests.exceptions import RequestException
from web3 import HTTPProvider, Web3
from web3.exceptions import BadResponseFormat, ContractLogicError, Web3Exception, Web3RPCError
from web3.types import RPCEndpoint

from .config import NetworkConfig
from .errors import ChainError, ChainUnreachable, ConfigError
from .onchain import BlockRef, as_block

READ_ATTEMPTS = 4
BACKOFF_SECONDS = 0.1
#: How long a node that did not answer is asked last, in seconds.
REST_SECONDS = 30.0

_NO_ANSWER = (RequestException, BadResponseFormat, ConnectionError, TimeoutError, json.JSONDecodeError)

T = TypeVar("T")


class BlockGone(ChainError):
    """The block a read was pinned to is no longer part of the chain: read again from the new head."""


class NodesDisagree(ChainUnreachable):
    """Too few nodes gave the same answer. One of them is behind, on another branch, or lies: nothing is known yet."""


class Reverted(ChainError):
    """A call or transaction would revert. ``reason`` is the contract's error in words, ``Name(field=value)``."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(f"the contract refuses: {reason}")


@dataclass
class Node:
    """A connection and what is known of it: whether its chain is the right one, and whether it was silent lately."""

    w3: Web3
    verified: bool = False
    silent_until: float = 0.0

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self.silent_until

    def rest(self) -> None:
        self.silent_until = time.monotonic() + REST_SECONDS


class Nodes:
    """The nodes of one network; ``reason`` puts a contract's revert data into words. The constructor asks nothing."""

    def __init__(self, config: NetworkConfig, reason: Callable[[bytes], str]):
        if not config.rpc_urls:
            raise ConfigError(f"network {config.name} has no RPC URL")
        if not 1 <= config.agreeing_nodes <= len(config.rpc_urls):
            raise ConfigError(
                f"network {config.name} asks {config.agreeing_nodes} nodes to agree and names {len(config.rpc_urls)}"
            )
        self.config = config
        self._reason = reason
        self._nodes = [Node(_connection(url, config.timeout_seconds)) for url in config.rpc_urls]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def check_chain(self) -> None:
        """ChainError if a node is of another chain; each is asked again."""
        for node in self._nodes:
            node.verified = False
        self.each(lambda _: None)

    def block(self, which: str) -> BlockRef | None:
        """The block with a number in hexadecimal or a tag, None if there is none."""
        return self.read(lambda w3: as_block(raw(w3, "eth_getBlockByNumber", (which, False))))

    def is_canonical(self, number: int, block_hash: bytes) -> bool:
        block = self.block(hex(number))
        return block is not None and block.hash == block_hash

    def tagged(self, tag: str) -> BlockRef | None:
        """The block of a tag, at the height that as many nodes have reached as must agree."""
        needed = self.config.agreeing_nodes
        if needed == 1:
            return self.block(tag)

        def height(w3: Web3) -> int:
            try:
                found = as_block(raw(w3, "eth_getBlockByNumber", (tag, False)))
            except Web3RPCError:
                return -1
            return found.number if found else -1

        number = sorted(self.each(height), reverse=True)[needed - 1]
        return self.block(hex(number)) if number >= 0 else None

    def read(
        self, ask: Callable[[Web3], T], at: BlockRef | None = None, same: Callable[[T], Any] = lambda answer: answer
    ) -> T:
        """Ask a question that may be asked again, until as many nodes as must agree gave the same answer.

        Every node in turn, then all of them after a growing, jittered pause. ``same`` is what of an answer must agree.
        """
        fault: ChainUnreachable | None = None
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
            answers: list[Any] = []
            for node in self.in_order():
                try:
                    answer: T | ChainError = self.ask(node, ask, at)
                except ChainUnreachable as silent:
                    fault = silent
                    continue
                # Errors are told in each client's own words: of two errors only the kind must agree.
                answers.append((type(answer),) if isinstance(answer, ChainError) else same(answer))
                if answers.count(answers[-1]) >= self.config.agreeing_nodes:
                    if isinstance(answer, ChainError):
                        raise answer
                    return answer
            if len(answers) >= self.config.agreeing_nodes:
                fault = NodesDisagree(
                    f"{self.config.agreeing_nodes} of {', '.join(self.hosts)} must give the same answer, and do not: "
                    f"one is behind, on another branch or wrong"
                )
        raise fault or ChainUnreachable(f"no answer from {', '.join(self.hosts)}")

    def each(self, ask: Callable[[Web3], T]) -> list[T]:
        """The answers of all nodes that are awake, at least of as many as must agree."""
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
            answers: list[T] = []
            for node in self.in_order():
                if node.is_resting and len(answers) >= self.config.agreeing_nodes:
                    break
                try:
                    answer = self.ask(node, ask)
                except ChainUnreachable as silent:
                    fault = silent
                    continue
                if isinstance(answer, ChainError):
                    raise answer
                answers.append(answer)
            if len(answers) >= self.config.agreeing_nodes:
                return answers
        raise fault

    def in_order(self) -> list[Node]:
        """The nodes as configured, those that were silent lately last."""
        return sorted(self._nodes, key=lambda node: node.is_resting)

    def ask(self, node: Node, ask: Callable[[Web3], T], at: BlockRef | None = None) -> T | ChainError:
        """One node's answer, be it an error of the chain; ChainUnreachable if it gives none.

        Raises ChainError if the node is of another chain: that is asked before anything else counts.
        """
        try:
            if not node.verified:
                chain_id = node.w3.eth.chain_id
                if chain_id != self.config.chain_id:
                    raise ChainError(
                        f"the node is of chain {chain_id}; network {self.config.name} is chain {self.config.chain_id}"
                    )
                node.verified = True
            answer = ask(node.w3)
        except ContractLogicError as refused:
            data = _revert_data(refused)
            return Reverted(self._reason(data) if data else str(refused.message or "reverted without a reason"))
        except Web3RPCError as error:
            if at is not None and not self.is_canonical(at.number, at.hash):
                return BlockGone(f"block {at.number} 0x{at.hash.hex()} is no longer part of the chain")
            return ChainError(f"the node answered: {_message(error)}")
        except (*_NO_ANSWER, Web3Exception, KeyError, TypeError, ValueError) as fault:
            # Also an answer that is not what the method answers: it says as little.
            node.rest()
            raise ChainUnreachable(f"no answer from {', '.join(self.hosts)}: {type(fault).__name__}") from None
        node.silent_until = 0.0
        return answer

    @property
    def hosts(self) -> list[str]:
        """The nodes by name, for messages."""
        # A node's URL may carry a password or an access key: only its host is ever shown.
        return [urlsplit(url).netloc.rpartition("@")[2] for url in self.config.rpc_urls]


def raw(w3: Web3, method: str, params: Sequence[Any]) -> Any:
    """The ``result`` of a JSON-RPC request exactly as the node gave it; Web3RPCError if it gave an error."""
    response = w3.provider.make_request(RPCEndpoint(method), list(params))
    if response.get("error") is not None:
        raise Web3RPCError(method, rpc_response=response)
    return response["result"]


def batched(w3: Web3, calls: list[tuple[RPCEndpoint, Any]], refusable: bool = False) -> list[Any]:
    """As :func:`raw`, for many requests in one round trip; Web3RPCError if any one failed.

    ``refusable``: a call that its contract refuses, with the error's bytes, is None and no failure.
    """
    answers = cast(HTTPProvider, w3.provider).make_batch_request(calls)
    if not isinstance(answers, list) or len(answers) != len(calls):
        raise Web3RPCError("batch", rpc_response=answers if isinstance(answers, dict) else None)
    results = []
    for answer in sorted(answers, key=lambda answer: int(str(answer["id"]))):
        error: Any = answer.get("error")
        if error is None:
            results.append(answer["result"])
        elif refusable and isinstance(error, Mapping) and _bytes_of(error.get("data")):
            results.append(None)
        else:
            raise Web3RPCError("batch", rpc_response=answer)
    return results


def _connection(url: str, timeout_seconds: float) -> Web3:
    # Retrying is decided here, by what is asked; the provider's own retries would also resend.
    w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": timeout_seconds}, exception_retry_configuration=None))
    # It would ask for the chain id before every call, and refuse the longer headers of proof-of-authority chains.
    w3.middleware_onion.remove("validation")
    return w3


def _message(answer: Web3RPCError) -> str:
    response = answer.rpc_response or {}
    error = response.get("error")
    return str(error.get("message") if isinstance(error, Mapping) else error or answer)


def _revert_data(refused: ContractLogicError) -> bytes:
    return _bytes_of(refused.data)


def _bytes_of(data: Any) -> bytes:
    if isinstance(data, Mapping):
        data = data.get("data")
    return bytes.fromhex(data[2:]) if isinstance(data, str) and re.fullmatch("0x([0-9a-fA-F]{2})*", data) else b""
