"""Signing in: the message field by field, nonces, contract wallets, what a sign-in is, how it ends, and what a post must bring."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from webapp.desk import ABSOLUTE_SECONDS, IDLE_SECONDS, Desk
from webapp.operators import NONCE_SECONDS, needs, new_nonce, role_delays, spend_nonce
from webapp.siwe import Message, SiweError

# The example of EIP-4361 itself.
EXAMPLE = """example.com wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""
NOW = datetime(2021, 9, 30, 16, 26, tzinfo=UTC)


def test_read_of_the_standards_example_gives_its_fields_and_its_text_again():
    message = Message.read(EXAMPLE)
    assert (message.domain, message.chain_id, message.nonce) == ("example.com", 1, "32891756")
    assert message.statement == "I accept the ExampleOrg Terms of Service: https://example.com/tos"
    assert message.issued_at == datetime(2021, 9, 30, 16, 25, 24, tzinfo=UTC)
    assert message.resources[1] == "https://example.com/my-web2-claim.json" and len(message.resources) == 2
    assert str(message) == EXAMPLE
    message.check(origin="https://example.com", chain_id=1, now=NOW)


def test_read_without_a_statement_wants_both_empty_lines():
    bare = EXAMPLE.replace("I accept the ExampleOrg Terms of Service: https://example.com/tos\n", "")
    assert Message.read(bare).statement is None and str(Message.read(bare)) == bare
    with pytest.raises(SiweError):
        Message.read(bare.replace("\n\n\n", "\n\n"))


FULL = EXAMPLE.replace(
    "\nResources:",
    "\nExpiration Time: 2021-09-30T17:00:00+00:00\nNot Before: 2021-09-30T16:00:00.5Z\nRequest ID: some-id\nResources:",
)


def test_read_of_every_field_gives_every_field():
    message = Message.read("https://" + FULL)
    assert message.scheme == "https" and message.request_id == "some-id"
    assert message.expiration_time == datetime(2021, 9, 30, 17, tzinfo=UTC)
    assert message.not_before == datetime(2021, 9, 30, 16, 0, 0, 500_000, tzinfo=UTC)
    message.check(origin="https://example.com", chain_id=1, now=NOW)


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("example.com wants", "example.com  wants", "message"),
        ("your Ethereum account:", "your Ethereum account: ", "message"),
        ("example.com wants", "exa/mple.com wants", "message"),
        ("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc", "message"),
        ("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "address"),
        ("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", "0xC02AAA39B223FE8D0A0E5C4F27EAD9083C756CC2", "address"),
        ("I accept", "I accépt", "message"),
        ("I accept", "I accept\nwithout end", "message"),
        ("URI: https://example.com/login", "URI: login", "message"),
        ("URI: https://example.com/login", "URI: https://example.com/lo gin", "message"),
        ("Version: 1", "Version: 2", "version"),
        ("Version: 1", "Version: one", "message"),
        ("Chain ID: 1", "Chain ID: 0x1", "message"),
        ("Chain ID: 1\n", "", "message"),
        ("Nonce: 32891756", "Nonce: 3289175", "message"),
        ("Nonce: 32891756", "Nonce: 3289175-6", "message"),
        ("2021-09-30T16:25:24Z", "2021-09-30 16:25:24Z", "message"),
        ("2021-09-30T16:25:24Z", "2021-09-30T16:25:24", "message"),
        ("2021-09-30T16:25:24Z", "2021-09-31T16:25:24Z", "issued_at"),
        ("2021-09-30T17:00:00+00:00", "2021-09-30T25:00:00Z", "expiration_time"),
        ("2021-09-30T16:00:00.5Z", "2021-02-30T16:00:00Z", "not_before"),
        ("Request ID: some-id", "Request ID: some id", "message"),
        ("Not Before: 2021-09-30T16:00:00.5Z\nRequest ID: some-id", "Request ID: some-id\nNot Before: 2021-09-30T16:00:00.5Z", "message"),
        ("- https://example.com/my-web2-claim.json", "- my-web2-claim.json", "message"),
        ("- https://example.com/my-web2-claim.json", "https://example.com/my-web2-claim.json", "message"),
    ],
)  # fmt: skip
def test_read_of_a_message_with_one_wrong_field_is_refused(before, after, field):
    assert FULL.count(before) == 1
    with pytest.raises(SiweError) as refused:
        Message.read(FULL.replace(before, after))
    assert refused.value.field == field


_MOMENTS = st.integers(0, 250_000_000_000_000_000).map(lambda micros: NOW + timedelta(microseconds=micros))
_URIS = st.from_regex(
    r"[a-z]{1,8}://[a-z0-9.]{1,20}/[A-Za-z0-9._~/?#&=%-]{0,40}", fullmatch=True, alphabet=st.characters(codec="ascii")
)


@settings(max_examples=100, deadline=None)
@given(st.builds(
    Message, domain=st.from_regex(r"[a-z0-9.-]{1,30}(:[0-9]{1,5})?", fullmatch=True), uri=_URIS,
    address=st.binary(min_size=20, max_size=20).map(to_checksum_address), chain_id=st.integers(0, 2**256 - 1), issued_at=_MOMENTS,
    nonce=st.from_regex(r"[A-Za-z0-9]{8,40}", fullmatch=True, alphabet=st.characters(codec="ascii")),
    statement=st.none() | st.from_regex(r"[A-Za-z0-9 .,:;!?()]{1,80}", fullmatch=True, alphabet=st.characters(codec="ascii")),
    scheme=st.none() | st.sampled_from(["http", "https"]), expiration_time=st.none() | _MOMENTS, not_before=st.none() | _MOMENTS,
    request_id=st.none() | st.from_regex(r"[a-z0-9._~%-]{0,20}", fullmatch=True), resources=st.lists(_URIS, max_size=3).map(tuple),
))  # fmt: skip
def test_read_of_what_a_message_writes_is_the_message(message):
    assert Message.read(str(message)) == message


@pytest.mark.parametrize("around", ["{}\n", " {}", "{} ", "\n{}"])
def test_read_of_a_message_with_something_around_it_is_refused(around):
    with pytest.raises(SiweError):
        Message.read(around.format(FULL))


@pytest.mark.parametrize(
    ("origin", "chain_id", "now", "field"),
    [
        ("https://example.org", 1, NOW, "domain"),
        ("https://example.com:8000", 1, NOW, "domain"),
        ("https://example.com", 5, NOW, "chain_id"),
        ("https://example.com", 1, NOW - timedelta(minutes=2), "issued_at"),
        ("https://example.com", 1, NOW + timedelta(minutes=15), "issued_at"),
        ("http://example.com", 1, NOW, "uri"),
    ],
)
def test_check_for_another_site_chain_or_time_names_the_field(origin, chain_id, now, field):
    with pytest.raises(SiweError) as refused:
        Message.read(FULL).check(origin=origin, chain_id=chain_id, now=now)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("2021-09-30T17:00:00+00:00", "2021-09-30T16:26:00Z", "expiration_time"),
        ("2021-09-30T16:00:00.5Z", "2021-09-30T16:26:01Z", "not_before"),
        ("URI: https://example.com/login", "URI: https://example.com.evil.example/login", "uri"),
        ("URI: https://example.com/login", "URI: https://elsewhere.example/login", "uri"),
    ],
)
def test_check_of_a_message_not_meant_for_now_and_here_names_the_field(before, after, field):
    with pytest.raises(SiweError) as refused:
        Message.read(FULL.replace(before, after)).check(origin="https://example.com", chain_id=1, now=NOW)
    assert refused.value.field == field
    with pytest.raises(SiweError) as refused:
        Message.read("http://" + FULL).check(origin="https://example.com", chain_id=1, now=NOW)
    assert refused.value.field == "scheme"


# -- over the app's routes --------------------------------------------------------------------------


@pytest.fixture
def visitor(office_app):
    return office_app.test_client()


@pytest.fixture
def key(operators):
    return operators.key_of(operators.OTHER)


def cookie_of(client):
    found = client.get_cookie("wattmark-operator")
    return found.value if found else None


def test_sign_in_with_the_sites_own_message_opens_the_desk_in_a_strict_cookie(visitor, operators, key):
    assert visitor.get("/operators").status_code == 401
    text = operators.message_for(visitor, key.address.lower())
    answer = operators.post_sign_in(visitor, text, operators.signed(key, text))
    assert answer.json == {"address": key.address, "next": "/operators"}
    cookie = next(one for one in answer.headers.getlist("Set-Cookie") if one.startswith("wattmark-operator="))
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie and "Domain" not in cookie
    assert visitor.get("/operators").status_code == 200


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("domain", lambda text, _: text.replace("localhost wants", "wattmark.example wants")),
        ("uri", lambda text, _: text.replace("URI: http://localhost/", "URI: http://wattmark.example/")),
        ("scheme", lambda text, _: "https://" + text),
        ("version", lambda text, _: text.replace("Version: 1", "Version: 2")),
        ("chain_id", lambda text, _: re.sub(r"Chain ID: \d+", "Chain ID: 1", text)),
        ("nonce", lambda text, _: re.sub(r"Nonce: \w+", "Nonce: 0123456789abcdef", text)),
        ("issued_at", lambda text, _: re.sub(r"Issued At: \S+", "Issued At: 2021-09-30T16:25:24Z", text)),
        ("issued_at", lambda text, _: re.sub(r"Issued At: \S+", "Issued At: 2999-09-30T16:25:24Z", text)),
        ("expiration_time", lambda text, _: re.sub(r"Expiration Time: \S+", "Expiration Time: 2021-09-30T16:25:24Z", text)),
        ("not_before", lambda text, _: text + "\nNot Before: 2999-09-30T16:25:24Z"),
        ("address", lambda text, address: text.replace(address, address.lower())),
        ("message", lambda text, _: text.replace("wants you to sign in", "wants you to sign")),
        ("altered", lambda text, _: "http://" + text),
        ("altered", lambda text, _: text.replace("/operators/sign-in\n", "/operators/elsewhere\n")),
        ("altered", lambda text, _: text.replace("This sends no transaction", "This moves everything I hold")),
        ("altered", lambda text, _: text.replace("\nSign in to Wattmark. This sends no transaction and costs nothing.\n", "\n")),
        ("altered", lambda text, _: text.replace("Expiration Time: 2", "Expiration Time: 3")),
        ("altered", lambda text, _: re.sub(r"\nExpiration Time: \S+", "", text)),
        ("altered", lambda text, _: text + "\nNot Before: 2021-09-30T16:25:24Z"),
        ("altered", lambda text, _: text + "\nRequest ID: 7"),
        ("altered", lambda text, _: text + "\nResources:\n- urn:recap:e30"),
    ],
)  # fmt: skip
def test_sign_in_with_one_wrong_field_is_refused_and_says_which(visitor, operators, key, field, change):
    from webapp.pages.operators import REFUSALS

    text = operators.message_for(visitor, key.address)
    changed = change(text, key.address)
    assert changed != text
    # Signed as it stands: only the field is wrong.
    answer = operators.post_sign_in(visitor, changed, operators.signed(key, changed))
    assert answer.status_code == 401 and answer.json["error"]["detail"] == str(REFUSALS[field])
    assert cookie_of(visitor) is None and visitor.get("/operators").status_code == 401


@pytest.mark.parametrize("signature", ["0x", "0x00", "zz", "0x" + "00" * 65, "0x" + "11" * 65, "0x" + "11" * 9_000])
def test_sign_in_with_what_is_no_signature_is_refused(visitor, operators, key, signature):
    text = operators.message_for(visitor, key.address)
    assert operators.post_sign_in(visitor, text, signature).status_code == 401


def test_sign_in_signed_by_another_account_or_for_another_text_is_refused(visitor, operators, key):
    text = operators.message_for(visitor, key.address)
    assert operators.post_sign_in(visitor, text, operators.signed(operators.key_of(1), text)).status_code == 401
    other, text = text, operators.message_for(visitor, key.address)
    assert operators.post_sign_in(visitor, text, operators.signed(key, other)).status_code == 401


def test_sign_in_again_by_the_same_message_is_refused(visitor, office_app, operators, key):
    text = operators.message_for(visitor, key.address)
    signature = operators.signed(key, text)
    assert operators.post_sign_in(visitor, text, "0x" + "11" * 65).status_code == 401
    # Even after a failure: whoever saw the message has one try.
    answer = operators.post_sign_in(visitor, text, signature)
    assert answer.status_code == 401 and "used before" in answer.json["error"]["detail"]


def test_sign_in_by_a_message_for_another_browser_is_refused(visitor, office_app, operators, key):
    text = operators.message_for(office_app.test_client(), key.address)
    assert operators.post_sign_in(visitor, text, operators.signed(key, text)).status_code == 401


def test_nonce_is_good_once_and_not_for_ever(office_app):
    with office_app.test_request_context():
        issued = time.time()
        assert spend_nonce(nonce := new_nonce()) and not spend_nonce(nonce)
        old = new_nonce(now=issued - NONCE_SECONDS - 1)
        assert not spend_nonce(old)
        assert spend_nonce(new_nonce(now=issued - NONCE_SECONDS + 5))
        fresh = new_nonce()
        assert not spend_nonce(fresh[:-1] + ("0" if fresh[-1] != "0" else "1")) and not spend_nonce("short")


def test_nonce_used_in_one_process_is_used_in_all(office, tmp_path, app_of, operators, key):
    one, another = app_of(office), app_of(office)
    client = one.test_client()
    text = operators.message_for(client, key.address)
    signature = operators.signed(key, text)
    headers = operators.posting(operators.token_of(client))
    cookie = client.get_cookie("wattmark").value
    assert (
        client.post(
            "/operators/sign-in.json", json={"message": text, "signature": signature}, headers=headers
        ).status_code
        == 200
    )
    elsewhere = another.test_client()
    elsewhere.set_cookie("wattmark", cookie)
    answer = elsewhere.post("/operators/sign-in.json", json={"message": text, "signature": signature}, headers=headers)
    assert answer.status_code == 401 and "used before" in answer.json["error"]["detail"]
    # The sign-in itself holds in every process.
    elsewhere.set_cookie("wattmark-operator", cookie_of(client))
    assert elsewhere.get("/operators").status_code == 200


@pytest.mark.parametrize("body", [None, [], {"message": "x"}, {"message": 1, "signature": 2}])
def test_sign_in_without_message_or_signature_is_a_bad_request(visitor, operators, body):
    sent = operators.posting(operators.token_of(visitor))
    assert visitor.post("/operators/sign-in.json", json=body, headers=sent).status_code == 400


@pytest.mark.parametrize("address", ["", "0x12", "0x70997970c51812dc3A010C7d01b50e0d17dc79C8"])
def test_message_for_what_is_no_address_is_a_bad_request(visitor, address):
    answer = visitor.get("/operators/sign-in/message.json", query_string={"address": address})
    assert answer.status_code == 400 and "EIP" not in answer.text


# -- contract wallets -------------------------------------------------------------------------------


def contract_wallet(world, owner, at):
    """Puts an ERC-1271 wallet on the chain that says yes to what ``owner`` signed: recover (hash, v, r, s), compare, answer."""
    code = (
        "600435600052" "60a43560f81c602052" "606435604052" "608435606052"  # hash, v, r, s to memory
        "60206080608060006001" "5a" "fa" "50"  # ecrecover
        "608051" f"73{owner[2:].lower()}" "14" "631626ba7e60e01b" "02" "600052" "60206000f3"
    )  # fmt: skip
    world.anvil.rpc("anvil_setCode", at, "0x" + code)


def test_sign_in_by_a_contract_wallet_is_for_it_to_judge(office, visitor, operators):
    owner, wallet = operators.key_of(2), "0x00000000000000000000000000000000C0FfEE00"
    wallet = to_checksum_address(wallet)
    contract_wallet(office, owner.address, wallet)
    text = operators.message_for(visitor, wallet)
    assert operators.post_sign_in(visitor, text, operators.signed(operators.key_of(1), text)).status_code == 401
    text = operators.message_for(visitor, wallet)
    answer = operators.post_sign_in(visitor, text, operators.signed(owner, text))
    assert answer.status_code == 200 and answer.json["address"] == wallet
    # Not every contract answers: this one reverts.
    registry = office.contracts["DeviceRegistry"].address
    text = operators.message_for(visitor, registry)
    assert operators.post_sign_in(visitor, text, operators.signed(owner, text)).status_code == 401


def test_sign_in_while_no_node_answers_is_not_available(office, tmp_path, app_of, operators):
    app = app_of(office)
    client, key = app.test_client(), operators.key_of(3)
    text = operators.message_for(client, "0x000000000000000000000000000000000000dEaD")
    app.extensions["wattmark"].node.urls = ("http://127.0.0.1:1",)
    assert operators.post_sign_in(client, text, operators.signed(key, text)).status_code == 503
    # An account's signature needs no node; what it may do does.
    text = operators.message_for(client, key.address)
    assert client.post("/operators/sign-in.json", json={"message": text, "signature": operators.signed(key, text)},
                       headers=operators.posting(operators.token_of(client))).status_code == 200  # fmt: skip
    assert client.get("/operators").status_code == 503


# -- what a sign-in is ------------------------------------------------------------------------------


def test_sign_in_gives_a_new_id_and_ends_the_one_before(office_app, visitor, operators, key):
    visitor.set_cookie("wattmark-operator", "planted-by-somebody-else")
    operators.sign_in(visitor, key)
    first = cookie_of(visitor)
    assert first != "planted-by-somebody-else"
    token = operators.sign_in(visitor, operators.key_of(1))
    second = cookie_of(visitor)
    assert second != first and operators.token_of(visitor) == token
    visitor.set_cookie("wattmark-operator", first)
    assert visitor.get("/operators").status_code == 401
    visitor.set_cookie("wattmark-operator", "planted-by-somebody-else")
    assert visitor.get("/operators").status_code == 401


def test_pages_of_who_is_signed_in_are_kept_by_no_cache(office_app, operators, key):
    client = office_app.test_client()
    assert client.get("/operators/roles").headers["Cache-Control"] == "no-cache"
    operators.sign_in(client, key)
    for path in ("/operators", "/operators/requests", "/operators/roles"):
        assert client.get(path).headers["Cache-Control"] == "private, no-store", path


def test_sign_in_tokens_are_each_sign_ins_own(office_app, operators, key):
    here, there = office_app.test_client(), office_app.test_client()
    before = operators.token_of(here)
    one, other = operators.sign_in(here, key), operators.sign_in(there, key)
    assert len({before, one, other}) == 3
    assert here.post("/operators/sign-out", headers=operators.posting(other)).status_code == 403
    assert here.post("/operators/sign-out", headers=operators.posting(before)).status_code == 403


def test_sign_out_ends_this_sign_in_and_everywhere_ends_all(office_app, operators, key):
    clients = [office_app.test_client() for _ in range(3)]
    tokens = [operators.sign_in(client, key) for client in clients]
    kept = cookie_of(clients[0])
    assert clients[0].post("/operators/sign-out", headers=operators.posting(tokens[0])).status_code == 303
    clients[0].set_cookie("wattmark-operator", kept)
    assert [client.get("/operators").status_code for client in clients] == [401, 200, 200]
    clients[1].post("/operators/sign-out", headers=operators.posting(tokens[1]), data={"everywhere": "1"})
    assert [client.get("/operators").status_code for client in clients] == [401, 401, 401]


def test_desk_ends_a_sign_in_that_is_idle_or_old(tmp_path):
    desk, start = Desk(tmp_path / "operators.sqlite3"), 1_700_000_000
    new = desk.sign_in("0xA", instead_of=None, now=start)
    assert desk.address_of(new, now=start + IDLE_SECONDS - 1) == "0xA"
    assert desk.address_of(new, now=start + 2 * IDLE_SECONDS - 2) == "0xA"
    assert desk.address_of(new, now=start + 3 * IDLE_SECONDS) is None
    new, moment = desk.sign_in("0xA", instead_of=None, now=start), start
    while moment + IDLE_SECONDS // 2 < start + ABSOLUTE_SECONDS:
        moment += IDLE_SECONDS // 2
        assert desk.address_of(new, now=moment) == "0xA"
    assert desk.address_of(new, now=start + ABSOLUTE_SECONDS) is None
    assert desk.address_of("", now=start) is None and desk.address_of("' OR 1=1 --", now=start) is None


def test_desk_keeps_no_id_that_could_be_used(tmp_path):
    desk = Desk(tmp_path / "operators.sqlite3")
    new = desk.sign_in("0xA", instead_of=None)
    for file in tmp_path.iterdir():
        assert new.encode() not in file.read_bytes() and file.stat().st_mode & 0o077 == 0


def test_roles_are_those_of_the_newest_block(fresh_world, app_of, operators):
    app = app_of(fresh_world)
    account = fresh_world.account(6)

    def held():
        with app.test_request_context():
            return role_delays(account)

    assert held() == {}
    operators.grant(fresh_world, 3, 6, delay_seconds=3_600)
    assert held() == {"guardian": 3_600}
    fresh_world.send("AccessManager", "revokeRole", 3, account)
    assert held() == {}


# -- another site's forms ---------------------------------------------------------------------------

POSTS = ("/operators/sign-in.json", "/operators/sign-out", "/operators/requests", "/operators/requests/1/refuse", "/operators/requests/1/withdraw")  # fmt: skip


def test_posts_named_here_are_all_there_are(office_app):
    found = {rule.rule.replace("<int:number>", "1") for rule in office_app.url_map.iter_rules()
             if rule.rule.startswith("/operators") and "POST" in rule.methods}  # fmt: skip
    assert set(POSTS) <= found


@pytest.mark.parametrize("path", POSTS)
def test_post_that_no_page_of_ours_sent_is_refused(office_app, operators, path):
    client = office_app.test_client()
    token = operators.sign_in(client, operators.key_of(operators.OFFICES["registrar"]))
    right = operators.posting(token)
    assert client.post(path, headers={**right, "Origin": "http://localhost.evil.example"}).status_code == 403
    assert client.post(path, headers={**right, "Origin": "null"}).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": token}).status_code == 403
    assert client.post(path, headers={"Origin": operators.ORIGIN}).status_code == 403
    assert client.post(path, headers={**right, "X-CSRF-Token": token[:-1] + "x"}).status_code == 403
    # Under another name the browser does not send the cookie, and the name is not one to sign in at.
    assert client.post(path, headers={**right, "Host": "wattmark.evil.example"}).status_code in (401, 403)
    assert client.get("/operators").status_code == 200


def test_needs_of_a_role_that_is_not_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="astronaut"):
        needs("astronaut")


# -- where the site is ------------------------------------------------------------------------------


def test_site_url_decides_for_which_site_one_signs(office, app_of, operators, key):
    app = app_of(office, site_url="https://wattmark.example")
    client = app.test_client()
    page = {"base_url": "https://internal:8000"}
    token = re.search(r'data-token="([^"]+)"', client.get("/operators/sign-in", **page).text)[1]
    asked = {"address": key.address}
    text = client.get("/operators/sign-in/message.json", query_string=asked, **page).json["message"]
    assert text.startswith("wattmark.example wants") and "URI: https://wattmark.example/operators/sign-in\n" in text
    body = {"message": text, "signature": operators.signed(key, text)}
    headers = {"X-CSRF-Token": token, "Origin": "https://internal:8000"}
    assert client.post("/operators/sign-in.json", json=body, headers=headers, **page).status_code == 403
    answer = client.post(
        "/operators/sign-in.json", json=body, headers={**headers, "Origin": "https://wattmark.example"}, **page
    )
    assert answer.status_code == 200
    cookies = answer.headers.getlist("Set-Cookie")
    assert any(one.startswith("__Host-wattmark-operator=") and "Secure" in one for one in cookies)


def test_without_site_url_nobody_signs_in_but_on_this_machine(visitor):
    answer = visitor.get(
        "/operators/sign-in/message.json",
        query_string={"address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
        base_url="http://wattmark.example",
    )
    assert answer.status_code == 403 and "site_url" in answer.json["error"]["detail"]


def test_page_that_needs_a_sign_in_leads_there_and_back(visitor, operators, key):
    answer = visitor.get("/operators/requests/new")
    for refused in (answer, visitor.get("/operators/audit.json")):
        assert refused.headers["WWW-Authenticate"] == 'EIP-4361 realm="operators", uri="/operators/sign-in"'
    link = re.search(r'href="(/operators/sign-in\?next=[^"]+)"', answer.text)[1]
    assert answer.status_code == 401
    page = visitor.get(link).text
    assert '"next": "/operators/requests/new"' in page.replace("&#34;", '"')


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "/operators/../../x\\evil", "/other"])
def test_next_leads_to_a_page_of_operators_alone(visitor, operators, key, next_):
    text = operators.message_for(visitor, key.address)
    headers = operators.posting(operators.token_of(visitor))
    body = {"message": text, "signature": operators.signed(key, text)}
    answer = visitor.post("/operators/sign-in.json", query_string={"next": next_}, json=body, headers=headers)
    assert answer.json["next"] == "/operators"
