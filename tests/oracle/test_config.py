import pytest
import yaml

from oracle.config import OracleConfig
from oracle.errors import ConfigError

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # from EIP-55

COMPLETE = {
    "sites": "sites.yaml",
    "database": "sqlite:///state/oracle.db",
    "raw_folder": "raw",
    "archive_folder": "../archive",
    "device_keys_folder": "/secrets/devices",
    "network": {"rpc_urls": ["http://127.0.0.1:8545"], "chain_id": 31_337, "addresses": "addresses/31337.json"},
    "key": {"keystore": "key.json", "password_file": "password"},
    "reviewers": [ADDRESS.lower()],
    "witnesses": [{"url": "http://127.0.0.1:9001/", "address": ADDRESS}],
}


def write(folder, **changes):
    file = folder / "wattmark.yaml"
    document = {key: value for key, value in {**COMPLETE, **changes}.items() if value is not None}
    file.write_text(yaml.safe_dump(document))
    return file


def test_load_complete_file_resolves_paths_beside_it(tmp_path):
    config = OracleConfig.load(write(tmp_path))
    assert config.raw_folder == tmp_path / "raw"
    assert config.archive_folder == tmp_path.parent / "archive"
    assert str(config.device_keys_folder) == "/secrets/devices"
    assert config.database_url == f"sqlite:///{tmp_path}/state/oracle.db"
    assert config.network.addresses == tmp_path / "addresses" / "31337.json"
    assert (config.network.finality_depth, config.network.timeout_seconds) == (None, 10.0)
    assert config.reviewers == (ADDRESS,)
    assert (config.witnesses[0].url, config.witnesses[0].address) == ("http://127.0.0.1:9001", ADDRESS)
    assert config.review_key is None


def test_load_postgres_url_keeps_it(tmp_path):
    url = "postgresql+psycopg://oracle@db.example/wattmark"
    assert OracleConfig.load(write(tmp_path, database=url)).database_url == url


def test_load_finality_in_blocks_is_a_depth(tmp_path):
    assert (
        OracleConfig.load(write(tmp_path, network={**COMPLETE["network"], "finality": 6})).network.finality_depth == 6
    )


def test_load_missing_file_names_it(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml is not there"):
        OracleConfig.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"raw_folder": None}, "raw_folder must be a text"),
        ({"raw_folder": 7}, "raw_folder must be a text"),
        ({"database": "sqlite://"}, "database must be a file"),
        ({"database": "not a url"}, "database must be a URL"),
        ({"database": "mysql://host/name"}, "database must be a URL"),
        ({"database": "postgresql://host/name"}, "database must be a URL"),
        ({"database": "postgresql+psycopg://host:port/name"}, "database must be a URL"),
        ({"network": None}, "network must be a mapping"),
        (
            {"network": {**COMPLETE["network"], "rpc_urls": []}},
            "network.rpc_urls must be a list of texts with at least one",
        ),
        ({"network": {**COMPLETE["network"], "rpc_urls": ["file:///etc/passwd"]}}, "is not an http"),
        ({"network": {**COMPLETE["network"], "rpc_urls": ["http://[::1"]}}, "is not an http"),
        ({"network": {**COMPLETE["network"], "chain_id": "1"}}, "network.chain_id must be a whole number"),
        ({"network": {**COMPLETE["network"], "chain_id": True}}, "network.chain_id must be a whole number"),
        (
            {"network": {**COMPLETE["network"], "finality": "soon"}},
            'network.finality must be "finalized" or a number of blocks',
        ),
        ({"network": {**COMPLETE["network"], "finality": -1}}, "network.finality must be"),
        ({"network": {**COMPLETE["network"], "confirmation": 3}}, "unknown key network.confirmation"),
        ({"reviewers": ["0x12"]}, "is not an address"),
        ({"reviewers": ADDRESS}, "reviewers must be a list"),
        ({"witnesses": [{"url": "http://w", "address": 12}]}, "12 is not an address"),
        ({"witnesses": [{"address": ADDRESS}]}, r"witnesses\[0\].url must be a text"),
        ({"key": {"keystore": "key.json"}}, "key.password_file must be a text"),
        ({"raw_folders": "x"}, "unknown key raw_folders"),
        ({"listen": "8101"}, "listen must be host:port"),
        ({"listen": "127.0.0.1:99999"}, "listen must be host:port"),
        ({"coordinators": ["me"]}, "'me' is not an address"),
    ],
)
def test_load_wrong_value_names_the_key(tmp_path, changes, named):
    with pytest.raises(ConfigError, match=named) as caught:
        OracleConfig.load(write(tmp_path, **changes))
    assert str(tmp_path / "wattmark.yaml") in str(caught.value)


@pytest.mark.parametrize("content", [b"- a list", b"a: [1", b"\xff\xfe\x00", b""])
def test_load_unreadable_file_refuses(tmp_path, content):
    file = tmp_path / "wattmark.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="wattmark.yaml"):
        OracleConfig.load(file)
