"""A local anvil and what surrounds it: free ports, children that end with the run, contracts from the artifacts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from web3 import HTTPProvider, Web3

ROOT = Path(__file__).resolve().parent.parent


class LocalChainError(Exception):
    """A child of this run does not start; the text says what mends it."""


def free_port(preferred: int = 0) -> int:
    """``preferred`` if nothing listens there, else any free port of the loopback."""
    # Below those that kernels give to connections: none can take it before whoever asked for it listens there.
    others = random.SystemRandom().sample(range(20_000, 32_768), 100)
    for port in (preferred, *others) if preferred else others:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LocalChainError("no free port on the loopback")


def _end_with_parent() -> None:
    """Between fork and exec: on Linux, have the kernel end this child when the run dies without a chance to."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@contextlib.contextmanager
def child(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, its output in ``log``; ended, with all it started, when the block is left."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        yield process
    finally:
        for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break


def await_that(
    what: str, ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 60
) -> None:
    """Wait until ``ready``; LocalChainError with the end of ``log`` if the process ends or the time is up before."""
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise LocalChainError(f"{what} did not start (log: {log}):\n{tail}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def anvil(folder: Path, port: int, chain_id: int, *options: str) -> Iterator[str]:
    """anvil on ``port`` of the loopback, logging into ``folder``; yields its RPC URL."""
    command = shutil.which("anvil")
    if command is None:
        raise LocalChainError("anvil is not on PATH; ./run puts it there")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "anvil.log"
    arguments = [command, "--silent", "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id), *options]
    with child(arguments, log) as process:
        await_that("the local chain", lambda: listens(port), process, log)
        yield f"http://127.0.0.1:{port}"


def connect(url: str) -> Web3:
    return Web3(HTTPProvider(url, request_kwargs={"timeout": 60}))


def create(w3: Web3, sender: str, artifact: Mapping[str, Any], *arguments: Any) -> Any:
    """Deploy an artifact from an unlocked account; returns the web3 contract."""
    factory = w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    receipt = w3.eth.wait_for_transaction_receipt(
        factory.constructor(*arguments).transact({"from": sender}), poll_latency=0.02
    )
    return w3.eth.contract(address=receipt["contractAddress"], abi=artifact["abi"])
