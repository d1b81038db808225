"""One frozen configuration, read from a YAML file at the entry point and passed down.

Paths in the file are relative to the file itself. What the meters and their sites are stands in a file
of its own (:mod:`oracle.sites`), because witnesses share that one and nothing else. docs/oracle.md lists
the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
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
class SourceAccess:
    """What all places have in common that files come from: a ``name``, and how long one answer may take and be."""

    name: str
    timeout_seconds: int
    max_bytes: int

    @property
    def kind(self) -> str:
        """What the configuration calls it."""
        return ""


@dataclass(frozen=True, slots=True)
class DirectorySource(SourceAccess):
    """A folder here (``protocol`` folder), or on a server (sftp, ftps, ftp). Files whose name fits ``pattern`` are taken once
    two looks find them alike or they are ``settle_seconds`` old. Passwords and keys are files, readable by their owner alone."""

    protocol: str
    folder: str
    pattern: str = "*"
    settle_seconds: int = 60
    host: str = ""
    port: int = 0
    user: str = ""
    password_file: Path | None = None
    key_file: Path | None = None
    known_hosts: Path | None = None
    ca_file: Path | None = None

    @property
    def kind(self) -> str:
        return self.protocol


@dataclass(frozen=True, slots=True)
class HttpSource(SourceAccess):
    """A ``url`` that is fetched when it has changed; one for each UTC day from ``since`` on where it holds ``{date}``.

    ``file`` names what is fetched (default: the URL's last part), ``headers_file`` holds headers with secrets, ``Name: value``.
    """

    url: str
    since: date
    file: str = ""
    headers_file: Path | None = None

    @property
    def kind(self) -> str:
        return "http"


@dataclass(frozen=True, slots=True)
class MqttSource(SourceAccess):
    """A subscription to ``topic``. ``fields`` are the columns of the files made of it: where in the message's JSON each stands,
    as ``values.0.energy``. A look ends when nothing has come for ``idle_seconds``, or after ``max_messages``."""

    host: str
    port: int
    client_id: str
    topic: str
    fields: Mapping[str, str]
    user: str = ""
    password_file: Path | None = None
    tls: bool = True
    ca_file: Path | None = None
    idle_seconds: int = 2
    max_messages: int = 100_000

    @property
    def kind(self) -> str:
        return "mqtt"


@dataclass(frozen=True, slots=True)
class VcomSource(SourceAccess):
    """Bulk measurements of a ``system`` of the VCOM API at ``url``, from the UTC day ``since`` on, in ``resolution``."""

    url: str
    system: str
    since: date
    resolution: str
    api_key_file: Path
    user_file: Path
    password_file: Path

    @property
    def kind(self) -> str:
        return "vcom"


def read_secret(file: Path) -> str:
    """The text of a file that only its owner may read. Raises ConfigError where others may, too."""
    try:
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"{file} holds a secret that others may read; chmod 600 {file}")
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as fault:
        raise ConfigError(f"{file} cannot be read: {fault.strerror}") from None


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """Everything one oracle or witness process needs to know. Addresses are checksummed 0x texts.

    ``key`` signs as a witness and sends transactions; None means dry run: nothing can be signed or sent.
    ``review_key`` is the collaborator's at this machine; ``reviewers`` are those whose decisions count.
    In ``decisions_folder`` decisions wait that were signed elsewhere, as in the web app; None: none are looked for.
    Into ``replies_folder`` answers to messages of layout 80020 are written; None: none are.
    ``witnesses`` are asked for signatures; a witness answers the ``coordinators`` alone, on ``listen`` (host:port), and
    lets figures of floating point differ from its own by ``verdict_tolerance``. ``metrics_listen`` (host:port) is where
    the watching oracle serves its metrics.
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
    verdict_tolerance: float = 0.001
    metrics_listen: str | None = None
    sources: tuple[SourceAccess, ...] = ()
    decisions_folder: Path | None = None
    replies_folder: Path | None = None

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
            key=read_key(file, top.take("key")),
            review_key=_key_file(file, "review_key", top.take("review_key")),
            reviewers=tuple(top.address(value) for value in top.texts("reviewers")),
            witnesses=tuple(_witness(section) for section in top.sections("witnesses")),
            coordinators=tuple(top.address(value) for value in top.texts("coordinators")),
            listen=_listen(top, "listen", "127.0.0.1:8101"),
            metrics_listen=_listen(top, "metrics_listen") if top.has("metrics_listen") else None,
            verdict_tolerance=top.fraction("verdict_tolerance", 0.001),
            sources=_sources(top),
            decisions_folder=top.path_or_none("decisions_folder"),
            replies_folder=top.path_or_none("replies_folder"),
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

    def has(self, key: str) -> bool:
        return self._left.get(key) is not None

    def path_or_none(self, key: str) -> Path | None:
        return self.path(key) if self.has(key) else None

    def whole(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.fail(key, f"a whole number of {least} or more")
        return value

    def fraction(self, key: str, default: float) -> float:
        value = self.take(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise self.fail(key, "a number from 0 to below 1")
        return float(value)

    def texts(self, key: str, *, least: int = 0) -> list[str]:
        value = self.take(key, [])
        if not isinstance(value, list) or len(value) < least or not all(isinstance(item, str) for item in value):
            raise self.fail(key, "a list of texts" + (" with at least one" if least else ""))
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def day(self, key: str) -> date:
        value = self.take(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.fail(key, "a date, such as 2026-01-31")
        return value

    def text_map(self, key: str) -> dict[str, str]:
        value = self.take(key, {})
        if (
            not isinstance(value, dict)
            or not value
            or not all(isinstance(v, str) for pair in value.items() for v in pair)
        ):
            raise self.fail(key, "a mapping of texts to texts")
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
    text, expected = top.text("database"), "a URL such as sqlite:///oracle.db or postgresql+psycopg://host/name"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise top.fail("database", expected) from None
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise top.fail("database", expected)
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise top.fail("database", "a file, sqlite:///path; a database in memory forgets what was signed")
        return f"sqlite:///{(top.file.parent / url.database).resolve()}"
    return text


def _listen(top: _Section, key: str, default: str | None = None) -> str:
    text = top.text(key, default)
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise top.fail(key, "host:port, such as 127.0.0.1:8101")
    return text


def _sources(top: _Section) -> tuple[SourceAccess, ...]:
    """``sources``: places that files come from by themselves (docs/sources.md)."""
    made = [_source(section) for section in top.sections("sources")]
    names = [access.name for access in made]
    if len(set(names)) < len(names):
        raise top.fail("sources", "a list in which each name stands once")
    return tuple(made)


def _source(section: _Section) -> SourceAccess:
    kind = section.text("kind")
    name, seconds = section.text("name"), section.whole("timeout_seconds", 60, least=1)
    common = (name, seconds, section.whole("max_bytes", 128 << 20, least=1))
    made: SourceAccess
    match kind:
        case "folder" | "sftp" | "ftps" | "ftp":
            here = kind == "folder"
            made = DirectorySource(
                *common,
                protocol=kind,
                folder=str(section.path("folder")) if here else section.text("folder"),
                pattern=section.text("pattern", "*"),
                settle_seconds=section.whole("settle_seconds", 60),
                host="" if here else section.text("host"),
                port=0 if here else section.whole("port", 22 if kind == "sftp" else 21, least=1),
                user="" if here else section.text("user"),
                password_file=section.path_or_none("password_file"),
                key_file=section.path_or_none("key_file"),
                known_hosts=section.path("known_hosts") if kind == "sftp" else None,
                ca_file=section.path_or_none("ca_file"),
            )
        case "http":
            url = section.url(section.text("url"))
            made = HttpSource(
                *common,
                url=url,
                since=section.day("since") if "{date}" in url else date.min,
                file=section.take("file", ""),
                headers_file=section.path_or_none("headers_file"),
            )
        case "mqtt":
            made = MqttSource(
                *common,
                host=section.text("host"),
                port=section.whole("port", 8883, least=1),
                client_id=section.text("client_id"),
                topic=section.text("topic"),
                fields=section.text_map("fields"),
                user=section.take("user", ""),
                password_file=section.path_or_none("password_file"),
                tls=section.flag("tls", True),
                ca_file=section.path_or_none("ca_file"),
                idle_seconds=section.whole("idle_seconds", 2, least=1),
                max_messages=section.whole("max_messages", 100_000, least=1),
            )
        case "vcom":
            made = VcomSource(
                *common,
                url=section.url(section.text("url", "https://api.meteocontrol.de/v2")).rstrip("/"),
                system=section.text("system"),
                since=section.day("since"),
                resolution=section.text("resolution", "fifteen-minutes"),
                api_key_file=section.path("api_key_file"),
                user_file=section.path("user_file"),
                password_file=section.path("password_file"),
            )
        case _:
            raise section.fail("kind", "folder, sftp, ftps, ftp, http, mqtt or vcom")
    section.close()
    return made


def _key_file(file: Path, name: str, value: Any) -> KeyFile | None:
    if value is None:
        return None
    section = _Section(file, name, value)
    key = KeyFile(section.path("keystore"), section.path("password_file"))
    section.close()
    return key


def read_key(file: Path, value: Any) -> KeyFile | RemoteKey | None:
    """The section ``key`` of a configuration ``file``, as YAML gives it: a keystore with its password file, or the
    ``remote`` signer that keeps the key of an ``address``; paths are relative to the file. None where it is left out.
    Raises ConfigError naming file and key."""
    if not isinstance(value, dict) or "remote" not in value:
        return _key_file(file, "key", value)
    section = _Section(file, "key", value)
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
