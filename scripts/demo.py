"""The main job on real data, from meter files to retired certificates that anyone can check.

    ./run demo                  the whole job, then the web app on http://localhost:8000 until Ctrl-C
    ./run demo --once --json    the same without serving; the last line is one JSON object
    ./run demo --reset          forget the demo's chain, databases and keys, and begin again
    ./run demo --watch          continuous mode on a chain whose time is moved: the last hours of a day, INTERIM each
                                quarter hour, and the day's FINAL notarization with its certificates
    ./run demo --buyer-key      print the private key of the demo's buyer, to import into a browser wallet

Everything happens for real: a chain with an id of its own, contracts deployed by the workshop, three signers of
which two are processes with their own key, database and raw files, archives, a check of every statement. All of it
lies in .wattmark/demo and is taken up again by the next start, which then sends nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import yaml
from eth_account.signers.local import LocalAccount
from requests.exceptions import RequestException
from rich.console import Console
from web3 import HTTPProvider
from web3.types import RPCEndpoint

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sqlalchemy import func, select  # noqa: E402

from oracle import checks, intake, issuance, keys, pipeline, protocol, sealing, watch  # noqa: E402
from oracle.chain import Chain, ChainView  # noqa: E402
from oracle.config import KeyFile, NetworkConfig, OracleConfig  # noqa: E402
from oracle.domain import DayState, SagaState  # noqa: E402
from oracle.errors import ChainError, OracleError  # noqa: E402
from oracle.outbox import Outbox, Predicate  # noqa: E402
from oracle.sites import SitesConfig, load_sites, source_folder  # noqa: E402
from oracle.store import Act, DeviceDay, RawFile, RefusedRow, Store  # noqa: E402
from oracle.units import format_kwh  # noqa: E402
from scripts.local_chain import LocalChainError, anvil, await_that, child, free_port, listens  # noqa: E402

SITES = ROOT / "scripts" / "demo_sites.yaml"
STATE = ROOT / ".wattmark" / "demo"
#: Continuous mode has a chain of its own, whose time is that of the readings.
WATCH_STATE = ROOT / ".wattmark" / "demo-watch"
WATCHED_DAY, WATCH_FROM_HOUR, WATCH_FACTOR = "2016-07-14", 22, 450
#: Not used by any public chain, so that a wallet's nonces of other local chains do not interfere.
CHAIN_ID = 771_642
CHAIN_NAME = "Wattmark demo"
WITNESSES = ("witness-1", "witness-2")
#: Who holds a key in the demo. Each has its own keystore; none is in the repository.
ACTORS = (
    "administrator",
    "guardian",
    "registrar",
    "factor-publisher",
    "oracle",
    *WITNESSES,
    "reviewer",
    "generator",
    "buyer",
    "relay",
)
THRESHOLD = 2
ETHER = 10**18
BLOCKS_TO_FINAL = 3
TAKING_SECONDS = 600
#: What the generator sells and the buyer does with it, as UTC days of device 1 (first, last).
SOLD = ("2016-07-02", "2016-07-31")
RETIRED = ("2016-07-02", "2016-07-11")
CONVERTED = ("2016-07-12", "2016-07-21")


class DemoError(Exception):
    """The demo cannot go on; the text says what mends it."""


@dataclass(frozen=True)
class Demo:
    """Folders, configuration and the running chain of one demo."""

    state: Path
    sites: SitesConfig
    rpc_url: str
    tell: Callable[[str], None]

    @property
    def addresses(self) -> Path:
        return self.state / "addresses" / f"{CHAIN_ID}.json"

    @property
    def network(self) -> NetworkConfig:
        return NetworkConfig(CHAIN_NAME, (self.rpc_url,), CHAIN_ID, self.addresses)

    def key(self, actor: str) -> KeyFile:
        return KeyFile(self.state / "keys" / f"{actor}.json", self.state / "keys" / f"{actor}.password")

    def address(self, actor: str) -> str:
        address = keys.keystore_address(self.key(actor))
        if address is None:
            raise DemoError(f"the keystore of {actor} names no address; run ./run demo --reset")
        return address

    def config_file(self, actor: str) -> Path:
        return self.state / actor / "config.yaml"


# -- the chain --------------------------------------------------------------------------------------


@contextlib.contextmanager
def chain_running(state: Path, port: int, *arguments: str) -> Iterator[str]:
    """anvil with its state kept in ``state``/chain. Blocks are final two blocks later."""
    folder = state / "chain"
    kept = ("--state", str(folder / "state.json"), "--state-interval", "5", "--preserve-historical-states")
    with anvil(folder, port, CHAIN_ID, "--slots-in-an-epoch", "1", "--accounts", "1", *kept, *arguments) as url:
        yield url


def fund(demo: Demo) -> None:
    """Give each actor gas money out of nothing: this is a local chain. Not a transaction."""
    node = HTTPProvider(demo.rpc_url)
    for actor in ACTORS:
        address = demo.address(actor)
        if int(node.make_request(RPCEndpoint("eth_getBalance"), [address, "latest"])["result"], 16) < ETHER:
            node.make_request(RPCEndpoint("anvil_setBalance"), [address, hex(100 * ETHER)])


def finalize(view: ChainView) -> None:
    """Mine empty blocks until what was sent is final; elsewhere time does this."""
    if view.request("eth_getBlockByNumber", "latest", False)["transactions"]:
        view.request("anvil_mine", hex(BLOCKS_TO_FINAL))


# -- set-up -----------------------------------------------------------------------------------------


def make_keys(demo: Demo) -> None:
    missing = [actor for actor in ACTORS if not demo.key(actor).keystore.exists()]
    if missing:
        demo.tell(f"making {len(missing)} keystores")
    with ThreadPoolExecutor() as pool:  # deriving a keystore's key is slow by design
        list(pool.map(keys.create_account, map(demo.key, missing)))


def make_folders(demo: Demo, ports: dict[str, int]) -> None:
    """One folder for each signer, with its own configuration, device keys and files as they would be delivered to it."""
    for actor in ("oracle", *WITNESSES):
        folder = demo.state / actor
        for device in demo.sites.devices:
            own = keys.device_key_file(folder / "device-keys", device.device_id)
            shared = keys.device_key_file(demo.state / "oracle" / "device-keys", device.device_id)
            if own.exists():
                continue
            if actor == "oracle":
                keys.create_device_key(folder / "device-keys", device.device_id)
            else:
                own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                shutil.copy2(shared, own)
        for file in source_files(demo.sites):
            copy = folder / "inbox" / file.name
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        demo.config_file(actor).write_text(yaml.safe_dump(configuration(demo, actor, ports), sort_keys=False))


def source_files(sites: SitesConfig) -> list[Path]:
    """The meter and irradiance files that the sites' sources name, in the package that carries them."""
    folder = source_folder(sites.folder)
    names = {name for source in intake.sources(sites).values() for name in source.files}
    return [folder / name for name in sorted(names)]


def configuration(demo: Demo, actor: str, ports: dict[str, int]) -> dict[str, Any]:
    key = demo.key(actor)
    config: dict[str, Any] = {
        "sites": str(SITES),
        "database": "sqlite:///oracle.db",
        "raw_folder": "raw",
        "archive_folder": "../archives" if actor == "oracle" else "archives",
        "device_keys_folder": "device-keys",
        "network": {
            "name": CHAIN_NAME,
            "rpc_urls": [demo.rpc_url],
            "chain_id": CHAIN_ID,
            "addresses": str(demo.addresses),
        },
        "key": {"keystore": str(key.keystore), "password_file": str(key.password_file)},
        "reviewers": [demo.address("reviewer")],
    }
    if actor == "oracle":
        config["decisions_folder"] = "decisions"
        review = demo.key("reviewer")
        config["review_key"] = {"keystore": str(review.keystore), "password_file": str(review.password_file)}
        config["witnesses"] = [
            {"url": f"http://127.0.0.1:{ports[name]}", "address": demo.address(name)} for name in WITNESSES
        ]
    else:
        config["coordinators"] = [demo.address("oracle")]
        config["listen"] = f"127.0.0.1:{ports[actor]}"
    return config


def deploy(demo: Demo) -> int:
    """Let the workshop deploy the contracts; returns the number of transactions it sent."""
    if demo.addresses.exists():
        try:
            ChainView.open(demo.network)
        except ChainError as fault:
            raise DemoError(f"the demo's chain lost its contracts ({fault}); begin again: ./run demo --reset") from None
        return 0
    demo.tell("deploying the contracts (brownie)")
    admin = demo.key("administrator")
    signers = ",".join(demo.address(actor) for actor in ("oracle", *WITNESSES))
    settings = {
        "WATTMARK_RPC": demo.rpc_url,
        "WATTMARK_CHAIN_NAME": CHAIN_NAME,
        "WATTMARK_ADDRESSES": str(demo.addresses),
        "WATTMARK_KEYSTORE": str(admin.keystore),
        "WATTMARK_PASSWORD_FILE": str(admin.password_file),
        "WATTMARK_SIGNERS": signers,
        "WATTMARK_THRESHOLD": str(THRESHOLD),
        "WATTMARK_ADMIN": demo.address("administrator"),
        "WATTMARK_GUARDIAN": demo.address("guardian"),
        "WATTMARK_REGISTRAR": demo.address("registrar"),
        "WATTMARK_FACTOR_PUBLISHER": demo.address("factor-publisher"),
        "WATTMARK_REVIEWER": demo.address("reviewer"),
    }
    demo.addresses.parent.mkdir(parents=True, exist_ok=True)
    log = demo.state / "log" / "deploy.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "run"), "deploy", "--network", "local"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, cwd=ROOT)
    log.write_text(done.stdout + done.stderr)
    if done.returncode:
        raise DemoError(f"deploying failed (log: {log}):\n" + "\n".join((done.stdout + done.stderr).splitlines()[-15:]))
    return int(json.loads(done.stdout.strip().splitlines()[-1])["transactions"])


# -- acts of others than the oracle -------------------------------------------------------------------


class Wallet:
    """An actor who sends on its own behalf, each act once, whatever is run again or lost in between."""

    def __init__(self, demo: Demo, chain: Chain, actor: str):
        self.demo, self.chain, self.actor = demo, chain, actor
        self.store = Store.open(f"sqlite:///{demo.state / 'wallets' / actor}.db")

    def act(self, acts: dict[str, tuple[str, bytes]]) -> int:
        """Do ``acts`` (key to contract name and call data) in order; returns how many transactions were sent."""
        open_acts = {key: act for key, act in acts.items() if key not in self._on_the_chain()}
        if not open_acts:
            return 0
        account = keys.load_account(self.demo.key(self.actor))
        outbox = Outbox(self.store, self.chain, account, done=done_before(account.address))
        sent = 0
        for key, (contract, data) in open_acts.items():
            outbox.enqueue(key, self.chain.address(contract), data)
            driven = outbox.drive(SagaState.MINED, timeout_seconds=60)
            sent += driven.sent
            for failed in driven.failed:
                raise DemoError(f"{self.actor}: {failed.key} failed: {failed.error}")
        return sent

    def _on_the_chain(self) -> set[str]:
        """Acts whose transaction the chain still has: a local chain may have lost its last seconds."""
        reached = select(Act).where(Act.chain_id == CHAIN_ID, Act.state.in_((SagaState.MINED, SagaState.FINAL)))
        with self.store.session() as session:
            acts = session.scalars(reached).all()
        return {
            act.key
            for act in acts
            if act.transaction is None or self.chain.receipt(bytes.fromhex(act.transaction[2:])) is not None
        }


def done_before(account: str) -> dict[str, Predicate]:
    """How the chain shows that an act of ``account`` was done already, for the case that its database is lost."""

    def event_of(contract: str, name: str, field: str) -> Predicate:
        return lambda chain, act: any(event.values[field] == account for event in chain.events(contract, name))

    def registered(chain: ChainView, act: Act) -> bool:
        device_id = int(act.key.split(":")[1])
        return any(
            event.values["deviceId"] == device_id for event in chain.events("DeviceRegistry", "DeviceRegistered")
        )

    def published(chain: ChainView, act: Act) -> bool:
        zone, year = act.key.split(":")[1:]
        found = (event.values for event in chain.events("EmissionFactors", "FactorPublished"))
        return any((v["gridZone"].rstrip(b"\0").decode(), v["year"]) == (zone, int(year)) for v in found)

    return {
        "register": registered,
        "publish": published,
        "transfer": event_of("EnergyCertificate", "TransferBatch", "from"),
        "retire": event_of("EnergyCertificate", "RetiredBatch", "account"),
        "convert": event_of("MitigationOutcome", "Converted", "account"),
        "retire-outcome": event_of("MitigationOutcome", "Retired", "account"),
    }


def register(demo: Demo, chain: Chain) -> int:
    """Devices by the registrar, factors by their publisher."""
    generator = demo.address("generator")
    devices = {}
    for device in demo.sites.devices:
        fields = (
            generator,
            device.capacity_w,
            int(device.kind),
            int(device.visibility),
            device.site.country.encode(),
            device.granularity_seconds,
            device.fuel_number,
            device.technology_number,
            device.active_from,
            2**40 - 1,
            device.site.grid_zone.encode().ljust(16, b"\0"),
            device.meter_hash,
        )
        data = chain.encode("DeviceRegistry", "register", device.device_id, fields)
        devices[f"register:{device.device_id}"] = ("DeviceRegistry", data)
    factors = {}
    for factor in demo.sites.emission_factors:
        zone = factor.grid_zone.encode().ljust(16, b"\0")
        source_hash = protocol.keccak256(factor.source.encode())
        data = chain.encode(
            "EmissionFactors",
            "publish",
            zone,
            factor.year,
            factor.grams_per_mwh,
            factor.illustrative,
            source_hash,
            factor.source,
        )
        factors[f"publish:{factor.grid_zone}:{factor.year}"] = ("EmissionFactors", data)
    return Wallet(demo, chain, "registrar").act(devices) + Wallet(demo, chain, "factor-publisher").act(factors)


def day_start(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def holdings(chain: ChainView, account: str, days: tuple[str, str]) -> tuple[list[int], list[int]]:
    """Certificates of device 1 in these days that ``account`` holds, and how much of each."""
    first, last = (day_start(day) for day in days)
    ids = [protocol.token_id(1, start, 86_400) for start in range(first, last + 1, 86_400)]
    amounts = [chain.balance_of(account, one) for one in ids]
    held = [(one, amount) for one, amount in zip(ids, amounts, strict=True) if amount]
    return [one for one, _ in held], [amount for _, amount in held]


def trade(demo: Demo, chain: Chain) -> int:
    """The generator sells July; the buyer retires ten days, converts ten others, and retires the outcome."""
    generator, buyer = demo.address("generator"), demo.address("buyer")
    sent = 0
    ids, amounts = holdings(chain, generator, SOLD)
    if ids:
        data = chain.encode("EnergyCertificate", "safeBatchTransferFrom", generator, buyer, ids, amounts, b"")
        sent += Wallet(demo, chain, "generator").act({"transfer:july-2016": ("EnergyCertificate", data)})
    wallet = Wallet(demo, chain, "buyer")
    details = (
        buyer,
        "Demo buyer",
        "Electricity consumption of July 2016, from the same array and days",
        b"US",
        "Golden, Colorado",
        day_start(RETIRED[0]),
        day_start(RETIRED[1]) + 86_400,
    )
    ids, amounts = holdings(chain, buyer, RETIRED)
    if ids:
        # Half of the first day stays live, so that a split certificate can be looked at.
        amounts[0] //= 2
        data = chain.encode("EnergyCertificate", "retireBatch", ids, amounts, details)
        sent += wallet.act({"retire:july-2016": ("EnergyCertificate", data)})
    ids, amounts = holdings(chain, buyer, CONVERTED)
    if ids:
        data = chain.encode("MitigationOutcome", "convert", ids, amounts, 0)
        sent += wallet.act({"convert:july-2016": ("MitigationOutcome", data)})
    for event in chain.events("MitigationOutcome", "Converted"):
        outcome = event.values["outcomeId"]
        grams = chain.call("MitigationOutcome", "balanceOf", buyer, outcome)
        if grams and event.values["account"] == buyer:
            outcome_details = (
                buyer,
                "Demo buyer",
                "Avoided-emission estimate for the same ten days",
                b"US",
                "Golden, Colorado",
                *details[5:],
            )
            data = chain.encode("MitigationOutcome", "retire", outcome, grams, outcome_details)
            sent += wallet.act({f"retire-outcome:{outcome:#x}": ("MitigationOutcome", data)})
    return sent


# -- the job ----------------------------------------------------------------------------------------


def main_job(demo: Demo, chain: Chain, config: OracleConfig, store: Store, account: LocalAccount) -> int:
    """From files to retired certificates; returns how many transactions were sent. Running it again sends none."""
    sent = 0
    demo.tell("registering devices and emission factors")
    sent += register(demo, chain)
    demo.tell("ingesting and assessing meter and irradiance files")
    for file in pipeline.ingest(config, store, [config.file.parent / "inbox"]).files:
        if file.refusal:
            raise DemoError(f"{file.name} is refused: {file.refusal}")
    demo.tell("sealing, asking the witnesses, notarizing")
    sealing.seal(config, store)
    sent += done(issuance.notarize(config, store, chain, account))
    demo.tell("issuing")
    sent += done(issuance.issue(config, store, chain, account))
    demo.tell("transferring, retiring, converting")
    sent += trade(demo, chain)
    finalize(chain)
    issuance.confirm(config, store, chain)
    return sent


def done(step: issuance.Sent) -> int:
    for act in step.failed:
        raise DemoError(f"{act.key} failed: {act.error}")
    return step.transactions


def figures(demo: Demo, chain: ChainView, config: OracleConfig, store: Store) -> dict[str, Any]:
    """What the job came to: energy and tokens from the chain's events, readings from the oracle's records."""
    certificate, outcome = "EnergyCertificate", "MitigationOutcome"
    generator, buyer = demo.address("generator"), demo.address("buyer")
    moved = [event.values for event in chain.events(certificate, "TransferBatch")]
    batches: list[dict[str, Any]] = []
    for event in chain.notarized_events():
        batch = event.batch
        batches.append(
            {
                "root": "0x" + batch.root.hex(),
                "statements": batch.statements,
                "energy_wh": batch.energy_wh,
                "signers": list(event.signers),
            }
        )
    if not batches:
        raise DemoError(f"nothing was notarized; see {demo.state / 'log'} and ./run demo --reset")
    meter_files = {name for device in demo.sites.devices for name in device.source.files}
    with store.session() as session:
        readings = session.scalar(select(func.sum(RawFile.rows_used)).where(RawFile.name.in_(meter_files)))
        irradiance = session.scalar(select(func.sum(RawFile.rows_used)).where(RawFile.name.not_in(meter_files)))
        refused = session.scalar(select(func.sum(RawFile.rows_refused)))
        reasons = session.execute(
            select(RawFile.name, RefusedRow.line, RefusedRow.reason).join(
                RefusedRow, RefusedRow.sha256 == RawFile.sha256
            )
        ).all()
        held = session.scalar(select(func.count()).where(DeviceDay.state == DayState.HELD))
        days = session.scalars(select(DeviceDay.assessment)).all()
    corroborated = sum(day["corroboration"]["result"] == "corroborated" for day in days)
    tared = sum(day["report"]["tare_zeroed_slots"] for day in days)
    demo.tell("checking every statement against archive and chain")
    verdicts: Counter[str] = Counter()
    for checked in checks.check_archive(config.archive_folder, chain):
        verdicts[checked.result.headline.value] += 1
    retired = [event.values["amount"] for event in chain.events(certificate, "Retired")]
    retired += [amount for event in chain.events(certificate, "RetiredBatch") for amount in event.values["amounts"]]
    converted = [event.values for event in chain.events(outcome, "Converted")]
    return {
        "readings": readings,
        "irradiance_rows": irradiance,
        "refused": refused,
        "refused_rows": [f"{name}, line {line}: {reason}" for name, line, reason in reasons],
        "tared_slots": tared,
        "statements": sum(batch["statements"] for batch in batches),
        "held": held,
        "corroborated": corroborated,
        "batches": batches,
        "issued_wh": sum(event.values["energyWh"] for event in chain.events(certificate, "Issued")),
        "transferred_wh": sum(sum(v["values"]) for v in moved if v["from"] == generator and v["to"] == buyer),
        "retired_wh": sum(retired),
        "converted_wh": sum(values["amountWh"] for values in converted),
        "co2e_g": sum(values["co2eG"] for values in converted),
        "checks": dict(sorted(verdicts.items())),
    }


@contextlib.contextmanager
def witnesses_running(demo: Demo, ports: dict[str, int]) -> Iterator[None]:
    """The two further witnesses, each a process that first takes in the files delivered to it."""
    with contextlib.ExitStack() as stack:
        waiting = []
        for name in WITNESSES:
            log = demo.state / "log" / f"{name}.log"
            oracle = [sys.executable, "-m", "oracle", "--config", str(demo.config_file(name))]
            taking = child([*oracle, "ingest", str(demo.state / name / "inbox")], log)
            waiting.append((name, stack.enter_context(taking), log))
        for name, process, log in waiting:
            if process.wait(TAKING_SECONDS):
                raise DemoError(f"{name} could not take in its files (log: {log})")
        for name in WITNESSES:
            log = demo.state / "log" / f"{name}.log"
            oracle = [sys.executable, "-m", "oracle", "--config", str(demo.config_file(name))]
            process = stack.enter_context(child([*oracle, "witness"], log))
            waiting.append((name, process, log))
        for name, process, log in waiting[-len(WITNESSES) :]:
            await_that(name, functools.partial(listens, ports[name]), process, log)
        yield


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """One demo at a time on one state; the system frees the lock of a process that dies."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("a demo is running already on this checkout; end it first") from None
        yield


def reset(state: Path) -> None:
    for entry in state.glob("*"):
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--once", action="store_true", help="do the job and end, without serving the web app")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line; progress goes to stderr"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="port of the web app (default 8000; another one if it is taken)"
    )
    parser.add_argument("--reset", action="store_true", help="forget the demo's chain, databases and keys first")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="where all of it is kept")
    parser.add_argument("--watch", action="store_true", help="show continuous mode on accelerated time, then end")
    parser.add_argument("--buyer-key", action="store_true", help="print the buyer's private key and end")
    options = parser.parse_args()
    options.state = options.state or (WATCH_STATE if options.watch else STATE)
    return options


def log_to(file: Path) -> None:
    """The library's log goes into a file of the demo; the terminal shows its progress alone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    logger = structlog.WriteLoggerFactory(file=file.open("a", buffering=1))
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    processors: list[Any] = [stamp, structlog.processors.add_log_level, structlog.processors.JSONRenderer()]
    structlog.configure(processors=processors, logger_factory=logger)


def run(options: argparse.Namespace, console: Console) -> None:
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    state, sites = options.state.resolve(), load_sites(SITES)
    if options.reset:
        reset(state)
    forget_half_lost_chain(state, tell)
    log_to(state / "log" / "oracle.log")
    port = free_port(8545)
    with chain_running(state, port) as rpc_url:
        tell(f"chain {CHAIN_ID} at {rpc_url}")
        demo = Demo(state, sites, rpc_url, tell)
        make_keys(demo)
        ports = {name: free_port(0) for name in WITNESSES}
        make_folders(demo, ports)
        fund(demo)
        sent = deploy(demo)
        config = OracleConfig.load(demo.config_file("oracle"))
        store = Store.open(config.database_url)
        chain = Chain.open(demo.network)
        account = keys.load_account(demo.key("oracle"))
        with witnesses_running(demo, ports):
            sent += main_job(demo, chain, config, store, account)
            report = figures(demo, chain, config, store)
            tell("running the job again: nothing may be sent")
            again = main_job(demo, chain, config, store, account)
        report |= {"transactions_sent": sent, "second_run": again, "seconds": round(time.monotonic() - began, 1)}
        show(report, tell)
        if options.json:
            print(json.dumps(report), flush=True)
        if not options.once:
            serve(demo, options.port, tell)


def run_watch(options: argparse.Namespace, console: Console) -> None:
    """Continuous mode over the last hours of a day. Begins anew each time: a chain's time does not go back."""

    def tell(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    state, sites = options.state.resolve(), load_sites(SITES)
    reset(state)
    log_to(state / "log" / "oracle.log")
    start = day_start(WATCHED_DAY) + WATCH_FROM_HOUR * 3_600
    steps: list[watch.Step] = []

    def step(one: watch.Step) -> None:
        steps.append(one)
        for kind, roots in (("INTERIM", one.interim), ("FINAL", one.final)):
            for root in roots:
                tell(f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M} UTC  {kind:<7} {root}")
        for act in one.sent.failed:
            raise DemoError(f"{act.key} failed: {act.error}")
        for reason in one.waits:
            raise DemoError(reason)

    with chain_running(state, free_port(8545), "--timestamp", str(start - 3_600)) as rpc_url:
        demo = Demo(state, sites, rpc_url, tell)
        make_keys(demo)
        ports = {name: free_port(0) for name in WITNESSES}
        make_folders(demo, ports)
        fund(demo)
        deploy(demo)
        config = OracleConfig.load(demo.config_file("oracle"))
        store, chain = Store.open(config.database_url), Chain.open(demo.network)
        account = keys.load_account(demo.key("oracle"))
        with witnesses_running(demo, ports):
            register(demo, chain)
            tell(
                f"from {WATCH_FROM_HOUR}:00 UTC of {WATCHED_DAY} on, {WATCH_FACTOR} times faster; time stands still while work is done"
            )
            watch.watch(
                config,
                store,
                chain,
                account,
                watch.Inbox([config.file.parent / "inbox"], settle_seconds=0),
                clock=watch.AcceleratedClock(chain, start, WATCH_FACTOR),
                tell=step,
                until=day_start(WATCHED_DAY) + 86_400,
                delay_seconds=0,
            )
        certificate = protocol.token_id(1, day_start(WATCHED_DAY), 86_400)
        certified_wh = chain.balance_of(demo.address("generator"), certificate)
        kinds = Counter(event.batch.kind.name for event in chain.notarized_events())
        tell(
            f"notarized: {kinds['INTERIM']} INTERIM, {kinds['FINAL']} FINAL; {WATCHED_DAY} certified with {format_kwh(certified_wh)} kWh"
        )
        if options.json:
            report = {"interim": kinds["INTERIM"], "final": kinds["FINAL"], "certified_wh": certified_wh}
            print(json.dumps(report | {"steps": [one.to_json() for one in steps]}), flush=True)


def show_buyer_key(state: Path) -> None:
    """For a person who wants to act as the buyer from a browser wallet, while the demo runs."""
    key = KeyFile(state / "keys" / "buyer.json", state / "keys" / "buyer.password")
    if not key.keystore.exists():
        raise DemoError("the demo has not run yet, so there is no buyer; start it with ./run demo")
    print(keys.load_account(key).key.to_0x_hex())


def forget_half_lost_chain(state: Path, tell: Callable[[str], None]) -> None:
    """Databases that speak of a chain whose state is gone would be wrong about everything: begin again."""
    if (state / "oracle" / "oracle.db").exists() and not (state / "chain" / "state.json").exists():
        tell("the demo's chain is gone; beginning again")
        reset(state)


def show(report: dict[str, Any], tell: Callable[[str], None]) -> None:
    kwh = {name: format_kwh(report[f"{name}_wh"]) for name in ("issued", "transferred", "retired", "converted")}
    tell(
        f"{report['readings']} readings and {report['irradiance_rows']} irradiance rows used, {report['refused']} rows refused; "
        f"{report['tared_slots']} slots of night noise set to 0 by the tare rule"
    )
    for refused in report["refused_rows"][:5]:
        tell(f"  refused: {refused}")
    tell(f"{report['statements']} statements notarized, {report['held']} days held for review")
    tell(
        f"{kwh['issued']} kWh issued, {kwh['transferred']} transferred, {kwh['retired']} retired, {kwh['converted']} converted to {report['co2e_g']} g CO2e"
    )
    tell("checks: " + ", ".join(f"{count} {verdict}" for verdict, count in report["checks"].items()))
    tell(f"{report['transactions_sent']} transactions sent; run again: {report['second_run']}")


@contextlib.contextmanager
def relay_running(demo: Demo) -> Iterator[str]:
    """The relay that pays for visitors' signed retirements, a process with a key of its own; gives its URL."""
    folder, port, key = demo.state / "relay", free_port(0), demo.key("relay")
    folder.mkdir(parents=True, exist_ok=True)
    network = {"name": CHAIN_NAME, "rpc_urls": [demo.rpc_url], "chain_id": CHAIN_ID, "addresses": str(demo.addresses)}
    config = {
        "network": network,
        "key": {"keystore": str(key.keystore), "password_file": str(key.password_file)},
        "state_folder": "state",
        "listen": f"127.0.0.1:{port}",
    }
    (folder / "relay.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    log = demo.state / "log" / "relay.log"
    with child([sys.executable, "-m", "webapp", "relay", "--config", str(folder / "relay.yaml")], log) as process:
        await_that("the relay", functools.partial(listens, port), process, log)
        yield f"http://127.0.0.1:{port}"


def web_configuration(demo: Demo, relay_url: str) -> dict[str, Any]:
    labels = {demo.address(actor): actor.replace("-", " ") for actor in ACTORS}
    oracle = OracleConfig.load(demo.config_file("oracle"))
    return {
        "archive_folder": str(demo.state / "archives"),
        "state_folder": str(demo.state / "web"),
        "network": {
            "name": CHAIN_NAME,
            "rpc_urls": [demo.rpc_url],
            "chain_id": CHAIN_ID,
            "addresses": str(demo.addresses),
        },
        "public_rpc_url": demo.rpc_url,
        "relay_url": relay_url,
        "sites": str(SITES),
        "oracle_database": oracle.database_url,
        "decisions_folder": str(oracle.decisions_folder),
        "labels": labels,
        "demo_wallet": {
            "name": "Demo buyer",
            "address": demo.address("buyer"),
            "key_command": "./run demo --buyer-key",
        },
    }


def serve(demo: Demo, preferred_port: int, tell: Callable[[str], None]) -> None:
    """The web app in a process of its own, until it or this run is ended."""
    folder, port = demo.state / "web", free_port(preferred_port)
    folder.mkdir(parents=True, exist_ok=True)
    log = demo.state / "log" / "web.log"
    command = [sys.executable, "-m", "webapp", "--config", str(folder / "config.yaml"), "--port", str(port)]
    with contextlib.ExitStack() as stack:
        relay_url = stack.enter_context(relay_running(demo))
        (folder / "config.yaml").write_text(yaml.safe_dump(web_configuration(demo, relay_url), sort_keys=False))
        process = stack.enter_context(child(command, log))
        await_that("the web app", functools.partial(listens, port), process, log)
        site = f"http://localhost:{port}"
        start = day_start("2016-07-14")
        pages = {
            "overview": "/",
            "notarization checks": "/checks",
            "a device and its days": "/devices/1",
            "a certificate": f"/certificates/{protocol.token_id(1, start, 86_400):#066x}",
            "retirements": "/retirements",
            "the buyer's account": f"/accounts/{demo.address('buyer')}",
            "acting as the buyer": f"/portfolio/{demo.address('buyer')}",
        }
        for name, path in pages.items():
            tell(f"{name:>22}  {site}{path}")
        tell("Ctrl-C ends it; what happened is kept for the next start")
        chain = ChainView.open(demo.network)
        while process.poll() is None:
            # Elsewhere time makes a visitor's transaction final; here blocks come with transactions alone.
            with contextlib.suppress(OracleError):
                finalize(chain)
            time.sleep(1)
        raise DemoError(f"the web app ended by itself (log: {log})")


def main() -> int:
    options = arguments()
    console = Console(stderr=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        if options.buyer_key:
            show_buyer_key(options.state.resolve())
            return 0
        with alone(options.state.resolve()):
            (run_watch if options.watch else run)(options, console)
    except KeyboardInterrupt:
        return 130
    except subprocess.TimeoutExpired as late:
        console.print(f"[red]no end after {late.timeout:.0f} s: {' '.join(map(str, late.cmd))}[/red]", highlight=False)
        return 1
    except (DemoError, LocalChainError, OracleError, RequestException) as fault:
        console.print(f"[red]{fault}[/red]", highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
