"""Matching deployed code with the sources, and publishing them: services as their documentation describes them"""

import contextlib
import email
import email.policy
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from eth_abi import encode

from scripts import compile as compiler
from scripts import verify_source
from scripts.addresses import artifact
from scripts.networks import DeployError, connect
from scripts.verify_source import compare, metadata_of, source_of, submit_blockscout, submit_etherscan, submit_sourcify
from tests.deploy.bed import SIGNERS, Node, account, ask, chain, give, run, settings

CHAIN_ID = 77_005


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with chain(tmp_path_factory.mktemp("chain"), chain_id=CHAIN_ID) as address:
        yield address


@pytest.fixture(scope="module")
def deployed(url, tmp_path_factory):
    made, deployer = settings(tmp_path_factory.mktemp("book")), account("deployer")
    give(connect(url), deployer.address)
    run(url, deployer, made)
    return made.book


@pytest.fixture
def w3(url):
    connection = connect(url)
    kept = ask(connection, "evm_snapshot")
    yield connection
    ask(connection, "evm_revert", kept)


@pytest.fixture
def book(deployed):
    return json.loads(deployed.read_text())


def match_of(w3, book, name):
    return next(found for found in compare(w3, book) if found.name == name)


def test_compare_with_our_deployment_matches_every_contract(w3, book):
    found = compare(w3, book)
    assert {one.name for one in found} == set(book["contracts"])
    assert all((one.runtime, one.metadata, one.creation, one.holds) == (True,) * 4 for one in found)


def test_compare_reports_immutables_with_what_they_are(w3, book):
    found = match_of(w3, book, "MitigationOutcome").immutables
    assert len(found) == len(artifact("MitigationOutcome")["immutableReferences"])
    for number, name in (("0", "EnergyCertificate"), ("1", "DeviceRegistry"), ("2", "EmissionFactors")):
        assert found[number].lower() == f"0x{'0' * 24}{book['contracts'][name]['address'][2:]} ({name})".lower()
    assert f"0x{CHAIN_ID:064x}" in found.values()


def test_compare_reads_the_constructors_arguments(w3, book):
    manager = book["contracts"]["AccessManager"]["address"]
    wanted = encode(["address", "address[]", "uint8"], [manager, SIGNERS, 2]).hex()
    assert match_of(w3, book, "Notary").constructor_arguments == wanted


@pytest.mark.parametrize(("place", "metadata"), [(100, True), (-20, False)])
def test_compare_with_a_changed_byte_does_not_match(w3, book, place, metadata):
    at = book["contracts"]["Notary"]["address"]
    code = bytearray(w3.eth.get_code(at))
    code[place] ^= 1
    ask(w3, "anvil_setCode", at, "0x" + code.hex())
    found = match_of(w3, book, "Notary")
    assert (found.runtime, found.metadata, found.holds) == (False, metadata, False)
    assert match_of(w3, book, "DeviceRegistry").holds


def test_compare_where_nothing_is_deployed_does_not_match(w3, book):
    ask(w3, "anvil_setCode", book["contracts"]["Notary"]["address"], "0x")
    found = match_of(w3, book, "Notary")
    assert (found.runtime, found.metadata, found.metadata_hash) == (False, False, "")


def test_compare_with_another_creation_does_not_match(w3, book):
    book["contracts"]["Notary"]["transaction"] = book["contracts"]["DeviceRegistry"]["transaction"]
    found = match_of(w3, book, "Notary")
    assert (found.creation, found.constructor_arguments, found.holds) == (False, "", False)


def test_metadata_of_code_ends_before_its_length():
    code = bytes.fromhex("6080" + "a164736f6c6343000825" + "000a")
    assert metadata_of(code) == bytes.fromhex("a164736f6c6343000825")
    assert metadata_of(b"\x60\x80\xff\xff") == metadata_of(b"") == b""


# -- sources ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def output():
    return compiler.compile_contracts()


def test_source_holds_everything_its_contract_is_made_of_and_no_more(output):
    source = source_of("Notary", output)
    assert source.identifier == "contracts/Notary.sol:Notary"
    assert source.compiler_version == artifact("Notary")["compiler"]["version"]
    names = set(source.input["sources"])
    assert "contracts/Notary.sol" in names and "contracts/DeviceRegistry.sol" not in names
    assert any(name.endswith("openzeppelin/contracts/access/manager/AccessManaged.sol") for name in names)


def test_source_that_changed_on_disk_is_refused(output, tmp_path):
    for name in source_of("EmissionFactors", output).input["sources"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("// changed")
    with pytest.raises(DeployError, match="is not what was compiled"):
        source_of("EmissionFactors", output, tmp_path)


@pytest.mark.slow
def test_source_compiled_alone_gives_the_artifact_to_the_byte(output, tmp_path):
    """What is submitted reproduces the code, metadata hash included, where there is no other file at all."""
    source = source_of("MitigationOutcome", output)
    solc = compiler.STATE / "solc" / f"solc-v{compiler.SOLC_VERSION}"
    done = subprocess.run(
        [solc, "--standard-json"],
        input=json.dumps(source.input),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": os.environ["PATH"]},
        check=True,
    )
    compiled = json.loads(done.stdout)["contracts"]["contracts/MitigationOutcome.sol"]["MitigationOutcome"]["evm"]
    wanted = artifact("MitigationOutcome")
    assert "0x" + compiled["bytecode"]["object"] == wanted["bytecode"]
    assert "0x" + compiled["deployedBytecode"]["object"] == wanted["deployedBytecode"]


# -- services ---------------------------------------------------------------------------------------


class Service:
    """An HTTP service that gives its answers in order and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.asked.append((self.command, self.path, self.headers.get("Content-Type", ""), body))
                status, answer = service.answers.pop(0)
                text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = reply

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextlib.contextmanager
def service(*answers):
    made = Service(*answers)
    threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield made
        assert not made.answers, "was not asked everything"
    finally:
        made.server.shutdown()
        made.server.server_close()


@pytest.fixture
def notary(w3, book, output):
    return match_of(w3, book, "Notary"), source_of("Notary", output)


JOB = {"isJobCompleted": False, "verificationId": "72b12273-0723-448e-a628-a8957128849a"}
DONE = {**JOB, "isJobCompleted": True, "contract": {"match": "exact_match", "runtimeMatch": "exact_match"}}


def test_sourcify_verifies_with_a_job(notary):
    found, source = notary
    with service((202, {"verificationId": JOB["verificationId"]}), (200, JOB), (200, DONE)) as there:
        assert submit_sourcify(there.url, CHAIN_ID, found, source, 0.01) == "exact_match"
    method, path, kind, body = there.asked[0]
    assert (method, path, kind) == ("POST", f"/v2/verify/{CHAIN_ID}/{found.address}", "application/json")
    assert json.loads(body) == {
        "stdJsonInput": source.input,
        "compilerVersion": source.compiler_version,
        "contractIdentifier": "contracts/Notary.sol:Notary",
        "creationTransactionHash": found.transaction,
    }
    assert [entry[:2] for entry in there.asked[1:]] == [("GET", f"/v2/verify/{JOB['verificationId']}")] * 2


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([(400, {"customCode": "unsupported_chain", "message": "no such chain", "errorId": "1"})], "unsupported_chain: no such chain"),
        ([(202, {"verificationId": "1"}), (200, {"isJobCompleted": True, "error": {"customCode": "no_match", "message": "differs"}})], "no_match: differs"),
        ([(202, {"verificationId": "1"}), (200, {"isJobCompleted": True, "contract": {"match": None}})], "no match"),
        ([(502, b"<html>")], "status 502 without a JSON object"),
    ],
)  # fmt: skip
def test_sourcify_that_refuses_is_told_in_its_words(notary, answers, told):
    with service(*answers) as there, pytest.raises(DeployError, match=told):
        submit_sourcify(there.url, CHAIN_ID, *notary, 0.01)


def test_sourcify_that_knows_the_contract_is_content(notary):
    with service((409, {"customCode": "already_verified", "message": "m", "errorId": "1"})) as there:
        assert submit_sourcify(there.url, CHAIN_ID, *notary, 0.01) == "verified before"


def test_etherscan_verifies_with_a_ticket(notary, monkeypatch):
    monkeypatch.setenv("WATTMARK_ETHERSCAN_KEY", "the-key")
    found, source = notary
    answers = [{"status": "1", "message": "OK", "result": "a-guid"}]
    answers += [{"status": "0", "message": "NOTOK", "result": "Pending in queue"}]
    answers += [{"status": "1", "message": "OK", "result": "Pass - Verified"}]
    with service(*((200, answer) for answer in answers)) as there:
        assert submit_etherscan(there.url, CHAIN_ID, found, source, 0.01) == "Pass - Verified"
    method, path, kind, body = there.asked[0]
    assert (method, kind) == ("POST", "application/x-www-form-urlencoded")
    assert parse_qs(urlsplit(path).query) == {"chainid": [str(CHAIN_ID)], "apikey": ["the-key"]}
    form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
    assert json.loads(form.pop("sourceCode")) == source.input
    assert form == {
        "module": "contract",
        "action": "verifysourcecode",
        "contractaddress": found.address,
        "codeformat": "solidity-standard-json-input",
        "contractname": "contracts/Notary.sol:Notary",
        "compilerversion": f"v{source.compiler_version}",
        "constructorArguements": found.constructor_arguments,
        "constructorArguments": found.constructor_arguments,
        "licenseType": "3",
    }
    query = parse_qs(urlsplit(there.asked[1][1]).query)
    assert (query["action"], query["guid"], query["chainid"]) == (["checkverifystatus"], ["a-guid"], [str(CHAIN_ID)])


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([{"status": "0", "message": "NOTOK", "result": "Invalid API Key"}], "Invalid API Key"),
        ([{"status": "1", "message": "OK", "result": "g"}, {"status": "0", "message": "NOTOK", "result": "Fail - Unable to verify"}], "Fail - Unable to verify"),
    ],
)  # fmt: skip
def test_etherscan_that_refuses_is_told_in_its_words(notary, monkeypatch, answers, told):
    monkeypatch.setenv("WATTMARK_ETHERSCAN_KEY", "the-key")
    with service(*((200, answer) for answer in answers)) as there, pytest.raises(DeployError, match=told):
        submit_etherscan(there.url, CHAIN_ID, *notary, 0.01)


def test_etherscan_without_a_key_or_an_answer_shows_no_key(notary, monkeypatch):
    monkeypatch.delenv("WATTMARK_ETHERSCAN_KEY", raising=False)
    with pytest.raises(DeployError, match="WATTMARK_ETHERSCAN_KEY"):
        submit_etherscan("http://127.0.0.1:1", CHAIN_ID, *notary, 0.01)
    monkeypatch.setenv("WATTMARK_ETHERSCAN_KEY", "the-key")
    with pytest.raises(DeployError, match="does not answer") as caught:
        submit_etherscan("http://127.0.0.1:1", CHAIN_ID, *notary, 0.01)
    assert "the-key" not in str(caught.value) and caught.value.__suppress_context__


def test_blockscout_verifies_with_a_file(notary):
    found, source = notary
    answers = [(200, {"message": "Smart-contract verification started"}), (404, {"message": "Not found"})]
    answers += [(200, {"is_verified": False}), (200, {"is_verified": True, "is_partially_verified": False})]
    with service(*answers) as there:
        assert submit_blockscout(there.url, CHAIN_ID, found, source, 0.01) == "verified"
    method, path, kind, body = there.asked[0]
    assert (method, path) == ("POST", f"/api/v2/smart-contracts/{found.address}/verification/via/standard-input")
    parts = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    fields = {part.get_param("name", header="content-disposition"): part.get_content() for part in parts.iter_parts()}
    sent = fields.pop("files[0]")
    assert json.loads(sent if isinstance(sent, str) else bytes(sent)) == source.input
    assert {name: value.strip() for name, value in fields.items()} == {
        "compiler_version": f"v{source.compiler_version}",
        "contract_name": "contracts/Notary.sol:Notary",
        "autodetect_constructor_args": "false",
        "constructor_args": found.constructor_arguments,
        "license_type": "mit",
    }


def test_blockscout_that_refuses_is_told_in_its_words(notary):
    with (
        service((422, {"message": "Invalid compiler"})) as there,
        pytest.raises(DeployError, match="422: Invalid compiler"),
    ):
        submit_blockscout(there.url, CHAIN_ID, *notary, 0.01)


def test_service_without_result_is_given_up(notary, monkeypatch):
    monkeypatch.setattr(verify_source, "PATIENCE_SECONDS", 0)
    with service((202, {"verificationId": "1"}), (200, JOB)) as there, pytest.raises(DeployError, match="no result"):
        submit_sourcify(there.url, CHAIN_ID, *notary, 0.01)


# -- the command ------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch, url, deployed):
    monkeypatch.setenv("WATTMARK_RPC", url)
    monkeypatch.setenv("WATTMARK_ADDRESSES", str(deployed))
    monkeypatch.setattr(verify_source, "POLL_SECONDS", 0.01)


def test_command_submits_every_contract_and_exits_0(w3, environment, monkeypatch, capsys):
    answers = [(202, {"verificationId": "1"}), (200, DONE)] * 7
    with service(*answers) as there:
        monkeypatch.setenv("WATTMARK_SOURCIFY_URL", there.url)
        assert verify_source.main(["--network", "local", "--submit", "sourcify", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] and set(answer["submitted"].values()) == {"exact_match"} and len(answer["submitted"]) == 7


def test_command_submits_nothing_that_does_not_match_and_exits_1(w3, book, environment, monkeypatch, capsys):
    ask(w3, "anvil_setCode", book["contracts"]["Notary"]["address"], "0x6000")
    with service(*[(202, {"verificationId": "1"}), (200, DONE)] * 6) as there:
        monkeypatch.setenv("WATTMARK_SOURCIFY_URL", there.url)
        assert verify_source.main(["--network", "local", "--submit", "sourcify"]) == 1
    shown = capsys.readouterr().out
    assert "run-time code DIFFERS" in shown and "7 contracts, 1 failed" in shown


def test_command_at_a_node_that_stops_answering_exits_1_without_its_address(url, environment, monkeypatch, capsys):
    with Node(url, failing={"eth_getCode": 500}) as node:
        monkeypatch.setenv("WATTMARK_RPC", f"{node.url}/a-providers-key")
        assert verify_source.main(["--network", "local"]) == 1
    said = capsys.readouterr()
    assert "the node stopped answering (status 500)" in said.err and "a-providers-key" not in said.out + said.err


def test_command_for_a_service_that_is_not_named_exits_1(w3, environment, capsys):
    assert verify_source.main(["--network", "local", "--submit", "blockscout"]) == 1
    assert "WATTMARK_BLOCKSCOUT_URL" in capsys.readouterr().err
