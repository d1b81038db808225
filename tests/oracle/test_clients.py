"""The same saga on a second client: hardhat's node, which has its own words for errors and a stricter pool."""

from dataclasses import replace

import pytest

from oracle import issuance
from oracle.archive import read_archive
from oracle.checks import check_archive
from oracle.domain import BatchStatus, DayState, SagaState, Verdict
from oracle.keys import create_device_key
from oracle.outbox import DriveTimeout, Outbox, SendPolicy
from oracle.protocol import statement_fields, statement_leaf, token_id
from oracle.store import SignedTransaction, Store
from tests.oracle import databases, nodes
from tests.oracle.test_issuance import adjust, signing
from tests.oracle.test_pipeline import DAY, FIRST, configure, day_rows, device, states, write

QUICK = SendPolicy(poll_seconds=0.02, lease_seconds=0.5)
DEVICE = 7


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.hardhat(tmp_path_factory.mktemp("hardhat")) as running:
        nodes.register_device(running, DEVICE, running.w3.eth.accounts[4])
        yield running


@pytest.fixture
def chain(node):
    return node.chain()


def outbox_of(node, chain, folder, policy=QUICK):
    return Outbox(Store.open(databases.url(folder)), chain, node.funded(), policy=policy)


def signed(outbox):
    with outbox.store.session() as session:
        return session.query(SignedTransaction).order_by(SignedTransaction.max_fee_wei).all()


@pytest.mark.slow
def test_drive_notarize_issue_and_correct_on_hardhat_each_once(node, chain, tmp_path):
    """Four acts: a batch, its certificate, the batch of a correction, the correction."""
    outbox = outbox_of(node, chain, tmp_path)
    first = nodes.day_statement(DEVICE, 0)
    batch = nodes.sealed_batch(chain, tmp_path, [first])
    certificate = chain.address("EnergyCertificate")

    def done(key, to, data):
        assert outbox.enqueue(key, to, data) == SagaState.QUEUED
        driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=30)
        assert (driven.sent, driven.failed) == (1, ())

    done("notarize:1", chain.address("Notary"), nodes.notarize_data(chain, batch, node.witnesses[:2]))
    done("issue:1", certificate, nodes.issue_data(chain, batch.root, first, []))
    statement = first.statement
    name = token_id(DEVICE, statement.start, statement.duration)
    owner = node.w3.eth.accounts[4]
    assert chain.balance_of(owner, name) == 4_800

    more = nodes.day_statement(DEVICE, 0, slot_wh=125)
    second = replace(more, statement=replace(more.statement, version=1, previous_wh=4_800))
    correction = nodes.sealed_batch(chain, tmp_path, [second])
    done("notarize:2", chain.address("Notary"), nodes.notarize_data(chain, correction, node.witnesses[1:]))
    proof = read_archive(tmp_path, correction.root).tree.proof(statement_leaf(second.statement))
    data = chain.encode("EnergyCertificate", "correct", correction.root, statement_fields(second.statement), proof)
    done("correct:1", certificate, data)
    assert chain.balance_of(owner, name) == 48 * 125
    assert chain.notarization(correction.root).status is BatchStatus.OPEN
    assert outbox.drive(until=SagaState.FINAL, timeout_seconds=20).sent == 0
    assert len(signed(outbox)) == chain.transaction_count(outbox.sender) == 4


@pytest.mark.slow
def test_drive_would_revert_on_hardhat_fails_in_the_contracts_words(node, chain, tmp_path):
    outbox = outbox_of(node, chain, tmp_path)
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(DEVICE, 1)])
    outbox.enqueue("notarize:1", chain.address("Notary"), nodes.notarize_data(chain, batch, node.witnesses[:1]))
    assert outbox.drive(timeout_seconds=20).failed[0].error == "TooFewSignatures(given=1, threshold=2)"
    assert signed(outbox) == []


@pytest.mark.slow
def test_drive_stuck_on_hardhat_is_replaced_by_enough_for_its_pool(node, chain, tmp_path):
    """hardhat refuses a replacement that is not a tenth dearer; ours is an eighth dearer, in both fees."""
    outbox = outbox_of(node, chain, tmp_path, replace(QUICK, patience_seconds=1))
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(DEVICE, 2)])
    outbox.enqueue("notarize:1", chain.address("Notary"), nodes.notarize_data(chain, batch, node.witnesses[:2]))
    node.rpc("evm_setAutomine", False)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    [old] = signed(outbox)
    dear = hex(10 * old.max_fee_wei)
    node.rpc("hardhat_setNextBlockBaseFeePerGas", dear)
    node.rpc("evm_increaseTime", 2)
    node.rpc("evm_mine")
    node.rpc("hardhat_setNextBlockBaseFeePerGas", dear)
    with pytest.raises(DriveTimeout):
        outbox.drive(timeout_seconds=0.3)
    old, new = signed(outbox)
    assert old.nonce == new.nonce == 0
    assert new.max_fee_wei * 10 >= old.max_fee_wei * 11 and new.priority_fee_wei * 10 >= old.priority_fee_wei * 11
    node.rpc("hardhat_setNextBlockBaseFeePerGas", hex(10**9))
    node.rpc("evm_setAutomine", True)
    node.rpc("evm_mine")
    driven = outbox.drive(until=SagaState.FINAL, timeout_seconds=20)
    assert driven.acts[0].transaction == new.hash
    assert chain.transaction_count(outbox.sender) == 1
    assert chain.notarization(batch.root).status is BatchStatus.OPEN


@pytest.mark.slow
def test_run_on_hardhat_takes_a_file_to_final_certificates_that_verify(node, chain, tmp_path):
    """The whole way with one command, from rows of a meter to four verdicts, and nothing to do when run again."""
    owner = node.w3.eth.accounts[5]
    nodes.register_device(node, 1, owner)
    config, store = configure(tmp_path / "oracle", device(1))
    account = node.funded()
    network = {"chain_id": node.config.chain_id, "addresses": str(node.config.addresses), "finality": 0}
    config = adjust(config, node, account, network=network | {"rpc_urls": [node.url]})
    create_device_key(config.device_keys_folder, 1)
    file = write(tmp_path, "meter-1.csv", day_rows(0), day_rows(1))

    def run():
        return issuance.run(config, store, chain, account, [file], collect=signing(node))

    report = run()
    # One notarization of both days; how many certificates go into one transaction is the oracle's affair.
    assert report["failed"] == [] and report["transactions"] >= 2 and report["pending"] == 0
    assert states(store) == {(1, FIRST): DayState.FINAL, (1, FIRST + DAY): DayState.FINAL}
    # Worked out by hand: 24 slots of 100 and 101 Wh in turn, see day_rows.
    assert [chain.balance_of(owner, token_id(1, FIRST + day * DAY, DAY)) for day in (0, 1)] == [2_412, 2_412]
    checks = check_archive(config.archive_folder, chain)
    assert [one.result.headline for one in checks] == [Verdict.VERIFIED] * 2
    block = chain.head().number
    assert run()["transactions"] == 0 and chain.head().number == block
