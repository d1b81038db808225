"""The check after deployment: silent on what is right, and it names each thing that was put wrong"""

import json

import pytest

from scripts import deployment_check
from scripts.addresses import contract_at, selectors, write
from scripts.deployment_check import facts
from scripts.networks import DeployError, connect
from tests.deploy.bed import Node, account, ask, chain, give, run, settings


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with chain(tmp_path_factory.mktemp("chain"), chain_id=77_004) as address:
        yield address


@pytest.fixture(scope="module")
def deployed(url, tmp_path_factory):
    """A deployment whose administrator can act at once, so that something can be put wrong."""
    made, deployer = settings(tmp_path_factory.mktemp("book"), admin_delay_seconds=0), account("deployer")
    give(connect(url), deployer.address)
    run(url, deployer, made)
    return made.book


@pytest.fixture
def w3(url):
    connection = connect(url)
    kept = ask(connection, "evm_snapshot")
    yield connection
    ask(connection, "evm_revert", kept)


@pytest.fixture
def book(deployed):
    return json.loads(deployed.read_text())


def act(w3, book, who, contract, function, *arguments):
    """Let the holder of a role call a function."""
    address = account(who).address
    give(w3, address)
    ask(w3, "anvil_impersonateAccount", address)
    call = getattr(contract_at(w3, book, contract).functions, function)(*arguments)
    assert w3.eth.wait_for_transaction_receipt(call.transact({"from": address}), poll_latency=0.02)["status"] == 1


def differences(w3, book):
    return {fact.what for fact in facts(w3, book) if not fact.holds}


def test_check_of_a_right_deployment_finds_nothing(w3, book):
    assert differences(w3, book) == set()
    assert {fact.about for fact in facts(w3, book)} == {
        "code", "bindings", "witnesses", "parameters", "functions", "roles", "delays"
    }  # fmt: skip


def at(book, name):
    return book["contracts"][name]["address"]


STRANGER = account("stranger").address
REGISTRAR = account("registrar").address
ADMIN, PUBLISHER = account("administrator").address, account("factor publisher").address
PUBLIC_ROLE = 2**64 - 1


@pytest.mark.parametrize(
    ("who", "contract", "function", "arguments", "told"),
    [
        ("administrator", "AccessManager", "grantRole", (1, STRANGER, 0), {"holders of registrar"}),
        (
            "administrator",
            "AccessManager",
            "revokeRole",
            (1, REGISTRAR),
            {"holders of registrar", f"registrar {REGISTRAR}"},
        ),
        ("administrator", "AccessManager", "grantRole", (2, PUBLISHER, 60), {f"factor publisher {PUBLISHER}"}),
        ("administrator", "AccessManager", "grantRole", (0, ADMIN, 60), {f"administrator {ADMIN}"}),
        ("administrator", "AccessManager", "grantRole", (0, STRANGER, 0), {"holders of administrator"}),
        (
            "administrator",
            "AccessManager",
            "grantRole",
            (77, STRANGER, 0),
            {"holders of roles that the table does not have"},
        ),
        ("administrator", "AccessManager", "setRoleAdmin", (3, 1), {"administrator of role guardian"}),
        ("administrator", "AccessManager", "setRoleGuardian", (1, 3), {"guardian of role registrar"}),
        ("guardian", "Notary", "pause", (), {"Notary paused"}),
        ("guardian", "EnergyCertificate", "pause", (), {"EnergyCertificate paused"}),
        (
            "guardian",
            "Notary",
            "removeSigner",
            (account("witness 0").address, "gone"),
            {"Notary signers of epoch 2"},
        ),
    ],
)
def test_check_after_a_planted_act_names_it_alone(w3, book, who, contract, function, arguments, told):
    act(w3, book, who, contract, function, *arguments)
    assert differences(w3, book) == told


@pytest.mark.parametrize(
    ("signature", "role"),
    [("setSigners(address[],uint8)", 3), ("notarize((uint8,uint16,bytes32,bytes32,uint40,uint40,uint32,uint64,bytes32,uint40),bytes[])", 1), ("pause()", PUBLIC_ROLE)],
)  # fmt: skip
def test_check_after_a_function_changed_its_role_names_it_alone(w3, book, signature, role):
    act(w3, book, "administrator", "AccessManager", "setTargetFunctionRole", at(book, "Notary"), selectors([signature]), role)  # fmt: skip
    assert differences(w3, book) == {f"role of Notary.{signature}"}


def test_check_after_a_contract_was_closed_names_it_alone(w3, book):
    act(w3, book, "administrator", "AccessManager", "setTargetClosed", at(book, "EmissionFactors"), True)
    assert differences(w3, book) == {"EmissionFactors closed"}


@pytest.mark.parametrize(
    ("function", "place", "told"),
    [
        ("setGrantDelay", 1, "grant delay of role registrar"),
        ("setTargetAdminDelay", "Notary", "Notary administration delay"),
    ],
)
def test_check_after_a_delay_came_into_force_names_it_alone(w3, book, function, place, told):
    where = at(book, place) if isinstance(place, str) else place
    act(w3, book, "administrator", "AccessManager", function, where, 3_600)
    ask(w3, "evm_increaseTime", 6 * 86_400)
    ask(w3, "evm_mine")
    assert differences(w3, book) == {told}


def test_check_of_other_code_names_the_contract(w3, book):
    code = bytearray(w3.eth.get_code(at(book, "EmissionFactors")))
    code[-60] ^= 1  # in the metadata: nothing behaves differently
    ask(w3, "anvil_setCode", at(book, "EmissionFactors"), "0x" + code.hex())
    assert differences(w3, book) == {"EmissionFactors code hash", "EmissionFactors code is the artifact's"}


def test_check_of_a_changed_immutable_sees_the_code_hash_alone(w3, book):
    """The masked comparison cannot see it; the hash in the address book and the binding can."""
    code = bytes(w3.eth.get_code(at(book, "EnergyCertificate")))
    registry = bytes.fromhex(at(book, "DeviceRegistry")[2:])
    assert registry in code
    ask(w3, "anvil_setCode", at(book, "EnergyCertificate"), "0x" + code.replace(registry, bytes(20)).hex())
    assert differences(w3, book) == {"EnergyCertificate code hash", "EnergyCertificate.registry"}


@pytest.mark.parametrize(
    ("path", "wrong", "told"),
    [
        (("contracts", "Notary", "codeHash"), "0x00", {"Notary code hash"}),
        (("threshold",), 3, {"Notary threshold of epoch 1"}),
        (("signers",), [], {"Notary signers of epoch 1"}),
        (("parameters", "certificateUri"), "https://elsewhere/", {"EnergyCertificate.uri"}),
        (("parameters", "outcomeUri"), "https://elsewhere/", {"MitigationOutcome.uri"}),
        (("roles", "administrator", "delaySeconds"), 5, {f"administrator {ADMIN}"}),
        (("roles", "guardian", "holder"), None, {"holders of guardian"}),
    ],
)
def test_check_against_another_book_names_the_entry(w3, book, path, wrong, told):
    inner = book
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = wrong
    assert differences(w3, book) == told


def test_check_against_a_book_older_than_a_role_names_its_holder(w3, book):
    del book["roles"]["reviewer"]
    assert differences(w3, book) == {"holders of reviewer"}


def test_check_of_an_incomplete_book_is_refused(w3, book):
    del book["contracts"]["Notary"]
    with pytest.raises(DeployError, match="lacks Notary"):
        facts(w3, book)


def test_check_at_a_node_that_limits_events_reads_them_in_parts(url, w3, book):
    ask(w3, "anvil_mine", hex(500))
    act(w3, book, "administrator", "AccessManager", "grantRole", 1, STRANGER, 0)
    with Node(url, widest=200) as node:
        assert differences(connect(node.url), book) == {"holders of registrar"}
        assert node.seen.count("eth_getLogs") > 4


@pytest.fixture
def environment(monkeypatch, url, deployed):
    monkeypatch.setenv("WATTMARK_RPC", url)
    monkeypatch.setenv("WATTMARK_ADDRESSES", str(deployed))


def test_command_on_a_right_deployment_exits_0_with_json(w3, environment, capsys):
    assert deployment_check.main(["--network", "local", "--check", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] and answer["different"] == 0 and answer["compared"] == len(answer["facts"]) > 100


def test_command_on_a_wrong_deployment_exits_1_and_shows_both_values(w3, book, environment, capsys):
    act(w3, book, "guardian", "Notary", "pause")
    assert deployment_check.main(["--network", "local", "--check"]) == 1
    shown = capsys.readouterr().out
    assert "DIFFERS  Notary paused: True, should be False" in shown and "1 different" in shown
    assert deployment_check.main(["--network", "local", "--check", "--json"]) == 1
    facts_shown = json.loads(capsys.readouterr().out)["facts"]
    assert [fact["what"] for fact in facts_shown if not fact["holds"]] == ["Notary paused"]


@pytest.mark.parametrize("status", [429, 0])
def test_command_at_a_node_that_stops_answering_exits_1_without_its_address(
    url, environment, monkeypatch, capsys, status
):
    with Node(url, failing={"eth_getCode": status}) as node:
        monkeypatch.setenv("WATTMARK_RPC", f"{node.url}/a-providers-key")
        assert deployment_check.main(["--network", "local", "--check"]) == 1
    said = capsys.readouterr()
    assert "the node stopped answering" in said.err and "a-providers-key" not in said.out + said.err


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_command_without_a_book_exits_1_and_says_so(environment, monkeypatch, tmp_path, capsys, text):
    path = tmp_path / "book.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("WATTMARK_ADDRESSES", str(path))
    assert deployment_check.main(["--network", "local", "--check"]) == 1
    assert str(path) in capsys.readouterr().err


def test_command_on_another_chain_than_the_networks_exits_1(environment, capsys):
    assert deployment_check.main(["--network", "sepolia", "--check"]) == 1
    assert "the node is on chain 77004, the network is chain 11155111" in capsys.readouterr().err


def test_command_with_the_book_of_another_chain_exits_1(environment, book, monkeypatch, tmp_path, capsys):
    write(tmp_path / "book.json", {**book, "chainId": 5})
    monkeypatch.setenv("WATTMARK_ADDRESSES", str(tmp_path / "book.json"))
    assert deployment_check.main(["--network", "local", "--check"]) == 1
    assert "is for chain 5, not 77004" in capsys.readouterr().err
