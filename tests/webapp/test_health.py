"""The operators' health page and gap report, against a real oracle's state and metrics, a chain, and machines that are well, gone or wrong."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from oracle.chain import ChainView
from oracle.config import NetworkConfig
from oracle.domain import DayState, SagaState
from oracle.metrics import registry_of, serve_metrics
from oracle.store import Act, DeviceDay, SourceState, utc_now


def _module(name: str, file: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


ops = _module("wattmark_operators", "operators.py")
held_module = _module("wattmark_held", "held.py")
REVIEWER, STRANGER = 7, 3


@contextmanager
def answering(bodies: dict[str, Any]):
    """An HTTP service that answers these bodies by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = bodies.get(self.path)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def oracle(world, tmp_path):
    if not world.call("AccessManager", "hasRole", 7, world.account(REVIEWER))[0]:
        ops.grant(world, 7, REVIEWER)
    return held_module.held_oracle(tmp_path / "oracle", ops.key_of(REVIEWER).address)


def reviewer_of(app):
    client = app.test_client()
    ops.sign_in(client, ops.key_of(REVIEWER))
    return client


def parts_of(client):
    return {(part["kind"], part["name"]): part for part in client.get("/operators/health.json").json["parts"]}


def words(part):
    return " ".join(one["words"] for one in part["says"])


def test_health_tells_each_machine_well_gone_or_wrong(world, app_of, oracle, w):
    network = NetworkConfig("t", (world.anvil.url,), w.CHAIN_ID, world.addresses_path)
    port = w.free_port()
    serve_metrics(f"127.0.0.1:{port}", registry_of(oracle.store, ChainView(network)))
    sound = {"address": world.witnesses[0].address, "chainId": w.CHAIN_ID}
    with answering({
        "/good/v1/health": sound, "/stranger/v1/health": {**sound, "address": world.account(3)}, "/other/v1/health": {**sound, "chainId": 5},
        "/odd/v1/health": b"<script>", "/huge/v1/health": b"[" * (2 << 20), "/relay/health": {"problem": "the relay's account is nearly empty", "waiting": 2, "balance_wei": "1500000000000000"},
    }) as url:  # fmt: skip
        names = ("good", "stranger", "other", "odd", "huge", "missing")
        app = app_of(
            world, oracle_database_url=oracle.config.database_url, oracle_metrics_url=f"http://127.0.0.1:{port}/metrics",
            witness_urls={**{name: f"{url}/{name}" for name in names}, "gone": f"http://127.0.0.1:{w.free_port()}"}, relay_url=f"{url}/relay",
        )  # fmt: skip
        client = reviewer_of(app)
        parts = parts_of(client)
        states = {name: parts["witness", name]["state"] for name in (*names, "gone")}
        page = BeautifulSoup(client.get("/operators/health").data, "html.parser")
    assert states == {
        "good": "ok",
        "stranger": "bad",
        "other": "bad",
        "odd": "bad",
        "huge": "bad",
        "missing": "bad",
        "gone": "bad",
    }
    assert parts["witness", "good"]["figures"]["key"] == world.witnesses[0].address
    assert "not appointed" in words(parts["witness", "stranger"]) and "another chain" in words(
        parts["witness", "other"]
    )
    assert parts["relay", ""]["state"] == "bad" and "nearly empty" in words(parts["relay", ""])
    assert parts["relay", ""]["figures"]["balance"].startswith("0.0015 ")
    assert parts["node", ""]["state"] == parts["index", ""]["state"] == "ok"
    of_oracle = parts["oracle", ""]
    assert (
        of_oracle["state"] == "warn" and "Days held for review: 3" in words(of_oracle) and "It runs" in words(of_oracle)
    )
    assert of_oracle["figures"]["days_held"] == 3 and of_oracle["figures"]["head_block"] > 0
    assert len(page.select("section[data-kind=witness]")) == 7 and "It runs: its metrics answer." in page.get_text()
    for secret in (oracle.config.database_url, url, str(port)):
        assert secret not in page.decode()


def test_health_of_an_oracle_in_trouble_names_what_is_wrong(world, app_of, oracle, w):
    with oracle.store.session() as session:
        session.add(
            Act(
                chain_id=1,
                key="issue:0xab:0",
                state=SagaState.FAILED,
                to="0x",
                data=b"",
                error="<script>alert(1)</script>",
            )
        )
        session.add(SourceState(name="roof", cursor={}, problem="no answer of the <b>server</b>"))
        row = session.get(DeviceDay, (1, held_module.FIRST))
        row.state, row.updated_at = DayState.SEALED, utc_now() - timedelta(days=5)
        other = session.get(DeviceDay, (1, held_module.FIRST + 86_400))
        other.state, other.reason = DayState.NOTARIZED, "not issued: debt"
    app = app_of(
        world, oracle_database_url=oracle.config.database_url, oracle_metrics_url=f"http://127.0.0.1:{w.free_port()}"
    )
    client = reviewer_of(app)
    part = parts_of(client)["oracle", ""]
    assert part["state"] == "bad"
    for said in (
        "has not moved since",
        "Acts on the chain that failed: 1",
        "refuses to issue: 1",
        "Source roof",
        "do not answer",
    ):
        assert said in words(part), said
    page = BeautifulSoup(client.get("/operators/health").data, "html.parser")
    assert "<script>alert(1)</script>" in page.get_text() and not page.select("section script, section b")
    for language in ("es", "ru"):
        assert client.get(f"/operators/health?lang={language}").status_code == 200


def test_health_without_anything_configured_says_what_is_not_known(world, app_of, oracle):
    parts = parts_of(reviewer_of(app_of(world)))
    assert set(parts) == {("oracle", ""), ("node", ""), ("index", "")}
    assert parts["oracle", ""]["state"] == "unknown"


def test_gap_report_shows_every_day_in_one_state_with_its_reason(world, app_of, oracle):
    client = reviewer_of(app_of(world, oracle_database_url=oracle.config.database_url))
    told = client.get("/operators/gaps.json").json
    held = [row for row in told["rows"] if row["state"] == "held"]
    assert [row["start"] for row in held] == [held_module.FIRST + day * 86_400 for day in range(3)]
    assert told["counts"]["1"]["held"] == 3 and sum(told["counts"]["1"].values()) == 6  # three more are on the chain
    only = client.get("/operators/gaps.json?state=issued&state=final&device=1").json["rows"]
    assert (
        {row["state"] for row in only} <= {"issued", "final"} and only and {row["device_id"] for row in only} == {"1"}
    )
    page = BeautifulSoup(client.get("/operators/gaps").data, "html.parser")
    assert "incomplete: 2 of 96 slots" in page.get_text()
    lines = client.get("/operators/gaps.csv?state=held").text.splitlines()
    assert len(lines) == 4 and lines[0].startswith("device_id,device,start") and ",2022-06-01,held," in lines[1]
