"""What an operator sees: health in words and as metrics, and logs that carry neither keys nor readings."""

import contextlib
import json
import re
import urllib.request

import pytest
import yaml
from eth_account import Account

from oracle.chain import Chain
from oracle.cli import main
from oracle.domain import DayState, SagaState
from oracle.keys import device_key_file
from oracle.metrics import exposition, health, registry_of, serve_metrics
from oracle.store import Act, DeviceDay, Store, utc_now
from oracle.watch import watch
from tests.oracle import databases, nodes
from tests.oracle.test_issuance import adjust
from tests.oracle.test_pipeline import configure, day_rows, device, write


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


@pytest.fixture
def store(tmp_path):
    return Store.open(databases.url(tmp_path))


def put(store, number, state, reason="", hours=0):
    fields = {"profile": b"", "energy_wh": 1, "evidence": [], "assessment": {}}
    moved = utc_now().timestamp() - 3600 * hours
    with store.session() as session:
        row = DeviceDay(device_id=number, start=0, version=0, state=state, reason=reason, **fields)
        row.updated_at = utc_now().fromtimestamp(moved, tz=utc_now().tzinfo)
        session.add(row)


def act(store, key, state):
    with store.session() as session:
        session.add(Act(chain_id=nodes.CHAIN_ID, key=key, state=state, to="0x" + "11" * 20, data=b""))


def test_health_of_a_quiet_oracle_has_no_problem(node, store):
    account = node.funded()
    found = health(store, node.chain(), account.address)
    assert found.problems == () and found.chain_answers
    assert found.head_block == found.final_block == node.w3.eth.block_number
    assert found.balance_wei == 100 * 10**18
    assert (found.lag_seconds, found.held, found.failed, found.acts_waiting) == (0, 0, 0, 0)


def test_health_names_what_wants_a_hand(node, store):
    put(store, 1, DayState.HELD)
    put(store, 2, DayState.SEALED, hours=80)
    put(store, 3, DayState.NOTARIZED, "not issued: PeriodOutsideActivity(deviceId=3)", hours=500)
    put(store, 4, DayState.FINAL, hours=900)
    act(store, "a", SagaState.FAILED)
    act(store, "b", SagaState.SENT)
    poor = Account.create().address
    found = health(store, node.chain(), poor)
    assert (found.held, found.failed, found.not_issued, found.acts_waiting, found.balance_wei) == (1, 1, 1, 1, 0)
    assert 80 * 3600 <= found.lag_seconds < 81 * 3600
    assert [problem.split(" ")[0] for problem in found.problems] == [poor, "a", "1"]


def test_health_without_a_node_says_so_and_still_counts(node, store):
    put(store, 1, DayState.HELD)
    settings = {name: getattr(node.config, name) for name in node.config.__slots__}
    silent = Chain(type(node.config)(**(settings | {"rpc_urls": (f"http://127.0.0.1:{nodes.free_port()}",)})))
    found = health(store, silent, None)
    assert (found.chain_answers, found.held, found.head_block, found.balance_wei) == (False, 1, -1, None)
    assert found.problems[0].startswith("chain: no answer")


def metrics_in(text):
    return {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if not line.startswith("#")}


def test_serve_metrics_gives_prometheus_the_figures_of_health(node, store):
    put(store, 1, DayState.HELD)
    act(store, "a", SagaState.FAILED)
    account = node.funded()
    port = nodes.free_port()
    serve_metrics(f"127.0.0.1:{port}", registry_of(store, node.chain(), account.address))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found = metrics_in(answer.read().decode())
    assert found["wattmark_signer_balance_wei"] == 100 * 10**18
    assert found["wattmark_final_block"] == node.w3.eth.block_number
    assert found["wattmark_held_device_days"] == found["wattmark_failed_acts"] == 1
    node.rpc("anvil_mine", hex(3))
    assert metrics_in(exposition(registry_of(store, node.chain())).decode())["wattmark_head_block"] == (
        node.w3.eth.block_number
    )


def test_logs_of_a_whole_run_carry_neither_keys_nor_readings(node, tmp_path, capfd):
    """Every line of the log is JSON; no key, password, salt or reading is in it, nor in what is said on standard error."""
    config, _ = configure(tmp_path / "oracle", device(1))
    signer = node.witnesses[0]
    node.rpc("anvil_setBalance", signer.address, hex(10**20))
    # Readings that are found nowhere else, so that one in a log is told from a count.
    write(tmp_path / "in", "meter-1.csv", day_rows(0, 2_317), day_rows(1, 2_317))
    config = adjust(config, node, signer)
    document = yaml.safe_load(config.file.read_text())
    document["network"]["rpc_urls"] = [node.url.replace("http://", "http://user:hidden-password@")]
    config.file.write_text(yaml.safe_dump(document))
    log = tmp_path / "oracle.log"

    def oracle(*arguments):
        with contextlib.suppress(SystemExit):
            main(["--config", str(config.file), "--log-file", str(log), *arguments])

    oracle("keys", "device", "1")
    oracle("ingest", str(tmp_path / "in"), "--json")
    oracle("seal", "--json")
    oracle("notarize", "--json")
    oracle("status", "--json")
    said = capfd.readouterr()
    assert '"accepted": 2' in said.out and '"sealed": 2' in said.out, "the run did something"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines and all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert {"file taken", "no signature"} & {line["event"] for line in lines}
    key = device_key_file(config.device_keys_folder, 1).read_bytes().hex()
    for text in (said.err, log.read_text()):
        assert not any(one in text for one in (bytes(signer.key).hex(), key, "a password", "hidden-password"))
        assert not re.search(r"\b231[78]\b", text), text


def test_watch_serves_metrics_where_the_configuration_says(node, tmp_path):
    """One round with nothing to do; the metrics stay up as long as the process."""
    config, store = configure(tmp_path / "oracle", device(1))
    config = adjust(config, node, node.witnesses[0], metrics_listen=f"127.0.0.1:{nodes.free_port()}")
    steps = []
    account = node.funded()
    watch(config, store, node.chain(), account, list, clock=StoppedClock(), tell=steps.append, until=0)
    assert len(steps) == 1
    with urllib.request.urlopen(f"http://{config.metrics_listen}/metrics", timeout=10) as answer:
        found = metrics_in(answer.read().decode())
    assert found["wattmark_chain_answers"] == 1 and found["wattmark_signer_balance_wei"] == 100 * 10**18


class StoppedClock:
    """It is always the same moment, and nobody waits for another."""

    def now(self):
        return 1_700_000_000

    def wait_until(self, moment):
        raise AssertionError(f"waits for {moment}")
