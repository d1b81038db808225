"""scripts/deployment.py on real chains: once, whatever the chain charges, and however often it is cut short"""

import json

import pytest

from scripts import deploy as command
from scripts.addresses import partial
from scripts.deployment_check import facts, require
from scripts.networks import DeployError, connect
from scripts.roles import ROLES
from tests.deploy.bed import SIGNERS, Node, account, ask, chain, ended, give, process_of, run, run_killed, settings

CONTRACTS = {
    "AccessManager", "DeviceRegistry", "Notary", "EmissionFactors", "EnergyCertificate", "MitigationOutcome",
    "ERC1888Adapter",
}  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with chain(tmp_path_factory.mktemp("chain")) as address:
        yield address


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    """A chain on which gas costs nothing."""
    with chain(tmp_path_factory.mktemp("free"), "--gas-price", "0", "--base-fee", "0", chain_id=77_002) as address:
        yield address


@pytest.fixture
def deployer(request, url):
    made = account(request.node.name)
    give(connect(url), made.address)
    return made


def transactions(w3, book):
    return [w3.eth.get_transaction(entry["transaction"]) for entry in book["contracts"].values()]


def test_deploy_with_base_fee_writes_a_book_that_checks(url, deployer, tmp_path):
    made = settings(tmp_path)
    done = run(url, deployer, made)
    assert (len(done.deployed), done.sent) == (7, 11)
    book, w3 = json.loads(made.book.read_text()), connect(url)
    assert set(book["contracts"]) == CONTRACTS and "pending" not in book
    assert (book["chainId"], book["threshold"]) == (77_001, 2)
    assert {one["type"] for one in transactions(w3, book)} == {2}
    assert require(facts(w3, book)) > 100
    assert not partial(made.book).exists()
    used = sum(w3.eth.get_transaction_receipt(step.transaction)["gasUsed"] for step in done.steps)
    assert used == done.gas == sum(step.gas for step in done.steps)


def test_deploy_again_sends_nothing(url, deployer, tmp_path):
    made = settings(tmp_path)
    run(url, deployer, made)
    text = made.book.read_text()
    done = run(url, deployer, made)
    assert (done.sent, done.deployed, made.book.read_text()) == (0, [], text)
    assert connect(url).eth.get_transaction_count(deployer.address) == 11


def test_deploy_where_a_contract_is_new_adds_it_to_the_book(url, deployer, tmp_path):
    made = settings(tmp_path)
    run(url, deployer, made)
    book = json.loads(made.book.read_text())
    before = book["contracts"].pop("ERC1888Adapter")
    made.book.write_text(json.dumps(book))
    done = run(url, deployer, made)
    assert (done.sent, done.deployed) == (1, ["ERC1888Adapter"])
    after = json.loads(made.book.read_text())
    assert set(after["contracts"]) == CONTRACTS and after["contracts"]["ERC1888Adapter"]["address"] != before["address"]
    assert {**after, "contracts": book["contracts"]} == book
    assert require(facts(connect(url), after)) > 100


def test_deploy_where_gas_is_free_needs_no_coins(free, tmp_path):
    poor, w3, made = account("poor"), connect(free), settings(tmp_path)
    assert w3.eth.get_balance(poor.address) == 0
    assert run(free, poor, made).sent == 11
    assert require(facts(w3, json.loads(made.book.read_text()))) > 100


def test_deploy_without_base_fee_sends_legacy_transactions(url, deployer, tmp_path):
    made = settings(tmp_path)
    with Node(url, legacy=True, sealed=True) as node:
        assert run(node.url, deployer, made).sent == 11
        w3 = connect(node.url)
        assert "baseFeePerGas" not in w3.eth.get_block("latest")
        assert require(facts(w3, json.loads(made.book.read_text()))) > 100
    assert {one["type"] for one in transactions(connect(url), json.loads(made.book.read_text()))} == {0}


def test_deploy_at_a_legacy_price_given_pays_that_price(url, deployer, tmp_path):
    made = settings(tmp_path, gas_price_wei=3 * 10**9)
    run(url, deployer, made)
    sent = transactions(connect(url), json.loads(made.book.read_text()))
    assert {(one["type"], one["gasPrice"]) for one in sent} == {(0, 3 * 10**9)}


@pytest.mark.parametrize("cut", ["before", "after"])
def test_deploy_killed_at_every_transaction_is_completed_without_a_second_one(url, deployer, tmp_path, cut):
    """One deployment whose process is killed, time after time, as it sends: before the chain has the transaction,
    and when the chain has it but the process never learns."""
    made, w3 = settings(tmp_path), connect(url)
    with Node(url, cut=cut) as node:
        for kill in range(11):
            assert run_killed(node, deployer, made, allowed=int(cut == "before" and kill > 0)) == -9
            assert w3.eth.get_transaction_count(deployer.address) == kill + (cut == "after")
            assert not made.book.exists()
    assert run(url, deployer, made).sent == (cut == "before")
    assert w3.eth.get_transaction_count(deployer.address) == 11
    assert require(facts(w3, json.loads(made.book.read_text()))) > 100
    assert not partial(made.book).exists()


@pytest.mark.slow
def test_deploy_killed_with_a_transaction_in_the_pool_waits_for_it(tmp_path, url, deployer):
    made, w3 = settings(tmp_path), connect(url)
    ask(w3, "evm_setAutomine", False)
    try:
        with Node(url, cut="after") as node:
            assert run_killed(node, deployer, made) == -9
        pending = json.loads(partial(made.book).read_text())["pending"]
        assert pending["contract"] == "AccessManager"
        assert w3.eth.get_transaction_count(deployer.address) == 0
        ask(w3, "evm_setIntervalMining", 1)
        done = run(url, deployer, made)
    finally:
        ask(w3, "evm_setIntervalMining", 0)
        ask(w3, "evm_setAutomine", True)
    assert done.sent == 10
    assert w3.eth.get_transaction_count(deployer.address) == 11
    assert json.loads(made.book.read_text())["contracts"]["AccessManager"]["transaction"] == pending["transaction"]


def test_deploy_from_the_nodes_account_killed_after_sending_finds_its_contract(url, tmp_path):
    made, w3 = settings(tmp_path), connect(url)
    own = w3.eth.accounts[3]
    with Node(url, cut="after") as node:
        assert run_killed(node, own, made) == -9
    assert run(url, own, made).sent == 10
    first = json.loads(made.book.read_text())["contracts"]["AccessManager"]
    assert w3.eth.get_transaction_receipt(first["transaction"])["contractAddress"] == first["address"]


def test_deploy_in_two_processes_at_once_deploys_once(url, deployer, tmp_path):
    made, w3 = settings(tmp_path), connect(url)
    racing = [process_of(url, deployer, made) for _ in range(2)]
    for _, gate in racing:
        gate.set()
    assert [ended(process) for process, _ in racing] == [0, 0]
    assert w3.eth.get_transaction_count(deployer.address) == 11
    assert require(facts(w3, json.loads(made.book.read_text()))) > 100


@pytest.mark.parametrize("status", [429, 0])
def test_deploy_at_a_node_that_stops_answering_names_the_step_and_can_go_on(url, deployer, tmp_path, status):
    made = settings(tmp_path)
    with Node(url, failing={"eth_sendRawTransaction": status}) as node:
        with pytest.raises(DeployError, match="deploy AccessManager: the node stopped answering") as caught:
            run(f"{node.url}/a-providers-key", deployer, made)
        assert "a-providers-key" not in str(caught.value) and caught.value.__suppress_context__
        node.failing.clear()
        assert run(node.url, deployer, made).sent == 11


def test_dry_run_at_a_node_that_hangs_up_tells_no_address(url, tmp_path, monkeypatch, capsys):
    """What anvil says of the node that it cannot continue holds the address."""
    given = {role.variable: account(role.name).address for role in ROLES}
    given |= {"WATTMARK_SIGNERS": ",".join(SIGNERS), "WATTMARK_ADDRESSES": str(tmp_path / "book.json")}
    given |= {"WATTMARK_DEPLOYER": account("dry").address}
    with Node(url, failing={"eth_blockNumber": 0}) as node:
        for name, value in (given | {"WATTMARK_RPC": f"{node.url}/a-providers-key"}).items():
            monkeypatch.setenv(name, value)
        assert command.main(["--network", "private", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert "cannot be continued for a dry run: " in said.err and "(the node)" in said.err
    assert "a-providers-key" not in said.out + said.err


def test_deploy_resumed_with_anything_else_is_refused_by_name(url, deployer, tmp_path):
    """Whatever would be kept on the chain beside, or against, what the deployment was begun with."""
    made = settings(tmp_path)
    with Node(url, cut="after") as node:
        run_killed(node, deployer, made)
    for changes, told in (
        ({"signers": made.signers[:2]}, "signers"),
        ({"threshold": 3}, "threshold 2, not 3"),
        ({"certificate_uri": "https://elsewhere/"}, "certificateUri"),
        ({"outcome_uri": "https://elsewhere/"}, "outcomeUri"),
        ({"holders": made.holders | {"guardian": deployer.address}}, "guardian"),
        ({"admin_delay_seconds": 60}, "delay of the administrator 172800, not 60"),
    ):
        with pytest.raises(DeployError, match=f"was begun with {told}"):
            run(url, deployer, settings(tmp_path, **changes))
    assert run(url, deployer, made).sent == 10


def test_deploy_resumed_by_who_is_not_administrator_is_refused(url, deployer, tmp_path):
    made = settings(tmp_path)
    with Node(url, cut="after") as node:
        for _ in range(6):
            run_killed(node, deployer, made)
    other = account("somebody else")
    give(connect(url), other.address)
    with pytest.raises(DeployError, match=f"{other.address} is not administrator"):
        run(url, other, made)
    assert run(url, deployer, made).sent == 4


def test_deploy_of_a_poor_account_names_the_step_and_can_go_on(url, tmp_path):
    made, poor, w3 = settings(tmp_path), account("has too little"), connect(url)
    with pytest.raises(DeployError, match=f"deploy AccessManager: .*{poor.address} has 0 wei"):
        run(url, poor, made)
    give(w3, poor.address)
    assert run(url, poor, made).sent == 11


def test_deploy_hands_the_administration_over(url, deployer, tmp_path):
    made = settings(tmp_path)
    run(url, deployer, made)
    book = json.loads(made.book.read_text())
    assert book["roles"]["administrator"] == {
        "id": 0,
        "holder": account("administrator").address,
        "delaySeconds": 172_800,
    }
    w3 = connect(url)
    manager = book["contracts"]["AccessManager"]["address"]
    view = w3.eth.contract(
        address=manager,
        abi=[
            {
                "name": "hasRole",
                "type": "function",
                "stateMutability": "view",
                "inputs": [{"name": "r", "type": "uint64"}, {"name": "a", "type": "address"}],
                "outputs": [{"name": "", "type": "bool"}, {"name": "", "type": "uint32"}],
            }
        ],
    ).functions.hasRole
    assert view(0, deployer.address).call() == [False, 0]
    for role in ROLES:
        assert view(role.id, account(role.name).address).call() == [True, 172_800 if role.id == 0 else 0]
