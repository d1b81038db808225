"""How much may be asked, how often, and of whom: limits by address and kind, large bodies, and proxies in front."""

from __future__ import annotations

import pytest

from oracle.errors import ConfigError
from webapp.config import RateLimits, WebConfig


@pytest.fixture
def limited(world, app_of):
    """A client of an app that allows very little."""

    def make(**changes):
        limits = RateLimits(
            pages="3 per minute", api="2 per minute", exports="1 per minute", validations="1 per minute"
        )
        return app_of(world, limits=limits, **changes).test_client()

    return make


def test_requests_beyond_the_limit_are_told_when_to_come_back(limited):
    client = limited()
    assert [client.get(path).status_code for path in ("/devices.json", "/api/v1/batches", "/api/v1/devices")] == [
        200,
        200,
        429,
    ]
    answer = client.get("/api/v1/devices")
    assert answer.json["error"]["status"] == 429 and answer.json["error"]["title"] == "Too Many Requests"
    assert 0 < int(answer.headers["Retry-After"]) <= 61
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    etherscan = client.get("/api?module=proxy&action=eth_blockNumber")
    assert etherscan.status_code == 429
    assert etherscan.json == {"status": "0", "message": "NOTOK", "result": "Max rate limit reached"}


def test_kinds_of_requests_are_counted_apart(limited):
    client = limited()
    assert [client.get("/devices.csv").status_code for _ in range(2)] == [200, 429]
    assert [client.get("/devices").status_code for _ in range(4)] == [200, 200, 200, 429]
    page = client.get("/batches")
    assert page.status_code == 429 and "<h1>" in page.text and int(page.headers["Retry-After"]) > 0
    assert [client.post("/checks/validate").status_code for _ in range(2)] == [403, 429]
    assert client.get("/api/v1/devices").status_code == 200
    assert all(client.get("/static/app.css").status_code == 200 for _ in range(20))


def test_addresses_are_counted_apart(limited):
    client = limited()
    for address in ("192.0.2.1", "192.0.2.2"):
        codes = [client.get("/devices.csv", environ_base={"REMOTE_ADDR": address}).status_code for _ in range(2)]
        assert codes == [200, 429]


def test_forwarded_addresses_count_only_behind_a_trusted_proxy(limited, app_of, world):
    def asked(client):
        return [client.get("/devices.csv", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code for n in range(3)]

    assert asked(limited()) == [200, 429, 429]
    assert asked(limited(trusted_proxies=1)) == [200, 200, 200]


def test_limits_left_out_do_not_limit(world, app_of):
    client = app_of(world, limits=RateLimits.none()).test_client()
    assert all(client.get("/api/v1/devices").status_code == 200 for _ in range(30))


def test_forms_larger_than_any_of_ours_are_refused(client):
    assert client.post("/checks/validate", data={"csrf": "x" * 100_000}).status_code == 413
    parts = {f"f{i}": "x" for i in range(100)}
    assert client.post("/checks/validate", data=parts, content_type="multipart/form-data").status_code == 413


@pytest.mark.parametrize(("text", "told"), [
    ("limits: {api: often}", "limits.api must be like '300 per minute'"),
    ("limits: {everything: 1 per day}", "limits: unknown key everything"),
])  # fmt: skip
def test_limits_that_cannot_be_read_are_refused_at_the_start(tmp_path, text, told):
    base = "archive_folder: a\nstate_folder: s\nnetwork: {name: n, rpc_urls: [http://127.0.0.1:1], chain_id: 1, addresses: a.json}\n"
    (tmp_path / "web.yaml").write_text(base + text)
    with pytest.raises(ConfigError, match="web.yaml") as fault:
        WebConfig.load(tmp_path / "web.yaml")
    assert told in str(fault.value)


def test_limits_of_the_file_are_read(tmp_path):
    base = "archive_folder: a\nstate_folder: s\nnetwork: {name: n, rpc_urls: [http://127.0.0.1:1], chain_id: 1, addresses: a.json}\n"
    (tmp_path / "web.yaml").write_text(base + "limits: {api: 5 per second, exports: null}\ntrusted_proxies: 2\n")
    config = WebConfig.load(tmp_path / "web.yaml")
    assert (config.limits.api, config.limits.exports, config.limits.validations) == (
        "5 per second",
        None,
        "60 per minute",
    )
    assert config.trusted_proxies == 2
