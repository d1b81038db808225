"""One deployment for all contract tests; every test starts from it again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from brownie import accounts, history, web3

from tests.contracts.reference import DAY, Statement
from tests.contracts.world import HOLDER_KEY, JULY_2016, World, address

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


@pytest.fixture
def signers(world):
    """The witnesses' addresses in order, as the first epoch has them."""
    return [address(key) for key in world.witnesses]


@pytest.fixture
def holder(world, day):
    """An account that signs by itself and holds 20,000 Wh of each of the days 0 to 2."""
    account = accounts.add(HOLDER_KEY)
    world.register(1, account=account.address)
    world.issue_many(world.notarize(*[day(n) for n in range(3)]))
    return account


@pytest.fixture
def certificates(world, day):
    """The generator holds 20,000 Wh of each of the days 0 to 2, and there is a factor to convert them by."""
    world.register(1)
    world.publish()
    world.issue_many(world.notarize(*[day(n) for n in range(3)]))


@pytest.fixture(params=["certificate", "outcome"])
def token(request, world, day, certificates):
    """A token and an id of it that the generator has."""
    if request.param == "certificate":
        return world.certificate, day(0).id
    return world.outcome, int(world.convert([day(0).id], [5_000]).return_value[0][0])
