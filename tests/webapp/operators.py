"""Signing in as a wallet does, for tests: real messages, real keys, over the app's own routes."""

from __future__ import annotations

from typing import Any

from bs4 import BeautifulSoup
from eth_account import Account
from eth_account.messages import encode_defunct
from flask.testing import FlaskClient

#: anvil's own accounts are those of its well-known mnemonic.
MNEMONIC = "test test test test test test test test test test test junk"
ORIGIN = "http://localhost"
#: Which of anvil's accounts holds which role in :func:`take_office`; 1 owns the devices, 3 has nothing to do with any.
OFFICES = {
    "administrator": 0, "registrar": 4, "factor publisher": 5, "guardian": 6, "reviewer": 7, "authoriser": 8, "transfer recorder": 9,
    "adjustment recorder": 10,
}  # fmt: skip
OWNER, OTHER = 1, 3


def key_of(number: int) -> Any:
    """The key of anvil's account ``number``."""
    Account.enable_unaudited_hdwallet_features()
    return Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")


def token_of(client: FlaskClient) -> str:
    """The token in the forms that this client is shown."""
    page = BeautifulSoup(client.get("/operators/sign-in", follow_redirects=True).data, "html.parser")
    return str(page.select_one("[data-token]")["data-token"])


def message_for(client: FlaskClient, address: str) -> str:
    return str(client.get("/operators/sign-in/message.json", query_string={"address": address}).json["message"])


def signed(account: Any, text: str) -> str:
    return "0x" + account.sign_message(encode_defunct(text=text)).signature.hex()


def post_sign_in(client: FlaskClient, text: str, signature: str, **headers: str) -> Any:
    sent = {"Origin": ORIGIN, "X-CSRF-Token": token_of(client), **headers}
    return client.post("/operators/sign-in.json", json={"message": text, "signature": signature}, headers=sent)


def sign_in(client: FlaskClient, account: Any) -> str:
    """Sign in and give the token for this client's further posts: ``headers=posting(token)``."""
    text = message_for(client, account.address)
    answer = post_sign_in(client, text, signed(account, text))
    assert answer.status_code == 200, answer.text
    return token_of(client)


def posting(token: str) -> dict[str, str]:
    """Headers of a request that changes something, as the site's own pages send it."""
    return {"Origin": ORIGIN, "X-CSRF-Token": token}


def grant(world: Any, role: int, number: int, delay_seconds: int = 0) -> None:
    """Let anvil's account ``number`` hold a role."""
    world.send("AccessManager", "grantRole", role, world.account(number), delay_seconds)


def take_office(world: Any) -> None:
    """The role table of scripts/roles.py on the chain, each role held by an account of its own."""
    from scripts.addresses import selectors
    from scripts.roles import ADMINISTRATOR, ROLES

    manager, calls = world.contracts["AccessManager"], []
    for role in ROLES:
        if role is ADMINISTRATOR:
            continue
        for contract, signatures in role.functions.items():
            asked = [world.contracts[contract].address, selectors(signatures), role.id]
            calls.append(manager.encode_abi("setTargetFunctionRole", asked))
        calls.append(manager.encode_abi("labelRole", [role.id, role.name]))
        calls.append(manager.encode_abi("grantRole", [role.id, world.account(OFFICES[role.name]), 0]))
    world.send("AccessManager", "multicall", calls)


def device_form(account: str, meter: str = "Maker 12345", **changes: str) -> dict[str, str]:
    """A request for a device's registration as its form sends it."""
    return {
        "account": account, "meter": meter, "capacity_w": "6000", "kind": "1", "visibility": "1", "granularity": "86400",
        "fuel_code": "F01040100", "technology_code": "T010100", "country": "US", "grid_zone": "RMPA", "active_from": "2016-07-01",
        "evidence_hash": "", "evidence_name": "", "note": "", **changes,
    }  # fmt: skip
