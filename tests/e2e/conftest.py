"""A served web app on a real chain, and a real browser. Without a browser: skipped with the reason, a failure under CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_BROWSER = "no Chromium found: apt-get install chromium"


def _webapp_fixtures() -> Any:
    """tests/webapp/conftest.py, whose worlds are used here too."""
    if "wattmark_webapp_fixtures" not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "webapp" / "conftest.py"
        spec = importlib.util.spec_from_file_location("wattmark_webapp_fixtures", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["wattmark_webapp_fixtures"] = module
        spec.loader.exec_module(module)
    return sys.modules["wattmark_webapp_fixtures"]


@dataclass
class Site:
    """The app as a visitor meets it."""

    url: str
    world: Any
    services: Any


# Playwright runs an event loop in this thread until it is stopped: no test of another module may find it there.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        if os.environ.get("CI"):
            pytest.fail(NO_BROWSER)
        print(NO_BROWSER)
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@contextmanager
def served(world: Any, state: Path, **settings: Any) -> Iterator[Site]:
    """The app on ``world``, served as visitors get it; ``settings`` are of its WebConfig."""
    import waitress

    from webapp import create_app

    app = create_app(_webapp_fixtures().web_config(world, state, interval_seconds=0.5, **settings))
    services = app.extensions["wattmark"]
    services.start()
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    yield Site(f"http://localhost:{server.effective_port}", world, services)
    server.close()
    services.stop()


@contextmanager
def traded_world(folder: Path) -> Iterator[Any]:
    """A chain on which the main job is done."""
    fixtures = _webapp_fixtures()
    with fixtures.new_world(folder) as world:
        world.done = fixtures.world_module.main_job(world)
        yield world


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        traded_world(tmp_path_factory.mktemp("world")) as world,
        served(world, tmp_path_factory.mktemp("web")) as found,
    ):
        yield found


@pytest.fixture(scope="session")
def sites() -> Any:
    """The makers of worlds and of sites on them, for modules that need one of their own."""
    return SimpleNamespace(traded_world=traded_world, served=served, fixtures=_webapp_fixtures())
