"""The relay on a real chain: what it takes, what it refuses, and that nothing is retired twice."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path

import pytest
import requests
import yaml
from eth_account import Account
from eth_account.messages import encode_typed_data
from web3 import Web3

from oracle.chain import Chain
from oracle.config import KeyFile, NetworkConfig, RemoteKey
from oracle.domain import SagaState
from oracle.errors import ConfigError
from oracle.protocol import keccak256
from oracle.signer import open_signer
from tests.oracle.test_signer import Service
from webapp.relay import Limits, Refused, Relay, RelayConfig, create_relay_app, main, parse

ROOT = Path(__file__).resolve().parents[2]
HOLDER = Account.from_key(keccak256(b"a holder without gas"))
PAYER = Account.from_key(keccak256(b"the relay's account"))
FIRST_DAY = 1_467_331_200

TYPES = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ],
    "RetirementDetails": [
        {"name": "beneficiary", "type": "address"},
        {"name": "beneficiaryName", "type": "string"},
        {"name": "purpose", "type": "string"},
        {"name": "country", "type": "bytes2"},
        {"name": "location", "type": "string"},
        {"name": "consumptionStart", "type": "uint40"},
        {"name": "consumptionEnd", "type": "uint40"},
    ],
    "Retire": [
        {"name": "account", "type": "address"},
        {"name": "id", "type": "uint256"},
        {"name": "amount", "type": "uint256"},
        {"name": "details", "type": "RetirementDetails"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
    ],
    "RetireBatch": [
        {"name": "account", "type": "address"},
        {"name": "ids", "type": "uint256[]"},
        {"name": "amounts", "type": "uint256[]"},
        {"name": "details", "type": "RetirementDetails"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
    ],
}


@pytest.fixture(scope="module")
def market(tmp_path_factory, w):
    """A chain on which HOLDER has 50,000 Wh in two certificates and no gas, and PAYER has gas."""
    from contextlib import contextmanager

    @contextmanager
    def opened():
        folder = tmp_path_factory.mktemp("relay-world")
        anvil = w.Anvil(folder)
        try:
            yield w.deploy(anvil, folder)
        finally:
            anvil.stop()

    with opened() as world:
        world.register(1)
        archive = world.notarize([w.day_record(1, FIRST_DAY), w.day_record(1, FIRST_DAY + w.DAY)])
        world.tokens = [world.issue(archive, 1, FIRST_DAY), world.issue(archive, 1, FIRST_DAY + w.DAY)]
        for token in world.tokens:
            world.transfer(1, 2, token, 12_000)
            world.send(
                "EnergyCertificate", "safeTransferFrom", world.account(1), HOLDER.address, token, 10_000, b"", sender=1
            )
        world.anvil.rpc("anvil_setBalance", PAYER.address, hex(10**18))
        yield world


@pytest.fixture
def relay_of(market, tmp_path):
    """Makes relays with databases of the test's own."""

    def make(payer=PAYER, folder="state", **limits):
        network = NetworkConfig("Test chain", (market.anvil.url,), 420_042, market.addresses_path, timeout_seconds=5)
        config = RelayConfig(
            network, KeyFile(tmp_path / "k", tmp_path / "p"), tmp_path / folder, limits=Limits(**limits)
        )
        return Relay(config, Chain.open(network), payer)

    return make


@pytest.fixture
def chain_kept(market):
    """What the test does to the chain is undone after it."""
    taken = market.anvil.rpc("evm_snapshot")
    yield
    market.anvil.rpc("evm_revert", taken)


def details(account=HOLDER.address):
    return {
        "beneficiary": account, "beneficiaryName": "Town library", "purpose": "Electricity of July 2016",
        "country": b"US", "location": "Golden, Colorado", "consumptionStart": FIRST_DAY, "consumptionEnd": FIRST_DAY + 86_400,
    }  # fmt: skip


def now_of(world):
    return world.w3.eth.get_block("latest")["timestamp"]


def request_of(world, items, *, account=None, nonce=None, seconds=3_600, signer=HOLDER, contract="EnergyCertificate"):
    """A signed request as the browser makes it: ``items`` are (id, amount)."""
    token = world.contracts[contract]
    account = account or signer.address
    nonce = token.functions.nonces(account).call() if nonce is None else nonce
    deadline = now_of(world) + seconds
    ids, amounts = [i for i, _ in items], [a for _, a in items]
    single = len(items) == 1
    message = {"account": account, "details": details(account), "nonce": nonce, "deadline": deadline}
    message |= {"id": ids[0], "amount": amounts[0]} if single else {"ids": ids, "amounts": amounts}
    domain = {
        "name": "Wattmark Energy Certificate", "version": "1", "chainId": 420_042, "verifyingContract": token.address,
    }  # fmt: skip
    primary = "Retire" if single else "RetireBatch"
    types = {name: TYPES[name] for name in ("EIP712Domain", "RetirementDetails", primary)}
    signable = encode_typed_data(
        full_message={"domain": domain, "types": types, "primaryType": primary, "message": message}
    )
    signature = signer.sign_message(signable).signature
    told = tuple(details(account).values())
    args = (account, ids[0], amounts[0], told, deadline, signature) if single else (
        account, ids, amounts, told, deadline, signature
    )  # fmt: skip
    data = token.encode_abi("retireBySig" if single else "retireBatchBySig", args=args)
    return {"to": token.address, "data": data}


def posted(relay, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return create_relay_app(relay).test_client().post("/retirements", data=raw, content_type="application/json")


def retired(world, account, token):
    return world.call("EnergyCertificate", "retiredOf", account, token)


def refused(answer, status, code):
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code), answer.json
    return answer.json["error"]


# -- accepted ---------------------------------------------------------------------------------------


def test_submit_of_a_signed_retirement_retires_it_at_the_relays_cost(market, relay_of, chain_kept):
    relay = relay_of()
    [token, _] = market.tokens
    before = market.w3.eth.get_balance(PAYER.address)
    answer = posted(relay, request_of(market, [(token, 1_500)]))
    assert answer.status_code == 202 and answer.json["state"] == "queued"
    relay.drive()
    ticket = relay.ticket(answer.json["id"])
    assert ticket["state"] == "mined" and ticket["problem"] is None
    receipt = market.w3.eth.get_transaction_receipt(ticket["transaction"])
    assert receipt["status"] == 1 and receipt["from"] == PAYER.address
    assert retired(market, HOLDER.address, token) == 1_500
    assert market.call("EnergyCertificate", "balanceOf", HOLDER.address, token) == 8_500
    assert market.w3.eth.get_balance(PAYER.address) < before
    assert market.w3.eth.get_balance(HOLDER.address) == 0


def test_submit_of_a_batch_retires_all_of_it_under_one_number(market, relay_of, chain_kept):
    relay = relay_of()
    count = market.call("EnergyCertificate", "retirementCount")
    answer = posted(relay, request_of(market, [(market.tokens[0], 700), (market.tokens[1], 900)]))
    assert answer.status_code == 202, answer.json
    relay.drive()
    assert [retired(market, HOLDER.address, token) for token in market.tokens] == [700, 900]
    assert market.call("EnergyCertificate", "retirementCount") == count + 1


ECHO_SELECTOR = "5f3560e01c60e01b5f5260205ff3"
"""Run-time code that answers every call with the call's own selector: accepts tokens (ERC-1155) and signatures (ERC-1271)."""
ANSWER_ZERO = "60205ff3"


def contract_account(world, runtime):
    """A contract with this run-time code, put on the chain by a transaction."""
    size = len(runtime) // 2
    init = f"60{size:02x}600c60003960{size:02x}6000f3" + runtime
    tx = world.w3.eth.send_transaction({"from": world.account(0), "data": "0x" + init, "gas": 500_000})
    return world.w3.eth.wait_for_transaction_receipt(tx, poll_latency=0.01)["contractAddress"]


def test_submit_of_a_contract_account_goes_by_its_own_signature_rule(market, relay_of, chain_kept):
    relay = relay_of()
    wallet = contract_account(market, ECHO_SELECTOR)
    token = market.tokens[0]
    market.send("EnergyCertificate", "safeTransferFrom", market.account(1), wallet, token, 1_000, b"", sender=1)
    # Whoever signs: the contract's word counts.
    answer = posted(relay, request_of(market, [(token, 400)], account=wallet, nonce=0))
    assert answer.status_code == 202, answer.json
    relay.drive()
    assert retired(market, wallet, token) == 400


def test_submit_for_a_contract_account_that_says_no_is_refused(market, relay_of, chain_kept):
    wallet = contract_account(market, ANSWER_ZERO)
    answer = posted(relay_of(), request_of(market, [(market.tokens[0], 400)], account=wallet, nonce=0))
    assert refused(answer, 422, "would-revert")["reason"] == {"name": "SignatureInvalid", "args": {"account": wallet}}


# -- once -------------------------------------------------------------------------------------------


def test_submit_of_the_same_request_again_gives_the_same_ticket_and_sends_nothing(market, relay_of, chain_kept):
    relay = relay_of()
    body = request_of(market, [(market.tokens[0], 1_000)])
    first = posted(relay, body).json
    assert posted(relay, body).json["id"] == first["id"]
    relay.drive()
    after = market.w3.eth.get_transaction_count(PAYER.address)
    again = posted(relay, body)
    assert again.status_code == 202 and again.json["state"] == "mined"
    relay.drive()
    assert market.w3.eth.get_transaction_count(PAYER.address) == after
    assert retired(market, HOLDER.address, market.tokens[0]) == 1_000


def test_submit_of_a_used_signature_to_another_relay_is_refused(market, relay_of, chain_kept):
    body = request_of(market, [(market.tokens[0], 1_000)])
    first = relay_of()
    posted(first, body)
    first.drive()
    error = refused(posted(relay_of(folder="other"), body), 422, "would-revert")
    assert error["reason"]["name"] == "SignatureInvalid"
    assert retired(market, HOLDER.address, market.tokens[0]) == 1_000


def test_submit_of_another_request_while_one_is_under_way_is_refused(market, relay_of, chain_kept):
    relay = relay_of()
    assert posted(relay, request_of(market, [(market.tokens[0], 1_000)])).status_code == 202
    refused(posted(relay, request_of(market, [(market.tokens[0], 2_000)])), 409, "busy")
    relay.drive()
    assert posted(relay, request_of(market, [(market.tokens[0], 2_000)])).status_code == 202
    relay.drive()
    assert retired(market, HOLDER.address, market.tokens[0]) == 3_000


def test_drive_after_somebody_else_sent_the_same_notes_it_done_and_pays_nothing(market, relay_of, chain_kept):
    relay = relay_of()
    body = request_of(market, [(market.tokens[0], 1_000)])
    ticket = posted(relay, body).json
    market.w3.eth.wait_for_transaction_receipt(
        market.w3.eth.send_transaction({"from": market.account(5), **body, "gas": 500_000}), poll_latency=0.01
    )
    relay.drive()
    assert relay.ticket(ticket["id"])["state"] == "mined"
    assert market.w3.eth.get_transaction_count(PAYER.address) == 0


def test_drive_after_the_holder_cancelled_the_nonce_fails_the_request(market, relay_of, chain_kept):
    relay = relay_of()
    ticket = posted(relay, request_of(market, [(market.tokens[0], 1_000)])).json
    market.anvil.rpc("anvil_setBalance", HOLDER.address, hex(10**18))
    data = market.contracts["EnergyCertificate"].encode_abi("cancelNonce", args=())
    raw = HOLDER.sign_transaction({
        "to": market.contracts["EnergyCertificate"].address, "data": data, "gas": 100_000, "nonce": 0, "chainId": 420_042,
        "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1,
    })  # fmt: skip
    market.w3.eth.wait_for_transaction_receipt(
        market.w3.eth.send_raw_transaction(raw.raw_transaction), poll_latency=0.01
    )
    relay.drive()
    found = relay.ticket(ticket["id"])
    assert found["state"] == "failed" and "SignatureInvalid" in found["problem"]
    assert market.w3.eth.get_transaction_count(PAYER.address) == 0


def test_relay_started_anew_goes_on_with_what_was_accepted(market, relay_of, chain_kept):
    ticket = posted(relay_of(), request_of(market, [(market.tokens[0], 1_000)])).json
    renewed = relay_of()
    renewed.drive()
    assert renewed.ticket(ticket["id"])["state"] == "mined"
    assert retired(market, HOLDER.address, market.tokens[0]) == 1_000


def test_submit_for_a_nonce_whose_mined_act_went_back_waits_for_it(market, relay_of):
    """A reorganisation gives the nonce back before the relay has looked; the retirement that was mined will be sent again."""
    relay = relay_of()
    taken = market.anvil.rpc("evm_snapshot")
    posted(relay, request_of(market, [(market.tokens[0], 1_000)]))
    relay.drive()
    market.anvil.rpc("evm_revert", taken)
    refused(posted(relay, request_of(market, [(market.tokens[0], 2_000)])), 409, "busy")


def test_submit_is_paid_by_a_key_that_a_remote_signer_keeps(market, relay_of, chain_kept):
    service = Service(PAYER)
    try:
        relay = relay_of(payer=open_signer(service.key))
        ticket = posted(relay, request_of(market, [(market.tokens[0], 1_000)])).json
        relay.drive()
        receipt = market.w3.eth.get_transaction_receipt(relay.ticket(ticket["id"])["transaction"])
        assert (receipt["status"], receipt["from"]) == (1, PAYER.address)
        assert "eth_signTransaction" in service.asked
    finally:
        service.server.shutdown()
        service.server.server_close()


# -- refused ----------------------------------------------------------------------------------------


def test_submit_of_an_expired_signature_is_refused(market, relay_of):
    refused(posted(relay_of(), request_of(market, [(market.tokens[0], 1)], seconds=-1)), 422, "expired")


def test_submit_of_a_signature_about_to_expire_is_refused(market, relay_of):
    refused(posted(relay_of(), request_of(market, [(market.tokens[0], 1)], seconds=20)), 422, "expired")


def test_submit_of_more_than_the_balance_names_the_contracts_reason(market, relay_of):
    error = refused(posted(relay_of(), request_of(market, [(market.tokens[0], 10_001)])), 422, "would-revert")
    assert error["reason"]["name"] == "ERC1155InsufficientBalance"
    assert error["reason"]["args"]["balance"] == 10_000 and error["reason"]["args"]["needed"] == 10_001


def test_submit_signed_by_another_is_refused(market, relay_of):
    stranger = Account.from_key(keccak256(b"stranger"))
    body = request_of(market, [(market.tokens[0], 1)], account=HOLDER.address, signer=stranger)
    assert refused(posted(relay_of(), body), 422, "would-revert")["reason"]["name"] == "SignatureInvalid"


def test_submit_beyond_the_accounts_limit_is_refused_and_others_are_not(market, relay_of, chain_kept):
    relay = relay_of(account_per_hour=2)
    for amount in (10, 20):
        assert posted(relay, request_of(market, [(market.tokens[0], amount)])).status_code == 202
        relay.drive()
    refused(posted(relay, request_of(market, [(market.tokens[0], 30)])), 429, "account-limit")
    other = Account.from_key(keccak256(b"another holder"))
    market.send(
        "EnergyCertificate", "safeTransferFrom", market.account(1), other.address, market.tokens[0], 100, b"", sender=1
    )
    assert posted(relay, request_of(market, [(market.tokens[0], 30)], signer=other)).status_code == 202


def test_submit_of_a_request_that_reverts_each_time_counts_each_time(market, relay_of, chain_kept):
    """A holder who takes the certificates away in the very block makes the relay pay for nothing, as often as the limit says."""
    relay, token = relay_of(account_per_hour=2), market.tokens[0]
    certificate = market.contracts["EnergyCertificate"]
    market.anvil.rpc("anvil_setBalance", HOLDER.address, hex(10**18))
    body = request_of(market, [(token, 10_000)])
    for nonce in range(2):
        market.anvil.rpc("evm_setAutomine", False)
        ticket = posted(relay, body)
        assert ticket.status_code == 202, ticket.json
        driving = threading.Thread(target=relay.drive)
        driving.start()
        late = time.monotonic() + 30
        while relay.ticket(ticket.json["id"])["state"] != SagaState.SENT:
            assert time.monotonic() < late
            time.sleep(0.01)
        data = certificate.encode_abi("safeTransferFrom", [HOLDER.address, market.account(1), token, 1, b""])
        raw = HOLDER.sign_transaction({
            "to": certificate.address, "data": data, "gas": 200_000, "nonce": nonce, "chainId": 420_042,
            "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**10,
        })  # fmt: skip
        market.w3.eth.send_raw_transaction(raw.raw_transaction)
        market.anvil.mine(1)
        market.anvil.rpc("evm_setAutomine", True)
        driving.join(30)
        assert relay.ticket(ticket.json["id"])["state"] == SagaState.FAILED
        assert market.w3.eth.get_transaction_count(PAYER.address) == nonce + 1
        market.send("EnergyCertificate", "safeTransferFrom", market.account(1), HOLDER.address, token, 1, b"", sender=1)
    refused(posted(relay, body), 429, "account-limit")


def test_submit_beyond_the_hours_gas_or_above_the_price_of_gas_is_refused(market, relay_of, chain_kept):
    relay = relay_of(gas_per_hour=200_000)
    assert posted(relay, request_of(market, [(market.tokens[0], 10)])).status_code == 202
    relay.drive()
    refused(posted(relay, request_of(market, [(market.tokens[0], 20)])), 429, "hour-limit")
    dear, usual = relay_of(folder="dear", fee_gwei=1), market.w3.eth.get_block("latest")["baseFeePerGas"]
    assert dear.outbox.policy.max_fee_cap_wei == 10**9
    try:
        market.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(3 * 10**9))
        market.anvil.mine(1)
        refused(posted(dear, request_of(market, [(market.tokens[0], 20)])), 503, "fees")
    finally:
        # Going back to a snapshot does not take the node's next fee back.
        market.anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(usual))
        market.anvil.mine(1)


def test_submit_of_refused_requests_uses_up_nobodys_limit(market, relay_of):
    relay = relay_of(account_per_hour=1)
    for _ in range(3):
        refused(posted(relay, request_of(market, [(market.tokens[0], 10_001)])), 422, "would-revert")
    assert relay.health()["waiting"] == 0


def test_submit_beyond_the_hours_limit_is_refused(market, relay_of, chain_kept):
    relay = relay_of(per_hour=1)
    assert posted(relay, request_of(market, [(market.tokens[0], 10)])).status_code == 202
    relay.drive()
    refused(posted(relay, request_of(market, [(market.tokens[0], 20)])), 429, "hour-limit")


def test_submit_above_the_gas_or_item_limit_is_refused(market, relay_of):
    body = request_of(market, [(market.tokens[0], 10), (market.tokens[1], 10)])
    refused(posted(relay_of(gas=50_000), body), 422, "too-dear")
    refused(posted(relay_of(folder="b", items=1), body), 400, "too-many")


def test_submit_to_a_relay_without_money_is_refused_and_health_says_so(market, relay_of):
    relay = relay_of(payer=Account.from_key(keccak256(b"a poor relay")))
    refused(posted(relay, request_of(market, [(market.tokens[0], 10)])), 503, "empty")
    health = create_relay_app(relay).test_client().get("/health")
    assert health.status_code == 503 and "empty" in health.json["problem"]


def test_health_of_a_relay_that_can_send_is_ok(market, relay_of):
    health = create_relay_app(relay_of()).test_client().get("/health")
    assert health.status_code == 200
    assert (health.json["status"], health.json["relay"], health.json["waiting"]) == ("ok", PAYER.address, 0)
    assert int(health.json["balance_wei"]) == market.w3.eth.get_balance(PAYER.address)


def test_submit_of_anything_but_a_retirement_is_refused(market, relay_of):
    relay = relay_of()
    token = market.contracts["EnergyCertificate"]
    approve = token.encode_abi("setApprovalForAll", args=(PAYER.address, True))
    refused(posted(relay, {"to": token.address, "data": approve}), 400, "not-a-retirement")
    body = request_of(market, [(market.tokens[0], 10)])
    refused(posted(relay, {**body, "to": market.contracts["Notary"].address}), 400, "not-a-retirement")
    refused(posted(relay, {**body, "to": PAYER.address}), 400, "not-a-retirement")


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b"null", b'{"to": 1, "data": 2}', b'{"to": "0x12", "data": "0x"}', b'{"data": "0x"}', b"[" * 60_000,
])  # fmt: skip
def test_submit_of_what_is_no_request_is_refused(market, relay_of, body):
    refused(posted(relay_of(), body), 400, "malformed")


def test_submit_of_calldata_in_another_form_is_refused(market, relay_of):
    body = request_of(market, [(market.tokens[0], 10)])
    refused(posted(relay_of(), {**body, "data": body["data"] + "00" * 32}), 400, "malformed")


def test_submit_of_a_large_body_is_refused_before_it_is_read(relay_of):
    refused(posted(relay_of(), b"[" + b" " * 70_000 + b"]"), 413, "too-large")


def test_submit_from_another_site_is_refused(market, relay_of):
    client = create_relay_app(relay_of()).test_client()
    body = json.dumps(request_of(market, [(market.tokens[0], 10)]))
    foreign = client.post(
        "/retirements", data=body, content_type="application/json", headers={"Sec-Fetch-Site": "cross-site"}
    )
    refused(foreign, 403, "foreign")
    # What a form of another site can send without being asked first is no JSON.
    refused(client.post("/retirements", data=body, content_type="text/plain"), 415, "malformed")
    assert "Access-Control-Allow-Origin" not in client.get("/").headers


def test_submit_too_often_from_one_address_is_slowed_down_and_others_are_not(relay_of):
    client = create_relay_app(relay_of(requests_per_minute=3)).test_client()

    def post(visitor):
        headers = {"X-Forwarded-For": visitor}
        return client.post("/retirements", data=b"{}", content_type="application/json", headers=headers)

    assert [post("192.0.2.1").status_code for _ in range(4)] == [400, 400, 400, 429]
    assert post("192.0.2.2").status_code == 400
    spoofed = client.post("/retirements", data=b"{}", content_type="application/json",
                          headers={"X-Forwarded-For": "192.0.2.9, 192.0.2.1"})  # fmt: skip
    assert spoofed.status_code == 429


def test_submit_while_the_node_is_away_says_so(market, tmp_path, relay_of, monkeypatch):
    relay = relay_of()
    body = request_of(market, [(market.tokens[0], 10)])
    os.kill(market.anvil.process.pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr("oracle.nodes.READ_ATTEMPTS", 1)
        for node in relay.chain._nodes:
            node.w3.provider._request_kwargs["timeout"] = 0.3
        refused(posted(relay, body), 503, "unreachable")
    finally:
        os.kill(market.anvil.process.pid, signal.SIGCONT)


def test_ticket_of_an_unknown_request_is_not_there(relay_of):
    answer = create_relay_app(relay_of()).test_client().get("/retirements/" + "0" * 64)
    refused(answer, 404, "unknown")


def test_parse_of_a_request_gives_what_was_signed(market):
    signed = parse(json.dumps(request_of(market, [(market.tokens[0], 7), (market.tokens[1], 8)])).encode(),
                   {name: market.contracts[name].address for name in ("EnergyCertificate", "MitigationOutcome")})  # fmt: skip
    assert (signed.account, signed.ids, signed.amounts) == (HOLDER.address, tuple(market.tokens), (7, 8))
    assert signed.details["beneficiaryName"] == "Town library" and signed.details["country"] == "0x5553"


# -- the process ------------------------------------------------------------------------------------


def config_file(world, folder, port, **changes):
    document = {
        "state_folder": "state", "listen": f"127.0.0.1:{port}",
        "key": {"keystore": "key.json", "password_file": "password"},
        "network": {"name": "Test chain", "rpc_urls": [world.anvil.url], "chain_id": 420_042, "addresses": str(world.addresses_path)},
        **changes,
    }  # fmt: skip
    file = folder / "relay.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.mark.slow
def test_process_makes_its_key_serves_and_ends(market, tmp_path, w, chain_kept, capsys):
    port = w.free_port()
    file = str(config_file(market, tmp_path, port))
    assert main(["--config", file, "--create-key"]) == 0
    address = capsys.readouterr().out.strip()
    assert main(["--config", file, "--create-key"]) != 0, "a key is never overwritten"
    command = [sys.executable, "-m", "webapp", "relay", "--config", file]
    assert Web3.is_checksum_address(address)
    for name in ("key.json", "password"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    market.anvil.rpc("anvil_setBalance", address, hex(10**18))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                               start_new_session=True)  # fmt: skip
    try:
        assert process.stdout.readline().startswith(f"relay {address} on http://127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}"
        session = requests.Session()
        session.trust_env = False

        def ask(method, path, **more):
            return session.request(method, url + path, timeout=20, **more).json()

        ready = time.monotonic() + 30
        while True:
            try:
                assert ask("GET", "/health")["status"] == "ok"
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < ready
                time.sleep(0.05)
        ticket = ask("POST", "/retirements", json=request_of(market, [(market.tokens[1], 50)]))
        late = time.monotonic() + 30
        while ask("GET", f"/retirements/{ticket['id']}")["state"] not in (SagaState.MINED, SagaState.FINAL):
            assert time.monotonic() < late, ask("GET", "/health")
            time.sleep(0.05)
        assert retired(market, HOLDER.address, market.tokens[1]) == 50
        for file in (tmp_path / "state").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()
        process.stderr.close()


def test_load_of_a_file_with_faults_names_them(market, tmp_path):
    for changes, words in (
        ({"limits": {"per_hour": 0}}, "limits are whole numbers above 0"),
        ({"limits": {"surprise": 1}}, "limits are whole numbers above 0"),
        ({"listen": "8102"}, "listen must be host:port"),
        ({"secret": "x"}, "the keys are"),
        ({"network": {"name": "x"}}, "'rpc_urls' is missing"),
        ({"key": None}, "key must name a keystore"),
        ({"key": {"keystore": "key.json"}}, "key.password_file must be a text"),
        ({"key": {"remote": "http://127.0.0.1:9", "address": "0x12"}}, "is not an address"),
    ):
        with pytest.raises(ConfigError, match=words):
            RelayConfig.load(config_file(market, tmp_path, 1, **changes))


def test_load_of_a_remote_signer_gives_its_address_and_makes_no_key(market, tmp_path, capsys):
    key = {"remote": "http://127.0.0.1:9", "address": PAYER.address}
    file = config_file(market, tmp_path, 1, key=key)
    assert RelayConfig.load(file).key == RemoteKey("http://127.0.0.1:9", PAYER.address)
    assert main(["--config", str(file), "--create-key"]) == ConfigError.exit_code
    assert "make the account there" in capsys.readouterr().err


def test_load_of_the_documented_file_gives_what_leaving_it_out_gives(tmp_path):
    [text] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "wallet.md").read_text(), re.DOTALL)
    (tmp_path / "relay.yaml").write_text(text)
    documented = RelayConfig.load(tmp_path / "relay.yaml")
    (tmp_path / "short.yaml").write_text(text.partition("# Everything below")[0])
    assert documented == RelayConfig.load(tmp_path / "short.yaml")
    assert {field.name for field in fields(Limits)} <= set(re.findall(r"^  (\w+):", text, re.MULTILINE))


def test_refused_carries_the_contracts_error():
    fault = Refused(422, "would-revert", "no", {"name": "Paused", "args": {}})
    assert (fault.status, fault.code, fault.error) == (422, "would-revert", {"name": "Paused", "args": {}})
