"""Each act exactly once: whatever dies, whatever the node does, the chain shows one effect."""

import multiprocessing
import os
import random
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import event

from oracle import lease
from oracle.archive import read_archive
from oracle.chain import Chain
from oracle.domain import BatchKind, SagaState
from oracle.errors import ChainError, ChainUnreachable
from oracle.lease import LeaseHeld
from oracle.outbox import (
    CRASH_POINTS,
    GWEI,
    Driven,
    DriveTimeout,
    FeeCapReached,
    InsufficientFunds,
    NotTaken,
    Outbox,
    SendPolicy,
)
from oracle.protocol import batch_digest, next_head, statement_leaf
from oracle.store import Act, SignedTransaction, Store
from tests.oracle import databases, nodes

#: The lease of a killed process is soon over. Where two live at once it has its usual length, or a slow one would lose it.
QUICK = SendPolicy(poll_seconds=0.02, lease_seconds=0.5)
fork = multiprocessing.get_context("fork")
#: Crash points that only the replacement of waiting bytes passes.
REPLACING = {13, 14}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


@pytest.fixture
def own_node(tmp_path):
    """For tests that change how blocks are made."""
    with nodes.anvil(tmp_path, "--order", "fifo") as running:
        yield running


class Desk:
    """An outbox with everything around it, that can be closed and opened again."""

    def __init__(self, node, folder, policy=QUICK, **changes):
        self.node, self.folder, self.policy = node, folder, policy
        self.account = node.funded()
        self.url = databases.url(folder, "outbox")
        self.changes = changes
        self.chain = node.chain(**changes)

    def outbox(self, policy=None, **more):
        return Outbox(Store.open(self.url), self.chain, self.account, policy=policy or self.policy, **more)

    def notarize_act(self, days=(0,), device=None):
        """``(key, to, data, batch)`` of a notarization that is valid now."""
        device = device or random.getrandbits(63)
        batch = nodes.sealed_batch(self.chain, self.folder, [nodes.day_statement(device, day) for day in days])
        data = nodes.notarize_data(self.chain, batch, self.node.witnesses[:2])
        return f"notarize:0x{batch.root.hex()}", self.chain.address("Notary"), data, batch

    def notarizations(self, batch):
        return [event for event in self.chain.notarized_events() if event.batch.root == batch.root]

    def signed(self):
        with Store.open(self.url).session() as session:
            return session.query(SignedTransaction).order_by(SignedTransaction.nonce).all()

    def nonce(self):
        return self.chain.transaction_count(self.account.address)


@pytest.fixture
def desk(node, tmp_path):
    return Desk(node, tmp_path)


def test_drive_queued_notarization_is_mined_once_and_second_drive_sends_nothing(desk):
    key, to, data, batch = desk.notarize_act()
    outbox = desk.outbox()
    assert outbox.enqueue(key, to, data) == SagaState.QUEUED
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert driven.sent == 1 and not driven.failed
    assert driven.acts[0].state == SagaState.FINAL
    event = desk.notarizations(batch)[0]
    assert driven.acts[0].transaction == "0x" + event.transaction.hex()
    assert driven.acts[0].block == event.block_number

    again = desk.outbox()
    assert again.enqueue(key, to, data) == SagaState.FINAL
    assert again.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 0
    assert len(desk.notarizations(batch)) == 1 and desk.nonce() == 1


def test_drive_would_revert_fails_in_words_before_a_nonce_is_used(desk):
    key, to, _, batch = desk.notarize_act()
    lone = nodes.notarize_data(desk.chain, batch, desk.node.witnesses[:1])
    outbox = desk.outbox()
    outbox.enqueue(key, to, lone)
    driven = outbox.drive(timeout_seconds=20)
    assert driven.sent == 0
    assert driven.failed[0].error == "TooFewSignatures(given=1, threshold=2)"
    assert desk.nonce() == 0 and desk.signed() == []


def test_enqueue_failed_act_with_new_data_is_done(desk):
    key, to, data, batch = desk.notarize_act()
    outbox = desk.outbox()
    outbox.enqueue(key, to, nodes.notarize_data(desk.chain, batch, desk.node.witnesses[:1]))
    outbox.drive(timeout_seconds=20)
    assert outbox.enqueue(key, to, data) == SagaState.QUEUED
    assert outbox.drive(timeout_seconds=20).sent == 1
    assert len(desk.notarizations(batch)) == 1


def test_drive_done_by_another_account_sends_nothing(desk):
    key, to, data, batch = desk.notarize_act()
    nodes.notarize(desk.node, desk.chain, batch)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert (driven.sent, driven.acts[0].state) == (0, SagaState.FINAL)
    assert desk.nonce() == 0


def test_drive_dependent_acts_all_mined_in_order_with_slow_blocks(own_node, tmp_path):
    """The second batch's head is only right once the first is mined; blocks come every second."""
    own_node.rpc("evm_setAutomine", False)
    own_node.rpc("evm_setIntervalMining", 1)
    desk = Desk(own_node, tmp_path)
    _, to, data, first = desk.notarize_act()
    head = next_head(first.head, batch_digest(first, desk.chain.domain))
    second = nodes.sealed_batch(desk.chain, tmp_path, [nodes.day_statement(5, 1)], head=head)
    outbox = desk.outbox()
    outbox.enqueue("notarize:1", to, data)
    outbox.enqueue("notarize:2", to, nodes.notarize_data(desk.chain, second, own_node.witnesses[1:]))
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=30)
    assert (driven.sent, driven.failed) == (2, ())
    assert len(desk.notarizations(first)) == len(desk.notarizations(second)) == 1


def test_drive_gap_left_by_a_reorganisation_is_filled(own_node, tmp_path):
    """Somebody else's use of nonce 0 is reorganised away while our act has nonce 1."""
    desk = Desk(own_node, tmp_path)
    key, to, data, batch = desk.notarize_act()
    snapshot = own_node.rpc("evm_snapshot")
    _take_nonce(desk, 0)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    outbox.drive(timeout_seconds=20)
    own_node.rpc("evm_revert", snapshot)
    own_node.rpc("evm_setIntervalMining", 1)
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=30)
    assert [act.state for act in driven.acts] == [SagaState.FINAL, SagaState.FINAL]
    assert len(desk.notarizations(batch)) == 1 and desk.nonce() == 2


def test_drive_many_acts_use_one_nonce_each_without_gaps(desk, tmp_path):
    """Ten certificates of one batch."""
    device = random.getrandbits(63)
    nodes.register_device(desk.node, device, desk.node.w3.eth.accounts[4])
    key, to, data, batch = desk.notarize_act(days=range(10), device=device)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    outbox.drive(timeout_seconds=20)
    archive = read_archive(tmp_path, batch.root)
    for index, record in enumerate(archive.records):
        proof = archive.tree.proof(statement_leaf(record.statement))
        issue = nodes.issue_data(desk.chain, batch.root, record, proof)
        outbox.enqueue(f"issue:{index}", desk.chain.address("EnergyCertificate"), issue)
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=30)
    assert driven.sent == 10 and not driven.failed
    assert [signed.nonce for signed in desk.signed()] == list(range(11))
    assert len(desk.chain.issued_ids(batch.root)) == 10


def test_drive_several_in_flight_have_a_nonce_each_and_all_are_mined(own_node, tmp_path):
    """Three batches whose heads do not depend on each other (interim ones) wait in the node's pool together."""
    desk = Desk(own_node, tmp_path)
    own_node.rpc("evm_setAutomine", False)
    outbox, batches = desk.outbox(), []
    for day in range(3):
        interim = {"kind": BatchKind.INTERIM, "head": b"\0" * 32}
        batches.append(nodes.sealed_batch(desk.chain, tmp_path, [nodes.day_statement(7, day)], **interim))
        data = nodes.notarize_data(desk.chain, batches[-1], own_node.witnesses[:2])
        outbox.enqueue(f"notarize:{day}", desk.chain.address("Notary"), data)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=1)
    assert [signed.nonce for signed in desk.signed()] == [0, 1, 2]
    own_node.rpc("evm_setAutomine", True)
    own_node.rpc("evm_mine")
    assert outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 0
    assert [len(desk.notarizations(batch)) for batch in batches] == [1, 1, 1]


def test_drive_no_money_raises_uses_no_nonce_and_goes_on_after_top_up(desk):
    key, to, data, batch = desk.notarize_act()
    desk.node.rpc("anvil_setBalance", desk.account.address, "0x10")
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    with pytest.raises(InsufficientFunds) as caught:
        outbox.drive(timeout_seconds=20)
    assert caught.value.balance_wei == 16 and desk.signed() == []
    desk.node.rpc("anvil_setBalance", desk.account.address, hex(10**18))
    assert outbox.drive(timeout_seconds=20).sent == 1
    assert len(desk.notarizations(batch)) == 1


def test_drive_underpriced_is_replaced_by_an_eighth_and_one_is_mined(own_node, tmp_path):
    desk = Desk(own_node, tmp_path, replace(QUICK, patience_seconds=1))
    key, to, data, batch = desk.notarize_act()
    own_node.rpc("evm_setAutomine", False)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    first = desk.signed()[0]
    _mine_dear_block(own_node, 10 * first.max_fee_wei)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    old, new = sorted(desk.signed(), key=lambda signed: signed.max_fee_wei)
    assert old.nonce == new.nonce == 0
    assert new.max_fee_wei * 8 >= old.max_fee_wei * 9 and new.priority_fee_wei * 8 >= old.priority_fee_wei * 9
    own_node.rpc("evm_setAutomine", True)
    own_node.rpc("evm_mine")
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert driven.acts[0].transaction == new.hash
    assert len(desk.notarizations(batch)) == 1 and desk.nonce() == 1


def test_drive_fee_over_the_cap_raises_instead_of_spinning(own_node, tmp_path):
    desk = Desk(own_node, tmp_path, replace(QUICK, patience_seconds=1, max_fee_cap_wei=20 * GWEI))
    key, to, data, batch = desk.notarize_act()
    own_node.rpc("evm_setAutomine", False)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    _mine_dear_block(own_node, 100 * GWEI)
    with pytest.raises(FeeCapReached) as caught:
        outbox.drive(timeout_seconds=10)
    assert caught.value.cap_wei == 20 * GWEI and len(desk.signed()) == 1
    own_node.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    own_node.rpc("evm_setAutomine", True)
    own_node.rpc("evm_mine")
    assert outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 0
    assert len(desk.notarizations(batch)) == 1


def _mine_dear_block(node, base_fee_wei):
    """A block too dear for what waits, two seconds later, with the next one as dear."""
    node.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee_wei))
    node.rpc("evm_increaseTime", 2)
    node.rpc("evm_mine")
    node.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee_wei))


@pytest.mark.parametrize("depth", [1, 12])
def test_drive_reorganised_away_is_sent_again_and_done_once(own_node, tmp_path, depth):
    desk = Desk(own_node, tmp_path, finality_depth=20)
    key, to, data, batch = desk.notarize_act()
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    snapshot = own_node.rpc("evm_snapshot")
    mined = outbox.drive(timeout_seconds=20).acts[0]
    own_node.rpc("anvil_mine", hex(depth))
    own_node.rpc("evm_revert", snapshot)
    own_node.rpc("anvil_mine", hex(depth + 1))
    assert desk.notarizations(batch) == []
    states = []
    driven = outbox.drive(timeout_seconds=20, progress=lambda act: states.append(act.state))
    assert driven.sent == 0, "the stored bytes are sent again, nothing new is signed"
    assert driven.acts[0].transaction == mined.transaction and driven.acts[0].block != mined.block
    assert len(desk.notarizations(batch)) == 1 and desk.nonce() == 1


def test_drive_not_yet_final_stays_mined_until_blocks_follow(own_node, tmp_path):
    desk = Desk(own_node, tmp_path, finality_depth=3)
    key, to, data, _ = desk.notarize_act()
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    assert outbox.drive(timeout_seconds=20).acts[0].state == SagaState.MINED
    with pytest.raises(DriveTimeout):
        outbox.drive(until=SagaState.FINAL, timeout_seconds=0.3)
    own_node.rpc("anvil_mine", "0x3")
    assert outbox.drive(until=SagaState.FINAL, timeout_seconds=20).acts[0].state == SagaState.FINAL


def test_drive_nonce_taken_by_another_transaction_signs_same_act_anew(own_node, tmp_path):
    desk = Desk(own_node, tmp_path)
    key, to, data, batch = desk.notarize_act()
    own_node.rpc("evm_setAutomine", False)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    own_node.rpc("anvil_dropTransaction", desk.signed()[0].hash)
    own_node.rpc("evm_setAutomine", True)
    _take_nonce(desk, 0)
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert driven.sent == 1
    assert [signed.nonce for signed in desk.signed()] == [0, 1]
    assert len(desk.notarizations(batch)) == 1 and desk.nonce() == 2


def test_drive_nonce_taken_but_act_done_elsewhere_signs_nothing(own_node, tmp_path):
    desk = Desk(own_node, tmp_path)
    key, to, data, batch = desk.notarize_act()
    own_node.rpc("evm_setAutomine", False)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    own_node.rpc("anvil_dropTransaction", desk.signed()[0].hash)
    own_node.rpc("evm_setAutomine", True)
    _take_nonce(desk, 0)
    nodes.notarize(own_node, desk.chain, batch)
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert (driven.sent, driven.acts[0].state) == (0, SagaState.FINAL)
    assert len(desk.notarizations(batch)) == 1 and len(desk.signed()) == 1


def _take_nonce(desk, nonce):
    fee = {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": 2 * GWEI}
    other = {
        "type": 2,
        "chainId": nodes.CHAIN_ID,
        "nonce": nonce,
        "gas": 21_000,
        "to": desk.account.address,
        "value": 1,
    }
    raw = desk.account.sign_transaction(other | fee).raw_transaction
    desk.node.w3.eth.wait_for_transaction_receipt(desk.node.w3.eth.send_raw_transaction(raw), poll_latency=0.02)


def test_drive_node_unreachable_raises_and_keeps_the_act(desk):
    key, to, data, batch = desk.notarize_act()
    good = desk.chain
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    outbox.chain = Chain(replace(good.config, rpc_urls=(f"http://127.0.0.1:{nodes.free_port()}",)))
    with pytest.raises(ChainUnreachable):
        outbox.drive(timeout_seconds=0.1)
    outbox.chain = good
    assert outbox.drive(timeout_seconds=20).sent == 1
    assert len(desk.notarizations(batch)) == 1


def test_drive_node_switched_chain_stops_before_sending(own_node, tmp_path):
    desk = Desk(own_node, tmp_path)
    key, to, data, _ = desk.notarize_act()
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    own_node.rpc("anvil_setChainId", 99)
    with pytest.raises(ChainError, match="chain 99"):
        outbox.drive(timeout_seconds=20)
    assert desk.signed() == []


def test_drive_node_refuses_the_bytes_raises_with_its_words(desk):
    """More gas than a block has: no node ever takes that, and we say so instead of trying for ever."""
    key, to, data, batch = desk.notarize_act()
    outbox = desk.outbox(replace(QUICK, gas_margin_percent=100_000, refusals=2))
    outbox.enqueue(key, to, data)
    with pytest.raises(NotTaken) as caught:
        outbox.drive(timeout_seconds=20)
    assert caught.value.key == key and "gas" in caught.value.refusal
    assert desk.notarizations(batch) == []


def test_drive_lease_held_by_another_raises_with_the_holder(desk):
    first, second = desk.outbox(replace(QUICK, lease_seconds=600)), desk.outbox()
    assert first.lease.take()
    with pytest.raises(LeaseHeld) as caught:
        second.drive(timeout_seconds=0.1)
    assert caught.value.holder == first.lease.holder
    first.lease.release()
    assert second.drive(timeout_seconds=20).sent == 0


def test_drive_lease_of_a_dead_process_whose_clock_was_ahead_is_taken_over(desk):
    """It seems to hold for a year to come; who sees it stand still for the time of a lease takes it."""
    key, to, data, batch = desk.notarize_act()
    dead, living = desk.outbox(replace(QUICK, lease_seconds=365 * 86_400)), desk.outbox()
    assert dead.lease.take()
    living.enqueue(key, to, data)
    assert living.drive(timeout_seconds=60).sent == 1
    assert len(desk.notarizations(batch)) == 1
    with pytest.raises(LeaseHeld), dead.store.session() as session:
        dead.lease.renew(session)


def test_acquire_lease_that_is_renewed_again_and_again_is_not_taken(desk, monkeypatch):
    """The wait is several leases long, in a time that passes by sleeping alone, and the holder lives."""
    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: passed[0], sleep=lambda seconds: passed.append(passed.pop() + seconds))
    began = datetime.now(UTC)
    monkeypatch.setattr(lease, "time", clock)
    monkeypatch.setattr(lease, "utc_now", lambda: began + timedelta(seconds=passed[0]))
    holder, other = (desk.outbox(replace(QUICK, lease_seconds=1)) for _ in range(2))
    assert holder.lease.take()

    def renewed(dead=None, take=other.lease.take):
        with holder.store.session() as session:
            holder.lease.renew(session)
        return take(dead)

    other.lease.take = renewed
    with pytest.raises(LeaseHeld):
        other.lease.acquire(3.5, 0.25)
    assert passed[0] > 3.5


def test_sign_after_the_lease_was_lost_stores_nothing(desk):
    key, to, data, _ = desk.notarize_act()
    first, second = desk.outbox(replace(QUICK, lease_seconds=-1)), desk.outbox()
    first.enqueue(key, to, data)
    assert first.lease.take() and second.lease.take()
    with first.store.session() as session:
        act = session.query(Act).one()
    with pytest.raises(LeaseHeld):
        first._sign(act, 0, 21_000, 1, 1, desk.chain.head())
    assert desk.signed() == []


def test_withdraw_while_another_process_is_about_to_sign_leaves_nothing_signed(desk):
    key, to, data, batch = desk.notarize_act()
    sending, giving_up = desk.outbox(), desk.outbox()
    sending.enqueue(key, to, data)
    fees = sending._fees

    def given_up_meanwhile(*arguments):
        with giving_up.store.writing() as session:
            assert giving_up.withdraw(session, key, "taken back")
        return fees(*arguments)

    sending._fees = given_up_meanwhile
    driven = sending.drive(timeout_seconds=20)
    assert (driven, desk.signed(), sending.reports()) == (Driven(0, ()), [], ())
    sending._fees = fees
    assert sending.enqueue(key, to, data) == SagaState.QUEUED
    assert sending.drive(timeout_seconds=20).sent == 1
    with giving_up.store.writing() as session:
        assert not giving_up.withdraw(session, key, "taken back")
        assert giving_up.withdraw(session, "notarize:unheard of", "taken back")
    assert len(desk.notarizations(batch)) == 1


def test_drive_years_of_finished_acts_are_left_in_the_database(desk):
    """A quarter hour takes as long after years of quarter hours: nothing finished is loaded, but the newest."""
    key, to, data, _ = desk.notarize_act()
    outbox, head, loaded = desk.outbox(), desk.chain.head(), []
    with outbox.store.session() as session:
        for number in range(500):
            fields = {"chain_id": nodes.CHAIN_ID, "sender": outbox.sender, "to": to, "data": b"", "block": head.number}
            session.add(Act(key=f"old:{number}", state=SagaState.FINAL, block_hash="0x" + head.hash.hex(), **fields))
    outbox.enqueue(key, to, data)

    def note(act, _):
        loaded.append(act.key)

    event.listen(Act, "load", note)
    try:
        outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    finally:
        event.remove(Act, "load", note)
    assert len({one for one in loaded if one.startswith("old:")}) == 1


def test_drive_two_accounts_in_one_database_each_send_their_own_acts(desk, node):
    """A second account neither sends nor waits for the first one's act, and takes over what failed under it."""
    key, to, data, batch = desk.notarize_act()
    first = desk.outbox()
    first.enqueue(key, to, data)
    second = Outbox(first.store, desk.chain, node.funded(), policy=QUICK)
    assert second.drive(until=SagaState.FINAL, timeout_seconds=20).acts == ()
    assert desk.notarizations(batch) == []
    assert second.enqueue(key, to, data) == SagaState.QUEUED
    assert first.drive(until=SagaState.FINAL, timeout_seconds=20).acts == ()
    driven = second.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert (driven.sent, driven.acts[0].state) == (1, SagaState.FINAL)
    assert (desk.nonce(), desk.chain.transaction_count(second.sender)) == (0, 1)


def _run(desk, keys_and_data, crash_at=None):
    """In a child process: what a restarted oracle does."""
    if crash_at is not None:
        os.environ["CRASH_AT"] = str(crash_at)
    else:
        os.environ.pop("CRASH_AT", None)
    desk.chain = desk.node.chain(**desk.changes)
    outbox = desk.outbox()
    for key, to, data in keys_and_data:
        outbox.enqueue(key, to, data)
    outbox.drive(until=SagaState.FINAL, timeout_seconds=60)


def _child(*arguments):
    process = fork.Process(target=_run, args=arguments)
    process.start()
    process.join(90)
    return process.exitcode


@pytest.mark.parametrize("point", sorted({*range(1, CRASH_POINTS + 1)} - REPLACING))
def test_drive_killed_at_crash_point_restart_leaves_exactly_one_effect(node, tmp_path, point):
    desk = Desk(node, tmp_path)
    key, to, data, batch = desk.notarize_act()
    assert _child(desk, [(key, to, data)], point) == -signal.SIGKILL
    assert len(desk.notarizations(batch)) <= 1
    assert _child(desk, [(key, to, data)]) == 0
    assert len(desk.notarizations(batch)) == 1
    assert desk.nonce() == 1 and len(desk.signed()) == 1
    assert [act.state for act in desk.outbox().reports()] == [SagaState.FINAL]


@pytest.mark.parametrize("point", sorted(REPLACING))
def test_drive_killed_while_replacing_restart_leaves_exactly_one_effect(own_node, tmp_path, point):
    desk = Desk(own_node, tmp_path, replace(QUICK, patience_seconds=1))
    key, to, data, batch = desk.notarize_act()
    own_node.rpc("evm_setAutomine", False)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    _mine_dear_block(own_node, 10 * desk.signed()[0].max_fee_wei)
    assert _child(desk, [(key, to, data)], point) == -signal.SIGKILL
    own_node.rpc("evm_setAutomine", True)
    own_node.rpc("evm_mine")
    assert _child(desk, [(key, to, data)]) == 0
    assert len(desk.notarizations(batch)) == 1 and desk.nonce() == 1


def test_drive_two_processes_at_once_leave_one_effect_each(node, tmp_path):
    desk = Desk(node, tmp_path, SendPolicy(poll_seconds=0.02))
    device = random.getrandbits(63)
    nodes.register_device(node, device, node.w3.eth.accounts[4])
    key, to, data, batch = desk.notarize_act(days=range(6), device=device)
    outbox = desk.outbox()
    outbox.enqueue(key, to, data)
    outbox.drive(timeout_seconds=20)
    archive = read_archive(tmp_path, batch.root)
    acts = [
        (
            f"issue:{index}",
            desk.chain.address("EnergyCertificate"),
            nodes.issue_data(desk.chain, batch.root, record, archive.tree.proof(statement_leaf(record.statement))),
        )
        for index, record in enumerate(archive.records)
    ]
    both = [fork.Process(target=_run, args=(desk, acts)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(90)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(desk.chain.issued_ids(batch.root)) == 6
    assert desk.nonce() == 7 and len(desk.signed()) == 7
