"""The index against the chain: balances for every holder, after random acts, a rebuild and reorganisations."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from eth_abi import encode

from oracle.chain import AddressBook
from webapp.abi import artifacts
from webapp.explorer import CERTIFICATE, OUTCOME, Explorer
from webapp.index import Contracts, Follower, Index, hex_id
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
    monkeypatch.setattr("webapp.index.BLOCKS_PER_REQUEST", 3)
    follower = synced(follower_of(world, tmp_path))
    assert balances(follower) == chain_balances(world, every)
    world.transfer(1, 2, busy[1][0], 5)
    again = follower_of(world, tmp_path)
    # While the first one keeps the index a second one only looks, and goes on where the first one stopped.
    known = balances(follower)
    assert balances(synced(again)) == known != chain_balances(world, every)
    follower.stop()
    assert balances(synced(again)) == chain_balances(world, every)


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
    monkeypatch.setattr("webapp.index.FIRST_BLOCKS", world.w3.eth.block_number - 3)
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


def padded(kind: str, value) -> bytes:
    return encode([kind], [value])


@pytest.mark.parametrize("seed", range(5))
def test_log_of_every_event_is_read_as_eth_abi_reads_it(seed):
    chance = random.Random(seed)
    known = artifacts()
    makers = {
        "address": lambda: "0x" + chance.randbytes(20).hex(),
        "bytes32": lambda: chance.randbytes(32),
    }
    compared = 0
    for (contract, topic), flat in known.flat_events.items():
        topics, data = [topic], b""
        for part in flat.shape.inputs:
            kind = part["type"]
            value = makers[kind]() if kind in makers else chance.getrandbits(int(kind[4:]))
            if part["indexed"]:
                topics.append("0x" + padded(kind, value).hex())
            else:
                data += padded(kind, value)
        quick = known.log(contract, topics, "0x" + data.hex())
        slow = known.event(contract, [bytes.fromhex(t[2:]) for t in topics], data)
        assert (quick.name, quick.args, quick.addresses()) == (slow.name, slow.args, slow.addresses())
        # A word too many, and an address with something before it, are not read by the quick way.
        assert flat.read(topics, "0x" + data.hex() + "00" * 32) is None
        compared += 1
    assert compared > 20
    assert {"TransferSingle", "Issued"} <= {flat.shape.name for flat in known.flat_events.values()}
