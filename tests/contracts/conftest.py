"""One deployment for all contract tests; every test starts from it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from brownie import chain

from tests.contracts.reference import DAY, Statement
from tests.contracts.world import JULY_2016, World

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture(autouse=True)
def isolation(world):
    """Every test finds the chain as it was after the deployment."""
    chain.snapshot()
    yield
    chain.revert()


@pytest.fixture
def day():
    """`day(n)`: the statement of device 1 for the n-th day of July 2016, from 0."""
    return lambda n=0, **changes: Statement(1, JULY_2016 + n * DAY)._replace(**changes)


@pytest.fixture(scope="session")
def vectors():
    """`vectors(name)`: a file of golden vectors."""
    return lambda name: json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
