"""The witness as a service whose key another service keeps: a slow or silent signer is told as what it is."""

import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from aiohttp import web
from eth_account import Account

from oracle.config import WitnessConfig
from oracle.coordinator import collect_signatures
from oracle.errors import WitnessRefused
from oracle.signer import RemoteSigner
from oracle.witness import SIGNATURE_HEADER, application, message_signer, sign_message
from tests.oracle import nodes
from tests.oracle.test_signer import Service
from tests.oracle.test_witness import House, collect, served

#: Far more than any of this takes; a test that waits so long fails.
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Nothing is notarized here, so one house and one chain do for all."""
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as node:
        yield House(node, tmp_path_factory.mktemp("house"))


@pytest.fixture
def service(house):
    """The signer that keeps the second witness's key."""
    running = Service(house.node.witnesses[1])
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def judge(house):
    return house.witness(1)


@pytest.fixture
def witness(house, judge, service):
    """The same witness, its key with ``service``."""
    judge.signer = remote(service)
    return judge


def remote(service):
    """The key of ``service`` over HTTP."""
    return RemoteSigner.open(replace(service.key, timeout_seconds=PATIENCE_SECONDS))


def ask(url, house):
    """Status, answer and its signer of the house's proposal."""
    body = json.dumps(house.proposal.to_json()).encode()
    headers = {SIGNATURE_HEADER: sign_message(house.account, body), "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/v1/proposals", body, headers), timeout=PATIENCE_SECONDS
        ) as answer:
            status, received, signature = answer.status, answer.read(), answer.headers.get(SIGNATURE_HEADER)
    except urllib.error.HTTPError as refused:
        status, received, signature = refused.code, refused.read(), refused.headers.get(SIGNATURE_HEADER)
    return status, json.loads(received), message_signer(received, signature or "")


def reason(house, url, account):
    """What the coordinator says of a witness that did not sign."""
    with pytest.raises(WitnessRefused) as caught:
        collect(house, [WitnessConfig(url, account.address)])
    assert caught.value.device_days == (), "a witness that cannot sign says nothing about the days"
    return caught.value.refusals[account.address]


def test_proposals_slow_signer_holds_up_no_other_request(house, witness, service):
    asked, go_on = threading.Event(), threading.Event()

    def slowly(method, result):
        asked.set()
        return result if go_on.wait(PATIENCE_SECONDS) else None

    with served(application(witness)) as url, ThreadPoolExecutor(1) as elsewhere:
        service.spoil = lambda method, result: slowly(method, result) if method == "eth_sign" else result
        answering = elsewhere.submit(ask, url, house)
        try:
            assert asked.wait(PATIENCE_SECONDS)
            with urllib.request.urlopen(f"{url}/v1/health", timeout=PATIENCE_SECONDS / 3) as health:
                assert json.load(health)["address"] == witness.signer.address
        finally:
            go_on.set()
        status, answer, signer = answering.result(PATIENCE_SECONDS)
    assert (status, answer["decision"], signer) == (200, "sign", witness.signer.address)


def test_proposals_signer_that_is_down_is_told_unsigned_and_is_no_lie(house, witness, service):
    service.server.shutdown()
    service.server.server_close()
    witness.signer = RemoteSigner(service.key)  # the other one still has a connection
    with served(application(witness)) as url:
        status, answer, signer = ask(url, house)
        told = reason(house, url, house.node.witnesses[1])
    assert (status, signer) == (503, None) and "signer" in answer["error"]
    assert told.startswith("no-answer: ") and answer["error"] in told
    assert str(service.server.server_port) not in told, "where the key is kept is nobody else's affair"


def test_proposals_signer_that_refuses_the_batch_alone_is_told_signed(house, witness, service):
    service.missing = {"eth_signTypedData_v4": -32601, "eth_signTypedData": -32601}
    with served(application(witness)) as url:
        status, answer, signer = ask(url, house)
        told = reason(house, url, house.node.witnesses[1])
    assert (status, signer) == (503, witness.signer.address) and "signer" in answer["error"]
    assert told == f"http-503: {answer['error']}"


def answering(status, body, account=None):
    """Whoever stands where a witness should be."""

    async def proposals(_):
        headers = {SIGNATURE_HEADER: sign_message(account, body)} if account else {}
        return web.Response(body=body, status=status, headers=headers)

    app = web.Application()
    app.router.add_post("/v1/proposals", proposals)
    return app


@pytest.mark.parametrize(
    ("status", "body", "signed_by", "told"),
    [
        (502, b"<html>Bad Gateway</html>", None, "no-answer: HTTP 502, not signed"),
        (503, b'{"error": "down"}', None, "no-answer: HTTP 503, not signed: down"),
        (503, b"[" * 99_000, None, "no-answer: HTTP 503, not signed"),
        (503, b'{"error": "down"}', "a stranger", "lying: the answer is not signed by this witness"),
        (200, b'{"decision": "sign"}', None, "lying: the answer is not signed by this witness"),
    ],
)
def test_collect_unsigned_failure_is_no_answer_and_anything_else_unsigned_is_not_believed(
    house, status, body, signed_by, told
):
    with served(answering(status, body, signed_by and Account.create())) as url:
        assert reason(house, url, house.node.witnesses[1]) == told


def test_collect_slow_signer_of_the_coordinator_still_asks_all_at_once(house, service):
    """Both proposals must be at the signer together before it signs either."""
    together = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    service.account = house.account
    coordinator, others = remote(service), house.node.witnesses[1:]

    def both(_, result):
        together.wait()
        return result

    service.spoil = both
    with served(answering(200, b"{}", others[0])) as one, served(answering(200, b"{}", others[1])) as two:
        asked = [WitnessConfig(url, other.address) for url, other in zip((one, two), others, strict=False)]
        with pytest.raises(WitnessRefused) as caught:
            collect_signatures(house.proposal, house.archive.records, asked, coordinator, house.chain.signer_set(1))
    assert set(caught.value.refusals) == {other.address for other in others}
    assert not together.broken
