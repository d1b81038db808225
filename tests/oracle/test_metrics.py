"""What an operator sees: health in words and as metrics, and logs that carry neither keys nor readings."""

import contextlib
import json
import re
import shutil
import socket
import urllib.request

import pytest
import yaml
from eth_account import Account

from oracle import pipeline
from oracle.chain import Chain
from oracle.cli import main
from oracle.domain import DayState, SagaState
from oracle.errors import ConfigError
from oracle.keys import device_key_file
from oracle.metrics import exposition, health, registry_of, serve_metrics
from oracle.store import Act, DeviceDay, Store, utc_now
from oracle.watch import watch
from tests.oracle import databases, nodes
from tests.oracle.test_issuance import adjust, serving
from tests.oracle.test_pipeline import REVIEWER, configure, day_rows, device, write


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


def test_serve_metrics_port_in_use_names_it_and_the_mend(node, store):
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{listen}: .*in use; .*another address as metrics_listen"):
            serve_metrics(listen, registry_of(store, node.chain()))


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_logs_of_a_whole_run_carry_neither_keys_nor_readings(node, tmp_path, capfd):
    """Every line of the logs of an oracle and its witness is JSON; no key, password, salt or reading is in them, nor in
    what is said on standard error: from the meter's file through a correction to a round of watching."""
    config, _ = configure(tmp_path / "oracle", device(1))
    signer, other, _ = node.witnesses
    node.rpc("anvil_setBalance", signer.address, hex(10**20))
    nodes.register_device(node, 1, Account.create().address)
    # Readings that are found nowhere else, so that one in a log is told from a count.
    write(tmp_path / "in", "meter-1.csv", day_rows(0, 2_317), day_rows(1, 2_317))
    [row] = day_rows(0, 2_317, slots=[70])
    write(tmp_path / "late", "meter-1-late.csv", [row.replace(",2317", ",2319")])
    listen = f"127.0.0.1:{nodes.free_port()}"
    reviewer = {"review_key": {"keystore": "review.json", "password_file": "password"}}
    witnesses = [{"url": f"http://{listen}", "address": other.address}]
    config = adjust(config, node, signer, witnesses=witnesses, **reviewer)
    keystore = config.file.parent / "review.json"
    keystore.touch(mode=0o600)
    keystore.write_text(json.dumps(Account.encrypt(REVIEWER.key, "a password", iterations=1_024)))
    document = yaml.safe_load(config.file.read_text())
    document["network"]["rpc_urls"] = [node.url.replace("http://", "http://user:hidden-password@")]
    config.file.write_text(yaml.safe_dump(document))
    theirs, their_store = configure(tmp_path / "witness", sites_file=config.sites_file)
    theirs = adjust(theirs, node, other, coordinators=[signer.address], listen=listen)
    logs = {name: tmp_path / f"{name}.log" for name in ("oracle", "witness")}

    def oracle(*arguments):
        with contextlib.suppress(SystemExit):
            main(["--config", str(config.file), "--log-file", str(logs["oracle"]), *arguments])
        return capfd.readouterr()

    errors = oracle("keys", "device", "1").err
    shutil.copytree(config.device_keys_folder, theirs.device_keys_folder)
    pipeline.ingest(theirs, their_store, [tmp_path / "in"])
    choose = ["review", "choose", "1", "2022-06-01", "--file", "meter-1-late.csv", "--reason", "x"]
    with (
        (tmp_path / "witness.err").open("w") as output,
        serving(theirs, "--log-file", str(logs["witness"]), stderr=output),
    ):
        did = {}
        for command in (
            ["ingest", str(tmp_path / "in")],
            ["seal"],
            ["notarize"],
            ["issue"],
            ["ingest", str(tmp_path / "late")],
            choose,
            ["correct"],
            ["run", "--watch", "--until", "2022-06-03"],
            ["status"],
        ):
            if command is choose:
                pipeline.ingest(theirs, their_store, [tmp_path / "late"])
            said = oracle(*command, "--json")
            did[command[0]] = json.loads(said.out)
            errors += said.err
    sent = {name: did[name]["transactions"] for name in ("notarize", "issue", "correct", "run")}
    assert sent == {"notarize": 1, "issue": 1, "correct": 2, "run": 0}, "each command did something"
    events = {}
    for name, log in logs.items():
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert lines and all({"event", "level", "timestamp"} <= line.keys() for line in lines)
        events[name] = {line["event"] for line in lines}
    assert "file taken" in events["oracle"] and events["witness"]
    key = device_key_file(config.device_keys_folder, 1).read_bytes().hex()
    secrets = [bytes(one.key).hex() for one in (signer, other, REVIEWER)] + [key, "a password", "hidden-password"]
    errors += (tmp_path / "witness.err").read_text()
    for text in (errors, *(log.read_text() for log in logs.values())):
        assert not any(one in text for one in secrets)
        assert not re.search(r"\b231[789]\b", text), text


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
