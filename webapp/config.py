"""The web app's configuration: one frozen object, read from a YAML file and passed down.

Paths in the file are relative to the file. docs/webapp.md lists the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import limits
import yaml

from oracle.config import NetworkConfig
from oracle.errors import ConfigError

LANGUAGES = ("en", "es", "ru")


@dataclass(frozen=True, slots=True)
class DemoWallet:
    """An account of a demo chain that a visitor may import: the overview shows its address and where its key is.

    ``key_command`` is the command that prints the key; the web app itself never holds one.
    """

    name: str
    address: str
    key_command: str


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How often one address may ask, each as ``"300 per minute"`` or ``"5 per second;100 per minute"``; None: as often as it likes.

    ``pages`` are what people read, ``api`` the JSON and both APIs, ``exports`` whole lists (CSV), bundles and PDF, ``validations``
    whatever is sent here to be checked or passed on.
    ``storage`` is where counts are kept: ``memory://``, or an address that several processes share (``redis://…``).
    """

    pages: str | None = None
    api: str | None = "600 per minute"
    exports: str | None = "20 per minute"
    validations: str | None = "60 per minute"
    storage: str = "memory://"

    @classmethod
    def read(cls, section: dict[str, Any]) -> RateLimits:
        """Out of the ``limits`` section. Raises ValueError for an unknown key or a limit that cannot be read."""
        names = ("pages", "api", "exports", "validations")
        unknown = set(section) - {*names, "storage"}
        if unknown:
            raise ValueError(f"limits: unknown key {', '.join(sorted(map(str, unknown)))}")
        for name in names:
            if section.get(name) is not None:
                try:
                    limits.parse_many(str(section[name]))
                except ValueError:
                    raise ValueError(f"limits.{name} must be like '300 per minute', not {section[name]!r}") from None
        told: dict[str, Any] = {name: None if value is None else str(value) for name, value in section.items()}
        return cls(**told)

    @classmethod
    def none(cls) -> RateLimits:
        return cls(None, None, None, None)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Everything one web app needs to know.

    ``archive_folder`` holds the batch archives; ``state_folder`` gets the index and the web database. ``public_rpc_url`` is what
    visitors' wallets are told to use (None: the page offers no chain to add). ``relay_url`` is where a relay listens that submits
    signed retirements (None: retiring costs the visitor gas). ``sites_file`` names devices and sources;
    ``oracle_database_url`` is only read, and only to show what is not notarized. ``labels`` are names of known accounts.
    In ``decisions_folder`` signed review decisions are laid for the oracle (None: nobody can decide here). ``witness_urls`` by name and
    ``oracle_metrics_url`` are asked how they are, for the health page alone.
    ``head_seconds``: how long checks share one answer about the newest block; far less than the chain takes for one.
    ``limits`` bound how often one address may ask; ``trusted_proxies`` is the number of proxies in front of the app whose
    X-Forwarded headers say who asks. ``site_url`` is ``https://host[:port]`` of the site as browsers reach it: operators sign in for it alone
    (None: only on this machine).
    """

    archive_folder: Path
    state_folder: Path
    network: NetworkConfig
    public_rpc_url: str | None = None
    sites_file: Path | None = None
    oracle_database_url: str | None = None
    languages: tuple[str, ...] = LANGUAGES
    currency: str = "ETH"
    labels: dict[str, str] = field(default_factory=dict)
    demo_wallet: DemoWallet | None = None
    relay_url: str | None = None
    interval_seconds: float = 3
    head_seconds: float = 0.2
    limits: RateLimits = field(default_factory=RateLimits)
    trusted_proxies: int = 0
    site_url: str | None = None
    decisions_folder: Path | None = None
    witness_urls: dict[str, str] = field(default_factory=dict)
    oracle_metrics_url: str | None = None

    @classmethod
    def load(cls, file: Path | str) -> WebConfig:
        """Read ``file``. Raises ConfigError naming the file and the key."""
        file = Path(file).resolve()
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{file} is not there; docs/webapp.md shows one to start from") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
            raise ConfigError(f"{file} is not readable: {' '.join(str(fault).split())}") from None
        if not isinstance(document, dict):
            raise ConfigError(f"{file}: the file must be a mapping of keys to values")
        unknown = set(document) - set(_KEYS)
        if unknown:
            raise ConfigError(
                f"{file}: unknown key {', '.join(sorted(map(str, unknown)))}; docs/webapp.md lists the known ones"
            )
        try:
            return _built(document, file.parent)
        except KeyError as missing:
            raise ConfigError(f"{file}: key {missing} is missing") from None
        except (TypeError, ValueError, AttributeError) as fault:
            raise ConfigError(f"{file}: {fault}") from None


_KEYS = (
    "archive_folder", "state_folder", "network", "public_rpc_url", "sites", "oracle_database", "languages", "currency", "labels",
    "demo_wallet", "relay_url", "interval_seconds", "head_seconds", "limits", "trusted_proxies", "site_url",
    "decisions_folder", "witness_urls", "oracle_metrics_url",
)  # fmt: skip


def network_config(document: dict[str, Any], base: Path) -> NetworkConfig:
    """The ``network`` section of a configuration whose file lies in ``base``."""
    return NetworkConfig(
        name=str(document["name"]),
        rpc_urls=tuple(document["rpc_urls"]),
        chain_id=int(document["chain_id"]),
        addresses=(base / Path(document["addresses"]).expanduser()).resolve(),
        finality_depth=document.get("finality_depth"),
        timeout_seconds=float(document.get("timeout_seconds", 5)),
    )


def _built(document: dict[str, Any], base: Path) -> WebConfig:
    def path(value: str) -> Path:
        return (base / Path(value).expanduser()).resolve()

    languages = tuple(document.get("languages") or LANGUAGES)
    if not languages or set(languages) - set(LANGUAGES):
        raise ValueError(f"languages must be out of {', '.join(LANGUAGES)}")
    wallet = document.get("demo_wallet")
    return WebConfig(
        archive_folder=path(document["archive_folder"]),
        state_folder=path(document["state_folder"]),
        network=network_config(document["network"], base),
        public_rpc_url=document.get("public_rpc_url"),
        sites_file=path(document["sites"]) if document.get("sites") else None,
        oracle_database_url=document.get("oracle_database"),
        languages=languages,
        currency=str(document.get("currency", "ETH")),
        labels={str(address): str(name) for address, name in (document.get("labels") or {}).items()},
        demo_wallet=DemoWallet(str(wallet["name"]), str(wallet["address"]), str(wallet["key_command"]))
        if wallet
        else None,
        relay_url=str(document["relay_url"]).rstrip("/") if document.get("relay_url") else None,
        interval_seconds=float(document.get("interval_seconds", 3)),
        head_seconds=float(document.get("head_seconds", 0.2)),
        limits=RateLimits.read(document["limits"] or {}) if "limits" in document else RateLimits(),
        trusted_proxies=int(document.get("trusted_proxies", 0)),
        site_url=_origin(document["site_url"]) if document.get("site_url") else None,
        decisions_folder=path(document["decisions_folder"]) if document.get("decisions_folder") else None,
        witness_urls={str(name): _http(url) for name, url in (document.get("witness_urls") or {}).items()},
        oracle_metrics_url=_http(document["oracle_metrics_url"]) if document.get("oracle_metrics_url") else None,
    )


def _origin(text: str) -> str:
    """``https://host[:port]`` as browsers write it in Origin: small letters, no path, no port that goes without saying."""
    parts = urlsplit(str(text).strip().lower())
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
        or parts.username
    ):
        raise ValueError(f"site_url must be like https://wattmark.example, not {text!r}")
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.removesuffix(f':{usual}')}"


def _http(text: Any) -> str:
    """An address that is asked over http(s)."""
    if not str(text).startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is not an http(s) URL")
    return str(text).rstrip("/")
