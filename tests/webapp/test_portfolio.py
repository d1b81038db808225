"""The portfolio's model against the chain itself, its proofs against the contract, and what it hands to wallets and the relay."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from webapp import wallet_words
from webapp.abi import artifacts
from webapp.index import hex_id

FIRST_DAY, DAY = 1_467_331_200, 86_400


def model(client, address, expected=200):
    answer = client.get(f"/portfolio/{address}.json")
    assert answer.status_code == expected
    return answer.json


def test_portfolio_of_an_account_is_what_the_chain_says(client, world):
    for number in (1, 2):
        account = world.account(number)
        found = model(client, account)
        held = {row["id"]: int(row["amount"]) for row in found["certificates"]}
        tokens = [*world.done["tokens"], (2 << 192) | (FIRST_DAY << 152) | (DAY << 120)]
        assert held == {
            hex_id(token): amount
            for token in tokens
            if (amount := world.call("EnergyCertificate", "balanceOf", account, token))
        }
        assert found["totals"]["live_wh"] == sum(held.values())
        retired = sum(world.call("EnergyCertificate", "retiredOf", account, token) for token in tokens)
        assert found["totals"]["retired_wh"] == retired
    assert {row["month"] for row in found["certificates"]} == {"2016-07"}
    assert {(row["technology"], row["country"]) for row in found["certificates"]} == {("Photovoltaic", "US")}


def test_portfolio_names_exactly_the_statements_that_can_be_issued(client, world):
    found = model(client, world.account(1))
    # Device 1's three days and device 2's first are issued by the main job.
    assert [(row["device_id"], row["start"]) for row in found["issuable"]] == [
        ("2", FIRST_DAY + DAY), ("2", FIRST_DAY + 2 * DAY)
    ]  # fmt: skip
    for row in found["issuable"]:
        assert not world.call("EnergyCertificate", "isCertified", int(row["device_id"]), row["start"], row["duration"])
    assert model(client, world.account(2))["issuable"] == []


def test_portfolio_of_outcomes_marks_estimates(client, world):
    [row] = model(client, world.account(1))["outcomes"]
    assert (row["id"], row["estimate"], row["illustrative"], row["retirable"]) == (
        hex_id(world.done["outcome"]), True, True, True
    )  # fmt: skip
    assert int(row["amount"]) == world.call("MitigationOutcome", "balanceOf", world.account(1), world.done["outcome"])


def test_portfolio_of_a_stranger_is_empty_and_of_nonsense_is_not_there(client):
    found = model(client, "0x" + "ab" * 20)
    assert found["certificates"] == found["issuable"] == found["allowances"] == []
    assert client.get("/portfolio/0x12").status_code == 404


def test_portfolio_pages_stand_in_all_languages(client, world):
    for language, word in (("en", "Certificates held"), ("es", "Certificados"), ("ru", "ертификат")):
        page = client.get(f"/portfolio/{world.account(1)}?lang={language}")
        assert page.status_code == 200 and word in page.text
        assert client.get(f"/portfolio?lang={language}").status_code == 200
    looked = client.get(f"/portfolio?account={world.account(1).lower()}")
    assert looked.status_code == 302 and looked.headers["Location"].endswith(f"/portfolio/{world.account(1)}")


def test_portfolio_setup_is_data_and_no_script(client, world):
    page = client.get(f"/portfolio/{world.account(1)}").text
    assert not re.search(r"<script(?![^>]*\bsrc=)", page) and not re.search(r"\son\w+=|style=", page)
    [raw] = re.findall(r"data-setup='([^']*)'", page)
    setup = json.loads(raw)
    assert setup["chain"]["chainId"] == hex(world.w3.eth.chain_id) and setup["account"] == world.account(1)
    assert setup["contracts"]["EnergyCertificate"] == world.contracts["EnergyCertificate"].address


# -- issuing ----------------------------------------------------------------------------------------


def contract_args(args):
    """Arguments as web3 takes them."""
    root, statements, *proof = args

    def statement(fields):
        return (*map(int, fields[:6]), bytes.fromhex(fields[6][2:]))

    many = isinstance(statements[0], list)
    turned = [statement(one) for one in statements] if many else statement(statements)
    return [bytes.fromhex(root[2:]), turned, [bytes.fromhex(one[2:]) for one in proof[0]], *proof[1:]]


def test_issue_call_of_one_statement_is_accepted_by_the_contract(client, world):
    [first, _] = model(client, world.account(1))["issuable"]
    call = client.get(f"/portfolio/{world.account(1)}/issue/{first['root']}.json").json
    assert (call["contract"], call["function"]) == ("EnergyCertificate", "issue")
    token = (
        world.contracts["EnergyCertificate"]
        .functions.issue(*contract_args(call["args"]))
        .call({"from": world.account(1)})
    )
    assert token == (2 << 192) | (first["start"] << 152) | (DAY << 120)
    assert int(call["energy_wh"]) == int(first["energy_wh"])


def test_issue_call_of_several_statements_is_accepted_by_the_contract(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    world.register(2, account=2)
    records = [w.day_record(1, FIRST_DAY + day * DAY) for day in range(3)] + [w.day_record(2, FIRST_DAY)]
    archive = world.notarize(records)
    world.issue(archive, 1, FIRST_DAY + DAY)
    client = app_of(world).test_client()
    root, account = "0x" + archive.root.hex(), world.account(1)
    call = client.get(f"/portfolio/{account}/issue/{root}.json").json
    assert call["function"] == "issueMany" and len(call["statements"]) == 2
    world.send("EnergyCertificate", "issueMany", *contract_args(call["args"]), sender=1)
    for day, certified in enumerate((True, True, True)):
        assert world.call("EnergyCertificate", "isCertified", 1, FIRST_DAY + day * DAY, DAY) == certified
    assert not world.call("EnergyCertificate", "isCertified", 2, FIRST_DAY, DAY)
    client.application.extensions["wattmark"].refresh()
    assert client.get(f"/portfolio/{account}/issue/{root}.json").status_code == 404
    assert [row["device_id"] for row in model(client, world.account(2))["issuable"]] == ["2"]


def test_issuable_follows_the_account_in_force_revocations_and_kinds(fresh_world, app_of, w):
    from oracle.domain import BatchKind

    world = fresh_world
    world.register(1)
    first = world.notarize([w.day_record(1, FIRST_DAY)])
    world.notarize([w.day_record(1, FIRST_DAY + DAY)], kind=BatchKind.INTERIM)
    now = world.w3.eth.get_block("latest")["timestamp"]
    world.send("DeviceRegistry", "setAccount", 1, world.account(2), (now // DAY + 1) * DAY)
    app = app_of(world)
    client = app.test_client()
    assert [row["start"] for row in model(client, world.account(1))["issuable"]] == [FIRST_DAY]
    assert model(client, world.account(2))["issuable"] == [], "the new account's time has not begun"
    world.send("Notary", "revoke", first.root, "planted")
    app.extensions["wattmark"].refresh()
    assert model(client, world.account(1))["issuable"] == []


def test_issue_call_without_its_archive_says_so(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, FIRST_DAY)])
    client = app_of(world).test_client()
    for file in world.archive_folder.iterdir():
        file.unlink()
    answer = client.get(f"/portfolio/{world.account(1)}/issue/0x{archive.root.hex()}.json")
    assert answer.status_code == 503 and "archive" in answer.json["error"]["detail"]


def test_allowances_are_those_that_stand(fresh_world, app_of):
    world = fresh_world
    for contract, operator, allowed in (
        ("EnergyCertificate", 3, True), ("EnergyCertificate", 4, True), ("EnergyCertificate", 3, False), ("MitigationOutcome", 5, True),
    ):  # fmt: skip
        world.send(contract, "setApprovalForAll", world.account(operator), allowed, sender=2)
    client = app_of(world).test_client()
    found = {(row["contract"], row["operator"]) for row in model(client, world.account(2))["allowances"]}
    assert found == {("EnergyCertificate", world.account(4)), ("MitigationOutcome", world.account(5))}
    assert model(client, world.account(4))["allowances"] == [], "the operator's own account grants nothing"


# -- what wallets need ------------------------------------------------------------------------------


def test_abi_is_that_of_the_artifacts(client):
    published = client.get("/wallet/abi.json").json
    for contract, functions in published["functions"].items():
        for function in functions:
            assert function in artifacts().abis[contract]
    assert {f["name"] for f in published["functions"]["MitigationOutcome"]} >= {"convert", "retireBySig", "nonces"}
    names = {error["name"] for error in published["errors"]}
    assert names == {e["name"] for abi in artifacts().abis.values() for e in abi if e["type"] == "error"}


def test_error_words_name_errors_and_arguments_of_the_contracts(app):
    known = {
        e["name"]: {i["name"] for i in e["inputs"]}
        for abi in artifacts().abis.values()
        for e in abi
        if e["type"] == "error"
    }
    with app.test_request_context("/?lang=en"):
        for name, text in wallet_words.ERRORS.items():
            assert name in known, name
            assert set(re.findall(r"%\((\w+)\)s", str(text))) <= known[name], name


def test_wallet_words_are_all_used_and_all_there(app):
    folder = Path(app.static_folder) / "wallet"
    code = "\n".join(
        (folder / f"{name}.js").read_text() for name in ("portfolio", "acting", "relay", "words", "follow")
    )
    told = re.findall(r"\b(?:say|told|tell|report)\(([^(),]*)", code)
    used = {word for text in told for word in re.findall(r"(?<!=== )'([\w:-]+)'", text)}
    assert len(used) > 60
    missing = {word for word in used if word not in wallet_words.WORDS}
    assert not missing
    unused = {word for word in wallet_words.WORDS if f"'{word}'" not in code and not word.startswith("relay:")}
    assert not unused - {"transfer", "retire", "convert"}


# -- the relay behind the site ----------------------------------------------------------------------


@pytest.fixture
def relay_behind():
    """A small HTTP server in the relay's place that tells what reached it."""
    seen = []

    class Answer(BaseHTTPRequestHandler):
        def _answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, dict(self.headers), body))
            content = b'{"state": "queued"}' if "broken" not in self.path else b"<html>"
            self.send_response(202)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_relay_request_is_handed_on_without_the_visitors_cookies(world, app_of, relay_behind):
    url, seen = relay_behind
    client = app_of(world, relay_url=url).test_client()
    client.set_cookie("wattmark", "secret")
    body = b'{"to": "0x1", "data": "0x2"}'
    answer = client.post("/relay/retirements.json", data=body, content_type="application/json")
    assert (answer.status_code, answer.json) == (202, {"state": "queued"})
    [(method, path, headers, given)] = seen
    assert (method, path, given) == ("POST", "/retirements", body)
    assert "Cookie" not in headers and headers["X-Forwarded-For"] == "127.0.0.1"
    assert answer.headers["Cache-Control"] == "no-store"


def test_relay_request_of_another_site_or_form_is_refused(world, app_of, relay_behind):
    url, seen = relay_behind
    client = app_of(world, relay_url=url).test_client()

    def post(body=b"{}", kind="application/json", **headers):
        return client.post("/relay/retirements.json", data=body, content_type=kind, headers=headers).status_code

    assert post(kind="text/plain") == 403
    assert post(**{"Sec-Fetch-Site": "cross-site"}) == 403
    assert post(**{"Sec-Fetch-Site": "same-site"}) == 403
    assert post(body=b" " * 70_000) == 413
    assert client.get("/relay/retirements/../health.json").status_code == 404
    assert client.get("/relay/retirements/" + "g" * 64 + ".json").status_code == 404
    assert seen == []


def test_relay_that_is_away_or_not_there_says_so(world, app_of, client):
    away = app_of(world, relay_url="http://127.0.0.1:9").test_client()
    answer = away.get("/relay/health.json")
    assert answer.status_code == 502 and "Nothing was lost" in answer.json["error"]["detail"]
    assert client.get("/relay/health.json").status_code == 404
