"""scripts/deploy.py: over brownie's connection and accounts, from the committed artifacts. What does not need brownie
is tested in tests/deploy."""

import json

import pytest
from brownie import accounts, web3
from eth_account import Account

from scripts import deploy
from scripts.roles import ROLES
from tests.contracts.reference import key
from tests.contracts.world import plain


@pytest.fixture
def settings(world, tmp_path):
    holders = {role.name: world.recorder.address for role in ROLES}
    holders["administrator"], holders["guardian"] = world.buyer.address, world.guardian.address
    return deploy.Settings(
        book=tmp_path / "addresses.json",
        chain_name="test",
        signers=tuple(sorted((world.stranger.address, world.buyer.address, world.admin.address), key=str.lower)),
        threshold=2,
        holders=holders,
        admin_delay_seconds=100,
        certificate_uri="https://w.example/c/",
        outcome_uri="https://w.example/o/",
    )


def test_deploy_writes_a_book_that_checks(world, settings):
    run = deploy.deploy(world.admin, settings)
    assert len(run.deployed) == 6 and run.sent == 10
    book = json.loads(settings.book.read_text())
    assert (book["schema"], book["chainId"], book["chainName"]) == ("wattmark/addresses/1", web3.eth.chain_id, "test")
    assert book["deployedBlock"] == book["contracts"]["AccessManager"]["block"]
    assert book["roles"]["administrator"] == {"id": 0, "holder": world.buyer.address, "delaySeconds": 100}
    assert deploy.check(book) > 90
    has_role = run.contract("AccessManager").functions.hasRole
    assert plain(has_role(0, world.admin.address).call()) == (False, 0)
    assert plain(has_role(0, world.buyer.address).call()) == (True, 100)
    assert run.contract("EnergyCertificate").functions.uri(1).call() == "https://w.example/c/{id}.json"


def test_deploy_again_sends_nothing(world, settings):
    deploy.deploy(world.admin, settings)
    nonce, text = world.admin.nonce, settings.book.read_text()
    run = deploy.deploy(world.admin, settings)
    assert (run.sent, run.deployed) == (0, []) and world.admin.nonce == nonce
    assert settings.book.read_text() == text


@pytest.mark.parametrize("fails_at", range(10))
def test_deploy_cut_short_anywhere_is_taken_up_again(world, settings, monkeypatch, fails_at):
    class Cut(Exception):
        pass

    send, sent = deploy.Deployment.send, []

    def cutting(self, *arguments):
        if len(sent) == fails_at:
            raise Cut
        sent.append(arguments)
        return send(self, *arguments)

    monkeypatch.setattr(deploy.Deployment, "send", cutting)
    with pytest.raises(Cut):
        deploy.deploy(world.admin, settings)
    assert not settings.book.exists()
    monkeypatch.setattr(deploy.Deployment, "send", send)
    run = deploy.deploy(world.admin, settings)
    assert run.sent == 10 - fails_at
    assert settings.book.exists() and not deploy.partial(settings.book).exists()


def test_deploy_on_a_chain_begun_anew_deploys_anew(world, settings):
    lost = {"address": "0x" + "11" * 20, "block": 1, "codeHash": "0x", "transaction": "0x"}
    book = {"schema": "wattmark/addresses/1", "chainId": web3.eth.chain_id, "contracts": {"AccessManager": lost}}
    deploy.write(settings.book, book)
    assert len(deploy.deploy(world.admin, settings).deployed) == 6


def test_deploy_with_the_book_of_another_chain_is_refused(world, settings):
    deploy.write(settings.book, {"schema": "wattmark/addresses/1", "chainId": 1, "contracts": {}})
    with pytest.raises(deploy.DeployError, match="is for chain 1"):
        deploy.deploy(world.admin, settings)


def test_deploy_over_other_code_is_refused(world, settings):
    deploy.deploy(world.admin, settings)
    book = json.loads(settings.book.read_text())
    book["contracts"]["Notary"]["address"] = book["contracts"]["DeviceRegistry"]["address"]
    deploy.write(settings.book, book)
    with pytest.raises(deploy.DeployError, match="Notary at .* has other code"):
        deploy.deploy(world.admin, settings)


def test_masked_code_hides_immutables_and_nothing_else():
    document = {"immutableReferences": {"7": [{"start": 1, "length": 2}]}, "deployedBytecode": "0x00"}
    assert deploy.masked(b"\x01\x02\x03\x04", document) == b"\x01\x00\x00\x04"


def keystore(folder):
    """A keystore with its password, and the private key in it."""
    private_key = key("deployer")
    (folder / "keystore.json").write_text(json.dumps(Account.encrypt(private_key, "secret", iterations=2)))
    (folder / "password").write_text("secret\n")
    given = {"WATTMARK_KEYSTORE": str(folder / "keystore.json"), "WATTMARK_PASSWORD_FILE": str(folder / "password")}
    return private_key, given


def test_sender_is_the_keystores_account(tmp_path):
    private_key, given = keystore(tmp_path)
    sender = deploy.sender(environment=given)
    assert sender.address == Account.from_key(private_key).address
    assert deploy.signer_of(sender).key == Account.from_key(private_key).key


def test_sender_without_the_right_password_is_refused(tmp_path):
    _, given = keystore(tmp_path)
    (tmp_path / "wrong").write_text("guess\n")
    with pytest.raises(deploy.DeployError, match="does not open it"):
        deploy.sender(environment={**given, "WATTMARK_PASSWORD_FILE": str(tmp_path / "wrong")})
    with pytest.raises(deploy.DeployError, match="needs WATTMARK_PASSWORD_FILE"):
        deploy.sender(environment={"WATTMARK_KEYSTORE": given["WATTMARK_KEYSTORE"]})
    with pytest.raises(deploy.DeployError, match="absent cannot be read"):
        deploy.sender(environment={**given, "WATTMARK_KEYSTORE": str(tmp_path / "absent")})


def test_sender_is_the_key_in_the_environment():
    private_key = Account.from_key(key("deployer")).key.hex()
    assert deploy.sender(environment={"WATTMARK_DEPLOYER_KEY": private_key}).address == address(private_key)


def address(private_key):
    return Account.from_key(private_key).address


def test_sender_from_a_damaged_key_shows_no_part_of_it():
    with pytest.raises(deploy.DeployError, match="WATTMARK_DEPLOYER_KEY is not a private key") as caught:
        deploy.sender(environment={"WATTMARK_DEPLOYER_KEY": "0xdeadbeef"})
    assert "deadbeef" not in str(caught.value) and caught.value.__suppress_context__


def test_sender_on_a_public_network_is_never_the_nodes_account():
    assert deploy.sender(environment={}) == accounts[0]
    with pytest.raises(deploy.DeployError, match="nothing to sign with"):
        deploy.sender(public=True, environment={})


def test_address_without_key_opens_no_keystore(tmp_path):
    private_key, given = keystore(tmp_path)
    del given["WATTMARK_PASSWORD_FILE"]
    assert deploy.address_without_key(web3, True, given) == address(private_key)
    assert deploy.address_without_key(web3, True, {"WATTMARK_DEPLOYER": accounts[3].address}) == accounts[3]
    with pytest.raises(deploy.DeployError, match="who would deploy"):
        deploy.address_without_key(web3, True, {})
