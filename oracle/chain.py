"""The chain as the oracle sees it: reads pinned to a block, and the little that sending needs.

:class:`ChainView` only reads; checks and the web app use it. :class:`Chain` adds what the outbox needs to send.
Both speak JSON-RPC through web3.py to :mod:`oracle.nodes` and know the contracts from :mod:`oracle.contracts`; what
the chain says comes as the values of :mod:`oracle.onchain`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, cast

from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils import function_abi_to_4byte_selector, to_checksum_address
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import TransactionNotFound, Web3Exception
from web3.types import RPCEndpoint

from .config import NetworkConfig
from .contracts import AddressBook, Deployment, abi_type, artifact, error_in_words, events_of
from .domain import BatchStatus, NotaryDomain
from .errors import ChainError, ChainUnreachable, ConfigError
from .nodes import BlockGone, Nodes, NodesDisagree, Reverted, batched, raw
from .onchain import (
    BlockRef,
    Event,
    Notarization,
    NotarizedEvent,
    Receipt,
    SignerSet,
    Transaction,
    as_block,
    as_notarization,
    as_notarized,
    notarize_call,
)
from .protocol import keccak256

__all__ = [
    "AddressBook",
    "BlockGone",
    "BlockRef",
    "Chain",
    "ChainView",
    "Deployment",
    "Event",
    "NodesDisagree",
    "Notarization",
    "NotarizedEvent",
    "Receipt",
    "Reverted",
    "SignerSet",
    "Transaction",
    "artifact",
    "as_notarized",
    "notarize_call",
]

#: Nodes refuse to search more blocks than about this for events in one request.
LOG_RANGE_BLOCKS = 1_000
CALLS_PER_REQUEST = 100


class ChainView:
    """Read access to one network's contracts. The constructor reads the address book and asks the node nothing."""

    def __init__(self, config: NetworkConfig):
        self.config = config
        self._nodes = Nodes(config, self.decode_error)
        self.book = AddressBook.read(config.addresses)
        if self.book.chain_id != config.chain_id:
            raise ConfigError(
                f"{config.addresses} is of chain {self.book.chain_id}; network {config.name} is chain {config.chain_id}"
            )
        w3 = next(iter(self._nodes)).w3
        self._contracts = {
            name: w3.eth.contract(address=deployment.address, abi=artifact(name)["abi"])  # type: ignore[call-overload]
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

    def check_identity(self, *, code_again: bool = False) -> None:
        """ChainError if a node is of another chain or a contract's code differs; the code is read once, or again."""
        self._nodes.check_chain()
        if self._code_checked and not code_again:
            return
        contracts = list(self.book.contracts.values())
        codes = self.request_many([("eth_getCode", [one.address, "latest"]) for one in contracts])
        for deployment, code in zip(contracts, codes, strict=True):
            name, address = deployment.name, deployment.address
            if len(code) <= 2:
                raise ChainError(f"there is no contract {name} at {address}; is the address book of this chain?")
            if keccak256(bytes.fromhex(code[2:])) != deployment.code_hash:
                raise ChainError(f"the code of {name} at {address} is not the one in the address book")
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
        latest = self._nodes.tagged("latest")
        if latest is None:
            raise ChainError("the node has no latest block")
        return latest

    def block(self, number: int) -> BlockRef | None:
        """The canonical block with this number, None if the chain is not that long (any more)."""
        return self._nodes.block(hex(number))

    def final_number(self) -> int:
        """Number of the last final block by the network's rule; -1 while nothing is final."""
        if self.config.finality_depth is not None:
            return self.head().number - self.config.finality_depth
        try:
            final = self._nodes.tagged("finalized")
        except ChainUnreachable:
            raise
        except ChainError:
            return -1  # nodes without that tag answer with an error
        return final.number if final else -1

    def is_canonical(self, number: int, block_hash: bytes) -> bool:
        return self._nodes.is_canonical(number, block_hash)

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
        output = self._nodes.read(lambda w3: bytes(w3.eth.call(request, _pinned(at))), at)
        return _decoded(element, output)

    def call_many(
        self,
        contract: str,
        function: str,
        arguments: Sequence[Sequence[Any]],
        at: BlockRef,
        *,
        refusable: bool = False,
    ) -> list[Any]:
        """As :meth:`call` for each of many ``arguments``, in few round trips.

        Where the contract refuses one: None if that is ``refusable``, else ChainError.
        """
        element, to = self._contract(contract).get_function_by_name(function), self.address(contract)
        # Not by `encode`: web3 looks through the whole ABI anew for every call.
        selector, types = function_abi_to_4byte_selector(element.abi), [abi_type(one) for one in element.abi["inputs"]]
        calls = [
            ("eth_call", [{"to": to, "data": _hex(selector + encode(types, list(each)))}, _pinned(at)])
            for each in arguments
        ]
        outputs = self.request_many(calls, refusable=refusable)
        return [None if output is None else _decoded(element, bytes.fromhex(output[2:])) for output in outputs]

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
            return self._nodes.read(ask)
        found = [one for one in self._nodes.each(ask) if one is not None]
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

        return self._nodes.read(ask)

    def request(self, method: str, *params: Any) -> Any:
        """The ``result`` of a JSON-RPC read exactly as the node gave it; :class:`ChainError` if it gave an error."""
        return self._nodes.read(lambda w3: raw(w3, method, params))

    def request_many(
        self,
        calls: Sequence[tuple[str, Sequence[Any]]],
        meaning: Callable[[Any], Any] = lambda raw: raw,
        *,
        refusable: bool = False,
    ) -> list[Any]:
        """As :meth:`request`, for many ``(method, params)`` in few round trips; ChainError if any one failed.

        ``meaning`` makes of each result what counts of it: nodes must agree on that, not on every field. A call that
        its contract refuses is None where that is ``refusable``.
        """
        results: list[Any] = []
        for first in range(0, len(calls), CALLS_PER_REQUEST):
            piece = [(RPCEndpoint(method), list(params)) for method, params in calls[first : first + CALLS_PER_REQUEST]]
            results += self._nodes.read(
                lambda w3, piece=piece: [meaning(one) for one in batched(w3, piece, refusable)]  # type: ignore[misc]
            )
        return results

    # the Notary

    def notarization(self, root: bytes, at: BlockRef | None = None) -> Notarization:
        """What the chain keeps of ``root``; its ``status`` is NONE if it was never notarized."""
        return as_notarization(self.call("Notary", "notarization", root, at=at))

    def notarizations(self, roots: Sequence[bytes], at: BlockRef) -> list[Notarization]:
        """As :meth:`notarization` for many roots at one block."""
        return [as_notarization(kept) for kept in self.call_many("Notary", "notarization", [(r,) for r in roots], at)]

    def blocks(self, numbers: Sequence[int]) -> list[BlockRef | None]:
        """As :meth:`block` for many numbers."""
        return self.request_many([("eth_getBlockByNumber", [hex(n), False]) for n in numbers], as_block)

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

    def certified(self, periods: Sequence[tuple[int, int, int]], at: BlockRef) -> set[tuple[int, int, int]]:
        """Those of many ``(device id, start, duration)`` of which :meth:`is_certified` is true, in few round trips."""
        answers = self.call_many("EnergyCertificate", "isCertified", periods, at, refusable=True)
        return {period for period, certified in zip(periods, answers, strict=True) if certified}

    def issued_ids(self, root: bytes | None = None, to_block: int | None = None) -> list[int]:
        """Ids of the certificates issued, of one root or of all, in chain order."""
        filters = {} if root is None else {"root": root}
        return [event.values["id"] for event in self.events("EnergyCertificate", "Issued", None, to_block, filters)]

    def balance_of(self, account: str, certificate_id: int, at: BlockRef | None = None) -> int:
        """Wh of a certificate that an account holds."""
        return int(self.call("EnergyCertificate", "balanceOf", to_checksum_address(account), certificate_id, at=at))

    def decode_error(self, data: bytes) -> str:
        """Revert data in words: ``SlotAlreadyCertified(deviceId=1, start=1467331200)``."""
        return error_in_words(tuple(self.book.contracts), data)

    # inside

    def _contract(self, name: str) -> Any:
        self.address(name)
        return self._contracts[name]

    def _logs(self, query: Any) -> list[Event]:
        def ask(w3: Web3) -> list[Event]:
            return [event for log in w3.eth.get_logs(query) if (event := self._decode_log(log))]

        return self._nodes.read(ask)

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
        abi = events_of(name).get(bytes(log["topics"][0]))
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


class Chain(ChainView):
    """A view that can also send. What it sends was signed and stored before: see :mod:`oracle.outbox`."""

    def transaction_count(self, account: str, at: int | str = "latest") -> int:
        """Nonce that the account uses next; ``at`` is "latest" or a block number."""
        return self._nodes.read(lambda w3: w3.eth.get_transaction_count(to_checksum_address(account), at))  # type: ignore[arg-type]

    def native_balance_wei(self, account: str) -> int:
        return self._nodes.read(lambda w3: w3.eth.get_balance(to_checksum_address(account)))

    def priority_fee_wei(self) -> int:
        """The tip that the node suggests; 0 where it has no opinion."""
        try:
            return self._nodes.read(lambda w3: w3.eth.max_priority_fee, same=lambda fee: None)
        except ChainUnreachable:
            raise
        except ChainError:
            return 0

    def gas_price_wei(self) -> int:
        """The price on chains without a base fee; may be 0."""
        return self._nodes.read(lambda w3: w3.eth.gas_price, same=lambda price: None)

    def estimate_gas(self, sender: str, to: str, data: bytes) -> int:
        """Gas a transaction would need now; :class:`Reverted` with the decoded reason if it would fail."""
        request: Any = {"from": to_checksum_address(sender), "to": to_checksum_address(to), "data": data}
        # Clients estimate differently; what they must agree on is whether it would fail.
        return self._nodes.read(lambda w3: w3.eth.estimate_gas(request), same=lambda gas: None)

    def replay(self, transaction: Transaction) -> str:
        """Why a mined transaction reverted, in words, by running it again on the block before; best effort."""
        request: Any = {"from": transaction.sender, "to": transaction.to, "data": transaction.input}
        try:
            self._nodes.read(lambda w3: w3.eth.call(request, (transaction.block_number or 1) - 1))
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
        self.check_identity(code_again=True)
        taken, refusal, silent = False, None, None
        for node in self._nodes.in_order():
            answer: Any = None
            try:
                answer = self._nodes.ask(node, lambda w3: w3.eth.send_raw_transaction(raw))
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
            raise silent or ChainUnreachable(f"no answer from {', '.join(self._nodes.hosts)}")
        return None if taken else refusal


def _pinned(at: BlockRef | None) -> Any:
    return "latest" if at is None else {"blockHash": "0x" + at.hash.hex(), "requireCanonical": True}


def _decoded(function: ContractFunction, output: bytes) -> Any:
    """What ``output`` of a view function says."""
    try:
        values = decode([abi_type(entry) for entry in function.abi["outputs"]], output)
    except DecodingError as fault:
        told = f"{function.fn_name} answered {len(output)} bytes that do not decode: {fault}"
        raise ChainError(told) from None
    return values[0] if len(values) == 1 else values


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
