"""./run deploy from the outside: dry run, deployment by brownie, check, Safe; and where its secrets show"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

from scripts.networks import connect
from scripts.roles import ROLES
from tests.deploy.bed import ROOT, SIGNERS, Node, account, ask, chain, give

pytestmark = pytest.mark.slow
CHAIN_ID = 77_006
SECRET = "secret-of-a-provider-7f3a"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with chain(tmp_path_factory.mktemp("chain"), chain_id=CHAIN_ID) as address:
        yield address


@pytest.fixture
def environment(url, tmp_path):
    deployer = account("deployer of commands")
    give(connect(url), deployer.address)
    (tmp_path / "keystore.json").write_text(json.dumps(Account.encrypt(deployer.key, "secret", iterations=2)))
    (tmp_path / "password").write_text("secret\n")
    roles = {role.variable: account(role.name).address for role in ROLES}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("WATTMARK_")},
        **roles,
        "WATTMARK_RPC": url,
        "WATTMARK_SIGNERS": ",".join(SIGNERS),
        "WATTMARK_ADDRESSES": str(tmp_path / "book.json"),
        "WATTMARK_KEYSTORE": str(tmp_path / "keystore.json"),
        "WATTMARK_PASSWORD_FILE": str(tmp_path / "password"),
    }


def command(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, ROOT / "run", "deploy", *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process) -> dict:
    """The JSON object of the last line."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error + out
    return json.loads(out.splitlines()[-1])


def shown_secrets() -> list[str]:
    """Command lines and files of the state folder's homes that hold the secret now."""
    found = []
    for place in [*Path("/proc").glob("[0-9]*/cmdline"), *(ROOT / ".wattmark" / "home").glob("**/*")]:
        try:
            if place.is_file() and SECRET.encode() in place.read_bytes():
                found.append(str(place))
        except OSError:
            continue
    return found


def test_deploy_costs_what_its_dry_run_said_and_passes_its_check(url, environment):
    w3, deployer = connect(url), account("deployer of commands").address
    tried = finished(command({**environment, "WATTMARK_PASSWORD_FILE": ""}, "--network", "private", "--dry-run"))
    assert tried["dryRun"] and len(tried["steps"]) == 11 and tried["from"] == deployer
    assert (w3.eth.get_transaction_count(deployer), w3.eth.get_balance(deployer)) == (0, 100 * 10**18)
    before = w3.eth.get_balance(deployer)
    done = finished(command(environment, "--network", "private"))
    assert (done["chainId"], done["transactions"], len(done["deployed"])) == (CHAIN_ID, 11, 7)
    assert done["gas"] == tried["gas"] == sum(step["gas"] for step in tried["steps"])
    assert 0 < before - w3.eth.get_balance(deployer) <= tried["feeAtMostWei"]
    again = finished(command(environment, "--network", "private"))
    assert (again["transactions"], again["deployed"]) == (0, [])

    assert finished(command(environment, "--network", "private", "--check", "--json"))["ok"]
    guardian = account("guardian").address
    give(w3, guardian)
    ask(w3, "anvil_impersonateAccount", guardian)
    notary = json.loads(Path(environment["WATTMARK_ADDRESSES"]).read_text())["contracts"]["Notary"]["address"]
    paused = w3.eth.send_transaction({"from": guardian, "to": notary, "data": w3.keccak(text="pause()")[:4]})
    assert w3.eth.wait_for_transaction_receipt(paused, poll_latency=0.02)["status"] == 1
    process = command(environment, "--network", "private", "--check")
    assert "DIFFERS  Notary paused" in process.communicate(timeout=60)[0]
    assert process.returncode == 1


def test_deploy_for_a_safe_writes_its_file_and_tells_what_is_left(environment, tmp_path):
    process = command(environment, "--network", "private", "--safe", str(tmp_path / "acts.json"))
    done = finished(process)
    assert (done["complete"], done["acts"], done["transactions"]) == (False, 24, 7)
    document = json.loads((tmp_path / "acts.json").read_text())
    assert len(document["transactions"]) == 24 and document["chainId"] == str(CHAIN_ID)
    assert document["meta"]["createdFromSafeAddress"] == account("administrator").address
    assert not (tmp_path / "book.json").exists()


def test_shown_secrets_finds_a_command_line_and_a_file():
    place = ROOT / ".wattmark" / "home" / str(os.getpid()) / "planted"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(SECRET)
    process = subprocess.Popen([sys.executable, "-c", "input()", SECRET], stdin=subprocess.PIPE)
    try:
        assert set(shown_secrets()) >= {f"/proc/{process.pid}/cmdline", str(place)}
    finally:
        process.communicate()
        place.unlink()
        place.parent.rmdir()


def test_deploy_dry_run_keeps_a_providers_key_out_of_command_lines_and_files(url, environment):
    with Node(url) as node:
        process = command(
            {**environment, "WATTMARK_RPC": f"{node.url}/v3/{SECRET}"}, "--network", "private", "--dry-run"
        )
        found = []
        while process.poll() is None:
            found += shown_secrets()
            try:
                process.wait(0.3)
            except subprocess.TimeoutExpired:
                continue
        out, error = process.communicate()
    assert process.returncode == 0, error
    assert found == [] and SECRET not in out + error
    assert "eth_sendRawTransaction" not in node.seen and "eth_sendTransaction" not in node.seen


def test_deploy_to_a_network_that_is_unknown_exits_1_and_names_those_there_are(environment):
    process = command(environment, "--network", "atlantis")
    assert "no network 'atlantis' in networks.yaml; it has local, private" in process.communicate(timeout=120)[1]
    assert process.returncode == 1
