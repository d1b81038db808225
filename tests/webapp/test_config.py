"""The configuration file: what is read, and what is said about mistakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from oracle.errors import ConfigError
from webapp.config import WebConfig

WHOLE = {
    "archive_folder": "archives",
    "state_folder": "state",
    "network": {
        "name": "Here",
        "rpc_urls": ["http://127.0.0.1:1"],
        "chain_id": 7,
        "addresses": "book.json",
        "finality_depth": 0,
    },
    "public_rpc_url": "http://127.0.0.1:1",
    "sites": "sites.yaml",
    "languages": ["es", "en"],
    "labels": {"0x70997970C51812dc3A010C7d01b50e0d17dc79C8": "Somebody"},
    "demo_wallet": {
        "name": "Buyer",
        "address": "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        "key_command": "show-key",
    },
}


def written(folder: Path, document: object) -> Path:
    path = folder / "web.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_load_of_a_whole_file_takes_paths_relative_to_it(tmp_path):
    config = WebConfig.load(written(tmp_path, WHOLE))
    assert config.archive_folder == tmp_path / "archives" and config.sites_file == tmp_path / "sites.yaml"
    assert config.network.addresses == tmp_path / "book.json" and config.network.finality_depth == 0
    assert config.languages == ("es", "en") and config.demo_wallet.key_command == "show-key"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({**WHOLE, "archiv_folder": "x"}, "archiv_folder"),
        ({k: v for k, v in WHOLE.items() if k != "state_folder"}, "state_folder"),
        ({**WHOLE, "languages": ["en", "xx"]}, "languages"),
        ({**WHOLE, "network": {"name": "Here"}}, "rpc_urls"),
        ({**WHOLE, "network": 5}, "web.yaml"),
        ("a: [", "not readable"),
        ("- a", "mapping"),
    ],
)
def test_load_of_a_mistaken_file_names_the_mistake(tmp_path, document, told):
    with pytest.raises(ConfigError, match=told):
        WebConfig.load(written(tmp_path, document))


def test_load_without_the_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        WebConfig.load(tmp_path / "nowhere.yaml")


def test_main_serves_until_it_is_ended(world, tmp_path, w):
    book = {
        "name": "Test chain",
        "rpc_urls": [world.anvil.url],
        "chain_id": w.CHAIN_ID,
        "addresses": str(world.addresses_path),
    }
    document = {"archive_folder": str(world.archive_folder), "state_folder": "state", "network": book}
    path, port = written(tmp_path, document), w.free_port()
    command = [sys.executable, "-m", "webapp", "--config", str(path), "--port", str(port)]
    process = subprocess.Popen(command, cwd=w.ROOT, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        assert str(port) in process.stdout.readline()
        deadline = time.monotonic() + 20
        while True:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/devices", timeout=5).read().decode()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert "Device 1" in page
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_main_with_a_mistaken_file_ends_with_its_exit_code(tmp_path, w):
    command = [sys.executable, "-m", "webapp", "--config", str(tmp_path / "none.yaml")]
    ended = subprocess.run(command, cwd=w.ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and "none.yaml is not there" in ended.stderr


@pytest.mark.parametrize(
    ("written_as", "read_as"),
    [
        ("https://Wattmark.Example/", "https://wattmark.example"),
        ("https://wattmark.example:443", "https://wattmark.example"),
        ("http://wattmark.example:8080", "http://wattmark.example:8080"),
    ],
)
def test_site_url_is_read_as_browsers_write_an_origin(tmp_path, written_as, read_as):
    assert WebConfig.load(written(tmp_path, {**WHOLE, "site_url": written_as})).site_url == read_as


@pytest.mark.parametrize(
    "wrong", ["wattmark.example", "ftp://wattmark.example", "https://wattmark.example/site", "https://a@b.example"]
)
def test_site_url_that_is_no_origin_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="site_url must be like"):
        WebConfig.load(written(tmp_path, {**WHOLE, "site_url": wrong}))
