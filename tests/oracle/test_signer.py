"""Keys kept elsewhere: what a remote signer answers is used only if it is what was asked for."""

import contextlib
import http.server
import json
import logging
import ssl
import subprocess
import threading
from dataclasses import replace

import pytest
import yaml
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from oracle.cli import main
from oracle.config import OracleConfig, RemoteKey
from oracle.domain import Batch, BatchKind, NotaryDomain, SagaState
from oracle.errors import ConfigError
from oracle.keys import create_device_key
from oracle.outbox import GWEI, Outbox, SendPolicy
from oracle.signer import LocalSigner, RemoteSigner, SignerError, SignerUnreachable, as_signer, open_signer
from oracle.store import SignedTransaction, Store
from oracle.witness import message_signer, sign_message
from tests.oracle import databases, nodes
from tests.oracle.test_pipeline import configure, day_rows, device, write

DOMAIN = NotaryDomain(nodes.CHAIN_ID, "0x" + "11" * 20)
BATCH = Batch(BatchKind.FINAL, 1, b"\1" * 32, b"\2" * 32, 0, 86_400, 3, 2**64 - 1, b"\3" * 32, 2**40 - 1)
TO = Account.create().address
FEES = {"maxFeePerGas": 30 * GWEI, "maxPriorityFeePerGas": GWEI}
FIELDS = {"chainId": nodes.CHAIN_ID, "nonce": 0, "gas": 50_000, "to": TO, "value": 0, "data": b"\x12\x34"}
MODERN, LEGACY = FIELDS | FEES | {"type": 2}, FIELDS | {"gasPrice": 0, "nonce": 127}


class Service:
    """A signer over HTTP that holds one eth-account key. ``spoil(method, result)`` may change what it answers."""

    def __init__(self, account=None):
        self.account = account or Account.create()
        self.spoil = lambda method, result: result
        self.asked = []
        self.missing = {}
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = service.answer(request)
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def key(self):
        return RemoteKey(f"http://127.0.0.1:{self.server.server_port}", self.account.address, timeout_seconds=5.0)

    def answer(self, request):
        method, params = request["method"], request["params"]
        self.asked.append(method)
        if method in self.missing:
            error = {"code": self.missing[method], "message": "method not found"}
            return {"jsonrpc": "2.0", "id": request["id"], "error": error}
        result = self.spoil(method, self.work(method, params))
        return result if isinstance(result, bytes) else {"jsonrpc": "2.0", "id": request["id"], "result": result}

    def work(self, method, params):
        if method == "eth_accounts":
            return [self.account.address.lower()]
        if method == "eth_signTransaction":
            fields = {name: value for name, value in params[0].items() if name != "from"}
            return "0x" + bytes(self.account.sign_transaction(fields).raw_transaction).hex()
        if method in ("eth_signTypedData_v4", "eth_signTypedData"):
            assert params[0] == self.account.address
            # Web3Signer casts its parameters to strings: an object there is an error.
            typed = json.loads(params[1]) if method == "eth_signTypedData" else params[1]
            return "0x" + bytes(self.account.sign_message(encode_typed_data(full_message=typed)).signature).hex()
        assert method == "eth_sign", method
        return "0x" + bytes(self.account.sign_message(encode_defunct(hexstr=params[1])).signature).hex()


@pytest.fixture
def service():
    running = Service()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize("fields", [MODERN, LEGACY], ids=["dynamic fee", "legacy"])
def test_sign_transaction_remote_gives_the_bytes_that_the_key_itself_signs(service, fields):
    raw = RemoteSigner.open(service.key).sign_transaction(fields)
    assert raw == LocalSigner(service.account).sign_transaction(fields)
    assert Account.recover_transaction(raw) == service.account.address


def test_sign_batch_and_message_remote_equal_the_local_signatures(service):
    remote, local = open_signer(service.key), as_signer(service.account)
    assert remote.address == local.address
    assert remote.sign_batch(BATCH, DOMAIN) == local.sign_batch(BATCH, DOMAIN)
    assert remote.sign_message(b"\0\1") == local.sign_message(b"\0\1")
    assert message_signer(b"body", sign_message(remote, b"body")) == service.account.address


@pytest.mark.parametrize("code", [-32601, -32000])
def test_sign_batch_service_that_hands_the_method_to_a_node_is_asked_as_web3signer_is(service, code):
    """Its node's error may be any: geth does not know the method, others lack the account, or no node is there."""
    service.missing = {"eth_signTypedData_v4": code}
    local = as_signer(service.account)
    assert RemoteSigner(service.key).sign_batch(BATCH, DOMAIN) == local.sign_batch(BATCH, DOMAIN)
    assert service.asked == ["eth_signTypedData_v4", "eth_signTypedData"]


def test_sign_batch_service_that_knows_neither_name_says_both(service):
    service.missing = {"eth_signTypedData_v4": -32601, "eth_signTypedData": -32601}
    with pytest.raises(SignerError, match="refuses eth_signTypedData_v4: .*; .* refuses eth_signTypedData: "):
        RemoteSigner(service.key).sign_batch(BATCH, DOMAIN)


def test_sign_batch_signature_with_v_0_or_1_is_made_what_contracts_take(service):
    signed = as_signer(service.account).sign_batch(BATCH, DOMAIN)
    service.spoil = lambda _, result: result[:-2] + f"{int(result[-2:], 16) - 27:02x}"
    assert RemoteSigner(service.key).sign_batch(BATCH, DOMAIN) == signed


ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def _high_s(result):
    raw = bytes.fromhex(result[2:])
    return "0x" + (raw[:32] + (ORDER - int.from_bytes(raw[32:64])).to_bytes(32) + bytes((55 - raw[64],))).hex()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _, result: "0x" + "11" * 65,
        lambda _, result: result[:-2],
        lambda _, result: result[:-4] + "00" + result[-2:],
        lambda _, result: None,
        lambda _, result: {"signature": result},
        lambda _, result: "0xzz",
        lambda _, result: _high_s(result),
    ],
    ids=["noise", "short", "altered", "null", "object", "no hex", "high s"],
)
def test_sign_batch_wrong_signature_is_refused(service, spoil):
    service.spoil = spoil
    with pytest.raises(SignerError, match="no signature of"):
        RemoteSigner(service.key).sign_batch(BATCH, DOMAIN)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": 1},
        {"to": Account.create().address},
        {"value": 1},
        {"gas": 50_001},
        {"chainId": 1},
        {"data": b"\x12\x35"},
        {"maxFeePerGas": 31 * GWEI},
        {"accessList": [{"address": TO, "storageKeys": []}]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_sign_transaction_other_fields_than_asked_are_refused(service, changes):
    other = as_signer(service.account).sign_transaction(MODERN | changes)
    service.spoil = lambda *_: "0x" + other.hex()
    with pytest.raises(SignerError, match="another transaction"):
        RemoteSigner(service.key).sign_transaction(MODERN)


def test_sign_transaction_of_another_account_is_refused(service):
    other = as_signer(Account.create()).sign_transaction(MODERN)
    service.spoil = lambda *_: "0x" + other.hex()
    with pytest.raises(SignerError, match="another transaction"):
        RemoteSigner(service.key).sign_transaction(MODERN)


def test_open_signer_without_the_account_refuses(service):
    with pytest.raises(SignerError, match=f"does not hold {TO}"):
        open_signer(replace(service.key, address=TO))


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"result"', b"[]", b"{}", b"x" * (2 << 20)])
def test_open_signer_that_answers_no_json_rpc_raises_unreachable(service, body):
    service.spoil = lambda *_: body
    with pytest.raises(SignerUnreachable):
        open_signer(service.key)


def test_open_signer_that_nobody_serves_raises_unreachable_without_the_url_secret():
    url = f"http://user:hidden@127.0.0.1:{nodes.free_port()}/hidden"
    with pytest.raises(SignerUnreachable) as caught:
        open_signer(RemoteKey(url, TO))
    assert "hidden" not in str(caught.value) and caught.value.exit_code == 5


def test_open_signer_that_sleeps_is_given_up_after_its_time(service):
    given_up = threading.Event()
    service.spoil = lambda _, result: result if given_up.wait(60) else None
    with pytest.raises(SignerUnreachable):
        open_signer(replace(service.key, timeout_seconds=0.2))
    given_up.set()


def certified(folder, name):
    """A new key with a certificate that it signed itself: ``(certificate, key)``."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def secured(service, certificate, key, clients=None):
    """``service`` over TLS from now on; where ``clients`` is given, only for who shows such a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    service.server.socket = context.wrap_socket(service.server.socket, server_side=True)
    return replace(service.key, url=service.key.url.replace("http:", "https:"))


def test_open_signer_over_tls_needs_the_authority_it_was_told(service, tmp_path):
    certificate, key = certified(tmp_path, "signer")
    secure = secured(service, certificate, key)
    with pytest.raises(SignerUnreachable, match="SSLError"):
        open_signer(secure)
    assert open_signer(replace(secure, ca_file=certificate)).address == service.account.address


def test_open_signer_that_asks_for_a_certificate_is_shown_ours(service, tmp_path):
    certificate, key = certified(tmp_path, "signer")
    (ours, our_key), (others, other_key) = certified(tmp_path, "oracle"), certified(tmp_path, "stranger")
    secure = replace(secured(service, certificate, key, clients=ours), ca_file=certificate)
    with pytest.raises(SignerUnreachable):
        open_signer(secure)
    with pytest.raises(SignerUnreachable):
        open_signer(replace(secure, certificate=others, certificate_key=other_key))
    assert service.asked == []
    signer = open_signer(replace(secure, certificate=ours, certificate_key=our_key))
    assert signer.sign_batch(BATCH, DOMAIN) == as_signer(service.account).sign_batch(BATCH, DOMAIN)


def test_open_signer_files_for_tls_that_are_missing_or_exposed_are_named(service, tmp_path):
    certificate, key = certified(tmp_path, "oracle")
    key.chmod(0o644)
    for wrong, said in (
        ({"ca_file": tmp_path / "ca.pem"}, "ca.pem is not there"),
        ({"certificate": tmp_path / "x.pem", "certificate_key": key}, "x.pem is not there"),
        ({"certificate": certificate, "certificate_key": key}, "oracle.key: others can read this file"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_signer(replace(service.key, **wrong))
    assert service.asked == []


def test_load_config_remote_key(tmp_path):
    def load(**key):
        document = {
            "sites": "s",
            "database": "sqlite:///o.db",
            "raw_folder": "raw",
            "archive_folder": "a",
            "device_keys_folder": "k",
            "network": {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "addresses": "1.json"},
            "key": key,
        }
        (tmp_path / "wattmark.yaml").write_text(json.dumps(document))
        return OracleConfig.load(tmp_path / "wattmark.yaml").key

    given = load(remote="https://signer:9000", address=TO, ca_file="ca.pem", timeout_seconds=3)
    assert given == RemoteKey("https://signer:9000", TO, tmp_path / "ca.pem", None, None, 3.0)
    for wrong in ({"address": "1"}, {"address": TO, "certificate": "c.pem"}, {"address": TO, "password": "x"}):
        with pytest.raises(ConfigError):
            load(remote="https://signer:9000", **wrong)


# -- anvil keeps the keys ---------------------------------------------------------------------------


@contextlib.contextmanager
def outbox_of(node, folder, signer):
    store = Store.open(databases.url(folder))
    yield Outbox(store, node.chain(), signer, policy=SendPolicy(poll_seconds=0.02))


def test_drive_with_anvil_as_remote_signer_notarizes(tmp_path, caplog):
    """Another implementation of the same methods: anvil signs for its unlocked accounts, and as a witness."""
    caplog.set_level(logging.DEBUG)
    with nodes.anvil(tmp_path) as node:
        signer = open_signer(RemoteKey(node.url, node.w3.eth.accounts[1]))
        assert signer.sign_batch(BATCH, DOMAIN) and message_signer(b"x", sign_message(signer, b"x")) == signer.address
        chain = node.chain()
        batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(1, 0)])
        with outbox_of(node, tmp_path, signer) as outbox:
            outbox.enqueue("notarize:1", chain.address("Notary"), nodes.notarize_data(chain, batch, node.witnesses[:2]))
            driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
        assert (driven.sent, driven.failed) == (1, ())
        assert chain.transaction(chain.find_notarization(batch.root).transaction).sender == signer.address


def test_repr_of_signers_shows_no_key(tmp_path):
    account = Account.create()
    assert account.key.hex()[2:] not in repr(as_signer(account))
    assert "hidden" not in repr(RemoteSigner(RemoteKey("http://user:hidden@signer/hidden", TO)))


def test_notarize_without_a_key_is_a_dry_run(tmp_path, capsys):
    """Everything up to the chain works without a key; nothing can be signed or sent."""
    with nodes.anvil(tmp_path) as node:
        config, store = configure(tmp_path / "oracle", device(1))
        create_device_key(config.device_keys_folder, 1)
        intake = write(tmp_path / "in", "meter-1.csv", day_rows(0))
        network = {"rpc_urls": [node.url], "chain_id": nodes.CHAIN_ID, "addresses": str(node.config.addresses)}
        document = yaml.safe_load(config.file.read_text()) | {"network": network}
        config.file.write_text(yaml.safe_dump(document))

        def code_of(*arguments):
            with pytest.raises(SystemExit) as ended:
                main(["--config", str(config.file), *arguments])
                raise SystemExit(0)
            return ended.value.code

        before = node.w3.eth.block_number
        assert [code_of("ingest", str(intake)), code_of("seal"), code_of("status")] == [0, 0, 0]
        assert [code_of("notarize"), code_of("issue"), code_of("run")] == [2, 2, 2]
        assert "names no key, so nothing can be signed or sent" in capsys.readouterr().err
        assert node.w3.eth.block_number == before
        with store.session() as session:
            assert session.query(SignedTransaction).count() == 0
