"""What a deployment is made from: networks.yaml, the environment, keys"""

import json
from types import SimpleNamespace

import pytest
import yaml
from eth_account import Account

from scripts import networks
from scripts.deployment_settings import Settings, address_without_key, signer_of
from scripts.networks import FILE, PRIVATE_BOOKS, PUBLIC_BOOKS, DeployError, Network, connect
from scripts.roles import ROLES
from tests.deploy.bed import SIGNERS, account, free_port

DEPLOYER = account("deployer").address
GIVEN = {role.variable: account(role.name).address for role in ROLES} | {"WATTMARK_SIGNERS": ",".join(SIGNERS)}
NODE = SimpleNamespace(eth=SimpleNamespace(accounts=[account("the node's own").address]))
BARE_NODE = SimpleNamespace(eth=SimpleNamespace(accounts=[]))


def read(tmp_path, given, **more):
    return Settings.read(given, DEPLOYER, tmp_path / "book.json", "test", **more)


def test_settings_come_from_the_environment(tmp_path):
    more = {"WATTMARK_ADMIN_DELAY": "7", "WATTMARK_GAS_PRICE_WEI": "0", "WATTMARK_CHAIN_NAME": "Ours"}
    made = read(tmp_path, GIVEN | more | {"WATTMARK_SIGNERS": f" {SIGNERS[1].lower()},{SIGNERS[0]}"})
    assert made.signers == SIGNERS[:2] and made.threshold == 2
    assert (made.admin_delay_seconds, made.gas_price_wei, made.chain_name) == (7, 0, "Ours")
    assert made.holders == {role.name: account(role.name).address for role in ROLES}


def test_settings_without_more_wait_two_days_under_the_deployer(tmp_path):
    given = {name: value for name, value in GIVEN.items() if name != "WATTMARK_ADMIN"}
    made = read(tmp_path, given)
    assert (made.admin_delay_seconds, made.threshold, made.gas_price_wei) == (172_800, 2, None)
    assert made.holders["administrator"] == DEPLOYER


@pytest.mark.parametrize(
    "missing", ["WATTMARK_SIGNERS", "WATTMARK_REGISTRAR", "WATTMARK_FACTOR_PUBLISHER", "WATTMARK_GUARDIAN"]
)
def test_settings_without_who_signs_or_holds_a_role_are_refused_by_name(tmp_path, missing):
    with pytest.raises(DeployError, match=missing):
        read(tmp_path, GIVEN | {missing: ""})


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WATTMARK_SIGNERS", "0x12", "WATTMARK_SIGNERS: '0x12' is not an address"),
        ("WATTMARK_THRESHOLD", "two", "WATTMARK_THRESHOLD: 'two' is not a whole number"),
        ("WATTMARK_ADMIN_DELAY", "-1", "WATTMARK_ADMIN_DELAY: '-1' is not a whole number"),
        ("WATTMARK_GUARDIAN", "Alice", "WATTMARK_GUARDIAN: 'Alice' is not an address"),
        ("WATTMARK_REGISTRAR", "0x" + "00" * 20, "WATTMARK_REGISTRAR: the zero address belongs to nobody"),
        ("WATTMARK_SIGNERS", f"{SIGNERS[0]},{SIGNERS[0].lower()}", "WATTMARK_SIGNERS: 2 addresses; they must differ"),
        (
            "WATTMARK_SIGNERS",
            ",".join(f"0x{n:040x}" for n in range(1, 34)),
            "WATTMARK_SIGNERS: 33 addresses; .* 32 at most",
        ),
        ("WATTMARK_THRESHOLD", "0", "WATTMARK_THRESHOLD: 0 of 3 signers cannot be; 1 to 3 can"),
        ("WATTMARK_THRESHOLD", "4", "WATTMARK_THRESHOLD: 4 of 3 signers cannot be; 1 to 3 can"),
        ("WATTMARK_ADMIN_DELAY", str(2**32), "WATTMARK_ADMIN_DELAY: 4294967296 s is not within 0 to 4294967295 s"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tmp_path, variable, value, told):
    with pytest.raises(DeployError, match=told):
        read(tmp_path, GIVEN | {variable: value})


def test_settings_of_a_public_network_need_metadata_addresses_and_a_delay(tmp_path):
    given = GIVEN | {"WATTMARK_CERTIFICATE_URI": "https://w.example/c/", "WATTMARK_OUTCOME_URI": "https://w.example/o/"}
    made = read(tmp_path, given, public=True)
    assert (made.certificate_uri, made.admin_delay_seconds) == ("https://w.example/c/", 172_800)
    for missing in ("WATTMARK_CERTIFICATE_URI", "WATTMARK_OUTCOME_URI"):
        with pytest.raises(DeployError, match=f"set {missing}"):
            read(tmp_path, given | {missing: ""}, public=True)
    with pytest.raises(DeployError, match="WATTMARK_ADMIN_DELAY: 0 s"):
        read(tmp_path, given | {"WATTMARK_ADMIN_DELAY": "0"}, public=True)


def keystore(folder):
    kept = account("kept")
    (folder / "keystore.json").write_text(json.dumps(Account.encrypt(kept.key, "secret", iterations=2)))
    (folder / "password").write_text("secret\n")
    given = {"WATTMARK_KEYSTORE": str(folder / "keystore.json"), "WATTMARK_PASSWORD_FILE": str(folder / "password")}
    return kept, given


def test_signer_is_the_keystores_account(tmp_path):
    kept, given = keystore(tmp_path)
    assert signer_of(given, NODE, False).key == kept.key


def test_signer_without_the_right_password_is_refused(tmp_path):
    _, given = keystore(tmp_path)
    (tmp_path / "wrong").write_text("guess\n")
    for changes, told in (
        ({"WATTMARK_PASSWORD_FILE": str(tmp_path / "wrong")}, "does not open it"),
        ({"WATTMARK_PASSWORD_FILE": ""}, "needs WATTMARK_PASSWORD_FILE"),
        ({"WATTMARK_KEYSTORE": str(tmp_path / "absent")}, "absent cannot be read"),
    ):
        with pytest.raises(DeployError, match=told):
            signer_of(given | changes, NODE, False)


def test_signer_is_the_key_in_the_environment():
    assert signer_of({"WATTMARK_DEPLOYER_KEY": account("kept").key.hex()}, NODE, True) == account("kept")


def test_signer_from_a_damaged_key_shows_no_part_of_it():
    with pytest.raises(DeployError, match="WATTMARK_DEPLOYER_KEY is not a private key") as caught:
        signer_of({"WATTMARK_DEPLOYER_KEY": "0xdeadbeef"}, NODE, False)
    assert "deadbeef" not in str(caught.value) and caught.value.__suppress_context__


def test_signer_is_the_nodes_account_on_private_networks_alone():
    assert signer_of({}, NODE, False) == NODE.eth.accounts[0]
    for node, public in ((NODE, True), (BARE_NODE, False)):
        with pytest.raises(DeployError, match="nothing to sign with"):
            signer_of({}, node, public)


def test_address_without_key_opens_no_keystore(tmp_path):
    kept, given = keystore(tmp_path)
    del given["WATTMARK_PASSWORD_FILE"]
    assert address_without_key(given, NODE, True) == kept.address
    assert address_without_key({"WATTMARK_DEPLOYER": DEPLOYER.lower()}, NODE, True) == DEPLOYER
    assert address_without_key({}, NODE, False) == NODE.eth.accounts[0]
    with pytest.raises(DeployError, match="who would deploy"):
        address_without_key({}, NODE, True)
    (tmp_path / "keystore.json").write_text("{}")
    with pytest.raises(DeployError, match="states no address"):
        address_without_key(given, NODE, True)


# -- networks ---------------------------------------------------------------------------------------


def test_networks_file_holds_no_address_of_a_node_and_no_secret():
    document = yaml.safe_load(FILE.read_text())
    hosts = {entry["id"]: entry["host"] for group in document["live"] for entry in group["networks"]}
    assert set(hosts) == {"local", "private", "sepolia", "public"} and set(hosts.values()) == {"$WATTMARK_RPC"}


def test_network_local_has_a_node_without_being_told():
    assert Network.load("local", {}).rpc == "http://127.0.0.1:8545"
    assert Network.load("local", {"WATTMARK_RPC": "http://127.0.0.1:1"}).rpc == "http://127.0.0.1:1"


def test_network_sepolia_is_one_chain_whose_book_is_committed():
    found = Network.load("sepolia", {"WATTMARK_RPC": "http://127.0.0.1:1"})
    assert (found.chain_id, found.public, found.own_node) == (11_155_111, True, False)
    assert found.book(11_155_111, {}) == PUBLIC_BOOKS / "11155111.json"
    assert set(found.verifiers) == {"sourcify", "etherscan", "blockscout"}


def test_network_private_takes_any_chain_and_keeps_its_book_in_the_state_folder(tmp_path):
    found = Network.load("private", {"WATTMARK_RPC": "http://127.0.0.1:1"})
    assert found.chain_id is None and found.book(5, {}) == PRIVATE_BOOKS / "5.json"
    assert found.book(5, {"WATTMARK_ADDRESSES": str(tmp_path / "b.json")}) == tmp_path / "b.json"


def test_network_services_can_be_named_by_the_environment():
    given = {"WATTMARK_RPC": "http://127.0.0.1:1", "WATTMARK_BLOCKSCOUT_URL": "http://127.0.0.1:2/"}
    assert Network.load("private", given).verifiers["blockscout"] == "http://127.0.0.1:2"


@pytest.mark.parametrize(
    ("network_id", "told"), [("sepolia", "set WATTMARK_RPC"), ("mainnet", "it has local, private, sepolia")]
)
def test_network_that_is_unknown_or_without_node_is_refused(network_id, told):
    with pytest.raises(DeployError, match=told):
        Network.load(network_id, {})


@pytest.mark.parametrize("text", ["<html>", "", "{"])
def test_told_of_an_answer_that_is_no_json_asks_about_the_address(text):
    with pytest.raises(networks.FAULTS) as caught:
        json.loads(text)
    assert networks.told(caught.value).endswith("is there a node at the address in WATTMARK_RPC?")


def test_connect_without_a_node_never_shows_the_address():
    with pytest.raises(DeployError, match="no node answers") as caught:
        connect(f"http://127.0.0.1:{free_port()}/v3/private-key-of-a-provider")
    assert "private-key" not in str(caught.value) and caught.value.__suppress_context__
