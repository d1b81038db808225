"""The relay: submits retirements that their holders signed, and pays the fee.

    ./run web relay --config relay.yaml --create-key      make its account; send some of the chain's currency there
    ./run web relay --config relay.yaml                   serve until Ctrl-C

A process of its own with a key of its own, which can do nothing but pay: the signature in the call names the holder,
and the contract checks it. What is accepted is the very calldata of ``retireBySig`` or ``retireBatchBySig``, run
against the chain first; each is sent exactly once (:mod:`oracle.outbox`). Limits count every acceptance and nothing
else: refused requests use up nobody's, and a request that reverts on the chain and is handed in again counts again.
docs/wallet.md tells the keys of the file and the answers.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import waitress
import yaml
from eth_abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from flask import Flask, Response, request
from flask_limiter import Limiter
from sqlalchemy import select
from werkzeug.exceptions import HTTPException

from oracle.chain import Chain, ChainView
from oracle.config import KeyFile, NetworkConfig, RemoteKey, read_key
from oracle.domain import SagaState
from oracle.errors import ChainError, ConfigError, OracleError
from oracle.keys import create_account
from oracle.outbox import GWEI, Outbox, SendPolicy
from oracle.protocol import keccak256
from oracle.signer import Signer, as_signer, open_signer
from oracle.store import Act, SignedTransaction, Store

from .abi import artifacts, canonical, plain
from .config import network_config
from .node import Node, NodeRefused

logger = logging.getLogger(__name__)

CONTRACTS = ("EnergyCertificate", "MitigationOutcome")
FUNCTIONS = ("retireBySig", "retireBatchBySig")
HOUR = 3_600
#: A signature must outlast the wait for a block.
LEAST_SECONDS = 30
MAX_BODY_BYTES = 64 * 1024
OPEN = (SagaState.QUEUED, SagaState.SIGNED, SagaState.SENT)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the relay pays for at most: accepted requests of one account and of all within an hour, certificates and
    gas of one request, gas of all within an hour, and gwei for a gas; and how many requests a visitor may make a
    minute, accepted or not. An hour costs at most ``gas_per_hour`` times ``fee_gwei``."""

    account_per_hour: int = 6
    per_hour: int = 120
    items: int = 100
    gas: int = 8_000_000
    gas_per_hour: int = 100_000_000
    fee_gwei: int = 100
    requests_per_minute: int = 60


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Everything a relay needs to know. ``key`` pays, from a keystore or by a remote signer; ``state_folder`` gets its two
    databases; ``host`` and ``port`` are where it listens.

    ``forwarders`` are addresses whose ``X-Forwarded-For`` is believed: the web app's.
    """

    network: NetworkConfig
    key: KeyFile | RemoteKey
    state_folder: Path
    host: str = "127.0.0.1"
    port: int = 8102
    limits: Limits = Limits()
    forwarders: tuple[str, ...] = ("127.0.0.1", "::1")

    @classmethod
    def load(cls, file: Path | str) -> RelayConfig:
        """Read ``file``. Raises ConfigError naming the file and the key."""
        file = Path(file).resolve()
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
            raise ConfigError(f"{file} is not readable: {' '.join(str(fault).split())}; see docs/wallet.md") from None
        known = {"network", "key", "state_folder", "listen", "limits", "forwarders"}
        if not isinstance(document, dict) or set(document) - known:
            raise ConfigError(f"{file}: the keys are {', '.join(sorted(known))}; docs/wallet.md explains them")
        try:
            return cls._built(document, file)
        except KeyError as missing:
            raise ConfigError(f"{file}: key {missing} is missing") from None
        except (TypeError, ValueError, AttributeError) as fault:
            raise ConfigError(f"{file}: {fault}") from None

    @classmethod
    def _built(cls, document: dict[str, Any], file: Path) -> RelayConfig:
        limits, key = dict(document.get("limits") or {}), read_key(file, document["key"])
        names = {field.name for field in fields(Limits)}
        if set(limits) - names or not all(type(value) is int and value > 0 for value in limits.values()):
            raise ValueError(f"limits are whole numbers above 0 under {', '.join(sorted(names))}")
        host, _, port = str(document.get("listen", "127.0.0.1:8102")).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise ValueError("listen must be host:port, such as 127.0.0.1:8102")
        if key is None:
            raise ValueError("key must name a keystore with its password_file, or a remote signer")
        return cls(
            network=network_config(document["network"], file.parent),
            key=key,
            state_folder=(file.parent / Path(document["state_folder"]).expanduser()).resolve(),
            host=host,
            port=int(port),
            limits=Limits(**limits),
            forwarders=tuple(map(str, document.get("forwarders") or ("127.0.0.1", "::1"))),
        )


class Refused(Exception):
    """A request that is not sent. ``status`` for HTTP, ``code`` for machines, ``error`` the contract's own, decoded."""

    def __init__(self, status: int, code: str, detail: str, error: dict[str, Any] | None = None):
        self.status, self.code, self.detail, self.error = status, code, detail, error
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed retirement, out of its calldata. Amounts in Wh or g CO2e, ``deadline`` in UTC seconds."""

    contract: str
    function: str
    account: str
    ids: tuple[int, ...]
    amounts: tuple[int, ...]
    details: dict[str, Any]
    deadline: int
    to: str
    data: bytes

    @property
    def id(self) -> str:
        """Names this very request; the same bytes again are the same request."""
        return request_id_of(self.to, self.data)


def request_id_of(to: str, data: bytes) -> str:
    return keccak256(bytes.fromhex(to[2:]) + data).hex()


def parse(body: bytes, addresses: dict[str, str]) -> Signed:
    """A request ``{"to": address, "data": calldata}``; Refused unless it is exactly one of the two calls, to one of ours."""
    try:
        message = orjson.loads(body)
        to, data = to_checksum_address(message["to"]), bytes.fromhex(message["data"].removeprefix("0x"))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise Refused(
            400, "malformed", 'the request must be {"to": address, "data": calldata}, both as 0x texts'
        ) from None
    contract = next((name for name in CONTRACTS if addresses.get(name) == to), None)
    call = artifacts().call(data) if contract else None
    if contract is None or call is None or call.name not in FUNCTIONS:
        raise Refused(
            400, "not-a-retirement", f"only {' and '.join(FUNCTIONS)} of {' and '.join(CONTRACTS)} are relayed"
        )
    args, batch = call.args, call.name == "retireBatchBySig"
    # One request has one form: calldata with gaps, other offsets or bytes behind its end is somebody's trick.
    if encode([canonical(part) for part in call.inputs], _values(call.inputs, args)) != data[4:]:
        raise Refused(400, "malformed", "the calldata is not in its plain form")
    ids, amounts = (args["ids"], args["amounts"]) if batch else ([args["id"]], [args["amount"]])
    return Signed(
        contract, call.name, args["account"], tuple(ids), tuple(amounts), args["details"], args["deadline"], to, data
    )  # fmt: skip


def _values(inputs: tuple[dict[str, Any], ...], args: dict[str, Any]) -> list[Any]:
    """Decoded arguments as eth_abi takes them."""

    def value(part: dict[str, Any], given: Any) -> Any:
        if part["type"] == "tuple":
            return tuple(_values(tuple(part["components"]), given))
        return bytes.fromhex(given[2:]) if part["type"].startswith("bytes") else given

    return [value(part, args[part["name"]]) for part in inputs]


class Relay:
    """Takes signed retirements and sends them. ``chain`` is open, ``account`` pays, wherever its key is kept."""

    def __init__(self, config: RelayConfig, chain: Chain, account: Signer | LocalAccount):
        self.config, self.chain, self.account = config, chain, as_signer(account)
        config.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = Store.open(f"sqlite:///{config.state_folder / 'outbox.db'}")
        self._policy = SendPolicy(max_fee_cap_wei=config.limits.fee_gwei * GWEI)
        self.outbox = Outbox(self.store, chain, self.account, policy=self._policy, done={"retire": self._is_done})
        self._node = Node(config.network.rpc_urls, config.network.timeout_seconds)
        self.problem: str | None = None
        self._ledger = config.state_folder / "relay.sqlite3"
        self._ledger.touch(mode=0o600)
        self._accepting, self._wake, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        with self._requests() as db:
            db.execute("CREATE TABLE IF NOT EXISTS request (id TEXT PRIMARY KEY, key TEXT NOT NULL, account TEXT NOT NULL,"
                       " block INTEGER NOT NULL, accepted_at INTEGER NOT NULL)")  # fmt: skip
            # One row for each acceptance, the same request's again too: what the limits count.
            db.execute(
                "CREATE TABLE IF NOT EXISTS accepted (account TEXT NOT NULL, gas INTEGER NOT NULL, at INTEGER NOT NULL)"
            )

    @contextmanager
    def _requests(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._ledger, timeout=30)
        db.row_factory = sqlite3.Row
        try:
            with db:
                yield db
        finally:
            db.close()

    # -- accepting ----------------------------------------------------------------------------------

    def submit(self, body: bytes) -> dict[str, Any]:
        """Accept a request, or say why not (Refused). The same request again gives the same ticket."""
        signed = parse(body, {name: self.chain.address(name) for name in CONTRACTS})
        with self._accepting:
            known = self.ticket(signed.id)
            if known and known["state"] != SagaState.FAILED:
                return known
            self._check(signed)
            head = self.chain.head()
            nonce = int(self.chain.call(signed.contract, "nonces", signed.account, at=head))
            # A nonce serves once, so one request of an account for one contract can be under way.
            key = f"retire:{signed.contract}:{signed.account}:{nonce}"
            earlier = self._act(key)
            # One that was mined, with a nonce that is not used, went back by a reorganisation and will be sent again.
            if earlier and earlier.state != SagaState.FAILED:
                raise Refused(409, "busy", "an earlier retirement of this account is still under way")
            gas = self._simulate(signed)
            now = int(time.time())
            with self._requests() as db:
                row = (signed.id, key, signed.account, head.number, now)
                db.execute("INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?, ?)", row)
                db.execute("DELETE FROM accepted WHERE at <= ?", (now - HOUR,))
                db.execute("INSERT INTO accepted VALUES (?, ?, ?)", (signed.account, gas, now))
            self.outbox.enqueue(key, signed.to, signed.data)
        self._wake.set()
        ticket = self.ticket(signed.id)
        assert ticket is not None
        return ticket

    def ticket(self, request_id: str) -> dict[str, Any] | None:
        """Where an accepted request stands; ``transaction`` once there is one."""
        with self._requests() as db:
            row = db.execute("SELECT * FROM request WHERE id = ?", (request_id,)).fetchone()
        act = self._act(row["key"]) if row else None
        # A nonce whose first request failed may serve a second one.
        if act is None or request_id_of(act.to, act.data) != request_id:
            return None
        return {
            "id": request_id, "state": act.state.value, "transaction": act.transaction or self._sent(act), "block": act.block,
            "problem": act.error if act.state == SagaState.FAILED else None,
        }  # fmt: skip

    def _check(self, signed: Signed) -> None:
        limits, now = self.config.limits, int(time.time())
        if len(signed.ids) > limits.items:
            raise Refused(400, "too-many", f"at most {limits.items} certificates are retired by one signature")
        with self._requests() as db:
            since = now - HOUR
            own, total = db.execute(
                "SELECT COUNT(*) FILTER (WHERE account = ?), COUNT(*) FROM accepted WHERE at > ?",
                (signed.account, since),
            ).fetchone()
        if own >= limits.account_per_hour:
            raise Refused(429, "account-limit", f"this account has had its {own} free retirements of this hour")
        if total >= limits.per_hour:
            raise Refused(429, "hour-limit", "the relay has sent all it may send this hour")
        head = self.chain.head()
        if signed.deadline < max(head.time, 0) + LEAST_SECONDS:
            raise Refused(422, "expired", f"the signature ends at {signed.deadline}; it is {head.time} on the chain")

    def _simulate(self, signed: Signed) -> int:
        """Gas that it may take. Refuses what would revert, costs too much, or cannot be paid."""
        request_ = {"from": self.account.address, "to": signed.to, "data": "0x" + signed.data.hex()}
        try:
            gas = int(self._node.call("eth_estimateGas", request_), 16)
        except NodeRefused as refused:
            data = refused.data.get("data") if isinstance(refused.data, dict) else refused.data
            raw = bytes.fromhex(data[2:]) if isinstance(data, str) and data.startswith("0x") else b""
            error = artifacts().error(raw)
            detail = self.chain.decode_error(raw) if raw else str(refused)
            told = {"name": error.name, "args": plain(error.args)} if error else None
            raise Refused(422, "would-revert", f"the contract refuses: {detail}", told) from None
        limits, price_wei = self.config.limits, self.chain.gas_price_wei()
        if gas > limits.gas:
            raise Refused(422, "too-dear", f"this takes {gas} gas; the relay pays for {limits.gas}")
        if price_wei > limits.fee_gwei * GWEI:
            raise Refused(503, "fees", f"a gas costs {price_wei} wei now; the relay pays {limits.fee_gwei} gwei")
        gas += gas * self._policy.gas_margin_percent // 100
        with self._requests() as db:
            since = int(time.time()) - HOUR
            [spent] = db.execute("SELECT COALESCE(SUM(gas), 0) FROM accepted WHERE at > ?", (since,)).fetchone()
        if spent + gas > limits.gas_per_hour:
            raise Refused(429, "hour-limit", "the relay has paid for all the gas it may this hour")
        if self.chain.native_balance_wei(self.account.address) < 2 * gas * price_wei:
            raise Refused(503, "empty", "the relay's account cannot pay for this; retire from your own wallet")
        return gas

    # -- sending ------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._wake.set()
        if self._thread:
            self._thread.join(timeout=60)

    def drive(self, timeout_seconds: float = 30) -> None:
        """Send what is accepted and follow it until it is mined; what is mined already becomes final in time."""
        if not self.outbox.reports(*OPEN, SagaState.MINED):
            return
        try:
            self.outbox.drive(SagaState.MINED, timeout_seconds=timeout_seconds)
            self.problem = None
        except OracleError as fault:
            self.problem = str(fault)
            logger.warning("%s", fault)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.drive()
            except Exception:
                self.problem = "sending failed; see the relay's log"
                logger.exception("sending failed")
            self._wake.wait(5)
            self._wake.clear()

    def _is_done(self, chain: ChainView, act: Act) -> bool:
        """Whether this very retirement happened, whoever sent it: its nonce is used and its event is there."""
        _, contract, account, nonce = act.key.split(":")
        if int(chain.call(contract, "nonces", account)) <= int(nonce):
            return False
        signed = parse(orjson.dumps({"to": act.to, "data": "0x" + act.data.hex()}), {contract: act.to})
        with self._requests() as db:
            row = db.execute("SELECT block FROM request WHERE id = ?", (signed.id,)).fetchone()
        single = signed.function == "retireBySig"
        for event in chain.events(
            contract, "Retired" if single else "RetiredBatch", row["block"] if row else None, None, {"account": account}
        ):
            values = event.values
            ids, amounts = ((values["id"],), (values["amount"],)) if single else (values["ids"], values["amounts"])
            if (
                tuple(ids) == signed.ids
                and tuple(amounts) == signed.amounts
                and _same(values["details"], signed.details)
            ):
                return True
        return False

    def _act(self, key: str) -> Act | None:
        with self.store.session() as session:
            return session.scalars(
                select(Act).where(Act.chain_id == self.config.network.chain_id, Act.key == key)
            ).first()

    def _sent(self, act: Act) -> str | None:
        """Hash of the bytes that are on their way."""
        newest = (SignedTransaction.nonce.desc(), SignedTransaction.max_fee_wei.desc())
        query = select(SignedTransaction.hash).where(SignedTransaction.act_id == act.id).order_by(*newest)
        with self.store.session() as session:
            return session.scalars(query).first()

    # -- telling ------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Who pays and what for; the same until the relay is started anew."""
        limits = {field.name: getattr(self.config.limits, field.name) for field in fields(Limits)}
        return {
            "relay": self.account.address, "chain_id": self.config.network.chain_id, "limits": limits,
            "contracts": {name: self.chain.address(name) for name in CONTRACTS}, "functions": list(FUNCTIONS),
        }  # fmt: skip

    def health(self) -> dict[str, Any]:
        """Whether it can send now: node, money and queue."""
        waiting = len(self.outbox.reports(*OPEN))
        try:
            head, balance = self.chain.head(), self.chain.native_balance_wei(self.account.address)
            least = 500_000 * self.chain.gas_price_wei()
            problem = self.problem or (None if balance >= least else "the relay's account is nearly empty")
            seen = {"block": head.number, "balance_wei": str(balance)}
        except ChainError as fault:
            problem, seen = str(fault), {"block": None, "balance_wei": None}
        return {
            **self.facts(),
            **seen,
            "waiting": waiting,
            "problem": problem,
            "status": "degraded" if problem else "ok",
        }


def _same(one: Any, other: dict[str, Any]) -> bool:
    """Whether details out of an event are those out of calldata."""
    return all(
        ("0x" + one[name].hex() if isinstance(one[name], bytes) else one[name]) == value
        for name, value in other.items()
    )


# -- the process ------------------------------------------------------------------------------------


def create_relay_app(relay: Relay) -> Flask:
    """The relay over HTTP. No cookie and no CORS: a request says all by its signature, and comes through the web app."""
    app = Flask("webapp.relay", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES

    def visitor() -> str:
        address = request.remote_addr or ""
        if address in relay.config.forwarders:
            return request.headers.get("X-Forwarded-For", address).rpartition(",")[2].strip()
        return address

    limiter = Limiter(visitor, app=app, storage_uri="memory://", headers_enabled=False)
    attempts = limiter.limit(f"{relay.config.limits.requests_per_minute}/minute")

    def told(body: dict[str, Any], status: int = 200) -> Response:
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(orjson.dumps(body), status, headers, mimetype="application/json")

    def error(status: int, code: str, detail: str, reason: dict[str, Any] | None = None) -> Response:
        return told(
            {"error": {"status": status, "title": code, "detail": detail, "code": code, "reason": reason}}, status
        )

    @app.post("/retirements")
    @attempts
    def submit() -> Response:
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return error(403, "foreign", "requests come from the site's own pages")
        if request.mimetype != "application/json":
            return error(415, "malformed", "the body must be application/json")
        return told(relay.submit(request.get_data()), 202)

    @app.get("/retirements/<request_id>")
    def ticket(request_id: str) -> Response:
        found = relay.ticket(request_id)
        return told(found) if found else error(404, "unknown", "the relay knows no such request")

    @app.get("/health")
    def health() -> Response:
        found = relay.health()
        return told(found, 200 if found["status"] == "ok" else 503)

    @app.get("/")
    def facts() -> Response:
        return told(relay.facts())

    @app.errorhandler(Refused)
    def refused(fault: Refused) -> Response:
        return error(fault.status, fault.code, fault.detail, fault.error)

    @app.errorhandler(OracleError)
    def unreachable(fault: OracleError) -> Response:
        logger.warning("%s", fault)
        return error(503, "unreachable", "the chain cannot be reached at this moment; nothing was sent")

    @app.errorhandler(HTTPException)
    def http(fault: HTTPException) -> Response:
        code = {413: "too-large", 429: "slow-down"}.get(fault.code or 500, "http")
        return error(fault.code or 500, code, fault.description or fault.name)

    @app.errorhandler(Exception)
    def failed(_fault: Exception) -> Response:
        logger.exception("%s %s failed", request.method, request.path)
        return error(500, "failed", "something went wrong here; nothing was sent")

    return app


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./run web relay", description="Submit retirements that others signed.")
    parser.add_argument("--config", type=Path, required=True, help="the YAML file that docs/wallet.md explains")
    parser.add_argument("--create-key", action="store_true", help="make the relay's account, print its address and end")
    parser.add_argument("--threads", type=int, default=4, help="requests served at once (default 4)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = RelayConfig.load(options.config)
        if options.create_key:
            if isinstance(config.key, RemoteKey):
                raise ConfigError(f"{options.config}: key names a remote signer; make the account there")
            print(create_account(config.key))
            return 0
        relay = Relay(config, Chain.open(config.network), open_signer(config.key))
    except OracleError as fault:
        print(f"relay: {fault}", file=sys.stderr)
        return fault.exit_code
    relay.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"relay {relay.account.address} on http://{config.host}:{config.port}", flush=True)
    try:
        waitress.serve(
            create_relay_app(relay), host=config.host, port=config.port, threads=options.threads, ident=None, _quiet=True,
            max_request_body_size=MAX_BODY_BYTES,
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        relay.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
