"""How fast the web app's event index reads a chain, beside web3.py reading the same events in the same run.

    ./run bench index             a table
    ./run bench index --json      {"events", "transactions", "blocks", "rows": [{name, seconds, events_per_second, index_is_faster_by}],
                                  "balances_checked", "load_average"}
    ./run bench index --events 100000

A local anvil is filled with transfers (one transaction each), issuances by hundreds, batch transfers and retirements.
Then, in turns: the index reads the events from nothing (fetched, decoded, stored with block hashes, committed, searchable), and
goes on with their transactions (who sent each, what it called, the refused ones), which it does by itself after the events;
web3.py fetches and decodes the same events (``contract.events.NAME().get_logs()``), and fetches them undecoded (``eth.get_logs``),
storing nothing; the node alone sends the same answers to a client that drops them. Each figure is the best of its turns, so that
the machine's other work weighs on all alike. At the end balances of the index are compared with ``balanceOf``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import requests
from eth_account import Account
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from oracle.protocol import keccak256, token_id  # noqa: E402
from scripts.bench_gas import CHAIN_ID, DAY, NOW, Bench, details, statement  # noqa: E402
from scripts.local_chain import anvil, free_port  # noqa: E402
from webapp.abi import artifacts  # noqa: E402
from webapp.follower import Follower  # noqa: E402
from webapp.index import Contracts, Index  # noqa: E402
from webapp.node import Node  # noqa: E402

GOAL_EVENTS_PER_SECOND, GOAL_RATIO = 20_000, 15
TURNS = 3
HOLDERS = 40
CHUNK = 100
PER_BLOCK = 150
DAYS = 600


class Sender:
    """Signs and sends many transactions quickly; blocks are mined by ``mine``."""

    def __init__(self, bench: Bench, url: str):
        self.bench, self.url, self.session = bench, url, requests.Session()
        self.accounts = [Account.from_key(keccak256(b"holder %d" % n)) for n in range(HOLDERS)]
        self.nonces = [0] * HOLDERS
        self.waiting: list[str] = []
        for account in self.accounts:
            self.rpc("anvil_setBalance", account.address, hex(10**20))

    def rpc(self, method: str, *params: Any) -> Any:
        return self.answers([(method, params)])[0]

    def answers(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        body = [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(calls)]
        found = orjson.loads(
            self.session.post(
                self.url, data=orjson.dumps(body), headers={"Content-Type": "application/json"}, timeout=120
            ).content
        )
        for answer in found:
            if "error" in answer:
                raise SystemExit(f"the chain refuses: {answer['error']}")
        return [answer["result"] for answer in sorted(found, key=lambda answer: int(answer["id"]))]

    def send(self, sender: int, contract: Any, data: str, gas: int) -> None:
        transaction = {
            "to": contract.address, "data": data, "gas": gas, "gasPrice": 10**10, "value": 0,
            "nonce": self.nonces[sender], "chainId": CHAIN_ID,
        }  # fmt: skip
        self.nonces[sender] += 1
        self.waiting.append("0x" + bytes(self.accounts[sender].sign_transaction(transaction).raw_transaction).hex())
        if len(self.waiting) >= PER_BLOCK:
            self.mine()

    def mine(self) -> None:
        if self.waiting:
            self.bench.time += 12
            self.answers([("eth_sendRawTransaction", [raw]) for raw in self.waiting])
            self.answers([("evm_setNextBlockTimestamp", [self.bench.time]), ("evm_mine", [])])
            self.waiting.clear()


def fill(bench: Bench, url: str, events: int, say: Callable[[str], None]) -> None:
    """Acts worth about ``events`` events, drawn by a fixed seed."""
    chance = random.Random(20_000)
    sender = Sender(bench, url)
    certificates = [(1 + n // DAYS, n % DAYS) for n in range(events // 8)]
    for first in range(0, len(certificates), DAYS):
        bench.register(1 + first // DAYS, sender.accounts[0].address)
        days = [statement(*place) for place in certificates[first : first + DAYS]]
        tree, _ = bench.notarize(days)
        for start in range(0, len(days), CHUNK):
            bench.issue_many(tree, days[start : start + CHUNK])
        say(f"issued {first + len(days):,} of {len(certificates):,} certificates")
    sender.rpc("evm_setAutomine", False)
    token = bench.certificate
    ids = [token_id(device, statement(device, day).start, DAY) for device, day in certificates]
    days = len(ids)
    owner = sender.accounts[0].address
    for start in range(0, days, 200):
        part = ids[start : start + 200]
        to = 1 + start // 200 % (HOLDERS - 1)
        data = token.encode_abi(
            "safeBatchTransferFrom", [owner, sender.accounts[to].address, part, [15_000] * len(part), b""]
        )
        sender.send(0, token, data, 10_000_000)
        sender.mine()
    left = events - 2 * days - len(range(0, days, 200))
    for n in range(left):
        by = chance.randrange(1, HOLDERS)
        own = [start for start in range(0, days, 200) if 1 + start // 200 % (HOLDERS - 1) == by]
        if not own:
            by, own = 1, [0]
        day = min(days - 1, chance.choice(own) + chance.randrange(200))
        if n % 20:
            to = sender.accounts[chance.randrange(1, HOLDERS)].address
            data = token.encode_abi("safeTransferFrom", [sender.accounts[by].address, to, ids[day], 1, b""])
        else:
            data = token.encode_abi("retire", [ids[day], 1, details(owner)])
        sender.send(by, token, data, 250_000)
        if n % 5_000 == 0:
            say(f"sent {n:,} of {left:,} transfers and retirements")
    sender.mine()
    sender.rpc("evm_setAutomine", True)


def undecoded(bench: Bench, addresses: list[str], head: int) -> int:
    found = 0
    for first in range(0, head + 1, 2_000):
        last = min(first + 1_999, head)
        found += len(bench.w3.eth.get_logs({"fromBlock": first, "toBlock": last, "address": addresses}))
    return found


def decoded(contracts: Sequence[Any], head: int) -> int:
    """Every event of every contract by name, as web3.py offers it."""
    found = 0
    for contract in contracts:
        for event in contract.events:
            for first in range(0, head + 1, 2_000):
                found += len(event().get_logs(from_block=first, to_block=min(first + 1_999, head)))
    return found


def dropped(url: str, addresses: list[str], head: int) -> int:
    """The same logs, sent by the node and parsed by nobody."""
    with requests.Session() as session:
        for first in range(0, head + 1, 50):
            span = {"fromBlock": hex(first), "toBlock": hex(min(first + 49, head)), "address": addresses}
            body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [span]}
            with session.post(url, json=body, timeout=60, stream=True) as response:
                response.raw.read()
    return 0


def timed(act: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    count = act()
    return time.perf_counter() - began, count


def check_balances(bench: Bench, index: Index) -> int:
    """Compare a thousand balances with the chain. Returns how many were compared."""
    with index.reading() as db:
        rows = db.execute(
            "SELECT account, id, amount FROM balance WHERE contract = 'EnergyCertificate' ORDER BY id, account"
        ).fetchall()
    chosen = random.Random(1).sample(rows, min(1_000, len(rows)))
    held = bench.certificate.functions.balanceOfBatch(
        [r["account"] for r in chosen], [int(r["id"], 16) for r in chosen]
    ).call()
    wrong = [(tuple(r), on_chain) for r, on_chain in zip(chosen, held, strict=True) if r["amount"] != on_chain]
    if wrong:
        raise SystemExit(f"the index is wrong: {wrong[:3]}")
    return len(chosen)


def looked(follower: Follower) -> int:
    """One look at the chain. Returns the events that the index then holds."""
    if problem := follower.sync().problem:
        raise SystemExit(problem)
    with follower.index.reading() as db:
        return int(db.execute("SELECT COUNT(*) FROM event").fetchone()[0])


def indexes(folder: Path, contracts: Contracts, url: str) -> Iterator[Follower]:
    turn = 0
    while True:
        turn += 1
        yield Follower(Index(folder / f"index-{turn}.sqlite3", contracts), Node(url, 60), artifacts(), finality_depth=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./run bench index", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--events", type=int, default=40_000, metavar="N", help="events to fill the chain with (40,000)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    err = Console(stderr=True)

    def say(text: str) -> None:
        err.print(text, highlight=False)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with anvil(
            folder, free_port(), CHAIN_ID, "--gas-limit", "60000000", "--accounts", "10", "--timestamp", str(NOW)
        ) as url:
            bench = Bench(url)
            fill(bench, url, options.events, say)
            deployed = {
                "DeviceRegistry": bench.registry, "Notary": bench.notary, "EnergyCertificate": bench.certificate,
                "EmissionFactors": bench.factors, "MitigationOutcome": bench.outcome,
            }  # fmt: skip
            contracts = Contracts(CHAIN_ID, 0, {key: str(contract.address) for key, contract in deployed.items()})
            head = bench.w3.eth.block_number
            names = {
                "index": "index: events fetched, decoded, stored, committed",
                "whole": "index: and their transactions",
                "decoded": "web3.py contract.events get_logs: fetched, decoded",
                "fetched": "web3.py eth.get_logs: fetched",
                "node": "the node alone: sent",
            }
            times: dict[str, list[float]] = {name: [] for name in names}
            makers, addresses, count = indexes(folder, contracts, url), list(contracts.addresses.values()), 0
            for turn in range(TURNS):
                follower = next(makers)

                def events(follower: Follower = follower) -> int:
                    follower.transactions_seconds = 0
                    return looked(follower)

                def rest(follower: Follower = follower) -> int:
                    follower.transactions_seconds = 3_600
                    return looked(follower)

                seconds, count = timed(events)
                times["index"].append(seconds)
                times["whole"].append(seconds + timed(rest)[0])
                seconds, logs = timed(lambda: decoded(list(deployed.values()), head))
                times["decoded"].append(seconds)
                if logs != count:
                    raise SystemExit(f"web3.py finds {logs} events, the index holds {count}")
                times["fetched"].append(timed(lambda: undecoded(bench, addresses, head))[0])
                times["node"].append(timed(lambda: dropped(url, addresses, head))[0])
                say(f"turn {turn + 1}: " + ", ".join(f"{name} {taken[-1]:.2f} s" for name, taken in times.items()))
            checked = check_balances(bench, follower.index)
            with follower.index.reading() as db:
                transactions = int(db.execute("SELECT COUNT(*) FROM tx").fetchone()[0])
    index = min(times["index"])
    named = {text: min(times[name]) for name, text in names.items()}
    rows = [
        {
            "name": what,
            "seconds": round(seconds, 3),
            "events_per_second": round(count / seconds),
            "index_is_faster_by": round(seconds / index, 2),
        }
        for what, seconds in named.items()
    ]
    result = {"events": count, "transactions": transactions, "blocks": head, "rows": rows, "goal_events_per_second": GOAL_EVENTS_PER_SECOND,
              "goal_ratio": GOAL_RATIO, "balances_checked": checked, "load_average": [round(load, 2) for load in os.getloadavg()]}  # fmt: skip
    if options.json:
        print(json.dumps(result))
        return
    table = Table(
        "what",
        "seconds",
        "events/s",
        "ratio",
        title=f"{count:,} events in {transactions:,} transactions of {head:,} blocks",
    )
    for row in rows:
        table.add_row(
            row["name"], f"{row['seconds']:.2f}", f"{row['events_per_second']:,}", f"{row['index_is_faster_by']:.2f}"
        )
    Console().print(table)
    print(f"load average {result['load_average']}; ratio: seconds of each to the index's events alone")
    print(f"goals: ratio {GOAL_RATIO}, {GOAL_EVENTS_PER_SECOND:,} events/s; {checked} balances equal balanceOf")


if __name__ == "__main__":
    main()
