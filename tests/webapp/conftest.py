"""A real chain with real archives behind the app, made once for all tests that only read, and anew for those that change."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from oracle.chain import NetworkConfig
from webapp import DemoWallet, WebConfig, create_app
from webapp.config import RateLimits

ROOT = Path(__file__).resolve().parents[2]


def _module(name: str) -> Any:
    """A file beside this one, under a name of its own: tests are not a package."""
    known = f"wattmark_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]


world_module = _module("world")


@contextmanager
def new_world(folder: Path) -> Iterator[Any]:
    anvil = world_module.Anvil(folder)
    try:
        yield world_module.deploy(anvil, folder)
    finally:
        anvil.stop()


def web_config(world: Any, state: Path, **changes: Any) -> WebConfig:
    network = NetworkConfig(
        "Test chain", (world.anvil.url,), world_module.CHAIN_ID, world.addresses_path, timeout_seconds=3
    )
    settings: dict[str, Any] = {
        "archive_folder": world.archive_folder,
        "state_folder": state,
        "network": network,
        "public_rpc_url": world.anvil.url,
        "sites_file": ROOT / "scripts" / "demo_sites.yaml",
        "labels": {world.account(2): "Buyer"},
        "demo_wallet": DemoWallet("Buyer", world.account(2), "./run demo --buyer-key"),
        "limits": RateLimits.none(),
        "head_seconds": 0,
    }
    return WebConfig(**{**settings, **changes})


@pytest.fixture(scope="session")
def w() -> Any:
    """The helpers that make worlds: day records, constants."""
    return world_module


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two devices, three batches, certificates issued, transferred, retired and converted. For tests that only read."""
    with new_world(tmp_path_factory.mktemp("world")) as made:
        made.done = world_module.main_job(made)
        yield made


@pytest.fixture(scope="session")
def app(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = create_app(web_config(world, tmp_path_factory.mktemp("web")))
    made.extensions["wattmark"].refresh()
    return made


@pytest.fixture(scope="session")
def operators() -> Any:
    """The helpers that sign in: tests/webapp/operators.py."""
    return _module("operators")


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory, operators: Any) -> Iterator[Any]:
    """The same world with every role held by an account of its own (``operators.OFFICES``). For tests that only read the chain."""
    with new_world(tmp_path_factory.mktemp("office")) as made:
        made.done = world_module.main_job(made)
        operators.take_office(made)
        yield made


@pytest.fixture(scope="session")
def office_app(office: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = create_app(web_config(office, tmp_path_factory.mktemp("office-web")))
    made.extensions["wattmark"].refresh()
    return made


@pytest.fixture
def client(app: Any) -> Any:
    return app.test_client()


@pytest.fixture
def fresh_world(tmp_path: Path) -> Iterator[Any]:
    """A deployed world of the test's own, with nothing in it yet."""
    with new_world(tmp_path) as made:
        yield made


@pytest.fixture
def app_of(tmp_path: Path) -> Callable[..., Any]:
    """Makes an app on a world, its index already read."""

    def make(world: Any, **changes: Any) -> Any:
        made = create_app(web_config(world, tmp_path / "web", **changes))
        made.extensions["wattmark"].refresh()
        return made

    return make
