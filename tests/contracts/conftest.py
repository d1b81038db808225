"""One deployment for all contract tests; every test starts from it again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from brownie import history, web3

from tests.contracts.reference import DAY, Statement
from tests.contracts.world import JULY_2016, World

ROOT = Path(__file__).resolve().parent.parent.parent


def answer_once_mined(provider) -> None:
    """Hold the answer to a sent transaction back until its receipt is there.

    anvil answers a little before that; brownie then waits a second, or takes the transaction for dropped.
    """
    ask = provider.make_request

    def make_request(method, params):
        answer = ask(method, params)
        if method in ("eth_sendTransaction", "eth_sendRawTransaction") and answer.get("result"):
            while ask("eth_getTransactionReceipt", [answer["result"]]).get("result") is None:
                time.sleep(0.002)
        return answer

    provider.make_request = make_request
    provider._request_func_cache = (None, None)


@pytest.fixture(scope="session")
def world():
    answer_once_mined(web3.provider)
    return World()


@pytest.fixture(autouse=True)
def isolation(world):
    """Every test finds the chain as it was after the deployment.

    Asked of the node itself: brownie's chain.revert() searches its whole memory for stale contracts each time.
    """
    kept = ask("evm_snapshot")
    yield
    assert ask("evm_revert", kept) is True
    history.clear()  # else brownie waits for the nonces it remembers


def ask(method, *parameters):
    return web3.provider.make_request(method, list(parameters))["result"]


@pytest.fixture
def day():
    """`day(n)`: the statement of device 1 for the n-th day of July 2016, from 0."""
    return lambda n=0, **changes: Statement(1, JULY_2016 + n * DAY)._replace(**changes)


@pytest.fixture(scope="session")
def vectors():
    """`vectors(name)`: a file of golden vectors."""
    return lambda name: json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
