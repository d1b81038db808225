"""Etherscan's API over this chain: ``/api?module=…&action=…`` with its envelope, its words for errors, and texts for figures.

Scripts written for Etherscan work here with another address. Transactions are those that left events of these contracts;
everything else is asked of the node at the moment of asking. Nothing is sent: there is no eth_sendRawTransaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException

import oracle
from oracle.chain import artifact
from oracle.errors import ChainError

from . import etherscan_asked as asked
from .abi import artifacts
from .app import explorer, freshness, services
from .etherscan_asked import HASH, QUANTITY, Parameters, Refused
from .node import NodeRefused
from .tables import CERTIFICATE, OUTCOME

blueprint = Blueprint("etherscan", __name__)

MOST_ADDRESSES = 20
#: Names that explorers show for tokens whose contracts, as ERC-1155 has it, carry none.
SYMBOLS = {CERTIFICATE: ("Wattmark Energy Certificate", "Wh"), OUTCOME: ("Wattmark Mitigation Outcome", "gCO2e")}
NOT_VERIFIED = "Contract source code not verified"
REPOSITORY = Path(oracle.__file__).resolve().parents[1]

Action = Callable[[Parameters], Any]
_ACTIONS: dict[tuple[str, str], Action] = {}


def action(module: str, *names: str) -> Callable[[Action], Action]:
    def put(function: Action) -> Action:
        for name in names:
            _ACTIONS[module, name] = function
        return function

    return put


# -- the envelope -----------------------------------------------------------------------------------


@blueprint.get("/api")
def api() -> Response:
    module, name = request.args.get("module", "").lower(), request.args.get("action", "")
    if module not in {known for known, _ in _ACTIONS}:
        return _envelope("0", "NOTOK", "Error! Missing Or invalid Module name")
    found = _ACTIONS.get((module, name if module == "proxy" else name.lower()))
    if found is None:
        return _envelope("0", "NOTOK", "Error! Missing Or invalid Action name")
    try:
        result = found(request.args)
        return _rpc(result=result) if module == "proxy" else _envelope("1", "OK", result)
    except Refused as fault:
        if module == "proxy":
            return _rpc(error={"code": -32602, "message": str(fault.result)})
        return _envelope("0", fault.message, fault.result)
    except NodeRefused as fault:
        if module == "proxy":
            error = {"code": fault.code or -32000, "message": str(fault).removeprefix("the node refused: ")}
            return _rpc(error=error | ({"data": fault.data} if isinstance(fault.data, str) else {}))
        return _envelope("0", "NOTOK", f"Error! {fault}")
    except ChainError:
        return _envelope("0", "NOTOK", "Error! The node cannot be reached right now")


@blueprint.errorhandler(HTTPException)
def refused(fault: HTTPException) -> tuple[Response, int]:
    """What the app refuses by itself, as too many requests."""
    result = "Max rate limit reached" if fault.code == 429 else f"Error! {fault.name}"
    return _envelope("0", "NOTOK", result), fault.code or 500


def _envelope(status: str, message: str, result: Any) -> Response:
    return _json({"status": status, "message": message, "result": result})


def _rpc(**outcome: Any) -> Response:
    # The numbers are those of Etherscan's own answers.
    number = {"eth_blockNumber": 83, "eth_gasPrice": 73}.get(request.args.get("action", ""), 1)
    return _json({"jsonrpc": "2.0", "id": number, **outcome})


def _json(value: Any) -> Response:
    return current_app.response_class(orjson.dumps(value), mimetype="application/json")


# -- parameters and figures -------------------------------------------------------------------------


def _contract(given: Parameters) -> str:
    """Name of one of our contracts by ``contractaddress``."""
    name = services().index.contracts.name_of(
        asked.address(given, "contractaddress", "Error! Invalid contract address format")
    )
    if name not in SYMBOLS:
        raise Refused("Error! Invalid contract address format")
    return name


def _confirmations(block: int) -> str:
    fresh = freshness()
    return str(max((fresh.head if fresh.head is not None else fresh.block or block) - block + 1, 0))


def _found(rows: list[Any], message: str) -> list[Any]:
    if not rows:
        raise Refused([], message)
    return rows


def _quantity(value: str | None) -> str:
    return str(int(value or "0x0", 16))


# -- account ----------------------------------------------------------------------------------------


@action("account", "balance")
def balance(given: Parameters) -> str:
    return _quantity(services().node.call("eth_getBalance", asked.address(given), asked.tag(given)))


@action("account", "balancemulti")
def balancemulti(given: Parameters) -> list[dict[str, str]]:
    addresses = [text.strip() for text in given.get("address", "").split(",")]
    if len(addresses) > MOST_ADDRESSES:
        raise Refused(f"Error! Maximum of {MOST_ADDRESSES} addresses exceeded")
    known, tag = [asked.address({"address": text}) for text in addresses], asked.tag(given)
    found = services().node.batch("eth_getBalance", [[address, tag] for address in known])
    return [{"account": text, "balance": _quantity(wei)} for text, wei in zip(addresses, found, strict=True)]


@action("account", "txlist")
def txlist(given: Parameters) -> list[dict[str, str]]:
    address, (first, last), (rows, skipped) = asked.address(given), asked.span(given), asked.page(given)
    way = asked.order(given)
    sql = (
        "SELECT t.hash, t.block, b.timestamp AS time FROM tx t JOIN block b ON b.number = t.block"
        " WHERE ? IN (t.sender, t.receiver) AND t.block BETWEEN ? AND ?"
        f" ORDER BY t.block {way}, t.position {way} LIMIT ? OFFSET ?"
    )
    wanted = explorer().all(sql, address, first, last, rows, skipped)
    return _found(list(_transactions(wanted)), "No transactions found")


def _transactions(wanted: list[dict[str, Any]]) -> Iterable[dict[str, str]]:
    node, known = services().node, artifacts()
    hashes = [[row["hash"]] for row in wanted]
    sent = node.batch("eth_getTransactionByHash", hashes)
    receipts = node.batch("eth_getTransactionReceipt", hashes)
    for row, tx, receipt in zip(wanted, sent, receipts, strict=True):
        if not tx or not receipt:
            continue
        failed = int(receipt["status"], 16) != 1
        data = tx["input"]
        shape = known.functions.get(bytes.fromhex(data[2:10])) if len(data) >= 10 and tx["to"] else None
        yield {
            "blockNumber": _quantity(tx["blockNumber"]),
            "timeStamp": str(row["time"]),
            "hash": tx["hash"],
            "nonce": _quantity(tx["nonce"]),
            "blockHash": tx["blockHash"],
            "transactionIndex": _quantity(tx["transactionIndex"]),
            "from": tx["from"].lower(),
            "to": (tx["to"] or "").lower(),
            "value": _quantity(tx["value"]),
            "gas": _quantity(tx["gas"]),
            "gasPrice": _quantity(receipt.get("effectiveGasPrice") or tx.get("gasPrice")),
            "isError": "1" if failed else "0",
            "txreceipt_status": "0" if failed else "1",
            "input": data,
            "contractAddress": (receipt.get("contractAddress") or "").lower(),
            "cumulativeGasUsed": _quantity(receipt["cumulativeGasUsed"]),
            "gasUsed": _quantity(receipt["gasUsed"]),
            "confirmations": _confirmations(row["block"]),
            "methodId": data[:10] if len(data) >= 10 else "0x",
            "functionName": _spelled(shape) if shape else "",
        }


def _spelled(shape: Any) -> str:
    """A function with the names of its arguments, as Etherscan writes it."""
    return f"{shape.name}({_named(shape.inputs)})"


def _named(parts: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{_type(part)} {part['name']}".strip() for part in parts)


def _type(part: Mapping[str, Any]) -> str:
    kind = str(part["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"tuple({_named(part['components'])}){kind[5:]}"


@action("account", "txlistinternal", "tokentx", "tokennfttx", "getminedblocks")
def nothing(given: Parameters) -> Any:
    """Kinds of records that this chain's contracts leave none of: internal transfers of value, ERC-20 and ERC-721 tokens."""
    if given.get("txhash"):
        asked.tx(given)
    else:
        asked.address(given)
    raise Refused([], "No transactions found")


@action("account", "token1155tx")
def token1155tx(given: Parameters) -> list[dict[str, str]]:
    terms, values = [], []
    if given.get("contractaddress"):
        terms.append("x.contract = ?")
        values.append(_contract(given))
    if given.get("address") or not terms:
        terms.append("? IN (x.sender, x.receiver)")
        values.append(asked.address(given))
    (first, last), (rows, skipped), way = asked.span(given), asked.page(given), asked.order(given)
    sql = (
        "SELECT x.*, b.timestamp AS time FROM transfer x JOIN block b ON b.number = x.block"
        f" WHERE {' AND '.join(terms)} AND x.block BETWEEN ? AND ?"
        f" ORDER BY x.block {way}, x.log_index {way}, x.item {way} LIMIT ? OFFSET ?"
    )
    moved = explorer().all(sql, *values, first, last, rows, skipped)
    unique = list(
        {row["tx"]: {"hash": row["tx"], "block": row["block"], "time": row["time"]} for row in moved}.values()
    )
    details = {tx["hash"]: tx for tx in _transactions(unique)}
    result = []
    for row in moved:
        tx, (name, symbol) = details.get(row["tx"]), SYMBOLS[row["contract"]]
        if tx is None:
            continue
        copied = ("gas", "gasPrice", "gasUsed", "cumulativeGasUsed")
        result.append({
            **{key: tx[key] for key in ("blockNumber", "timeStamp", "hash", "nonce", "blockHash", "transactionIndex")},
            **{key: tx[key] for key in copied},
            "input": "deprecated",
            "contractAddress": services().book.contracts[row["contract"]].address.lower(),
            "from": row["sender"].lower(), "to": row["receiver"].lower(),
            "tokenID": str(int(row["id"], 16)), "tokenValue": str(row["amount"]), "tokenName": name, "tokenSymbol": symbol,
            "confirmations": tx["confirmations"],
        })  # fmt: skip
    return _found(result, "No transactions found")


@action("account", "tokenbalance")
def tokenbalance(given: Parameters) -> str:
    """What an account holds of a token contract: of one id with ``tokenid``, else of all ids together."""
    contract, address = _contract(given), asked.address(given)
    sql, values = "SELECT SUM(amount) FROM balance WHERE contract = ? AND account = ?", [contract, address]
    if given.get("tokenid"):
        sql, values = sql + " AND id = ?", [*values, _token(given)]
    return str(explorer().number(sql, *values))


def _token(given: Parameters) -> str:
    text = given.get("tokenid", "").strip()
    if HASH.fullmatch(text):
        return text.lower()
    if re.fullmatch("[0-9]{1,78}", text) and int(text) < 1 << 256:
        return f"0x{int(text):064x}"
    raise Refused("Error! Invalid tokenid")


@action("account", "addresstoken1155inventory", "addresstokenbalance")
def inventory(given: Parameters) -> list[dict[str, str]]:
    """Every id that an account holds, with its amount."""
    address, (rows, skipped) = asked.address(given), asked.page(given)
    sql, values = "SELECT contract, id, amount FROM balance WHERE account = ?", [address]
    if given.get("contractaddress"):
        sql, values = sql + " AND contract = ?", [*values, _contract(given)]
    held = explorer().all(f"{sql} ORDER BY contract, id LIMIT ? OFFSET ?", *values, rows, skipped)
    return _found([
        {"TokenAddress": services().book.contracts[row["contract"]].address.lower(), "TokenId": str(int(row["id"], 16)),
         "TokenQuantity": str(row["amount"]), "TokenName": SYMBOLS[row["contract"]][0], "TokenSymbol": SYMBOLS[row["contract"]][1]}
        for row in held
    ], "No token found")  # fmt: skip


# -- token and stats --------------------------------------------------------------------------------


@action("token", "tokeninfo")
def tokeninfo(given: Parameters) -> list[dict[str, str]]:
    contract = _contract(given)
    name, symbol = SYMBOLS[contract]
    return [{
        "contractAddress": services().book.contracts[contract].address.lower(), "tokenName": name, "symbol": symbol,
        "divisor": "0", "tokenType": "ERC1155", "totalSupply": tokensupply(given),
    }]  # fmt: skip


@action("token", "tokenholderlist")
def tokenholderlist(given: Parameters) -> list[dict[str, str]]:
    contract, (rows, skipped) = _contract(given), asked.page(given)
    held = explorer().all(
        "SELECT account, SUM(amount) AS amount FROM balance WHERE contract = ? GROUP BY account ORDER BY 2 DESC, 1 LIMIT ? OFFSET ?",
        contract, rows, skipped,
    )  # fmt: skip
    rows_ = [{"TokenHolderAddress": row["account"].lower(), "TokenHolderQuantity": str(row["amount"])} for row in held]
    return _found(rows_, "No token holders found")


@action("token", "tokenholdercount")
def tokenholdercount(given: Parameters) -> str:
    return str(explorer().number("SELECT COUNT(DISTINCT account) FROM balance WHERE contract = ?", _contract(given)))


@action("stats", "tokensupply")
def tokensupply(given: Parameters) -> str:
    """Live amount of all ids together, in the token's smallest unit."""
    return str(explorer().number("SELECT SUM(amount) FROM balance WHERE contract = ?", _contract(given)))


# -- contract ---------------------------------------------------------------------------------------


@action("contract", "getabi")
def getabi(given: Parameters) -> str:
    name = services().index.contracts.name_of(asked.address(given, error="Error! Invalid contract address format"))
    if name is None or name not in artifacts().abis:
        raise Refused(NOT_VERIFIED)
    return orjson.dumps(artifacts().abis[name]).decode()


@action("contract", "getsourcecode")
def getsourcecode(given: Parameters) -> list[dict[str, str]]:
    """What was compiled, and how. Where the app runs without the repository, the hash of the sources stands for them."""
    name = services().index.contracts.name_of(asked.address(given, error="Error! Invalid contract address format"))
    empty = dict.fromkeys((
        "SourceCode", "ABI", "ContractName", "CompilerVersion", "OptimizationUsed", "Runs", "ConstructorArguments", "EVMVersion",
        "Library", "LicenseType", "Proxy", "Implementation", "SwarmSource",
    ), "")  # fmt: skip
    if name is None or name not in artifacts().abis:
        return [{**empty, "ABI": NOT_VERIFIED, "Proxy": "0"}]
    made = artifact(name)
    settings, file = made["compiler"]["settings"], REPOSITORY / made["sourceName"]
    source = (
        file.read_text(encoding="utf-8") if file.is_file() else f"// {made['sourceName']}: SHA-256 {made['sourceHash']}"
    )
    return [{
        **empty, "SourceCode": source, "ABI": getabi(given), "ContractName": name,
        "CompilerVersion": f"v{made['compiler']['version']}", "OptimizationUsed": str(int(settings["optimizer"]["enabled"])),
        "Runs": str(settings["optimizer"]["runs"]), "EVMVersion": settings["evmVersion"], "LicenseType": "MIT", "Proxy": "0",
    }]  # fmt: skip


@action("contract", "getcontractcreation")
def getcontractcreation(given: Parameters) -> list[dict[str, str]]:
    addresses = [text.strip() for text in given.get("contractaddresses", "").split(",")]
    if len(addresses) > 5:
        raise Refused("Error! Maximum of 5 addresses exceeded")
    result = []
    for text in addresses:
        address = asked.address({"address": text}, error="Error! Invalid contract address format")
        name = services().index.contracts.name_of(address)
        entry = services().book.contracts.get(name or "")
        tx = services().node.call("eth_getTransactionByHash", "0x" + entry.transaction.hex()) if entry else None
        if entry and tx:
            creation = {"contractCreator": tx["from"].lower(), "txHash": "0x" + entry.transaction.hex()}
            result.append({"contractAddress": address.lower(), **creation})
    return _found(result, "No data found")


# -- transaction and block --------------------------------------------------------------------------


def _receipt(given: Parameters) -> Any:
    return services().node.call("eth_getTransactionReceipt", asked.tx(given))


@action("transaction", "getstatus")
def getstatus(given: Parameters) -> dict[str, str]:
    receipt = _receipt(given)
    failed = receipt is not None and int(receipt["status"], 16) != 1
    if not failed:
        return {"isError": "0", "errDescription": ""}
    from .pages.public import revert_reason

    reason = revert_reason(services().node.call("eth_getTransactionByHash", asked.tx(given)))
    arguments = ", ".join(f"{name}={value}" for name, value in reason["args"].items()) if reason else ""
    return {"isError": "1", "errDescription": f"{reason['name']}({arguments})" if reason else "Reverted"}


@action("transaction", "gettxreceiptstatus")
def gettxreceiptstatus(given: Parameters) -> dict[str, str]:
    receipt = _receipt(given)
    return {"status": "" if receipt is None else str(int(receipt["status"], 16))}


@action("block", "getblocknobytime")
def getblocknobytime(given: Parameters) -> str:
    """Number of the last block not after ``timestamp``, or with closest=after of the first not before it."""
    wanted, closest = asked.number(given, "timestamp", -1), given.get("closest", "before").lower()
    if wanted < 0 or closest not in ("before", "after"):
        raise Refused("Error! Invalid timestamp" if wanted < 0 else "Error! Invalid closest")
    head = int(services().node.call("eth_blockNumber"), 16)
    low, high = 0, head + 1  # the first block after `wanted` is in [low, high]
    while low < high:
        middle = (low + high) // 2
        if _time_of(middle) > wanted:
            high = middle
        else:
            low = middle + 1
    if closest == "after":
        found = low - 1 if low and _time_of(low - 1) == wanted else low
        while found and found <= head and _time_of(found - 1) == wanted:
            found -= 1
    else:
        found = low - 1
    if not 0 <= found <= head:
        raise Refused("Error! No closest block found")
    return str(found)


def _time_of(number: int) -> int:
    block = services().node.call("eth_getBlockByNumber", hex(number), False)
    if block is None:
        raise Refused("Error! No closest block found")
    return int(block["timestamp"], 16)


# -- logs -------------------------------------------------------------------------------------------


@action("logs", "getlogs")
def getlogs(given: Parameters) -> list[dict[str, Any]]:
    """Logs as the node has them, by address and up to four topics joined by ``topicI_J_opr`` (and, or)."""
    wanted: dict[str, Any] = {}
    if given.get("address"):
        wanted["address"] = asked.address(given)
    topics = {i: given[f"topic{i}"].strip() for i in range(4) if given.get(f"topic{i}")}
    if any(not HASH.fullmatch(topic) for topic in topics.values()):
        raise Refused("Error! Invalid topic format")
    if not wanted and not topics:
        raise Refused("Error! Missing address or topic")
    head = int(services().node.call("eth_blockNumber"), 16)
    first, last = asked.block(given, "fromBlock", 0), min(asked.block(given, "toBlock", head), head)
    if last < first:
        raise Refused([], "No records found")
    if last - first > 100_000:
        first_known = services().book.deployed_block
        first = max(first, first_known)
    alternatives = {
        tuple(sorted((i, j)))
        for i in topics for j in topics
        if i < j and given.get(f"topic{i}_{j}_opr", "and").lower() == "or"
    }  # fmt: skip
    # The node joins topics by "and"; where some are joined by "or", it is asked less and the rest is done here.
    loose = {i for pair in alternatives for i in pair}
    pattern = [topics[i] if i in topics and i not in loose else None for i in range(max(topics, default=-1) + 1)]
    span = {"fromBlock": hex(first), "toBlock": hex(last), "topics": pattern}
    logs = services().node.call("eth_getLogs", {**wanted, **span})
    if loose:
        logs = [log for log in logs if any(_has(log, i, topics[i]) for i in loose)]
    rows, skipped = asked.page(given)
    return _found(_logs(logs[skipped : skipped + rows]), "No records found")


def _has(log: Mapping[str, Any], place: int, topic: str) -> bool:
    return len(log["topics"]) > place and str(log["topics"][place]).lower() == topic.lower()


def _logs(logs: list[Any]) -> list[dict[str, Any]]:
    node = services().node
    numbers = list(dict.fromkeys(log["blockNumber"] for log in logs))
    blocks = dict(
        zip(numbers, node.batch("eth_getBlockByNumber", [[number, False] for number in numbers]), strict=True)
    )
    hashes = list(dict.fromkeys(log["transactionHash"] for log in logs))
    receipts = dict(zip(hashes, node.batch("eth_getTransactionReceipt", [[tx] for tx in hashes]), strict=True))
    return [
        {
            "address": log["address"].lower(), "topics": log["topics"], "data": log["data"], "blockNumber": log["blockNumber"],
            "blockHash": log["blockHash"], "timeStamp": blocks[log["blockNumber"]]["timestamp"],
            "gasPrice": receipts[log["transactionHash"]].get("effectiveGasPrice", "0x0"),
            "gasUsed": receipts[log["transactionHash"]]["gasUsed"],
            "logIndex": _hex(log["logIndex"]), "transactionHash": log["transactionHash"],
            "transactionIndex": _hex(log["transactionIndex"]),
        }
        for log in logs
        if blocks[log["blockNumber"]] and receipts[log["transactionHash"]]
    ]  # fmt: skip


def _hex(quantity: str) -> str:
    """Etherscan writes the index 0 of a log as a bare 0x."""
    return "0x" if int(quantity, 16) == 0 else quantity


# -- proxy ------------------------------------------------------------------------------------------


def _proxy(name: str, *parts: Callable[[Parameters], Any]) -> None:
    """An action that hands its checked parameters to the node."""

    @action("proxy", name)
    def passed(given: Parameters) -> Any:
        return services().node.call(name, *(part(given) for part in parts))


def _call_of(given: Parameters) -> dict[str, str]:
    call = {"to": asked.address(given, "to"), "data": asked.data(given)}
    for name in ("value", "gas", "gasPrice"):
        if given.get(name):
            call[name] = _quantity_of(given, name)
    if given.get("from"):
        call["from"] = asked.address(given, "from")
    return call


def _quantity_of(given: Parameters, name: str) -> str:
    text = given.get(name, "").strip()
    if not QUANTITY.fullmatch(text):
        raise Refused(f"Error! Invalid {name}")
    return text


def _position(given: Parameters) -> str:
    text = given.get("position", "").strip()
    if not re.fullmatch("0x[0-9a-fA-F]{1,64}", text):
        raise Refused("Error! Invalid position")
    return text


_proxy("eth_blockNumber")
_proxy("eth_gasPrice")
_proxy("eth_chainId")
_proxy("eth_getBlockByNumber", asked.tag, lambda given: given.get("boolean", "false").lower() == "true")
_proxy("eth_getBlockTransactionCountByNumber", asked.tag)
_proxy("eth_getTransactionByHash", asked.tx)
_proxy("eth_getTransactionByBlockNumberAndIndex", asked.tag, lambda given: _quantity_of(given, "index"))
_proxy("eth_getTransactionCount", asked.address, asked.tag)
_proxy("eth_getTransactionReceipt", asked.tx)
_proxy("eth_call", _call_of, asked.tag)
_proxy("eth_estimateGas", _call_of)
_proxy("eth_getCode", asked.address, asked.tag)
_proxy("eth_getStorageAt", asked.address, _position, asked.tag)
