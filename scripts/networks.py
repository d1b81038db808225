"""The networks of networks.yaml, with what the environment says about them. Nothing here imports brownie."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.middleware import ExtraDataToPOAMiddleware

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "networks.yaml"
PUBLIC_BOOKS = ROOT / "oracle" / "artifacts" / "addresses"
PRIVATE_BOOKS = ROOT / ".wattmark" / "addresses"


class DeployError(Exception):
    """The deployment cannot be made, or is not what it should be. The text says what mends it."""


#: What ends a command with one line (:func:`told`) instead of a traceback.
FAULTS = (DeployError, Web3Exception, requests.RequestException, json.JSONDecodeError)


def told(fault: Exception) -> str:
    """A fault in one line. What the connection says of itself is left out: it quotes the node's address, which may
    carry a provider's key."""
    if isinstance(fault, requests.RequestException):
        answer = fault.response
        how = type(fault).__name__ if answer is None else f"status {answer.status_code}"
        return f"the node stopped answering ({how}); run the same again"
    if isinstance(fault, json.JSONDecodeError):
        return "the node's answer is no JSON: is there a node at the address in WATTMARK_RPC?"
    return str(fault)


@dataclass(frozen=True)
class Network:
    """A network to deploy to.

    ``rpc`` may carry a provider's key and is never printed. ``chain_id`` None means: whatever the node says.
    ``currency`` is the name of 10^18 of the smallest unit. ``confirmations``: blocks that must carry the last transaction.
    ``verifiers``: address by name of the services that publish verified sources.
    """

    id: str
    name: str
    rpc: str
    chain_id: int | None
    currency: str
    public: bool
    confirmations: int
    verifiers: Mapping[str, str]

    @classmethod
    def load(cls, network_id: str, environment: Mapping[str, str] = os.environ, file: Path = FILE) -> Network:
        """Read ``network_id`` from ``file``. Raises DeployError naming what is missing."""
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        entries = [entry for group in document["live"] for entry in group["networks"]] + document["development"]
        known = {entry["id"]: entry for entry in entries}
        if network_id not in known:
            raise DeployError(f"no network {network_id!r} in {file.name}; it has {', '.join(known)}")
        entry = known[network_id]
        chain_id = entry.get("chainid")
        services = {**document.get("verification", {}), "blockscout": entry.get("blockscout", "")}
        named = {name: environment.get(f"WATTMARK_{name.upper()}_URL") or url for name, url in services.items()}
        return cls(
            id=network_id,
            name=entry["name"],
            rpc=host_of(entry, environment),
            chain_id=None if chain_id is None else int(chain_id),
            currency=entry.get("currency", "coins"),
            public=bool(entry.get("public")),
            confirmations=int(entry.get("confirmations", 1)),
            verifiers={name: url.rstrip("/") for name, url in named.items() if url},
        )

    @property
    def own_node(self) -> bool:
        """Whether brownie starts the node, which ends with the run."""
        return not self.rpc

    def connect(self) -> Web3:
        """A connection to a node that answers and is on this chain. Raises DeployError otherwise."""
        return connect(self.rpc, self.chain_id)

    def book(self, chain_id: int, environment: Mapping[str, str] = os.environ) -> Path:
        """The address book: WATTMARK_ADDRESSES, else by chain id."""
        given = environment.get("WATTMARK_ADDRESSES")
        return Path(given) if given else (PUBLIC_BOOKS if self.public else PRIVATE_BOOKS) / f"{chain_id}.json"


def host_of(entry: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The node's address; empty where brownie starts the node."""
    host = str(entry["host"])
    if "cmd" in entry:
        return ""
    if not host.startswith("$"):
        return host
    found = environment.get(host[1:]) or entry.get("otherwise")
    if not found:
        raise DeployError(f"network {entry['id']}: set {host[1:]} to the address of a node")
    return str(found)


def connect(rpc: str, chain_id: int | None = None) -> Web3:
    """A connection that takes blocks with a signer's seal in ``extraData`` (proof of authority) as they are."""
    # The chain id is asked for once, not before each call.
    w3 = Web3(HTTPProvider(rpc, request_kwargs={"timeout": 60}, cache_allowed_requests=True))
    w3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)
    check_chain(w3, chain_id)
    return w3


def check_chain(w3: Web3, chain_id: int | None) -> None:
    """Raise DeployError where no node answers or it is on another chain than ``chain_id``."""
    try:
        stated = w3.eth.chain_id
    except Exception as error:
        # The URL may carry a key, and requests quotes it in its errors.
        raise DeployError(f"no node answers at the address in WATTMARK_RPC ({type(error).__name__})") from None
    if chain_id is not None and stated != chain_id:
        raise DeployError(f"the node is on chain {stated}, the network is chain {chain_id}; mend: another WATTMARK_RPC")
