"""The ERC-7730 files against the ABI, against the contract's own signature check, and against what the format allows."""

from __future__ import annotations

import json
import re

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from oracle.protocol import keccak256
from webapp import clear_signing
from webapp.abi import artifacts, canonical
from webapp.pages.portfolio import WALLET_CALLS

CALLDATA = [name for name in clear_signing.NAMES if name.startswith("calldata-")]
MESSAGES = [name for name in clear_signing.NAMES if name.startswith("eip712-")]
#: anvil's own accounts are those of its well-known mnemonic.
MNEMONIC = "test test test test test test test test test test test junk"
#: Parameters that a format may have, and the types it can show.
FORMATS = {
    "raw": (set(), r".*"), "addressName": ({"types", "sources"}, r"address"), "date": ({"encoding"}, r"uint\d+"),
    "duration": (set(), r"uint\d+"), "unit": ({"base", "decimals", "prefix"}, r"uint\d+"),
}  # fmt: skip
#: Characters that devices show of an intent and of a label.
MOST_INTENT, MOST_LABEL = 30, 20


def file_of(name):
    return json.loads((clear_signing.FOLDER / f"{name}.json").read_text())


def leaves(inputs, before=""):
    """Path and type of every value in ABI inputs, as the files write paths."""
    for part in inputs:
        kind, path = part["type"], before + part["name"]
        if kind.startswith("tuple"):
            yield from leaves(part["components"], f"{path}{'.[]' if kind.endswith('[]') else ''}.")
        else:
            yield path, kind


def faults(key, form, inputs):
    """What is wrong with one format: unknown or silent values, formats that cannot show their type, stray keys."""
    known = dict(leaves(inputs))
    found, told = [], set()
    if set(form) != {"intent", "fields"} or not 0 < len(form["intent"]) <= MOST_INTENT:
        found.append(f"{key}: keys {sorted(form)}, intent {form.get('intent')}")
    for field in form["fields"]:
        path = field["path"]
        told.add(path.removesuffix(".[]"))
        kind = known.get(path) if path in known else known.get(path.removesuffix(".[]"))
        allowed, types = FORMATS[field["format"]]
        if kind is None:
            found.append(f"{key}: no value at {path}")
            continue
        if not 0 < len(field["label"]) <= MOST_LABEL:
            found.append(f"{key}: label {field['label']}")
        if set(field) - {"path", "label", "format", "params", "visible"} or set(field.get("params", {})) - allowed:
            found.append(f"{key}: stray keys at {path}")
        if kind.endswith("[]") != path.endswith(".[]") and field.get("visible") != "never":
            found.append(f"{key}: {path} is {kind}")
        if not re.fullmatch(types, kind.removesuffix("[]")):
            found.append(f"{key}: {field['format']} cannot show {kind} at {path}")
        if field.get("visible", "always") not in ("always", "never"):
            found.append(f"{key}: {path} is {field['visible']}")
    found += [f"{key}: {path} is silent" for path in known if path not in told]
    return found


def spelled(function):
    """A function's signature with parameter names, as format keys spell it."""

    def part(given):
        kind = given["type"]
        if kind.startswith("tuple"):
            kind = f"({', '.join(map(part, given['components']))}){kind[5:]}"
        return f"{kind} {given['name']}"

    return f"{function['name']}({', '.join(map(part, function['inputs']))})"


def functions_of(contract):
    return {spelled(e): e for e in artifacts().abis[contract] if e["type"] == "function"}


@pytest.mark.parametrize("name", CALLDATA)
def test_calldata_file_shows_every_value_of_functions_that_exist(name):
    contract = name.partition("-")[2]
    known = functions_of(contract)
    formats = file_of(name)["display"]["formats"]
    assert set(formats) <= set(known)
    assert [fault for key, form in formats.items() for fault in faults(key, form, known[key]["inputs"])] == []


@pytest.mark.parametrize("name", CALLDATA)
def test_calldata_file_knows_every_call_that_the_portfolio_makes(name):
    contract = name.partition("-")[2]
    acting = {
        key.partition("(")[0] for key, e in functions_of(contract).items() if e["stateMutability"] == "nonpayable"
    }  # fmt: skip
    shown = {key.partition("(")[0] for key in file_of(name)["display"]["formats"]}
    assert set(WALLET_CALLS[contract]) & acting <= shown


@pytest.mark.parametrize("name", MESSAGES)
def test_message_file_shows_every_value_of_what_is_signed(name):
    document = file_of(name)
    schemas = {schema["primaryType"]: schema["types"] for schema in document["context"]["eip712"]["schemas"]}
    formats = document["display"]["formats"]
    assert {key.partition("(")[0] for key in formats} == set(schemas) == {"Retire", "RetireBatch"}
    for key, form in formats.items():
        primary = key.partition("(")[0]
        types = schemas[primary]
        assert key == _encoded(types, primary)
        inputs = [
            {**member, "type": "tuple", "components": types[member["type"]]} if member["type"] in types else member
            for member in types[primary]
        ]
        assert faults(key, form, inputs) == []


def _encoded(types, primary):
    """EIP-712's encodeType of a type whose only inner one is RetirementDetails."""
    return "".join(
        kind + "(" + ",".join(member["type"] + " " + member["name"] for member in types[kind]) + ")"
        for kind in (primary, "RetirementDetails")
    )


@pytest.mark.parametrize("count", [1, 2])
def test_message_of_the_served_file_is_what_the_contract_checks(client, world, w, count):
    """Signed by the types that the site serves; the contract is asked whether it would take it."""
    Account.enable_unaudited_hdwallet_features()
    account = Account.from_mnemonic(MNEMONIC, account_path="m/44'/60'/0'/0/1")
    assert account.address == world.account(1)
    served = client.get("/clear-signing/eip712-EnergyCertificate.json").json["context"]["eip712"]
    primary = "Retire" if count == 1 else "RetireBatch"
    [types] = [schema["types"] for schema in served["schemas"] if schema["primaryType"] == primary]
    ids, amounts = world.done["tokens"][1 : 1 + count], [10] * count
    details = dict(zip(("beneficiary", "beneficiaryName", "purpose", "country", "location", "consumptionStart", "consumptionEnd"),
                       world.details(1, "Library", "Heat"), strict=True))  # fmt: skip
    deadline = world.w3.eth.get_block("latest")["timestamp"] + 600
    what = {"id": ids[0], "amount": 10} if count == 1 else {"ids": ids, "amounts": amounts}
    nonce = world.call("EnergyCertificate", "nonces", account.address)
    message = {"account": account.address, **what, "details": details, "nonce": nonce, "deadline": deadline}
    typed = {"domain": served["domain"], "types": types, "primaryType": primary, "message": message}
    signature = account.sign_message(encode_typed_data(full_message=typed)).signature
    token = world.contracts["EnergyCertificate"].functions
    told = tuple(details.values())
    call = (
        token.retireBySig(account.address, ids[0], 10, told, deadline, signature)
        if count == 1
        else token.retireBatchBySig(account.address, ids, amounts, told, deadline, signature)
    )
    assert call.call({"from": world.account(5)}) == world.call("EnergyCertificate", "retirementCount") + 1


def test_served_files_name_this_chain_and_its_contracts(client, world):
    for name in clear_signing.NAMES:
        document = client.get(f"/clear-signing/{name}.json").json
        context = document["context"].get("contract") or document["context"]["eip712"]
        address = world.contracts[name.partition("-")[2]].address
        assert context["deployments"] == [{"chainId": world.w3.eth.chain_id, "address": address}]
        if "domain" in context:
            assert context["domain"]["verifyingContract"] == address
            domain = world.contracts[name.partition("-")[2]].functions.eip712Domain().call()
            assert (domain[1], domain[2], domain[3], domain[4]) == tuple(
                context["domain"][key] for key in ("name", "version", "chainId", "verifyingContract")
            )
        else:
            selectors = {keccak256(_signature(e).encode())[:4] for e in context["abi"]}
            assert len(selectors) == len(document["display"]["formats"])
    assert client.get("/clear-signing/../app.json").status_code == 404
    assert client.get("/clear-signing/calldata-Notary.json").status_code == 404


def _signature(entry):
    return f"{entry['name']}({','.join(map(canonical, entry['inputs']))})"


def test_faults_finds_what_is_planted():
    [(key, function)] = [(k, e) for k, e in functions_of("EnergyCertificate").items() if e["name"] == "retire"]
    form = file_of("calldata-EnergyCertificate")["display"]["formats"][key]
    assert faults(key, form, function["inputs"]) == []
    planted = json.loads(json.dumps(form))
    planted["fields"][0]["format"] = "addressName"
    planted["fields"][1]["path"] = "ids"
    planted["fields"][2]["surprise"] = 1
    found = " ".join(faults(key, planted, function["inputs"]))
    for words in ("addressName cannot show uint256 at amount", "no value at ids", "stray keys", "id is silent"):
        assert words in found
