"""Nodes that are slow, broken, behind or lying: nothing is done twice, and nothing is believed that is not agreed."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from oracle.archive import read_archive
from oracle.chain import ChainView, NodesDisagree
from oracle.domain import SagaState
from oracle.errors import ChainError, ChainUnreachable, ConfigError
from oracle.outbox import DriveTimeout, Outbox, SendPolicy
from oracle.protocol import statement_leaf
from oracle.store import SignedTransaction, Store
from tests.oracle import databases, nodes
from tests.oracle.proxy import html, pinned, proxy, reset, sleeping, status, truncated

QUICK = SendPolicy(poll_seconds=0.02, lease_seconds=0.5)


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr("oracle.nodes.BACKOFF_SECONDS", 0.005)
    with nodes.anvil(tmp_path) as running:
        yield running


@pytest.fixture
def bad(node):
    with proxy(node.url) as running:
        yield running


class Work:
    """A notarization to be sent through nodes of which one misbehaves."""

    def __init__(self, node, folder, *urls, **changes):
        self.node = node
        self.account = node.funded()
        self.honest = node.chain()
        self.chain = node.chain(rpc_urls=urls, **changes)
        self.batch = nodes.sealed_batch(self.honest, folder, [nodes.day_statement(random.getrandbits(63), 0)])
        self.store = Store.open(databases.url(folder))
        self.outbox = Outbox(self.store, self.chain, self.account, policy=QUICK)
        data = nodes.notarize_data(self.honest, self.batch, node.witnesses[:2])
        self.outbox.enqueue("notarize:1", self.honest.address("Notary"), data)

    @property
    def state(self):
        return self.outbox.reports()[0].state

    def signed(self):
        with self.store.session() as session:
            return session.query(SignedTransaction).count()

    def notarizations(self):
        return sum(event.batch.root == self.batch.root for event in self.honest.notarized_events())


# -- no answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "obstacle",
    [status(429), status(503), status(500), truncated, html, reset, sleeping(30)],
    ids=["429", "503", "500", "truncated", "html", "reset", "asleep"],
)
def test_head_first_node_broken_second_answers_and_the_broken_one_rests(node, bad, obstacle):
    bad.obstacle = obstacle
    chain = ChainView(replace(node.config, rpc_urls=(bad.url, node.url), timeout_seconds=0.5))
    assert chain.head().hash == node.chain().head().hash
    bad.obstacle = None
    asked = len(bad.calls)
    assert chain.head().hash == node.chain().head().hash
    assert len(bad.calls) == asked, "a node that was silent is asked last for a while"


@pytest.mark.parametrize("obstacle", [status(429), truncated, html, reset], ids=["429", "truncated", "html", "reset"])
def test_head_only_node_broken_raises_unreachable(node, bad, obstacle):
    bad.obstacle = obstacle
    with pytest.raises(ChainUnreachable):
        ChainView(replace(node.config, rpc_urls=(bad.url,), timeout_seconds=0.5)).head()


def test_drive_three_of_ten_requests_fail_sends_each_act_once(node, bad, tmp_path):
    """A seeded schedule over all requests, the sending ones among them."""
    schedule = random.Random(20_260)
    obstacles = [status(429), status(502), truncated, html, reset]
    fates = []

    async def sometimes(request):
        fates.append(schedule.random() < 0.3)
        if not fates[-1]:
            return None
        return await schedule.choice(obstacles)(request)

    work = Work(node, tmp_path, bad.url)
    device = random.getrandbits(63)
    nodes.register_device(node, device, node.w3.eth.accounts[4])
    batch = nodes.sealed_batch(work.honest, tmp_path, [nodes.day_statement(device, day) for day in range(1, 6)])
    bad.obstacle = sometimes
    work.outbox.drive(until=SagaState.FINAL, timeout_seconds=60)
    batch = replace(batch, head=work.honest.call("Notary", "head"))
    work.outbox.enqueue(
        "notarize:2", work.honest.address("Notary"), nodes.notarize_data(work.honest, batch, node.witnesses[:2])
    )
    work.outbox.drive(until=SagaState.FINAL, timeout_seconds=60)
    archive = read_archive(tmp_path, batch.root)
    for index, record in enumerate(archive.records):
        data = nodes.issue_data(work.honest, batch.root, record, archive.tree.proof(statement_leaf(record.statement)))
        work.outbox.enqueue(f"issue:{index}", work.honest.address("EnergyCertificate"), data)
    work.outbox.drive(until=SagaState.FINAL, timeout_seconds=120)
    assert len(fates) > 150 and sum(fates) > 40
    assert work.notarizations() == 1 and len(work.honest.issued_ids(batch.root)) == 5
    assert work.signed() == work.honest.transaction_count(work.account.address) == 7


def test_events_node_that_refuses_long_ranges_is_asked_for_short_ones(node, bad, monkeypatch):
    monkeypatch.setattr("oracle.chain.LOG_RANGE_BLOCKS", 10)

    def edit(method, params, result):
        if method == "eth_getLogs":
            assert int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) < 10
        return result

    chain = node.chain(rpc_urls=(bad.url,))
    bad.edit = edit
    node.rpc("anvil_mine", hex(50))
    assert list(chain.notarized_events()) == []
    assert bad.calls.count("eth_getLogs") >= 5


# -- another chain ----------------------------------------------------------------------------------


def test_drive_second_node_switches_chain_stops_though_the_first_is_right(node, bad, tmp_path):
    work = Work(node, tmp_path, node.url, bad.url)
    bad.edit = lambda method, params, result: "0x63" if method == "eth_chainId" else result
    with pytest.raises(ChainError, match="chain 99"):
        work.outbox.drive(timeout_seconds=20)
    assert work.signed() == 0


def test_head_failover_to_a_node_of_another_chain_is_refused(node, bad, tmp_path):
    """The second node is not asked for anything before it said which chain it is of."""
    with proxy(node.url) as first:
        chain = ChainView(replace(node.config, rpc_urls=(first.url, bad.url), timeout_seconds=1.0))
        chain.head()
        first.obstacle = status(503)
        bad.edit = lambda method, params, result: "0x63" if method == "eth_chainId" else result
        with pytest.raises(ChainError, match="chain 99"):
            chain.head()
    assert set(bad.calls) == {"eth_chainId"}


# -- nodes that must agree --------------------------------------------------------------------------


def test_chain_more_agreeing_nodes_than_urls_raises(node):
    with pytest.raises(ConfigError, match="2 nodes to agree and names 1"):
        node.chain(agreeing_nodes=2)


def test_drive_two_agreeing_nodes_notarizes(node, bad, tmp_path):
    work = Work(node, tmp_path, node.url, bad.url, agreeing_nodes=2)
    assert work.outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 1
    assert work.notarizations() == 1


def forged_receipt(node):
    """Says of every transaction that it succeeded in the last block."""

    def edit(method, params, result):
        if method != "eth_getTransactionReceipt" or result is not None:
            return result
        head = node.rpc("eth_getBlockByNumber", "latest", False)
        return {
            "transactionHash": params[0],
            "status": "0x1",
            "blockNumber": head["number"],
            "blockHash": head["hash"],
            "transactionIndex": "0x0",
            "gasUsed": "0x5208",
            "cumulativeGasUsed": "0x5208",
            "logs": [],
            "logsBloom": "0x" + "00" * 256,
            "type": "0x2",
        }

    return edit


@pytest.mark.parametrize("agreeing", [1, 2])
def test_drive_forged_receipt_is_believed_by_one_node_and_not_by_two(node, bad, tmp_path, agreeing):
    """What agreement is for: with a single node there is nothing to hold a lie against."""
    node.rpc("evm_setAutomine", False)
    bad.edit = forged_receipt(node)
    work = Work(node, tmp_path, bad.url, node.url, agreeing_nodes=agreeing)
    if agreeing == 1:
        assert work.outbox.drive(until=SagaState.FINAL, timeout_seconds=30).acts[0].state == SagaState.FINAL
        assert work.notarizations() == 0
        return
    with pytest.raises((NodesDisagree, DriveTimeout)):
        work.outbox.drive(until=SagaState.FINAL, timeout_seconds=1)
    assert work.state in (SagaState.SIGNED, SagaState.SENT)
    bad.edit = None
    node.rpc("evm_setAutomine", True)
    node.rpc("evm_mine")
    assert work.outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 0
    assert work.notarizations() == 1


def test_drive_node_that_stays_behind_holds_up_finality_until_it_follows(node, bad, tmp_path):
    work = Work(node, tmp_path, bad.url, node.url, agreeing_nodes=2)
    head = node.rpc("eth_getBlockByNumber", "latest", False)
    bad.edit = pinned(int(head["number"], 16))
    bad.edit.head = head
    assert work.chain.head().number == int(head["number"], 16)
    with pytest.raises((NodesDisagree, DriveTimeout)):
        work.outbox.drive(until=SagaState.FINAL, timeout_seconds=1)
    assert work.notarizations() == 1 and work.state in (SagaState.SIGNED, SagaState.SENT)
    assert work.chain.head().number == int(head["number"], 16), "the height that both have"
    bad.edit = None
    assert work.outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 0
    assert (work.notarizations(), work.signed()) == (1, 1)


def test_drive_node_that_swallows_transactions_holds_up_nothing(node, bad, tmp_path):
    work = Work(node, tmp_path, bad.url, node.url, agreeing_nodes=2)
    bad.swallow["eth_sendRawTransaction"] = lambda params: "0x" + "11" * 32
    assert work.outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 1
    assert work.notarizations() == 1 and "eth_sendRawTransaction" in bad.calls


@pytest.mark.parametrize(
    ("method", "lie", "read"),
    [
        ("eth_getLogs", lambda result: [], lambda chain, root: list(chain.notarized_events())),
        ("eth_call", lambda result: "0x" + "00" * 256, lambda chain, root: chain.notarization(root)),
        (
            "eth_getTransactionCount",
            lambda result: "0x9",
            lambda chain, root: chain.transaction_count("0x" + "11" * 20),
        ),
        ("eth_getBalance", lambda result: "0x9", lambda chain, root: chain.native_balance_wei("0x" + "11" * 20)),
    ],
    ids=["hidden logs", "call", "nonce", "balance"],
)
def test_read_lie_of_one_of_two_agreeing_nodes_raises(node, bad, tmp_path, method, lie, read):
    work = Work(node, tmp_path, node.url)
    work.outbox.drive(timeout_seconds=20)
    chain = node.chain(rpc_urls=(node.url, bad.url), agreeing_nodes=2)
    read(chain, work.batch.root)
    bad.edit = lambda asked, params, result: lie(result) if asked == method else result
    with pytest.raises(NodesDisagree):
        read(chain, work.batch.root)
    with proxy(node.url) as third:
        three = node.chain(rpc_urls=(bad.url, node.url, third.url), agreeing_nodes=2)
        assert read(three, work.batch.root) == read(node.chain(), work.batch.root), "two honest ones outvote it"


# -- what the documents say of this --------------------------------------------------------------------


def test_faults_table_names_tests_that_exist():
    """Each row names its tests, each of them is there, in the folder that is named."""
    root = Path(__file__).resolve().parents[2]
    table = (root / "docs" / "oracle.md").read_text().partition("## Faults it survives")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 25
    defined = {
        folder: set(re.findall(r"^def (test_\w+)", "\n".join(f.read_text() for f in root.glob(f"{folder}/*.py")), re.M))
        for folder in ("tests/oracle", "tests/webapp", "tests/contracts")
    }
    for row in rows:
        named = 0
        for part in row.split("|")[2].split(";"):
            folder = next((name for name in defined if f" {name}:" in part), "tests/oracle")
            tests = re.findall(r"`(test_\w+)`", part)
            assert set(tests) <= defined[folder], set(tests) - defined[folder]
            named += len(tests)
        assert named, row
