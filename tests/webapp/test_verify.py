"""The verify page without scripts: what is sent is judged, what is asked by hash is found, and nothing pretends."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from bs4 import BeautifulSoup

from oracle import verify

ALL = {"data": "verified", "inclusion": "verified", "finality": "verified", "authority": "verified"}


def verdicts(answer) -> dict[str, str]:
    assert answer.status_code == 200, answer.text[:400]
    page = BeautifulSoup(answer.data, "html.parser")
    return {part["data-part"]: part["data-verdict"] for part in page.select("#result [data-part]")}


def sent(client, content: bytes, language: str = "en"):
    return client.post(
        f"/verify?lang={language}", data={"file": (io.BytesIO(content), "x")}, content_type="multipart/form-data"
    )


def result(answer) -> str:
    return " ".join(BeautifulSoup(answer.data, "html.parser").select_one("#result").get_text(" ").split())


@pytest.fixture
def statement(world, client, w) -> dict:
    """One member of a bundle's statements.json, with its readings."""
    content = client.get(f"/bundles/statement/0x{world.archives[0].root.hex()}/1/{w.FIRST_DAY}.zip").data
    return json.loads(verify.read_zip(content)["statements.json"])[0]


def as_file(statement: dict) -> bytes:
    return json.dumps(statement).encode()


# -- what is sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [
    "/bundles/retirement/certificate/2.zip", "/bundles/retirement/outcome/1.zip", "/retirements/certificate/2/statement.pdf",
    "/retirements/certificate/2/statement.pdf?evidence=1", "/retirements/certificate/2/statement.json", "/retirements/outcome/1/statement.pdf",
])  # fmt: skip
def test_file_of_our_own_is_verified(client, path):
    assert verdicts(sent(client, client.get(path).data)) == ALL


def test_statement_file_changed_in_one_place_is_what_it_is(client, statement):
    assert verdicts(sent(client, as_file(statement))) == ALL
    energy = {**statement, "statement": {**statement["statement"], "energyWh": "1"}}
    assert verdicts(sent(client, as_file(energy))) == {**ALL, "data": "mismatch", "inclusion": "mismatch"}
    salt = {**statement, "readings": {**statement["readings"], "salts": ["0x" + "12" * 32]}}
    assert verdicts(sent(client, as_file(salt))) == {**ALL, "data": "mismatch"}
    assert verdicts(sent(client, as_file({**statement, "proof": []}))) == {**ALL, "inclusion": "mismatch"}
    assert verdicts(sent(client, as_file({**statement, "readings": None}))) == {**ALL, "data": "cannot check"}
    stranger = verdicts(sent(client, as_file({**statement, "root": "0x" + "11" * 32})))
    assert stranger == {"data": "verified", "inclusion": "mismatch", "finality": "not found", "authority": "not found"}


def test_retirement_file_with_another_name_is_a_mismatch(client):
    told = client.get("/retirements/certificate/2/statement.json").data
    assert verdicts(sent(client, told.replace(b"Town library", b"Town brewery"))) == {**ALL, "data": "mismatch"}
    # Also where whole evidence of the genuine one is attached.
    for query in ("", "?evidence=1"):
        pdf = client.get(f"/retirements/certificate/2/statement.pdf{query}").data
        answer = sent(client, pdf.replace(b'"Town library"', b'"Town brewery"'))
        assert verdicts(answer) == {**ALL, "data": "mismatch"}
        recorded = BeautifulSoup(answer.data, "html.parser").select_one("#result dl.facts").get_text(" ")
        assert "3.000 kWh" in recorded and "Town library" in recorded and "brewery" not in recorded
    unknown = verdicts(sent(client, told.replace(b'"number":"2"', b'"number":"77"')))
    assert unknown == dict.fromkeys(ALL, "not found") | {"data": "mismatch"}


def test_retirement_asked_for_without_a_file_says_that_none_was_compared(client):
    found = client.get("/verify.json?retirement=certificate/2").json["check"]["data"]
    assert found == {"verdict": "verified", "reason": "This is what the chain records; no file was compared with it."}
    digest = hashlib.sha256(client.get("/retirements/certificate/2/statement.json").data).hexdigest()
    found = client.get(f"/verify.json?retirement=certificate/2&facts={digest}").json["check"]["data"]
    assert found["verdict"] == "verified" and "to the byte" in found["reason"]


def test_bundle_with_a_flipped_bit_is_refused(client):
    bundle = bytearray(client.get("/bundles/retirement/certificate/2.zip").data)
    for at in (200, len(bundle) // 2, len(bundle) - 30):
        damaged = bytearray(bundle)
        damaged[at] ^= 4
        answer = sent(client, bytes(damaged))
        assert answer.status_code == 400 and "no usable bundle" in answer.text


@pytest.mark.parametrize(("content", "status"), [
    (b"", 400), (b'{"profileHash": 1}', 400), (b'{"statement": {"profileHash": "0x"}}', 400), (b'[{"schema":"wattmark/retirement/1"}]', 400),
    (b"%PDF-1.3 nothing in it", 400), (b"PK\3\4 manifest.json", 400), (b"[" * 100_000 + b'"profileHash"', 200), (b"x" * (5 << 20), 413),
    (b'{"statement":' * 50_000 + b'"profileHash"', 400),
])  # fmt: skip
def test_file_that_is_nothing_is_told_so(client, content, status):
    assert sent(client, content).status_code == status


def test_statement_of_another_chain_is_not_judged(client):
    told = client.get("/retirements/certificate/2/statement.json").data
    answer = sent(client, told.replace(b'"chainId":420042', b'"chainId":1'))
    assert answer.status_code == 400 and "another chain" in answer.text


# -- what is asked by hash --------------------------------------------------------------------------


def test_raw_file_is_found_by_its_hash_among_the_evidence(client, world, w):
    known = w.keccak256(b"file").hex()
    answer = client.get(f"/verify?sha256={known}&lang=en")
    assert "6 notarized statements name exactly this file" in result(answer)
    assert "What it does not prove" in result(answer)
    assert len(client.get(f"/verify.json?sha256=0x{known}").json["statements"]) == 6
    nowhere = sent(client, b"date,kWh\n2016-07-01,1\n")
    assert "No notarized statement" in result(nowhere)
    assert hashlib.sha256(b"date,kWh\n2016-07-01,1\n").hexdigest() in result(nowhere)


def test_root_is_judged_without_the_statement(client, world):
    known = f"0x{world.archives[0].root.hex()}"
    assert verdicts(client.get(f"/verify?root={known}")) == {**ALL, "data": "cannot check"}
    both = verdicts(client.get(f"/verify?root={known}&root=0x{'11' * 32}"))
    assert both == {"data": "cannot check", "inclusion": "not found", "finality": "not found", "authority": "not found"}


def test_retirement_is_judged_with_what_stands_behind_it(client):
    assert verdicts(client.get("/verify?retirement=certificate/2")) == ALL
    assert verdicts(client.get("/verify?retirement=outcome/1")) == ALL
    assert verdicts(client.get(f"/verify?retirement=certificate/2&facts={'00' * 32}")) == {**ALL, "data": "mismatch"}
    for wrong in ("certificate/99", "promise/1", "certificate/x", "certificate/" + "9" * 40):
        assert client.get(f"/verify?retirement={wrong}").status_code == 404


def test_retirement_is_judged_in_words_of_its_own(client):
    page = client.get("/verify?retirement=certificate/1").text
    assert (
        "The chain records this retirement as it is stated" in page and "Did the account hold what it retired" in page
    )
    assert "The readings shown here are exactly" not in page.split("<template")[0]


@pytest.mark.parametrize("query", ["sha256=zz", "sha256=" + "1" * 63, "root=1", "root=0x" + "g" * 64])
def test_query_that_is_no_hash_is_not_found(client, query):
    assert client.get(f"/verify?{query}").status_code == 404


def test_page_in_each_language_shows_how_to_repeat_it(client, world):
    root = f"0x{world.archives[0].root.hex()}"
    for language in ("en", "es", "ru"):
        text = client.get(f"/verify?root={root}&lang={language}").text
        assert f"cast call {world.contracts['Notary'].address}" in text and "python3 -I verify.py bundle.zip" in text
        assert "0x03cdd581" + root[2:] in text


def test_call_shown_for_any_tool_gives_the_record(client, world):
    page = BeautifulSoup(client.get(f"/verify?root=0x{world.archives[0].root.hex()}").data, "html.parser")
    command = next(code.get_text() for code in page.select("code") if code.get_text().startswith("curl"))
    body = json.loads(command.split(" -d '")[1].rstrip("'"))
    answer = world.anvil.rpc(body["method"], *body["params"])
    assert int(answer[2:66], 16) > 0
    assert command.split()[2] == world.anvil.url


# -- where something is missing ---------------------------------------------------------------------


def test_node_gone_is_cannot_check_and_never_not_found(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, w.FIRST_DAY)])
    world.retire(1, world.issue(archive, 1, w.FIRST_DAY), 10)
    client = app_of(world).test_client()
    bundle = client.get("/bundles/retirement/certificate/1.zip").data
    told = client.get("/retirements/certificate/1/statement.json").data
    world.anvil.stop()
    for content in (bundle, told):
        found = verdicts(sent(client, content))
        assert found["data"] == "verified" and set(found.values()) == {"verified", "cannot check"}, found
    root = verdicts(client.get(f"/verify?root=0x{archive.root.hex()}"))
    assert root == dict.fromkeys(ALL, "cannot check")


def test_revoked_batch_is_revoked_in_everything_that_rests_on_it(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, w.FIRST_DAY)])
    world.retire(1, world.issue(archive, 1, w.FIRST_DAY), 10)
    world.send("Notary", "revoke", archive.root, "meter was moved")
    client = app_of(world).test_client()
    bundle = client.get("/bundles/retirement/certificate/1.zip").data
    for answer in (sent(client, bundle), client.get("/verify?retirement=certificate/1"), client.get(f"/verify?root=0x{archive.root.hex()}")):  # fmt: skip
        assert verdicts(answer)["inclusion"] == "revoked"
