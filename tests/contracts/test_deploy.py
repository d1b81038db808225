"""scripts/deploy.py: from the committed artifacts, once, checked"""

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
    manager = deploy.contract_at(book, "AccessManager")
    assert plain(manager.hasRole(0, world.admin)) == (False, 0)
    assert plain(manager.hasRole(0, world.buyer)) == (True, 100)
    certificate = deploy.contract_at(book, "EnergyCertificate")
    assert certificate.uri(1) == "https://w.example/c/{id}.json"


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
    book = deploy.new_book(settings)
    book["contracts"] = {"AccessManager": {"address": "0x" + "11" * 20, "block": 1, "codeHash": "0x", "transaction": "0x"}}
    deploy.write(settings.book, book)
    assert len(deploy.deploy(world.admin, settings).deployed) == 6


def test_deploy_with_the_book_of_another_chain_is_refused(world, settings):
    deploy.write(settings.book, {**deploy.new_book(settings), "chainId": 1})
    with pytest.raises(deploy.DeployError, match="is for chain 1"):
        deploy.deploy(world.admin, settings)


def test_deploy_over_other_code_is_refused(world, settings):
    deploy.deploy(world.admin, settings)
    book = json.loads(settings.book.read_text())
    book["contracts"]["Notary"]["address"] = book["contracts"]["DeviceRegistry"]["address"]
    deploy.write(settings.book, book)
    with pytest.raises(deploy.DeployError, match="Notary at .* has other code"):
        deploy.deploy(world.admin, settings)


def test_check_finds_what_differs(world, settings):
    settings = deploy.Settings(**{**vars(settings), "admin_delay_seconds": 0})
    deploy.deploy(world.admin, settings)
    book = json.loads(settings.book.read_text())
    manager = deploy.contract_at(book, "AccessManager")
    manager.grantRole(1, world.stranger, 0, {"from": world.buyer})
    with pytest.raises(deploy.DeployError, match="holders of registrar"):
        deploy.check(book)
    manager.revokeRole(1, world.stranger, {"from": world.buyer})
    deploy.check(book)
    notary = book["contracts"]["Notary"]["address"]
    pause = deploy.selectors(("pause()",))
    manager.setTargetFunctionRole(notary, pause, 1, {"from": world.buyer})
    with pytest.raises(deploy.DeployError, match=r"role of Notary.pause\(\): 1, should be 3"):
        deploy.check(book)
    manager.setTargetFunctionRole(notary, pause, 3, {"from": world.buyer})
    manager.setTargetClosed(notary, True, {"from": world.buyer})
    with pytest.raises(deploy.DeployError, match="Notary closed: True"):
        deploy.check(book)
    manager.setTargetClosed(notary, False, {"from": world.buyer})
    for path, wrong, told in (
        (("contracts", "Notary", "codeHash"), "0x00", "Notary code hash"),
        (("threshold",), 3, "Notary threshold"),
        (("signers",), [], "Notary signers"),
        (("roles", "administrator", "delaySeconds"), 5, "administrator 0x"),
    ):
        altered = json.loads(settings.book.read_text())
        inner = altered
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = wrong
        with pytest.raises(deploy.DeployError, match=told):
            deploy.check(altered)


def test_masked_code_hides_immutables_and_nothing_else():
    document = {"immutableReferences": {"7": [{"start": 1, "length": 2}]}, "deployedBytecode": "0x00"}
    assert deploy.masked(b"\x01\x02\x03\x04", document) == b"\x01\x00\x00\x04"


def test_settings_come_from_the_environment(world, monkeypatch, tmp_path):
    for name, value in {
        "WATTMARK_SIGNERS": f" {world.stranger.address.lower()},{world.buyer.address}",
        "WATTMARK_GUARDIAN": world.guardian.address,
        "WATTMARK_ADMIN_DELAY": "7",
        "WATTMARK_ADDRESSES": str(tmp_path / "book.json"),
    }.items():
        monkeypatch.setenv(name, value)
    settings = deploy.Settings.from_environment(world.admin.address)
    assert settings.signers == tuple(sorted((world.stranger.address, world.buyer.address), key=str.lower))
    assert (settings.threshold, settings.admin_delay_seconds, settings.book) == (2, 7, tmp_path / "book.json")
    assert settings.holders["guardian"] == world.guardian.address
    assert settings.holders["administrator"] == world.admin.address


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WATTMARK_SIGNERS", "0x12", "WATTMARK_SIGNERS: '0x12' is not an address"),
        ("WATTMARK_THRESHOLD", "two", "WATTMARK_THRESHOLD: 'two' is not a whole number"),
        ("WATTMARK_GUARDIAN", "Alice", "WATTMARK_GUARDIAN: 'Alice' is not an address"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(world, monkeypatch, variable, value, told):
    monkeypatch.setenv(variable, value)
    with pytest.raises(deploy.DeployError, match=told):
        deploy.Settings.from_environment(world.admin.address)


@pytest.mark.parametrize("missing", ["WATTMARK_SIGNERS", "WATTMARK_REGISTRAR", "WATTMARK_FACTOR_PUBLISHER", "WATTMARK_GUARDIAN"])
def test_settings_of_a_live_network_have_no_defaults(world, monkeypatch, missing):
    monkeypatch.setattr(deploy.network, "show_active", lambda: "local")
    for name in ("WATTMARK_SIGNERS", "WATTMARK_REGISTRAR", "WATTMARK_FACTOR_PUBLISHER", "WATTMARK_GUARDIAN"):
        monkeypatch.setenv(name, "" if name == missing else world.buyer.address)
    with pytest.raises(deploy.DeployError, match=missing):
        deploy.Settings.from_environment(world.admin.address)


def test_sender_is_the_keystores_account(monkeypatch, tmp_path):
    private_key = key("deployer")
    (tmp_path / "keystore.json").write_text(json.dumps(Account.encrypt(private_key, "secret", iterations=2)))
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "wrong").write_text("guess\n")
    monkeypatch.setenv("WATTMARK_KEYSTORE", str(tmp_path / "keystore.json"))
    with pytest.raises(deploy.DeployError, match="WATTMARK_PASSWORD_FILE"):
        deploy.sender()
    monkeypatch.setenv("WATTMARK_PASSWORD_FILE", str(tmp_path / "wrong"))
    with pytest.raises(deploy.DeployError, match="does not open it"):
        deploy.sender()
    monkeypatch.setenv("WATTMARK_PASSWORD_FILE", str(tmp_path / "password"))
    assert deploy.sender().address == Account.from_key(private_key).address
    monkeypatch.delenv("WATTMARK_KEYSTORE")
    assert deploy.sender() == accounts[0]
