"""The chain as the oracle sees it: reads pinned to a block, and the little that sending needs.

:class:`ChainView` only reads; checks and the web app use it. :class:`Chain` adds what the outbox needs to send.
Both speak JSON-RPC through web3.py and know the contracts from the committed artifacts (``oracle/artifacts``)
and the address book of the network.

Two errors mean two things and are never mixed: :class:`ChainUnreachable`, no answer, says nothing about the chain;
:class:`ChainError`, an answer that must stop us (another chain id, other code, a revert).

Of several nodes the first that answers is believed, unless the network asks for ``agreeing_nodes``: then so many must
give the same answer, the head is the highest block that so many have, and nodes that differ mean no answer yet
(:class:`NodesDisagree`). A node that is silent rests for a while; one of another chain stops us, whatever the others say.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

from eth_abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils import to_checksum_address
from requests.exceptions import RequestException
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadResponseFormat,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import RPCEndpoint

from .config import NetworkConfig
from .domain import Batch, BatchKind, BatchStatus, NotaryDomain
from .errors import ChainError, ChainUnreachable, ConfigError
from .protocol import BATCH_TYPES, keccak256

ADDRESSES_SCHEMA = "wattmark/addresses/1"
ARTIFACTS = Path(__file__).parent / "artifacts"
READ_ATTEMPTS = 4
BACKOFF_SECONDS = 0.1
#: Nodes refuse to search more blocks than about this for events in one request.
LOG_RANGE_BLOCKS = 1_000
CALLS_PER_REQUEST = 100
#: How long a node that did not answer is asked last, in seconds.
REST_SECONDS = 30.0

_BATCH = f"({','.join(BATCH_TYPES)})"
_NOTARIZE = keccak256(f"notarize({_BATCH},bytes[])".encode())[:4]
_NO_ANSWER = (RequestException, BadResponseFormat, ConnectionError, TimeoutError, json.JSONDecodeError)
_ERROR_STRING, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")

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


# -- where the contracts are ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployed contract: ``code_hash`` is the keccak256 of its run-time code on the chain."""

    name: str
    address: str
    code_hash: bytes
    transaction: bytes
    block: int


@dataclass(frozen=True)
class AddressBook:
    """Where the contracts of one network are, and who was appointed at deployment. Format: docs/protocol.md."""

    chain_id: int
    chain_name: str
    deployed_block: int
    contracts: Mapping[str, Deployment]
    roles: Mapping[str, Any]
    signers: tuple[str, ...]
    threshold: int

    @classmethod
    def read(cls, path: Path) -> AddressBook:
        """Read the JSON file; ConfigError says what is missing or of the wrong form."""
        try:
            book = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no address book at {path}; deploy the contracts first (./run deploy)") from None
        except (OSError, ValueError) as fault:
            raise ConfigError(f"address book {path} cannot be read: {fault}") from None
        try:
            if book["schema"] != ADDRESSES_SCHEMA:
                raise ConfigError(f"address book {path} has schema {book['schema']!r}; expected {ADDRESSES_SCHEMA!r}")
            contracts = {name: _deployment(name, entry) for name, entry in book["contracts"].items()}
            return cls(
                chain_id=int(book["chainId"]),
                chain_name=str(book["chainName"]),
                deployed_block=int(book["deployedBlock"]),
                contracts=MappingProxyType(contracts),
                roles=MappingProxyType(dict(book.get("roles", {}))),
                signers=tuple(to_checksum_address(signer) for signer in book.get("signers", ())),
                threshold=int(book.get("threshold", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise ConfigError(
                f"address book {path}: {type(fault).__name__} at {fault}; expected schema {ADDRESSES_SCHEMA}"
            ) from None


def _deployment(name: str, entry: Mapping[str, Any]) -> Deployment:
    return Deployment(
        name,
        to_checksum_address(entry["address"]),
        bytes.fromhex(entry["codeHash"].removeprefix("0x")),
        bytes.fromhex(str(entry.get("transaction") or "").removeprefix("0x")),
        int(entry["block"]),
    )


@cache
def artifact(name: str) -> Mapping[str, Any]:
    """The committed artifact of a contract: ``abi``, ``bytecode``, ``deployedBytecode``…"""
    try:
        return MappingProxyType(json.loads((ARTIFACTS / f"{name}.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"no artifact of contract {name}; ./run compile writes it") from None


# -- what the chain says --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block by number and hash. ``time`` UTC seconds, ``base_fee_wei`` None on chains without one."""

    number: int
    hash: bytes
    time: int
    base_fee_wei: int | None = None


@dataclass(frozen=True, slots=True)
class Notarization:
    """What the Notary keeps of a root; ``status`` NONE if it was never notarized. Times in UTC seconds."""

    notarized_at: int
    start: int
    end: int
    statements: int
    energy_wh: int
    kind: int
    status: BatchStatus
    signer_epoch: int


@dataclass(frozen=True, slots=True)
class NotarizedEvent:
    """The event of a notarization and where it lies in the chain."""

    batch: Batch
    new_head: bytes
    signers: tuple[str, ...]
    transaction: bytes
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class SignerSet:
    """Who vouches in an epoch, ``threshold`` at a time, from ``since`` to ``until`` (UTC seconds; 0 while current)."""

    epoch: int
    signers: tuple[str, ...]
    threshold: int
    since: int
    until: int

    def was_current_at(self, time: int) -> bool:
        return self.since > 0 and self.since <= time and (self.until == 0 or time <= self.until)


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event of one of our contracts."""

    contract: str
    name: str
    values: Mapping[str, Any]
    transaction: bytes
    log_index: int
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction. ``succeeded`` False if it reverted."""

    transaction: bytes
    succeeded: bool
    block_number: int
    block_hash: bytes
    gas_used: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction the node knows; ``block_number`` None while it waits."""

    hash: bytes
    sender: str
    to: str | None
    nonce: int
    input: bytes
    value_wei: int
    block_number: int | None
    block_hash: bytes | None


class ChainView:
    """Read access to one network's contracts. The constructor reads the address book and asks the node nothing."""

    def __init__(self, config: NetworkConfig):
        if not config.rpc_urls:
            raise ConfigError(f"network {config.name} has no RPC URL")
        self.config = config
        self.book = AddressBook.read(config.addresses)
        if self.book.chain_id != config.chain_id:
            raise ConfigError(
                f"{config.addresses} is of chain {self.book.chain_id}; network {config.name} is chain {config.chain_id}"
            )
        if not 1 <= config.agreeing_nodes <= len(config.rpc_urls):
            raise ConfigError(
                f"network {config.name} asks {config.agreeing_nodes} nodes to agree and names {len(config.rpc_urls)}"
            )
        self._nodes = [_Node(_connection(url, config.timeout_seconds)) for url in config.rpc_urls]
        self._contracts = {
            name: self._nodes[0].w3.eth.contract(address=deployment.address, abi=artifact(name)["abi"])  # type: ignore[call-overload]
            for name, deployment in self.book.contracts.items()
        }
        self._names = {deployment.address: name for name, deployment in self.book.contracts.items()}
        self._code_checked = False

    @classmethod
    def open(cls, config: NetworkConfig) -> Self:
        """Connect and make sure that this is the chain and these are the contracts of the address book."""
        view = cls(config)
        view.check_identity()
        return view

    def check_identity(self) -> None:
        """ChainError if a node is of another chain or a contract's code differs; the code is read once."""
        for node in self._nodes:
            node.verified = False
        self._each(lambda _: None)
        if self._code_checked:
            return
        for deployment in self.book.contracts.values():
            address = deployment.address
            code = self._code(address)
            if not code:
                raise ChainError(
                    f"there is no contract {deployment.name} at {address}; is the address book of this chain?"
                )
            if keccak256(code) != deployment.code_hash:
                raise ChainError(f"the code of {deployment.name} at {address} is not the one in the address book")
        self._code_checked = True

    @property
    def domain(self) -> NotaryDomain:
        """Where signatures of this network's witnesses count."""
        return NotaryDomain(self.config.chain_id, self.address("Notary"))

    def address(self, contract: str) -> str:
        try:
            return self.book.contracts[contract].address
        except KeyError:
            raise ConfigError(f"the address book of {self.config.name} has no {contract}") from None

    # blocks and finality

    def head(self) -> BlockRef:
        """The last block, or the last one that as many nodes have as must agree."""
        latest = self._tagged("latest")
        if latest is None:
            raise ChainError("the node has no latest block")
        return latest

    def block(self, number: int) -> BlockRef | None:
        """The canonical block with this number, None if the chain is not that long (any more)."""
        return self._block(hex(number))

    def final_number(self) -> int:
        """Number of the last final block by the network's rule; -1 while nothing is final."""
        if self.config.finality_depth is not None:
            return self.head().number - self.config.finality_depth
        try:
            final = self._tagged("finalized")
        except ChainUnreachable:
            raise
        except ChainError:
            return -1  # nodes without that tag answer with an error
        return final.number if final else -1

    def is_canonical(self, number: int, block_hash: bytes) -> bool:
        block = self.block(number)
        return block is not None and block.hash == block_hash

    def is_final(self, number: int, block_hash: bytes) -> bool:
        """Whether this very block is part of the chain and final by the network's rule."""
        return number <= self.final_number() and self.is_canonical(number, block_hash)

    # contracts

    def encode(self, contract: str, function: str, *arguments: Any) -> bytes:
        """Calldata of a call."""
        return bytes.fromhex(self._contract(contract).encode_abi(function, args=arguments)[2:])

    def decode_call(self, to: str, data: bytes) -> tuple[str, str, dict[str, Any]] | None:
        """``(contract, function, arguments)`` of calldata to one of our contracts, None if it is none."""
        name = self._names.get(to_checksum_address(to))
        if name is None:
            return None
        try:
            function, arguments = self._contract(name).decode_function_input(data)
        except (Web3Exception, DecodingError, ValueError):
            return None
        return name, function.fn_name, arguments

    def call(self, contract: str, function: str, *arguments: Any, at: BlockRef | None = None) -> Any:
        """Result of a view function, at exactly the block ``at`` or the latest. A struct comes as a tuple.

        Raises :class:`Reverted` with the contract's error, :class:`BlockGone` if ``at`` was reorganised away.
        """
        if at is None and self.config.agreeing_nodes > 1:
            at = self.head()
        element = self._contract(contract).get_function_by_name(function)
        request: Any = {"to": self.address(contract), "data": self.encode(contract, function, *arguments)}
        output = self._read(lambda w3: bytes(w3.eth.call(request, _pinned(at))), at)
        try:
            values = decode([_type(entry) for entry in element.abi["outputs"]], output)
        except DecodingError as fault:
            raise ChainError(
                f"{contract}.{function} answered {len(output)} bytes that do not decode: {fault}"
            ) from None
        return values[0] if len(values) == 1 else values

    def events(
        self,
        contract: str,
        event: str,
        from_block: int | None = None,
        to_block: int | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Iterator[Event]:
        """Events in chain order, asked for in bounded ranges; ``arguments`` filter indexed fields."""
        first = self.book.deployed_block if from_block is None else from_block
        last = self.head().number if to_block is None else to_block
        topics = (
            self._contract(contract)
            .events[event]()
            ._get_event_filter_params(
                self._contract(contract).events[event]().abi, argument_filters=dict(arguments or {})
            )["topics"]
        )
        while first <= last:
            stop = min(last, first + LOG_RANGE_BLOCKS - 1)
            query: Any = {"address": self.address(contract), "topics": topics, "fromBlock": first, "toBlock": stop}
            yield from self._logs(query)
            first = stop + 1

    def transaction(self, transaction: bytes) -> Transaction | None:
        """The transaction with this hash, None if no node knows it: one that waits need not be known to all."""

        def ask(w3: Web3) -> Transaction | None:
            try:
                found = w3.eth.get_transaction(cast(Any, _hex(transaction)))
            except TransactionNotFound:
                return None
            block_hash = found.get("blockHash")
            return Transaction(
                bytes(found["hash"]),
                found["from"],
                found.get("to"),
                found["nonce"],
                bytes(found["input"]),
                found["value"],
                found.get("blockNumber"),
                bytes(block_hash) if block_hash else None,
            )

        if self.config.agreeing_nodes == 1:
            return self._read(ask)
        found = [one for one in self._each(ask) if one is not None]
        return max(found, key=lambda one: one.block_hash is not None, default=None)

    def receipt(self, transaction: bytes) -> Receipt | None:
        """The receipt of a mined transaction, None while there is none."""

        def ask(w3: Web3) -> Receipt | None:
            try:
                found = w3.eth.get_transaction_receipt(cast(Any, _hex(transaction)))
            except TransactionNotFound:
                return None
            events = tuple(event for log in found["logs"] if (event := self._decode_log(log)))
            return Receipt(
                bytes(found["transactionHash"]),
                found["status"] == 1,
                found["blockNumber"],
                bytes(found["blockHash"]),
                found["gasUsed"],
                events,
            )

        return self._read(ask)

    def request(self, method: str, *params: Any) -> Any:
        """The ``result`` of a JSON-RPC read exactly as the node gave it; :class:`ChainError` if it gave an error."""
        return self._read(lambda w3: _raw(w3, method, params))

    def request_many(
        self, calls: Sequence[tuple[str, Sequence[Any]]], meaning: Callable[[Any], Any] = lambda raw: raw
    ) -> list[Any]:
        """As :meth:`request`, for many ``(method, params)`` in as few round trips; ChainError if any one failed.

        ``meaning`` makes of each result what counts of it: nodes must agree on that, not on every field.
        """
        results: list[Any] = []
        for first in range(0, len(calls), CALLS_PER_REQUEST):
            piece = [(RPCEndpoint(method), list(params)) for method, params in calls[first : first + CALLS_PER_REQUEST]]
            results += self._read(lambda w3, piece=piece: [meaning(one) for one in _batched(w3, piece)])  # type: ignore[misc]
        return results

    # the Notary

    def notarization(self, root: bytes, at: BlockRef | None = None) -> Notarization:
        """What the chain keeps of ``root``; its ``status`` is NONE if it was never notarized."""
        return _notarization(self.call("Notary", "notarization", root, at=at))

    def notarizations(self, roots: Sequence[bytes], at: BlockRef) -> list[Notarization]:
        """As :meth:`notarization` for many roots at one block."""
        to = self.address("Notary")
        calls = [
            ("eth_call", [{"to": to, "data": _hex(self.encode("Notary", "notarization", root))}, _pinned(at)])
            for root in roots
        ]
        outputs = self._contract("Notary").get_function_by_name("notarization").abi["outputs"]
        types = [_type(entry) for entry in outputs]
        return [_notarization(decode(types, bytes.fromhex(raw[2:]))[0]) for raw in self.request_many(calls)]

    def blocks(self, numbers: Sequence[int]) -> list[BlockRef | None]:
        """As :meth:`block` for many numbers."""
        return self.request_many([("eth_getBlockByNumber", [hex(n), False]) for n in numbers], _block_ref)

    def inputs(self, transactions: Sequence[bytes]) -> list[bytes | None]:
        """Calldata of many transactions; None for one that the node does not know."""
        calls = [("eth_getTransactionByHash", [_hex(one)]) for one in transactions]
        return self.request_many(calls, lambda raw: None if raw is None else bytes.fromhex(raw["input"][2:]))

    def find_notarization(self, root: bytes, at: BlockRef | None = None) -> NotarizedEvent | None:
        """The event that notarized ``root``, None if it was never notarized.

        The record's time leads to the block by bisection, so that a long chain is not scanned.
        """
        at = at or self.head()
        record = self.notarization(root, at)
        if record.status == BatchStatus.NONE:
            return None
        first = self._first_block_since(record.notarized_at, at.number)
        return next(self.notarized_events(first, at.number, root), None)

    def notarized_events(
        self, from_block: int | None = None, to_block: int | None = None, root: bytes | None = None
    ) -> Iterator[NotarizedEvent]:
        """Notarizations in chain order, of one root or of all."""
        filters = {} if root is None else {"root": root}
        for event in self.events("Notary", "Notarized", from_block, to_block, filters):
            yield as_notarized(event)

    def signer_set(self, epoch: int, at: BlockRef | None = None) -> SignerSet:
        signers, threshold, since, until = self.call("Notary", "signerSet", epoch, at=at)
        return SignerSet(epoch, tuple(to_checksum_address(signer) for signer in signers), threshold, since, until)

    # certificates

    def is_certified(self, device_id: int, start: int, duration: int, at: BlockRef | None = None) -> bool:
        """Whether any slot of the period is certified (times in UTC seconds); none is of an unknown device."""
        try:
            return bool(self.call("EnergyCertificate", "isCertified", device_id, start, duration, at=at))
        except Reverted:
            return False

    def issued_ids(self, root: bytes | None = None, to_block: int | None = None) -> list[int]:
        """Ids of the certificates issued, of one root or of all, in chain order."""
        filters = {} if root is None else {"root": root}
        return [event.values["id"] for event in self.events("EnergyCertificate", "Issued", None, to_block, filters)]

    def balance_of(self, account: str, certificate_id: int, at: BlockRef | None = None) -> int:
        """Wh of a certificate that an account holds."""
        return int(self.call("EnergyCertificate", "balanceOf", to_checksum_address(account), certificate_id, at=at))

    def decode_error(self, data: bytes) -> str:
        """Revert data in words: ``SlotAlreadyCertified(deviceId=1, start=1467331200)``."""
        selector, body = data[:4], data[4:]
        try:
            if selector == _ERROR_STRING:
                return str(decode(["string"], body)[0])
            if selector == _PANIC:
                return f"Panic(code={decode(['uint256'], body)[0]:#x})"
            known = _errors(tuple(self.book.contracts)).get(selector)
            if known:
                values = decode([_type(entry) for entry in known["inputs"]], body)
                pairs = (
                    f"{entry['name']}={_shown(value)}" for entry, value in zip(known["inputs"], values, strict=True)
                )
                return f"{known['name']}({', '.join(pairs)})"
        except (DecodingError, UnicodeDecodeError):
            pass
        return f"0x{data.hex()}" if data else "reverted without a reason"

    # inside

    def _contract(self, name: str) -> Any:
        self.address(name)
        return self._contracts[name]

    def _code(self, address: str) -> bytes:
        return self._read(lambda w3: bytes(w3.eth.get_code(to_checksum_address(address))))

    def _logs(self, query: Any) -> list[Event]:
        def ask(w3: Web3) -> list[Event]:
            return [event for log in w3.eth.get_logs(query) if (event := self._decode_log(log))]

        return self._read(ask)

    def _block(self, which: str) -> BlockRef | None:
        return self._read(lambda w3: _block_ref(_raw(w3, "eth_getBlockByNumber", (which, False))))

    def _tagged(self, tag: str) -> BlockRef | None:
        """The block of a tag, at the height that as many nodes have reached as must agree."""
        needed = self.config.agreeing_nodes
        if needed == 1:
            return self._block(tag)

        def height(w3: Web3) -> int:
            try:
                found = _block_ref(_raw(w3, "eth_getBlockByNumber", (tag, False)))
            except Web3RPCError:
                return -1
            return found.number if found else -1

        number = sorted(self._each(height), reverse=True)[needed - 1]
        return self._block(hex(number)) if number >= 0 else None

    def _first_block_since(self, time: int, last: int) -> int:
        """Number of the first block with a time not before ``time`` (UTC seconds), between deployment and ``last``."""
        low, high = self.book.deployed_block, last
        while low < high:
            middle = (low + high) // 2
            block = self.block(middle)
            if block is not None and block.time < time:
                low = middle + 1
            else:
                high = middle
        return low

    def _decode_log(self, log: Any) -> Event | None:
        name = self._names.get(log["address"])
        if name is None or not log["topics"]:
            return None
        abi = _events(name).get(bytes(log["topics"][0]))
        if abi is None:
            return None
        values = self._contract(name).events[abi["name"]]().process_log(log)["args"]
        return Event(
            name,
            abi["name"],
            values,
            bytes(log["transactionHash"]),
            log["logIndex"],
            log["blockNumber"],
            bytes(log["blockHash"]),
        )

    def _read(
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
            for node in self._in_order():
                try:
                    answer: T | ChainError = self._ask(node, ask, at)
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
                    f"{self.config.agreeing_nodes} of {', '.join(self._hosts)} must give the same answer, and do not: "
                    f"one is behind, on another branch or wrong"
                )
        raise fault or ChainUnreachable(f"no answer from {', '.join(self._hosts)}")

    def _each(self, ask: Callable[[Web3], T]) -> list[T]:
        """The answers of all nodes that are awake, at least of as many as must agree."""
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                time.sleep(BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.5))
            answers: list[T] = []
            for node in self._in_order():
                if node.is_resting and len(answers) >= self.config.agreeing_nodes:
                    break
                try:
                    answer = self._ask(node, ask)
                except ChainUnreachable as silent:
                    fault = silent
                    continue
                if isinstance(answer, ChainError):
                    raise answer
                answers.append(answer)
            if len(answers) >= self.config.agreeing_nodes:
                return answers
        raise fault

    def _in_order(self) -> list[_Node]:
        """The nodes as configured, those that were silent lately last."""
        return sorted(self._nodes, key=lambda node: node.is_resting)

    def _ask(self, node: _Node, ask: Callable[[Web3], T], at: BlockRef | None = None) -> T | ChainError:
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
            return Reverted(self._reason(refused))
        except Web3RPCError as error:
            if at is not None and not self.is_canonical(at.number, at.hash):
                return BlockGone(f"block {at.number} 0x{at.hash.hex()} is no longer part of the chain")
            return ChainError(f"the node answered: {_message(error)}")
        except (*_NO_ANSWER, Web3Exception, KeyError, TypeError, ValueError) as fault:
            # Also an answer that is not what the method answers: it says as little.
            node.rest()
            raise ChainUnreachable(f"no answer from {', '.join(self._hosts)}: {type(fault).__name__}") from None
        node.silent_until = 0.0
        return answer

    def _reason(self, refused: ContractLogicError) -> str:
        data = refused.data
        if isinstance(data, Mapping):
            data = data.get("data")
        if isinstance(data, str) and data.startswith("0x") and len(data) > 2:
            return self.decode_error(bytes.fromhex(data[2:]))
        return str(refused.message or "reverted without a reason")

    @property
    def _hosts(self) -> list[str]:
        # A node's URL may carry a password or an access key: only its host is ever shown.
        return [urlsplit(url).netloc.rpartition("@")[2] for url in self.config.rpc_urls]


class Chain(ChainView):
    """A view that can also send. What it sends was signed and stored before: see :mod:`oracle.outbox`."""

    def transaction_count(self, account: str, at: int | str = "latest") -> int:
        """Nonce that the account uses next; ``at`` is "latest" or a block number."""
        return self._read(lambda w3: w3.eth.get_transaction_count(to_checksum_address(account), at))  # type: ignore[arg-type]

    def native_balance_wei(self, account: str) -> int:
        return self._read(lambda w3: w3.eth.get_balance(to_checksum_address(account)))

    def priority_fee_wei(self) -> int:
        """The tip that the node suggests; 0 where it has no opinion."""
        try:
            return self._read(lambda w3: w3.eth.max_priority_fee, same=lambda fee: None)
        except ChainUnreachable:
            raise
        except ChainError:
            return 0

    def gas_price_wei(self) -> int:
        """The price on chains without a base fee; may be 0."""
        return self._read(lambda w3: w3.eth.gas_price, same=lambda price: None)

    def estimate_gas(self, sender: str, to: str, data: bytes) -> int:
        """Gas a transaction would need now; :class:`Reverted` with the decoded reason if it would fail."""
        request: Any = {"from": to_checksum_address(sender), "to": to_checksum_address(to), "data": data}
        # Clients estimate differently; what they must agree on is whether it would fail.
        return self._read(lambda w3: w3.eth.estimate_gas(request), same=lambda gas: None)

    def replay(self, transaction: Transaction) -> str:
        """Why a mined transaction reverted, in words, by running it again on the block before; best effort."""
        request: Any = {"from": transaction.sender, "to": transaction.to, "data": transaction.input}
        try:
            self._read(lambda w3: w3.eth.call(request, (transaction.block_number or 1) - 1))
        except Reverted as refused:
            return refused.reason
        except ChainError:
            pass
        return "reverted; the reason cannot be reproduced"

    def send(self, raw: bytes) -> str | None:
        """Hand signed bytes to the nodes, once each. None if one took them, else the text of the last refusal.

        Where nodes must agree, all of them get the bytes: one that takes them and keeps them to itself holds up nothing.
        What the text says decides nothing; whether a node knows the transaction is asked separately.
        """
        self.check_identity()
        taken, refusal, silent = False, None, None
        for node in self._in_order():
            answer: Any = None
            try:
                answer = self._ask(node, lambda w3: w3.eth.send_raw_transaction(raw))
            except ChainUnreachable as fault:
                silent = fault
                continue
            if isinstance(answer, ChainError):
                refusal = str(answer).removeprefix("the node answered: ")
                continue
            taken = True
            if self.config.agreeing_nodes == 1:
                break
        if not taken and refusal is None:
            raise silent or ChainUnreachable(f"no answer from {', '.join(self._hosts)}")
        return None if taken else refusal


def as_notarized(event: Event) -> NotarizedEvent:
    """A ``Notarized`` event as values."""
    values = event.values
    batch = values["batch"]
    fields = tuple(batch.values()) if isinstance(batch, Mapping) else tuple(batch)
    return NotarizedEvent(
        _batch(fields),
        bytes(values["newHead"]),
        tuple(to_checksum_address(signer) for signer in values["signers"]),
        event.transaction,
        event.block_number,
        event.block_hash,
    )


def notarize_call(data: bytes, root: bytes) -> tuple[Batch, tuple[bytes, ...]] | None:
    """Batch and signatures of the ``notarize`` call for ``root`` in a transaction's input, None if there is none.

    The call may be wrapped in another one (a multi-signature wallet's), so the selector is looked for anywhere.
    """
    at = data.find(_NOTARIZE)
    while at >= 0:
        try:
            fields, signatures = decode([_BATCH, "bytes[]"], data[at + 4 :])
            batch = _batch(fields)
        except (DecodingError, ValueError):
            batch = None
        if batch is not None and batch.root == root:
            return batch, tuple(signatures)
        at = data.find(_NOTARIZE, at + 1)
    return None


def _batch(fields: Sequence[Any]) -> Batch:
    kind, epoch, head, root, start, end, statements, energy_wh, archive_hash, deadline = fields
    return Batch(
        BatchKind(kind),
        epoch,
        bytes(head),
        bytes(root),
        start,
        end,
        statements,
        energy_wh,
        bytes(archive_hash),
        deadline,
    )


@dataclass
class _Node:
    """A connection and what is known of it: whether its chain is the right one, and whether it was silent lately."""

    w3: Web3
    verified: bool = False
    silent_until: float = 0.0

    @property
    def is_resting(self) -> bool:
        return time.monotonic() < self.silent_until

    def rest(self) -> None:
        self.silent_until = time.monotonic() + REST_SECONDS


def _raw(w3: Web3, method: str, params: Sequence[Any]) -> Any:
    response = w3.provider.make_request(RPCEndpoint(method), list(params))
    if response.get("error") is not None:
        raise Web3RPCError(method, rpc_response=response)
    return response["result"]


def _connection(url: str, timeout_seconds: float) -> Web3:
    # Retrying is decided here, by what is asked; the provider's own retries would also resend.
    w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": timeout_seconds}, exception_retry_configuration=None))
    # It would ask for the chain id before every call, and refuse the longer headers of proof-of-authority chains.
    w3.middleware_onion.remove("validation")
    return w3


def _block_ref(found: Mapping[str, Any] | None) -> BlockRef | None:
    if found is None:
        return None
    fee = found.get("baseFeePerGas")
    number, time_ = int(found["number"], 16), int(found["timestamp"], 16)
    return BlockRef(number, bytes.fromhex(found["hash"][2:]), time_, None if fee is None else int(fee, 16))


def _notarization(fields: Sequence[Any]) -> Notarization:
    notarized_at, start, end, statements, energy_wh, kind, status, epoch = fields
    return Notarization(notarized_at, start, end, statements, energy_wh, kind, BatchStatus(status), epoch)


def _batched(w3: Web3, calls: list[tuple[RPCEndpoint, Any]]) -> list[Any]:
    answers = cast(HTTPProvider, w3.provider).make_batch_request(calls)
    if not isinstance(answers, list) or len(answers) != len(calls):
        raise Web3RPCError("batch", rpc_response=answers if isinstance(answers, dict) else None)
    for answer in answers:
        if answer.get("error") is not None:
            raise Web3RPCError("batch", rpc_response=answer)
    return [answer["result"] for answer in sorted(answers, key=lambda answer: int(str(answer["id"])))]


def _pinned(at: BlockRef | None) -> Any:
    return "latest" if at is None else {"blockHash": "0x" + at.hash.hex(), "requireCanonical": True}


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _type(entry: Mapping[str, Any]) -> str:
    """ABI type with the parts of tuples spelled out."""
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in entry['components'])}){kind.removeprefix('tuple')}"


def _signature(entry: Mapping[str, Any]) -> bytes:
    return keccak256(f"{entry['name']}({','.join(_type(part) for part in entry['inputs'])})".encode())


@cache
def _errors(contracts: tuple[str, ...]) -> dict[bytes, Mapping[str, Any]]:
    return {
        _signature(entry)[:4]: entry
        for name in contracts
        for entry in artifact(name)["abi"]
        if entry["type"] == "error"
    }


@cache
def _events(contract: str) -> dict[bytes, Mapping[str, Any]]:
    return {_signature(entry): entry for entry in artifact(contract)["abi"] if entry["type"] == "event"}


def _message(answer: Web3RPCError) -> str:
    response = answer.rpc_response or {}
    error = response.get("error")
    return str(error.get("message") if isinstance(error, Mapping) else error or answer)


def _shown(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
