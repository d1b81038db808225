"""True forks: two clients, two branches, and the oracle in between."""

import contextlib
from dataclasses import replace

import pytest

from oracle.chain import Chain, NodesDisagree
from oracle.domain import SagaState
from oracle.outbox import GWEI, DriveTimeout, Outbox, SendPolicy
from oracle.store import SignedTransaction, Store
from tests.oracle import databases, forks, nodes

QUICK = SendPolicy(poll_seconds=0.05, lease_seconds=0.5)


@pytest.mark.slow
def test_drive_through_forks_finality_and_nodes_that_differ(tmp_path):
    """One act on a chain whose branches change under it: mined, undone, its nonce taken by a rival, done once, final."""
    with forks.world(tmp_path) as world:
        one, two = world.one, world.two
        chain = Chain.open(world.config)
        batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(7, 0)])
        store = Store.open(databases.url(tmp_path))
        outbox = Outbox(store, chain, world.account, policy=QUICK)
        data = nodes.notarize_data(chain, batch, world.witnesses[:2])
        outbox.enqueue("notarize:1", chain.address("Notary"), data)

        def signed():
            with store.session() as session:
                return session.query(SignedTransaction).order_by(SignedTransaction.nonce).all()

        def drive(until=SagaState.MINED, seconds=1.0):
            with contextlib.suppress(DriveTimeout):
                outbox.drive(until=until, timeout_seconds=seconds)
            return outbox.reports()[0].state

        fork = one.head()
        assert drive() == SagaState.SENT
        branch = one.build(fork, salt=1)
        assert len(branch["transactions"]) == 1
        one.take(branch)
        assert drive() == SagaState.MINED
        assert drive(until=SagaState.FINAL) == SagaState.MINED, "nothing is final before the consensus says so"

        # The other client knows a longer branch from the same parent, in which a rival used our nonce.
        rival = world.account.sign_transaction(
            {
                "type": 2,
                "chainId": forks.CHAIN_ID,
                "nonce": 0,
                "gas": 21_000,
                "to": world.account.address,
                "value": 1,
                "maxFeePerGas": 20 * GWEI,
                "maxPriorityFeePerGas": 2 * GWEI,
            }
        )
        two.ask(two.url, "eth_sendRawTransaction", "0x" + bytes(rival.raw_transaction).hex())
        first = two.build(fork, salt=2)
        assert len(first["transactions"]) == 1
        two.take(first)
        second = two.build(first, salt=3)
        two.take(second)

        # Two nodes with different heads that must agree: nothing is known, nothing is signed.
        careful = Chain(replace(world.config, rpc_urls=(one.url, two.url), agreeing_nodes=2))
        with pytest.raises(NodesDisagree):
            careful.head()

        one.take(first)
        one.take(second)
        assert careful.head().hash == bytes.fromhex(second["blockHash"][2:])
        assert drive(seconds=3) == SagaState.SENT
        assert [transaction.nonce for transaction in signed()] == [0, 1], "the same act, signed anew"

        third = one.build(second, salt=4)
        assert len(third["transactions"]) == 1
        world.both(third)
        assert drive() == SagaState.MINED
        fourth = one.build(third, salt=5)
        world.both(fourth, final=first)
        assert drive(until=SagaState.FINAL) == SagaState.MINED
        one.choose(fourth, final=third)
        assert drive(until=SagaState.FINAL, seconds=20) == SagaState.FINAL
        assert [event.batch.root for event in chain.notarized_events()] == [batch.root]
        assert chain.transaction_count(world.account.address) == 2
