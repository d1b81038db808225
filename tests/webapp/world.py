"""A small real world for the web app's tests: an anvil, the committed contracts, signed batches and their archives.

Everything on the chain is done by real transactions; profiles are made by a plain formula, so that expected energies
can be worked out by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from eth_account import Account
from web3 import HTTPProvider, Web3

from oracle.archive import Archive, ArchivedStatement, write_archive
from oracle.domain import Batch, BatchKind, NotaryDomain, Profile, Quality, Statement, Visibility
from oracle.protocol import (
    batch_digest,
    batch_energy_wh,
    batch_fields,
    day_hash,
    day_salt,
    keccak256,
    pack_profile,
    profile_hash,
    statement_fields,
    statement_leaf,
    token_id,
)
from scripts.local_chain import free_port

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "oracle" / "artifacts"
DAY = 86_400
FIRST_DAY = 1_467_331_200  # 2016-07-01 00:00 UTC
CHAIN_ID = 420_042
ZERO = "0x" + "0" * 40
MEASURED = Quality.MEASURED | Quality.CERTIFIED


def anvil_command() -> str:
    """Where anvil is: the checkout's own npm packages or PATH."""
    kept = ROOT / ".wattmark" / "node" / "node_modules" / ".bin" / "anvil"
    found = str(kept) if kept.exists() else shutil.which("anvil")
    if not found:
        raise RuntimeError("no anvil; ./run setup node installs it")
    return found


class Anvil:
    """A node in its own process group, ended with everything in it."""

    def __init__(self, folder: Path, *, port: int | None = None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(folder / "anvil.log", "wb")  # noqa: SIM115
        command = [
            anvil_command(),
            "--port",
            str(self.port),
            "--chain-id",
            str(CHAIN_ID),
            "--silent",
            "--accounts",
            "12",
        ]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)
        self.w3 = Web3(HTTPProvider(self.url))
        deadline = time.monotonic() + 30
        while not self.w3.is_connected():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError((folder / "anvil.log").read_text())
            time.sleep(0.05)

    def rpc(self, method: str, *params: Any) -> Any:
        answer = requests.post(
            self.url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, timeout=30
        ).json()
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def mine(self, blocks: int) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.process.pid, number)
                self.process.wait(20)
        self.log.close()


@dataclass
class World:
    """What was built. ``accounts``: 0 administers, 1 generates, 2 buys, 3 is another buyer."""

    anvil: Anvil
    folder: Path
    contracts: dict[str, Any]
    addresses_path: Path
    witnesses: list[Any]
    archives: list[Archive] = field(default_factory=list)
    chain_transactions: list[str] = field(default_factory=list)

    @property
    def w3(self) -> Web3:
        return self.anvil.w3

    @property
    def archive_folder(self) -> Path:
        return self.folder / "archive"

    def account(self, number: int) -> str:
        return str(self.w3.eth.accounts[number])

    def send(self, contract: str, function: str, *args: Any, sender: int = 0) -> Any:
        """Send and wait; a reverted transaction raises."""
        call = self.contracts[contract].functions[function](*args)
        tx = call.transact({"from": self.account(sender), "gas": 6_000_000})
        receipt = self.w3.eth.wait_for_transaction_receipt(tx, poll_latency=0.01)
        if receipt["status"] != 1:
            raise RuntimeError(f"{contract}.{function} reverted in {tx.hex()}")
        self.chain_transactions.append(Web3.to_hex(tx))
        return receipt

    def call(self, contract: str, function: str, *args: Any) -> Any:
        return self.contracts[contract].functions[function](*args).call()

    # -- acts ---------------------------------------------------------------------------------------

    def register(
        self, device_id: int, *, account: int = 1, capacity_w: int = 6_000, zone: bytes = b"RMPA",
        visibility: Visibility = Visibility.PUBLIC,
    ) -> None:  # fmt: skip
        device = (
            self.account(account), capacity_w, 1, visibility, b"US", DAY, 1_040_100, 10_100, FIRST_DAY, 2**40 - 1,
            zone.ljust(16, b"\0"), keccak256(b"meter %d" % device_id),
        )  # fmt: skip
        self.send("DeviceRegistry", "register", device_id, device)

    def notarize(
        self, records: list[ArchivedStatement], *, kind: BatchKind = BatchKind.FINAL, review_trail: Any = (),
        visibility: Visibility = Visibility.PUBLIC,
    ) -> Archive:  # fmt: skip
        archive = write_archive(
            self.archive_folder,
            records,
            visibility=visibility,
            policy={"name": "test"},
            review_trail=review_trail,
        )
        statements = [record.statement for record in records]
        notary = self.contracts["Notary"]
        batch = Batch(
            kind, self.call("Notary", "signerEpoch"), self.call("Notary", "head") if kind is BatchKind.FINAL else bytes(32),
            archive.root, min(s.start for s in statements), max(s.end for s in statements), len(statements),
            batch_energy_wh(statements), archive.archive_hash, 2**40 - 1,
        )  # fmt: skip
        digest = batch_digest(batch, NotaryDomain(CHAIN_ID, notary.address))
        signed = [(w.address, w.unsafe_sign_hash(digest).signature) for w in self.witnesses[:2]]
        self.send(
            "Notary", "notarize", batch_fields(batch), [s for _, s in sorted(signed, key=lambda pair: pair[0].lower())]
        )
        self.archives.append(archive)
        return archive

    def issue(self, archive: Archive, device_id: int, start: int, *, sender: int = 0) -> int:
        record = archive.record(device_id, start)
        assert record is not None
        proof = archive.tree.proof(statement_leaf(record.statement))
        self.send("EnergyCertificate", "issue", archive.root, statement_fields(record.statement), proof, sender=sender)
        return token_id(device_id, start, record.statement.duration)

    def transfer(
        self, sender: int, receiver: int, token: int, amount: int, contract: str = "EnergyCertificate"
    ) -> None:
        self.send(
            contract,
            "safeTransferFrom",
            self.account(sender),
            self.account(receiver),
            token,
            amount,
            b"",
            sender=sender,
        )

    def retire(
        self, sender: int, token: int, amount: int, *, name: str = "Town library", purpose: str = "Electricity of 2016",
        contract: str = "EnergyCertificate",
    ) -> None:  # fmt: skip
        self.send(contract, "retire", token, amount, self.details(sender, name, purpose), sender=sender)

    def details(self, account: int, name: str, purpose: str) -> tuple[Any, ...]:
        return (self.account(account), name, purpose, b"US", "Golden, Colorado", FIRST_DAY, FIRST_DAY + 31 * DAY)


def day_record(device_id: int, start: int, *, peak_wh: int = 1_000, version: int = 0, previous_wh: int = 0,
               station: str = "modelled") -> ArchivedStatement:  # fmt: skip
    """A day whose slots rise by a straight line to ``peak_wh`` at 18:00 UTC and fall again; slot 70 is estimated."""
    energies = [max(0, peak_wh - abs(i - 72) * peak_wh // 24) for i in range(96)]
    quality = [int(Quality.ESTIMATED) if i == 70 else int(MEASURED) for i in range(96)]
    profile = Profile(start, tuple(energies), tuple(quality))
    packed, salt = pack_profile(profile), day_salt(bytes(32), device_id, start, version)
    statement = Statement(
        device_id, start, DAY, version, profile.certified_wh, previous_wh, profile_hash([day_hash(salt, packed)])
    )
    assessment = {
        "device_id": device_id, "start": start, "state": "accepted", "reasons": [],
        "corroboration": {"result": "corroborated", "reasons": [], "stations": [{
            "station": "sky", "kind": station, "result": "corroborated", "reasons": [],
            "figures": {"energy_ratio": "0.94", "correlation": "0.981"},
            "ghi_w_m2": [max(0, 950 - abs(i - 71) * 38) for i in range(96)], "expected_wh": [],
        }]},
    }  # fmt: skip
    return ArchivedStatement(statement, packed, salt, (keccak256(b"file"),), json.dumps(assessment, sort_keys=True))


def deploy(anvil: Anvil, folder: Path) -> World:
    """The six contracts, bound to each other, with three witnesses of whom two must sign; and their address book."""
    w3 = anvil.w3
    admin = w3.eth.accounts[0]
    contracts: dict[str, Any] = {}
    book: dict[str, Any] = {}
    witnesses = sorted(
        (Account.from_key(keccak256(b"witness %d" % i)) for i in range(3)), key=lambda w: w.address.lower()
    )

    def put(name: str, *args: Any) -> str:
        artifact = json.loads((ARTIFACTS / f"{name}.json").read_text())
        factory = w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
        tx = factory.constructor(*args).transact({"from": admin, "gas": 12_000_000})
        receipt = w3.eth.wait_for_transaction_receipt(tx, poll_latency=0.01)
        address = receipt["contractAddress"]
        contracts[name] = w3.eth.contract(address=address, abi=artifact["abi"])
        book[name] = {
            "address": address, "codeHash": "0x" + keccak256(bytes(w3.eth.get_code(address))).hex(),
            "transaction": Web3.to_hex(tx), "block": receipt["blockNumber"],
        }  # fmt: skip
        return str(address)

    authority = put("AccessManager", admin)
    registry = put("DeviceRegistry", authority)
    notary = put("Notary", authority, [w.address for w in witnesses], 2)
    certificate = put("EnergyCertificate", authority, registry, notary, "https://example.org/certificates/")
    factors = put("EmissionFactors", authority)
    put("MitigationOutcome", authority, certificate, factors, "https://example.org/outcomes/")
    addresses = folder / f"{CHAIN_ID}.json"
    addresses.write_text(json.dumps({
        "schema": "wattmark/addresses/1", "chainId": CHAIN_ID, "chainName": "Test chain", "contracts": book,
        "deployedBlock": min(entry["block"] for entry in book.values()), "roles": {},
        "signers": [w.address for w in witnesses], "threshold": 2,
    }))  # fmt: skip
    world = World(anvil, folder, contracts, addresses, witnesses)
    world.send("DeviceRegistry", "bindCertificate", certificate)
    world.send("EnergyCertificate", "bindConverter", contracts["MitigationOutcome"].address)
    return world


def main_job(world: World) -> dict[str, Any]:
    """Two devices, three days, one batch a day; certificates issued, transferred, retired, converted. What was done, in figures."""
    world.register(1)
    world.register(2, capacity_w=5_000)
    tokens = []
    for day in range(3):
        start = FIRST_DAY + day * DAY
        archive = world.notarize([day_record(1, start), day_record(2, start, peak_wh=500, station="measured")])
        tokens.append(world.issue(archive, 1, start))
    world.issue(world.archives[0], 2, FIRST_DAY)
    source = "Hand-made figure for tests"
    world.send(
        "EmissionFactors", "publish", b"RMPA".ljust(16, b"\0"), 2016, 700_000, True, keccak256(source.encode()), source
    )
    world.transfer(1, 2, tokens[0], 9_000)
    world.transfer(1, 2, tokens[1], 5_000)
    world.retire(2, tokens[0], 4_000)
    ids, amounts = [tokens[0], tokens[1]], [1_000, 2_000]
    world.send(
        "EnergyCertificate", "retireBatch", ids, amounts, world.details(2, "Town library", "Heat pumps"), sender=2
    )
    world.send("MitigationOutcome", "convert", [tokens[2]], [3_000], 0, sender=1)
    outcome = (1 << 224) | (2016 << 208) | (int.from_bytes(b"US", "big") << 192)
    world.retire(1, outcome, 100, contract="MitigationOutcome", purpose="Voluntary contribution")
    world.anvil.mine(80)
    return {
        "tokens": tokens,
        "outcome": outcome,
        "day_wh": sum(max(0, 1_000 - abs(i - 72) * 1_000 // 24) for i in range(96) if i != 70),
    }
