"""The web app's configuration: one frozen object, read from a YAML file and passed down.

Paths in the file are relative to the file. docs/webapp.md lists the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
class WebConfig:
    """Everything one web app needs to know.

    ``archive_folder`` holds the batch archives; ``state_folder`` gets the index and the web database. ``public_rpc_url`` is what
    visitors' wallets are told to use (None: the page offers no chain to add). ``sites_file`` names devices and sources;
    ``oracle_database_url`` is only read, and only to show what is not notarized. ``labels`` are names of known accounts.
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
    interval_seconds: float = 3

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
    "demo_wallet", "interval_seconds",
)  # fmt: skip


def _built(document: dict[str, Any], base: Path) -> WebConfig:
    def path(value: str) -> Path:
        return (base / Path(value).expanduser()).resolve()

    network = dict(document["network"])
    chain = NetworkConfig(
        name=str(network["name"]),
        rpc_urls=tuple(network["rpc_urls"]),
        chain_id=int(network["chain_id"]),
        addresses=path(network["addresses"]),
        finality_depth=network.get("finality_depth"),
        timeout_seconds=float(network.get("timeout_seconds", 5)),
    )
    languages = tuple(document.get("languages") or LANGUAGES)
    if not languages or set(languages) - set(LANGUAGES):
        raise ValueError(f"languages must be out of {', '.join(LANGUAGES)}")
    wallet = document.get("demo_wallet")
    return WebConfig(
        archive_folder=path(document["archive_folder"]),
        state_folder=path(document["state_folder"]),
        network=chain,
        public_rpc_url=document.get("public_rpc_url"),
        sites_file=path(document["sites"]) if document.get("sites") else None,
        oracle_database_url=document.get("oracle_database"),
        languages=languages,
        currency=str(document.get("currency", "ETH")),
        labels={str(address): str(name) for address, name in (document.get("labels") or {}).items()},
        demo_wallet=DemoWallet(str(wallet["name"]), str(wallet["address"]), str(wallet["key_command"]))
        if wallet
        else None,
        interval_seconds=float(document.get("interval_seconds", 3)),
    )
