"""One frozen configuration, read from a YAML file at the entry point and passed down.

Paths in the file are relative to the file itself. What the meters and their sites are stands in a file
of its own (:mod:`oracle.sites`), because witnesses share that one and nothing else. docs/oracle.md lists
the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from eth_utils import is_address, to_checksum_address
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from .errors import ConfigError


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Where the contracts are. ``rpc_urls`` are tried in order; ``addresses`` is the address book of ``chain_id``.

    ``agreeing_nodes`` of them must give the same answer before it counts; 1 believes the first that answers.
    ``finality_depth`` is the number of blocks on top that make a block final; None asks for the node's own
    ``finalized`` tag. ``timeout_seconds`` bounds one call to a node.
    """

    name: str
    rpc_urls: tuple[str, ...]
    chain_id: int
    addresses: Path
    finality_depth: int | None = None
    timeout_seconds: float = 10.0
    agreeing_nodes: int = 1


@dataclass(frozen=True, slots=True)
class KeyFile:
    """An encrypted keystore (JSON) and the file that holds its password; both readable by the owner alone."""

    keystore: Path
    password_file: Path


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """An account whose key a JSON-RPC signer at ``url`` keeps (Web3Signer and its like).

    ``ca_file`` replaces the system's authorities for its TLS; ``certificate`` and ``certificate_key`` (PEM) are ours
    where it asks for one.
    """

    url: str
    address: str
    ca_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """A witness to ask for a signature: the base ``url`` of its service and the ``address`` it signs with."""

    url: str
    address: str


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """Everything one oracle or witness process needs to know. Addresses are checksummed 0x texts.

    ``key`` signs as a witness and sends transactions; None means dry run: nothing can be signed or sent.
    ``review_key`` is the collaborator's at this machine; ``reviewers`` are those whose decisions count.
    ``witnesses`` are asked for signatures; a witness answers the ``coordinators`` alone, on ``listen`` (host:port).
    """

    file: Path
    sites_file: Path
    database_url: str
    raw_folder: Path
    archive_folder: Path
    device_keys_folder: Path
    network: NetworkConfig
    key: KeyFile | RemoteKey | None = None
    review_key: KeyFile | None = None
    reviewers: tuple[str, ...] = ()
    witnesses: tuple[WitnessConfig, ...] = ()
    coordinators: tuple[str, ...] = ()
    listen: str = "127.0.0.1:8101"

    @classmethod
    def load(cls, file: Path | str) -> OracleConfig:
        """Read and check ``file``. Raises ConfigError naming the file, the key and what was expected."""
        file = Path(file).resolve()
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{file} is not there; docs/oracle.md shows one to start from") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
            raise ConfigError(f"{file} is not readable: {' '.join(str(fault).split())}") from None
        top = _Section(file, "", document)
        network = top.section("network")
        config = cls(
            file=file,
            sites_file=top.path("sites"),
            database_url=_database_url(top),
            raw_folder=top.path("raw_folder"),
            archive_folder=top.path("archive_folder"),
            device_keys_folder=top.path("device_keys_folder"),
            network=NetworkConfig(
                name=network.text("name", "unnamed"),
                rpc_urls=tuple(network.url(value) for value in network.texts("rpc_urls", least=1)),
                chain_id=network.whole("chain_id", least=1),
                addresses=network.path("addresses"),
                finality_depth=_finality(network),
                timeout_seconds=float(network.whole("timeout_seconds", 10, least=1)),
                agreeing_nodes=network.whole("agreeing_nodes", 1, least=1),
            ),
            key=_key(top),
            review_key=_key_file(top, "review_key", top.take("review_key")),
            reviewers=tuple(top.address(value) for value in top.texts("reviewers")),
            witnesses=tuple(_witness(section) for section in top.sections("witnesses")),
            coordinators=tuple(top.address(value) for value in top.texts("coordinators")),
            listen=_listen(top),
        )
        network.close()
        top.close()
        return config


class _Section:
    """A mapping of the file that is read key by key; whatever is left at the end was misspelt."""

    def __init__(self, file: Path, name: str, value: Any):
        self.file, self.name = file, name
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: {name or 'the file'} must be a mapping of keys to values")
        self._left = dict(value)

    def fail(self, key: str, expected: str) -> ConfigError:
        return ConfigError(f"{self.file}: {self._called(key)} must be {expected}")

    def _called(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def take(self, key: str, default: Any = None) -> Any:
        value = self._left.pop(key, None)
        return default if value is None else value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, "a text")
        return value

    def path(self, key: str) -> Path:
        return (self.file.parent / Path(self.text(key)).expanduser()).resolve()

    def path_or_none(self, key: str) -> Path | None:
        return self.path(key) if key in self._left else None

    def whole(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.fail(key, f"a whole number of {least} or more")
        return value

    def texts(self, key: str, *, least: int = 0) -> list[str]:
        value = self.take(key, [])
        if not isinstance(value, list) or len(value) < least or not all(isinstance(item, str) for item in value):
            raise self.fail(key, "a list of texts" + (" with at least one" if least else ""))
        return value

    def section(self, key: str) -> _Section:
        return _Section(self.file, self._called(key), self.take(key, None))

    def sections(self, key: str) -> list[_Section]:
        value = self.take(key, [])
        if not isinstance(value, list):
            raise self.fail(key, "a list")
        return [_Section(self.file, f"{self._called(key)}[{index}]", item) for index, item in enumerate(value)]

    def url(self, value: str) -> str:
        try:
            parts = urlsplit(value)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ConfigError(f"{self.file}: {value!r} under {self.name} is not an http(s) URL")
        return value

    def address(self, value: Any) -> str:
        # YAML reads an unquoted 0x… as a number.
        if not isinstance(value, str) or not is_address(value):
            raise ConfigError(f"{self.file}: {value!r} is not an address; write 40 hex digits after 0x, in quotes")
        return to_checksum_address(value)

    def close(self) -> None:
        if self._left:
            names = ", ".join(self._called(str(key)) for key in self._left)
            raise ConfigError(f"{self.file}: unknown key {names}; docs/oracle.md lists the known ones")


def _finality(network: _Section) -> int | None:
    value = network.take("finality", "finalized")
    if value == "finalized":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise network.fail("finality", '"finalized" or a number of blocks')
    return value


def _database_url(top: _Section) -> str:
    text = top.text("database")
    try:
        url = make_url(text)
    except ArgumentError:
        raise top.fail("database", "a URL such as sqlite:///oracle.db or postgresql+psycopg://host/name") from None
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise top.fail("database", "a file, sqlite:///path; a database in memory forgets what was signed")
        return f"sqlite:///{(top.file.parent / url.database).resolve()}"
    return text


def _listen(top: _Section) -> str:
    text = top.text("listen", "127.0.0.1:8101")
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise top.fail("listen", "host:port, such as 127.0.0.1:8101")
    return text


def _key_file(top: _Section, name: str, value: Any) -> KeyFile | None:
    if value is None:
        return None
    section = _Section(top.file, name, value)
    key = KeyFile(section.path("keystore"), section.path("password_file"))
    section.close()
    return key


def _key(top: _Section) -> KeyFile | RemoteKey | None:
    """``key``: a keystore with its password file, or the ``remote`` signer that keeps the key of an ``address``."""
    value = top.take("key")
    if not isinstance(value, dict) or "remote" not in value:
        return _key_file(top, "key", value)
    section = _Section(top.file, "key", value)
    key = RemoteKey(
        url=section.url(section.text("remote")),
        address=section.address(section.take("address")),
        ca_file=section.path_or_none("ca_file"),
        certificate=section.path_or_none("certificate"),
        certificate_key=section.path_or_none("certificate_key"),
        timeout_seconds=float(section.whole("timeout_seconds", 10, least=1)),
    )
    if (key.certificate is None) != (key.certificate_key is None):
        raise section.fail("certificate", "given together with certificate_key")
    section.close()
    return key


def _witness(section: _Section) -> WitnessConfig:
    witness = WitnessConfig(section.url(section.text("url")).rstrip("/"), section.address(section.take("address")))
    section.close()
    return witness
