"""The index against the chain: balances for every holder, after random acts, a rebuild and reorganisations."""

from __future__ import annotations

import gc
import random
import socket
import sqlite3
from pathlib import Path

import pytest
from eth_abi import encode

from oracle.chain import AddressBook
from webapp.abi import artifacts, canonical, plain
from webapp.explorer import CERTIFICATE, OUTCOME, Explorer
from webapp.follower import Follower
from webapp.index import CHECKPOINTS, Contracts, Index, hex_id
from webapp.node import Node


def follower_of(world, folder: Path, url: str | None = None) -> Follower:
    book = AddressBook.read(world.addresses_path)
    contracts = Contracts(
        book.chain_id, book.deployed_block, {name: entry.address for name, entry in book.contracts.items()}
    )
    return Follower(Index(folder / "index.sqlite3", contracts), Node(url or world.anvil.url, 3), artifacts())


def synced(follower: Follower) -> Follower:
    assert follower.sync().problem is None
    return follower


def balances(follower: Follower) -> dict[tuple[str, str, str], int]:
    with follower.index.reading() as db:
        return {(r["contract"], r["account"], r["id"]): r["amount"] for r in db.execute("SELECT * FROM balance")}


def chain_balances(world, tokens: dict[str, list[int]]) -> dict[tuple[str, str, str], int]:
    """What balanceOf says for every account and every id there ever was; zeros left out."""
    found = {}
    for contract, ids in tokens.items():
        for account in world.w3.eth.accounts[:7]:
            for token in ids:
                amount = world.call(contract, "balanceOf", account, token)
                if amount:
                    found[(contract, account, hex_id(token))] = amount
    return found


def act_at_random(world, chance: random.Random, tokens: list[int]) -> None:
    """One transfer, batch transfer, self-transfer, retirement, batch retirement or conversion that the balances allow."""
    held = [(n, t, world.call(CERTIFICATE, "balanceOf", world.account(n), t)) for n in range(1, 6) for t in tokens]
    held = [(n, t, amount) for n, t, amount in held if amount]
    sender, token, amount = chance.choice(held)
    part = chance.randint(1, max(1, amount // 2))
    kind = chance.choice(["transfer", "self", "batch", "retire", "retire batch", "convert"])
    if kind == "transfer":
        world.transfer(sender, chance.randint(1, 5), token, part)
    elif kind == "self":
        world.transfer(sender, sender, token, part)
    elif kind == "batch":
        receiver = world.account(chance.randint(1, 5))
        ids, amounts = [token, token], [part, max(0, min(1, amount - part))]
        world.send(
            CERTIFICATE, "safeBatchTransferFrom", world.account(sender), receiver, ids, amounts, b"", sender=sender
        )
    elif kind == "retire":
        world.retire(sender, token, part)
    elif kind == "retire batch":
        world.send(
            CERTIFICATE, "retireBatch", [token], [part], world.details(sender, "Somebody", "Something"), sender=sender
        )
    else:
        world.send(OUTCOME, "convert", [token], [part], 0, sender=sender)


@pytest.fixture
def busy(fresh_world, w):
    """A world with four certificates and a factor: enough to act at random."""
    fresh_world.register(1)
    tokens = []
    for day in range(4):
        start = w.FIRST_DAY + day * w.DAY
        tokens.append(fresh_world.issue(fresh_world.notarize([w.day_record(1, start)]), 1, start))
    fresh_world.send(
        "EmissionFactors",
        "publish",
        b"RMPA".ljust(16, b"\0"),
        2016,
        700_000,
        True,
        w.keccak256(b"for tests"),
        "for tests",
    )
    outcome = (1 << 224) | (2016 << 208) | (int.from_bytes(b"US", "big") << 192)
    return fresh_world, tokens, {CERTIFICATE: tokens, OUTCOME: [outcome]}


def test_sync_after_random_acts_balances_equal_balance_of_for_every_holder(busy, tmp_path):
    world, tokens, every = busy
    chance = random.Random(20160701)
    follower = follower_of(world, tmp_path)
    for _ in range(4):
        for _ in range(8):
            act_at_random(world, chance, tokens)
        synced(follower)
        assert balances(follower) == chain_balances(world, every)
    assert len(balances(follower)) > 8

    before = balances(follower)
    follower.index.rebuild()
    assert balances(follower) == {}
    synced(follower)
    assert balances(follower) == before

    with follower.index.reading() as db:
        ask = Explorer(db)
        for token in tokens:
            issued = ask.number("SELECT SUM(energy_wh) FROM issuance WHERE event = 'Issued' AND id = ?", hex_id(token))
            live = ask.number(
                "SELECT SUM(amount) FROM balance WHERE contract = ? AND id = ?", CERTIFICATE, hex_id(token)
            )
            retired = ask.number(
                "SELECT SUM(amount) FROM retirement WHERE contract = ? AND id = ?", CERTIFICATE, hex_id(token)
            )
            converted = ask.number("SELECT SUM(amount_wh) FROM conversion WHERE certificate_id = ?", hex_id(token))
            assert issued == live + retired + converted > 0


def test_sync_after_reorganisations_balances_equal_balance_of_for_every_holder(busy, tmp_path):
    world, tokens, every = busy
    chance = random.Random(7)
    follower = synced(follower_of(world, tmp_path))
    for depth in (1, 3, 6):
        for _ in range(depth):
            act_at_random(world, chance, tokens)
        synced(follower)
        before = balances(follower)
        tip = world.anvil.rpc("eth_getBlockByNumber", "latest", False)
        # The last blocks are mined again without their transactions.
        world.anvil.rpc("anvil_reorg", depth, [])
        assert world.anvil.rpc("eth_getBlockByNumber", tip["number"], False)["hash"] != tip["hash"]
        world.anvil.mine(1)
        synced(follower)
        assert balances(follower) == chain_balances(world, every)
        assert balances(follower) != before
    rebuilt = follower_of(world, tmp_path / "again")
    synced(rebuilt)
    with follower.index.reading() as one, rebuilt.index.reading() as other:
        for table in ("event", "transfer", "retirement", "issuance", "account", "tx"):
            order = "ORDER BY block" if table == "tx" else "ORDER BY block, log_index"
            assert [tuple(r) for r in one.execute(f"SELECT * FROM {table} {order}")] == [
                tuple(r) for r in other.execute(f"SELECT * FROM {table} {order}")
            ], table


def test_sync_in_small_ranges_resumes_and_reads_the_same(busy, tmp_path, monkeypatch):
    world, _, every = busy
    monkeypatch.setattr("webapp.follower.BLOCKS_PER_REQUEST", 3)
    follower = synced(follower_of(world, tmp_path))
    assert balances(follower) == chain_balances(world, every)
    world.transfer(1, 2, busy[1][0], 5)
    again = follower_of(world, tmp_path)
    # While the first one keeps the index a second one only looks, and goes on where the first one stopped.
    known = balances(follower)
    assert balances(synced(again)) == known != chain_balances(world, every)
    follower.stop()
    assert balances(synced(again)) == chain_balances(world, every)


def test_sync_however_it_ends_leaves_the_collector_of_cycles_as_it_was(busy, tmp_path, monkeypatch):
    world, _, _ = busy
    follower, usual, seen = follower_of(world, tmp_path), gc.get_threshold(), []
    add = follower.index.add
    monkeypatch.setattr(follower.index, "add", lambda *given: (seen.append(gc.get_threshold()), add(*given)))
    synced(follower)
    assert gc.get_threshold() == usual and seen and all(rare[0] > usual[0] for rare in seen)

    def broken(*_):
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(follower.index, "add", broken)
    world.anvil.mine(1)
    assert "disk is full" in follower.sync().problem
    assert gc.get_threshold() == usual


def test_sync_of_an_unreachable_node_says_so_and_keeps_what_is_known(busy, tmp_path, w):
    world, _, _ = busy
    known = balances(synced(follower_of(world, tmp_path)))
    silent = follower_of(world, tmp_path, f"http://127.0.0.1:{w.free_port()}")
    state = silent.sync()
    assert "does not answer" in state.problem
    assert state.block == world.w3.eth.block_number
    assert balances(silent) == known


def test_sync_of_another_chain_reads_nothing(busy, tmp_path):
    world, _, _ = busy
    follower = follower_of(world, tmp_path)
    follower.index.contracts = Contracts(1, follower.index.contracts.deployed_block, follower.index.contracts.addresses)
    assert "chain 1" in follower.sync().problem
    assert balances(follower) == {}


def test_sync_when_blocks_change_between_two_ranges_leaves_nothing_stale(busy, tmp_path, monkeypatch):
    world, tokens, every = busy
    chance = random.Random(3)
    for _ in range(6):
        act_at_random(world, chance, tokens)
    monkeypatch.setattr("webapp.follower.FIRST_BLOCKS", world.w3.eth.block_number - 3)
    follower = follower_of(world, tmp_path)
    fetch, ranges = follower._fetch_to, []

    def fetch_then_reorganise(first: int, last: int):
        stretch = fetch(first, last)
        if not ranges:
            world.anvil.rpc("anvil_reorg", 5, [])
        ranges.append((first, last))
        return stretch

    monkeypatch.setattr(follower, "_fetch_to", fetch_then_reorganise)
    assert "reorganised" in follower.sync().problem
    assert len(ranges) > 1
    synced(follower)
    assert balances(follower) == chain_balances(world, every)


def test_sync_when_the_first_node_is_silent_asks_the_next(busy, tmp_path, w):
    world, _, every = busy
    follower = follower_of(world, tmp_path)
    follower.node = Node([f"http://127.0.0.1:{w.free_port()}", world.anvil.url], 3)
    assert balances(synced(follower)) == chain_balances(world, every)
    assert follower.node.url == world.anvil.url


def refused_transfer(world, token: int) -> str:
    """A transfer by somebody without a certificate, mined all the same. Its hash."""
    call = world.contracts[CERTIFICATE].functions.safeTransferFrom(world.account(6), world.account(1), token, 5, b"")
    tx = call.transact({"from": world.account(6), "gas": 500_000})
    assert world.w3.eth.wait_for_transaction_receipt(tx, poll_latency=0.01)["status"] == 0
    return "0x" + tx.hex().removeprefix("0x")


def test_sync_of_refused_transactions_lists_them_as_failed(busy, tmp_path):
    world, tokens, _ = busy
    follower = synced(follower_of(world, tmp_path))
    refused = refused_transfer(world, tokens[0])
    world.anvil.mine(3)
    synced(follower)

    def listed() -> list[tuple]:
        with follower.index.reading() as db:
            sql = "SELECT t.hash, t.function, t.succeeded, b.events FROM tx t JOIN block b ON b.number = t.block"
            return [tuple(row) for row in db.execute(sql + " WHERE NOT succeeded")]

    assert listed() == [(refused, "safeTransferFrom", 0, 0)]
    # Blocks without events are forgotten in time; one that holds a refused transaction stays.
    world.anvil.mine(CHECKPOINTS + 10)
    assert listed() == [(refused, "safeTransferFrom", 0, 0)]
    follower.index.rebuild()
    synced(follower)
    assert listed() == [(refused, "safeTransferFrom", 0, 0)]
    with follower.index.reading() as db:
        rows = {row["hash"]: row for row in db.execute("SELECT * FROM tx")}
        left = {tx for (tx,) in db.execute("SELECT tx FROM event")}
    assert rows.keys() == left | {refused}
    for tx in [refused, *list(left)[:3]]:
        told = world.anvil.rpc("eth_getTransactionByHash", tx)
        receipt = world.anvil.rpc("eth_getTransactionReceipt", tx)
        assert rows[tx]["succeeded"] == int(receipt["status"], 16)
        assert (rows[tx]["block"], rows[tx]["position"]) == (
            int(told["blockNumber"], 16),
            int(told["transactionIndex"], 16),
        )
        assert rows[tx]["sender"].lower() == told["from"]


def test_sync_after_a_reorganisation_forgets_refused_transactions(busy, tmp_path):
    world, tokens, _ = busy
    refused_transfer(world, tokens[0])
    follower = synced(follower_of(world, tmp_path))
    with follower.index.reading() as db:
        assert db.execute("SELECT COUNT(*) FROM tx WHERE NOT succeeded").fetchone()[0] == 1
    world.anvil.rpc("anvil_reorg", 1, [])
    world.anvil.mine(1)
    synced(follower)
    with follower.index.reading() as db:
        assert db.execute("SELECT COUNT(*) FROM tx WHERE NOT succeeded").fetchone()[0] == 0


def test_sync_without_time_for_transactions_keeps_events_and_goes_on_later(busy, tmp_path, monkeypatch):
    world, _, every = busy
    monkeypatch.setattr("webapp.follower.FULL_BLOCKS_PER_REQUEST", 4)
    follower = follower_of(world, tmp_path)
    follower.transactions_seconds = 1e-9
    synced(follower)
    assert balances(follower) == chain_balances(world, every)
    left = [follower.freshness().unread_blocks]
    assert left[0] > 4
    while left[-1]:
        left.append(synced(follower).freshness().unread_blocks)
        assert left[-1] <= left[-2]
    with follower.index.reading() as db:
        missing = "SELECT COUNT(*) FROM event WHERE tx NOT IN (SELECT hash FROM tx)"
        assert db.execute(missing).fetchone()[0] == 0
    assert len(left) > 3


def test_sync_reads_transactions_of_blocks_too_old_to_scan(busy, tmp_path, monkeypatch):
    world, tokens, _ = busy
    refused_transfer(world, tokens[0])
    world.anvil.mine(5)
    monkeypatch.setattr("webapp.follower.SCANNED_BLOCKS", 3)
    follower = synced(follower_of(world, tmp_path))
    with follower.index.reading() as db:
        assert db.execute("SELECT COUNT(*) FROM event WHERE tx NOT IN (SELECT hash FROM tx)").fetchone()[0] == 0
        assert db.execute("SELECT COUNT(*) FROM tx").fetchone()[0] > 4
        # Beyond what is scanned a refused transaction in a block without events stays unknown.
        assert db.execute("SELECT COUNT(*) FROM tx WHERE NOT succeeded").fetchone()[0] == 0


def test_sync_when_old_blocks_are_of_another_chain_reads_them_again(busy, tmp_path):
    world, _, every = busy
    follower = synced(follower_of(world, tmp_path))
    with follower.index.writing() as db:
        # As if a node that was on a fork had told this block.
        number = db.execute("SELECT number FROM block WHERE events > 0 ORDER BY number LIMIT 1").fetchone()[0]
        db.execute("UPDATE block SET hash = ?, transactions = NULL WHERE number = ?", ("0x" + "5" * 64, number))
        db.execute("UPDATE event SET args = '{}' WHERE block = ?", (number,))
    assert "reorganised" in follower.sync().problem
    synced(follower)
    assert balances(follower) == chain_balances(world, every)
    with follower.index.reading() as db:
        assert db.execute("SELECT COUNT(*) FROM event WHERE args = '{}'").fetchone()[0] == 0


def test_sync_from_a_node_that_tells_no_times_asks_for_headers(busy, tmp_path):
    world, _, every = busy
    follower, timed = follower_of(world, tmp_path), synced(follower_of(world, tmp_path / "timed"))
    call = follower.node.call

    def without_times(method: str, *params):
        answer = call(method, *params)
        if method == "eth_getLogs":
            for log in answer:
                del log["blockTimestamp"]
        return answer

    follower.node.call = without_times
    synced(follower)
    assert balances(follower) == chain_balances(world, every)
    with follower.index.reading() as one, timed.index.reading() as other:
        blocks = "SELECT number, hash, timestamp, events, transactions FROM block"
        assert [tuple(row) for row in one.execute(blocks)] == [tuple(row) for row in other.execute(blocks)]


def test_call_over_a_connection_closed_meanwhile_connects_again(fresh_world):
    node = Node(fresh_world.anvil.url, 3)
    head = node.call("eth_blockNumber")
    (connection,) = node._local.connections.values()
    connection.sock.shutdown(socket.SHUT_RDWR)
    assert node.call("eth_blockNumber") == head


def random_value(part: dict, chance: random.Random):
    kind = part["type"]
    if kind.endswith("[]"):
        return [random_value({**part, "type": kind[:-2]}, chance) for _ in range(chance.randrange(5))]
    if kind == "tuple":
        return tuple(random_value(inner, chance) for inner in part["components"])
    if kind == "string":
        return "".join(chance.choice("a é☀") for _ in range(chance.randrange(70)))
    if kind == "bytes":
        return chance.randbytes(chance.randrange(70))
    if kind == "bool":
        return chance.random() < 0.5
    if kind == "address":
        return "0x" + chance.randbytes(20).hex()
    return chance.randbytes(int(kind[5:])) if kind.startswith("bytes") else chance.getrandbits(int(kind[4:]))


@pytest.mark.parametrize("seed", range(5))
def test_log_of_every_event_is_read_as_eth_abi_reads_it(seed):
    chance = random.Random(seed)
    known = artifacts()
    for (contract, topic), reader in known.readers.items():
        values = [(part, random_value(part, chance)) for part in reader.shape.inputs]
        topics = [topic] + ["0x" + encode([p["type"]], [v]).hex() for p, v in values if p["indexed"]]
        loose = [(canonical(p), v) for p, v in values if not p["indexed"]]
        data = encode([kind for kind, _ in loose], [value for _, value in loose])
        args = reader.read(topics, "0x" + data.hex())
        slow = known.event(contract, [bytes.fromhex(t[2:]) for t in topics], data)
        assert list(args.items()) == list(slow.args.items()), reader.shape.name
        assert (reader.addresses(args), reader.plain(args)) == (slow.addresses(), plain(slow.args))
        if loose:
            assert reader.read(topics, "0x" + data.hex()[:-64]) is None
        assert reader.read([*topics, topic], "0x" + data.hex()) is None
        assert reader.read([*topics[:-1], topics[-1][:-2]], "0x" + data.hex()) is None
        if any(part["type"] == "address" and part["indexed"] for part, _ in values):
            spoilt = [topic, *("0x01" + t[4:] for t in topics[1:])]
            assert reader.read(spoilt, "0x" + data.hex()) is None
    every = {(contract, shape.name) for contract, shapes in known.events.items() for shape in shapes.values()}
    assert every == {(contract, reader.shape.name) for (contract, _), reader in known.readers.items()}


def test_read_of_a_text_that_is_not_utf_8_keeps_the_event():
    known = artifacts()
    reader = next(r for (c, _), r in known.readers.items() if (c, r.shape.name) == ("Notary", "Revoked"))
    topic = next(t for (_, t), r in known.readers.items() if r is reader)
    topics, data = [topic, "0x" + "11" * 32, "0x" + "00" * 12 + "22" * 20], encode(["bytes"], [b"caf\xe9"])
    assert reader.read(topics, "0x" + data.hex())["reason"] == "caf\ufffd"
    slow = known.event("Notary", [bytes.fromhex(t[2:]) for t in topics], data)
    assert slow.args["reason"] == "caf\ufffd"
