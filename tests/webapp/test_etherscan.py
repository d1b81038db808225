"""Etherscan's API: golden answers, filled in from what web3 reads off the chain, and what the contracts' ABIs say.

A golden file is a query and the whole answer. ``$name.field`` stands for a fact of the chain that differs from run to run
(hashes, times, gas); everything else, down to the order of keys, is written out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
PLACE = re.compile(r"\$\{?(\w+(?:\.\w+)*)\}?")


@pytest.fixture(scope="module")
def reverted(world) -> str:
    call = world.contracts["EnergyCertificate"].functions.retire(world.done["tokens"][0], 0, world.details(2, "a", "b"))
    tx = call.transact({"from": world.account(2), "gas": 500_000})
    world.w3.eth.wait_for_transaction_receipt(tx, poll_latency=0.01)
    return world.w3.to_hex(tx)


@pytest.fixture(scope="module")
def facts(world, app, reverted) -> dict[str, str]:
    """What web3 and the address book say, as the golden files name it."""
    eth, hexed = world.w3.eth, world.w3.to_hex
    app.extensions["wattmark"].refresh()
    head = eth.block_number
    known: dict[str, str] = {"head.number.hex": hex(head), "genesis.timestamp": str(eth.get_block(0)["timestamp"])}
    for name, number in (("admin", 0), ("generator", 1), ("buyer", 2)):
        address = world.account(number).lower()
        known |= {
            name: address, f"{name}.balance": str(eth.get_balance(world.account(number))), f"{name}.word": "0" * 24 + address[2:],
            f"{name}.topic": "0x" + "0" * 24 + address[2:], f"{name}.nonce.hex": hex(eth.get_transaction_count(world.account(number))),
        }  # fmt: skip
    for name, contract in world.contracts.items():
        known[name] = contract.address.lower()
    book = json.loads(world.addresses_path.read_text())["contracts"]
    known["Notary.transaction"] = book["Notary"]["transaction"]
    called: dict[str, list[str]] = {}
    for tx in world.chain_transactions:
        sent = eth.get_transaction(tx)
        contract = next(c for c in world.contracts.values() if c.address == sent["to"])
        called.setdefault(contract.decode_function_input(sent["input"])[0].fn_name, []).append(tx)
    named = {
        "transfer0": called["safeTransferFrom"][0], "transfer1": called["safeTransferFrom"][1], "retire": called["retire"][0],
        "retireBatch": called["retireBatch"][0], "reverted": reverted,
    }  # fmt: skip
    for name, tx in named.items():
        sent, receipt = eth.get_transaction(tx), eth.get_transaction_receipt(tx)
        block = eth.get_block(receipt["blockNumber"])
        numbers = {
            "blockNumber": receipt["blockNumber"], "timestamp": block["timestamp"], "nonce": sent["nonce"],
            "gasUsed": receipt["gasUsed"], "effectiveGasPrice": receipt["effectiveGasPrice"],
            "confirmations": head - receipt["blockNumber"] + 1,
        }  # fmt: skip
        known |= {f"{name}.{key}": str(value) for key, value in numbers.items()}
        known |= {f"{name}.{key}.hex": hex(value) for key, value in numbers.items()}
        known |= {f"{name}.hash": tx, f"{name}.blockHash": hexed(block["hash"]), f"{name}.input": hexed(sent["input"])}
    return known


def filled(value, facts: dict[str, str]):
    if isinstance(value, str):
        return PLACE.sub(lambda found: facts[found[1]], value)
    if isinstance(value, list):
        return [filled(item, facts) for item in value]
    return {key: filled(inner, facts) for key, inner in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_answer_is_the_golden_one(client, facts, file):
    golden = filled(json.loads(file.read_text()), facts)
    answer = client.get("/api", query_string=golden["query"])
    assert answer.status_code == 200
    # The order of keys is part of the answer: old scripts read it by eye.
    assert json.dumps(answer.json, indent=1, sort_keys=False) == json.dumps(golden["answer"], indent=1, sort_keys=False)


def test_every_module_and_action_has_a_golden_file():
    from webapp import etherscan

    asked = {
        (query.get("module", ""), query.get("action", "") if query.get("module") == "proxy" else query.get("action", "").lower())
        for query in (json.loads(file.read_text())["query"] for file in GOLDEN)
    }  # fmt: skip
    alike = {
        "tokennfttx", "getminedblocks", "addresstokenbalance", "getabi", "getsourcecode", "eth_gasPrice", "eth_chainId",
        "eth_getBlockByNumber", "eth_getBlockTransactionCountByNumber", "eth_getTransactionByHash", "eth_getStorageAt",
        "eth_getTransactionByBlockNumberAndIndex", "eth_getTransactionReceipt", "eth_estimateGas",
    }  # fmt: skip
    assert {pair for pair in etherscan._ACTIONS if pair[1] not in alike} <= asked


def test_getabi_and_getsourcecode_of_each_contract_are_those_committed(client, world, w):
    for name, contract in world.contracts.items():
        committed = json.loads((w.ARTIFACTS / f"{name}.json").read_text())
        answer = client.get(
            "/api", query_string={"module": "contract", "action": "getabi", "address": contract.address}
        ).json
        assert answer["status"] == "1" and json.loads(answer["result"]) == committed["abi"]
        [told] = client.get(
            "/api", query_string={"module": "contract", "action": "getsourcecode", "address": contract.address}
        ).json["result"]
        assert told["ContractName"] == name and told["ABI"] == answer["result"]
        assert told["CompilerVersion"] == "v" + committed["compiler"]["version"] and told["Runs"] == "200"
        assert all(isinstance(value, str) for value in told.values())
        if name != "AccessManager":
            assert f"contract {name}" in told["SourceCode"]


@pytest.mark.parametrize(("action", "query"), [
    ("eth_getBlockByNumber", {"tag": "0x1", "boolean": "true"}), ("eth_getBlockTransactionCountByNumber", {"tag": "0x1"}),
    ("eth_gasPrice", {}), ("eth_chainId", {}), ("eth_getTransactionByHash", {"txhash": "$retire.hash"}),
    ("eth_getTransactionReceipt", {"txhash": "$retire.hash"}), ("eth_getStorageAt", {"address": "$Notary", "position": "0x0", "tag": "latest"}),
    ("eth_getTransactionByBlockNumberAndIndex", {"tag": "$retire.blockNumber.hex", "index": "0x0"}),
])  # fmt: skip
def test_proxy_hands_on_what_the_node_says(client, world, facts, action, query):
    query = filled(query, facts)
    parameters = [value == "true" if name == "boolean" else value for name, value in query.items()]
    if action == "eth_getBlockByNumber":
        parameters = ["0x1", True]
    answer = client.get("/api", query_string={"module": "proxy", "action": action, **query}).json
    assert answer["result"] == world.anvil.rpc(action, *parameters)


def test_estimategas_is_the_nodes(client, world, facts):
    call = {"to": facts["EnergyCertificate"], "data": "0x00fdd58e" + facts["buyer.word"] + "0" * 64}
    answer = client.get("/api", query_string={"module": "proxy", "action": "eth_estimateGas", **call}).json
    assert answer["result"] == world.anvil.rpc("eth_estimateGas", call)


def test_block_by_time_is_found_by_search(client, world):
    eth = world.w3.eth
    times = [eth.get_block(n)["timestamp"] for n in range(eth.block_number + 1)]
    for wanted in {times[0], times[3], times[-1], times[5] + 1, times[-1] + 100}:
        before = [n for n, at in enumerate(times) if at <= wanted][-1]
        after = next((n for n, at in enumerate(times) if at >= wanted), None)
        for closest, expected in (("before", before), ("after", after)):
            answer = client.get("/api", query_string={
                "module": "block", "action": "getblocknobytime", "timestamp": str(wanted), "closest": closest,
            }).json  # fmt: skip
            assert answer["result"] == ("Error! No closest block found" if expected is None else str(expected)), (
                wanted,
                closest,
            )


def test_logs_joined_by_or_are_those_of_either_topic(client, world, facts):
    single = "0xc3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62"
    query = {
        "module": "logs", "action": "getLogs", "fromBlock": "0", "toBlock": "latest", "address": facts["EnergyCertificate"],
        "topic0": single, "topic2": facts["buyer.topic"], "topic3": facts["buyer.topic"], "topic2_3_opr": "or",
    }  # fmt: skip
    found = client.get("/api", query_string=query).json["result"]
    every = world.w3.eth.get_logs(
        {"fromBlock": 0, "address": world.contracts["EnergyCertificate"].address, "topics": [single]}
    )
    expected = [
        (world.w3.to_hex(log["transactionHash"]), hex(log["logIndex"]) if log["logIndex"] else "0x")
        for log in every
        if facts["buyer.topic"] in [world.w3.to_hex(topic) for topic in log["topics"][2:4]]
    ]
    assert len(expected) >= 3 and [(log["transactionHash"], log["logIndex"]) for log in found] == expected


def test_node_that_does_not_answer_is_told_in_the_envelope(fresh_world, app_of):
    client = app_of(fresh_world).test_client()
    fresh_world.anvil.stop()
    for query in ("module=account&action=balance&address=" + "0x" + "12" * 20, "module=proxy&action=eth_blockNumber"):
        answer = client.get(f"/api?{query}")
        assert answer.status_code == 200
        assert answer.json == {
            "status": "0",
            "message": "NOTOK",
            "result": "Error! The node cannot be reached right now",
        }


HOSTILE = [
    "",
    "0x",
    "' OR 1=1 --",
    "<script>",
    "\x00",
    "9" * 400,
    "0x" + "f" * 64,
    "-1",
    "1e9",
    "٣",
    "latest",
    "0x" + "g" * 40,
    "a,b,c",
]


def test_parameters_of_any_kind_never_break_it(client):
    from webapp import etherscan

    names = ("address", "txhash", "contractaddress", "tag", "page", "offset", "startblock", "fromBlock", "timestamp", "topic0", "data",
             "to", "tokenid", "index", "position", "contractaddresses")  # fmt: skip
    for module, action in etherscan._ACTIONS:
        for text in HOSTILE:
            answer = client.get("/api", query_string={"module": module, "action": action, **dict.fromkeys(names, text)})
            assert answer.status_code == 200, (module, action, text)
            assert set(answer.json) in (
                {"status", "message", "result"},
                {"jsonrpc", "id", "result"},
                {"jsonrpc", "id", "error"},
            )
