"""scripts/safe.py and a deployment whose administrator is a Safe"""

import json

import pytest
from eth_abi import encode
from eth_utils import function_signature_to_4byte_selector

from scripts import safe
from scripts.addresses import partial
from scripts.deployment import Deployment, deploy
from scripts.deployment_check import facts, require
from scripts.deployment_settings import Settings
from scripts.networks import DeployError, connect
from scripts.roles import ROLES
from tests.deploy.bed import Node, account, ask, chain, give, run, run_killed, settings

# A batch with its checksum as the Transaction Builder itself exported it.
EXPORTED = {
    "version": "1.0",
    "chainId": "1",
    "createdAt": 1761326849944,
    "meta": {
        "name": "Transactions Batch",
        "description": "",
        "txBuilderVersion": "1.18.2",
        "createdFromSafeAddress": "0xA77DE01e157f9f57C7c4A326eeE9C4874D0598b6",
        "createdFromOwnerAddress": "",
        "checksum": "0x8b5032f716845c8b08bab3d63dbd9ba92e056f3557793cd041e59b84e16aa989",
    },
    "transactions": [
        {
            "to": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            "value": "0",
            "data": None,
            "contractMethod": {
                "inputs": [
                    {"internalType": "address", "name": "spender", "type": "address"},
                    {"internalType": "uint256", "name": "value", "type": "uint256"},
                ],
                "name": "approve",
                "payable": False,
            },
            "contractInputsValues": {
                "spender": "0x474e5Ded6b5D078163BFB8F6dBa355C3aA5478C8",
                "value": "100000000000",
            },
        }
    ],
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with chain(tmp_path_factory.mktemp("chain"), chain_id=77_003) as address:
        yield address


def test_checksum_of_an_exported_batch_is_its_own():
    assert safe.checksum(EXPORTED) == EXPORTED["meta"]["checksum"]


def test_checksum_ignores_the_name_and_nothing_else():
    renamed = {**EXPORTED, "meta": {**EXPORTED["meta"], "name": "Another"}}
    assert safe.checksum(renamed) == EXPORTED["meta"]["checksum"]
    for change in ({"chainId": "2"}, {"transactions": []}, {"createdAt": 0}):
        assert safe.checksum({**EXPORTED, **change}) != EXPORTED["meta"]["checksum"]


def read_back(text: str, kind: str):
    """A value of the Transaction Builder's form as the ABI takes it."""
    if kind.endswith("[]"):
        return [read_back(one, kind[:-2]) for one in text.strip("[]").split(",")]
    if kind.startswith("bytes"):
        return bytes.fromhex(text[2:])
    return int(text) if kind.startswith("uint") else text


def calldata(method, values) -> str:
    kinds = [entry["type"] for entry in method["inputs"]]
    arguments = [read_back(values[entry["name"]], entry["type"]) for entry in method["inputs"]]
    selector = function_signature_to_4byte_selector(f"{method['name']}({','.join(kinds)})")
    return "0x" + (selector + encode(kinds, arguments)).hex()


def test_deploy_for_a_safe_leaves_it_exactly_what_makes_the_deployment_complete(url, tmp_path):
    """The Safe's calls, executed in the file's order by its address, complete the deployment; the deployer never has a role."""
    w3, deployer, owner = connect(url), account("deployer"), account("the safe").address
    give(w3, deployer.address)
    made = settings(tmp_path, safe=tmp_path / "acts.json")
    made.holders["administrator"] = owner
    done = run(url, deployer, made)
    # Two bindings; seven targets of roles other than the administrator's; label and holder of seven roles; the delay.
    assert (done.sent, len(done.outstanding)) == (7, 2 + 7 + 7 * 2 + 1)
    assert not made.book.exists() and partial(made.book).exists()
    with pytest.raises(DeployError, match="DeviceRegistry.certificate"):
        require(facts(w3, json.loads(partial(made.book).read_text())))

    document = safe.batch(77_003, owner, 0, "n", "d", [done.call(act) for act in done.outstanding])
    assert document["meta"]["checksum"] == safe.checksum(document)
    assert (document["version"], document["chainId"]) == ("1.0", "77003")
    give(w3, owner)
    ask(w3, "anvil_impersonateAccount", owner)
    for one in document["transactions"]:
        assert one["data"] == calldata(one["contractMethod"], one["contractInputsValues"])
        sent = w3.eth.send_transaction(
            {"from": owner, "to": one["to"], "data": one["data"], "value": int(one["value"])}
        )
        assert w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)["status"] == 1

    done = run(url, deployer, made)
    assert (done.sent, done.outstanding) == (0, [])
    book = json.loads(made.book.read_text())
    assert require(facts(w3, book)) > 100
    assert book["roles"]["administrator"] == {"id": 0, "holder": owner, "delaySeconds": 172_800}


def test_deploy_for_a_safe_half_done_names_the_rest_alone(url, tmp_path):
    w3, deployer, owner = connect(url), account("deployer of half"), account("half a safe").address
    give(w3, deployer.address)
    give(w3, owner)
    made = settings(tmp_path, safe=tmp_path / "acts.json")
    made.holders["administrator"] = owner
    first = run(url, deployer, made)
    ask(w3, "anvil_impersonateAccount", owner)
    for act in first.outstanding[:2]:
        call = first.call(act)
        w3.eth.wait_for_transaction_receipt(
            w3.eth.send_transaction({"from": owner, "to": call.to, "data": call.data}), poll_latency=0.02
        )
    second = run(url, deployer, made)
    assert second.outstanding == first.outstanding[2:]


def test_deploy_for_a_safe_without_its_flag_is_refused(url, tmp_path):
    w3, deployer = connect(url), account("forgetful")
    give(w3, deployer.address)
    made = settings(tmp_path, safe=tmp_path / "acts.json")
    run(url, deployer, made)
    with pytest.raises(DeployError, match="is not administrator; .* --safe FILE"):
        deploy(Deployment(w3, deployer, settings(tmp_path), {}))


def test_deploy_for_a_safe_of_what_was_begun_without_is_refused(url, tmp_path):
    """The Safe could not execute what it was given: it is no administrator yet."""
    w3, deployer = connect(url), account("late")
    give(w3, deployer.address)
    made = settings(tmp_path)
    with Node(url, cut="after") as node:
        run_killed(node, deployer, made)
    with pytest.raises(
        DeployError, match=f"{made.holders['administrator']} is not administrator; go on without --safe"
    ):
        run(url, deployer, settings(tmp_path, safe=tmp_path / "acts.json"))
    assert run(url, deployer, made).sent == 4


def test_settings_of_a_safe_that_is_the_deployer_are_refused(tmp_path):
    deployer = account("deployer").address
    given = {role.variable: deployer for role in ROLES} | {"WATTMARK_SIGNERS": deployer}
    with pytest.raises(DeployError, match="WATTMARK_ADMIN to the address of the Safe"):
        Settings.read(given, deployer, tmp_path / "book.json", "test", safe=tmp_path / "acts.json")
