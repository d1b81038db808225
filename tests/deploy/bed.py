"""A real chain for deployments, and a node in front of it that is as awkward as nodes can be."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from eth_account import Account
from web3 import Web3

from scripts.deployment import Deployment, deploy
from scripts.deployment_settings import Settings
from scripts.local_chain import anvil, free_port
from scripts.networks import connect
from scripts.roles import ROLES

ROOT = Path(__file__).resolve().parents[2]
BINARIES = sorted((ROOT / ".wattmark/node/node_modules/@foundry-rs").glob("*-*-*/bin"))
SENDING = ("eth_sendRawTransaction", "eth_sendTransaction")
SEAL = "0x" + "57" * 32 + "11" * 65
ETHER = 10**18


def account(name: str):
    """An account of the tests; the same name is the same key."""
    return Account.from_key(Web3.keccak(text=f"deploy test {name}"))


SIGNERS = tuple(sorted((account(f"witness {i}").address for i in range(3)), key=str.lower))


@contextlib.contextmanager
def chain(folder: Path, *options: str, chain_id: int = 77_001) -> Iterator[str]:
    os.environ["PATH"] = os.pathsep.join([*map(str, BINARIES), os.environ["PATH"]])
    with anvil(folder, free_port(), chain_id, *options) as url:
        yield url


def settings(folder: Path, **changes) -> Settings:
    holders = {role.name: account(role.name).address for role in ROLES}
    made = Settings(
        book=folder / "book.json",
        chain_name="test",
        signers=SIGNERS,
        threshold=2,
        holders=holders,
        admin_delay_seconds=172_800,
        certificate_uri="https://w.example/c/",
        outcome_uri="https://w.example/o/",
    )
    return replace(made, **changes)


def run(url: str, signer, made: Settings) -> Deployment:
    return deploy(Deployment(connect(url), signer, made, {}))


def give(w3: Web3, address: str, wei: int = 100 * ETHER) -> None:
    w3.provider.make_request("anvil_setBalance", [address, hex(wei)])


def ask(w3: Web3, method: str, *parameters):
    answer = w3.provider.make_request(method, list(parameters))
    assert "error" not in answer, answer
    return answer["result"]


class Node:
    """A JSON-RPC node that passes everything on to ``upstream``, but for what it is told to be.

    ``legacy``: no base fee, refuses typed transactions. ``sealed``: proof-of-authority extraData. ``widest``: most blocks
    for one eth_getLogs. ``failing``: HTTP status by method, 0 to hang up. ``cut``: "before" or "after"; the process ``victim`` is killed then when it sends a transaction,
    once ``allowed`` others have passed.
    """

    def __init__(self, upstream: str, legacy=False, sealed=False, widest=None, cut=None, failing=None):
        self.upstream = upstream.removeprefix("http://")
        self.legacy, self.sealed, self.widest, self.cut = legacy, sealed, widest, cut
        self.failing: dict[str, int] = failing or {}
        self.victim: int | None = None
        self.allowed = 0
        self.seen: list[str] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer
            disable_nagle_algorithm = True

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = node.failing.get(body["method"], 200)
                answer = json.dumps(node.answer(body)).encode() if status == 200 else b""
                self.close_connection = status == 0
                with contextlib.suppress(OSError):
                    if status == 0:
                        return
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, body):
        method, parameters = body["method"], body.get("params", [])
        self.seen.append(method)
        refusal = self.refusal(method, parameters)
        if refusal:
            return {"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32000, "message": refusal}}
        deadly = method in SENDING and self.victim and self.allowed == 0
        self.allowed -= method in SENDING and self.allowed > 0
        if deadly and self.cut == "before":
            self.kill()
            return {"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32000, "message": "cut"}}
        answer = self.forward(body)
        if deadly and self.cut == "after":
            self.kill()
        result = answer.get("result")
        if method.startswith("eth_getBlockBy") and isinstance(result, dict):
            if self.legacy:
                result.pop("baseFeePerGas", None)
            if self.sealed:
                result["extraData"] = SEAL
        return answer

    def refusal(self, method, parameters):
        if self.legacy and method in ("eth_maxPriorityFeePerGas", "eth_feeHistory"):
            return f"the method {method} does not exist"
        if self.legacy and method == "eth_sendRawTransaction" and parameters[0][:4] in ("0x01", "0x02"):
            return "transaction type not supported"
        if self.legacy and any(isinstance(one, dict) and "maxFeePerGas" in one for one in parameters):
            return "maxFeePerGas is not known here"
        if self.widest and method == "eth_getLogs":
            first, last = (int(parameters[0][key], 16) for key in ("fromBlock", "toBlock"))
            if last - first >= self.widest:
                return f"more than {self.widest} blocks"
        return None

    def forward(self, body):
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def kill(self):
        os.kill(self.victim, signal.SIGKILL)
        self.victim = None


def deploying(url: str, signer, made: Settings, gate) -> None:
    """What a process of :func:`process_of` does: wait for its gate, then deploy."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    gate.wait()
    run(url, signer if isinstance(signer, str) else Account.from_key(signer), made)


def process_of(url: str, signer, made: Settings):
    """A process that will deploy, and the gate that lets it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.deploy.bed"])
    gate = context.Event()
    key = signer if isinstance(signer, str) else bytes(signer.key)  # accounts cannot be handed on
    process = context.Process(target=deploying, args=(url, key, made, gate))
    process.start()
    return process, gate


def ended(process) -> int:
    """Its exit code."""
    process.join(120)
    assert process.exitcode is not None, "the deployment hangs"
    return process.exitcode


def run_killed(node: Node, signer, made: Settings, allowed: int = 0) -> int:
    """Deploy in a process of its own, which ``node`` kills at a transaction; the exit code."""
    process, gate = process_of(node.url, signer, made)
    node.victim, node.allowed = process.pid, allowed
    gate.set()
    code = ended(process)
    node.victim = None
    return code
