"""Notarizing and issuing on a real node; expected values are read from the contracts, not from the database."""

import contextlib
import json
import os
import shutil
import sys
import time
import urllib.request

import pytest
import yaml
from eth_account import Account

from oracle import decisions, issuance, pipeline, rebuild, reports, sealing
from oracle.config import KeyFile, OracleConfig
from oracle.domain import BatchStatus, DayState
from oracle.errors import StoreError, WitnessRefused
from oracle.keys import create_device_key
from oracle.outbox import InsufficientFunds
from oracle.protocol import batch_digest, token_id
from oracle.store import SealedBatch
from tests.oracle import nodes
from tests.oracle.test_pipeline import DAY, FIRST, REVIEWER, ROOT, configure, day_rows, device, states, write


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    with nodes.anvil(folder) as running:
        yield running


@pytest.fixture
def sealed(tmp_path, node):
    """Two registered devices with three and two accepted days; device 1 lacks the day between."""
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    for device_id in (1, 2):
        create_device_key(config.device_keys_folder, device_id)
        nodes.register_device(node, device_id, HOLDERS[device_id].address)
    files = [
        write(tmp_path, "meter-1.csv", day_rows(0), day_rows(1), day_rows(3)),
        write(tmp_path, "meter-2.csv", day_rows(0, 70), day_rows(1, 70)),
    ]
    pipeline.ingest(config, store, files)
    [archive] = sealing.seal(config, store)
    return config, store, archive


@pytest.fixture
def plant(tmp_path, node):
    """Two registered devices and one day of the first."""
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    for device_id in (1, 2):
        create_device_key(config.device_keys_folder, device_id)
        nodes.register_device(node, device_id, HOLDERS[device_id].address)
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))])
    return config, store


HOLDERS = {1: Account.create(), 2: Account.create()}


def signing(node, calls=None):
    """Two witnesses who sign whatever they are shown."""

    def collect(batch, archive):
        if calls is not None:
            calls.append(batch)
        digest = batch_digest(batch, node.chain().domain)
        return [(one.address, bytes(one.unsafe_sign_hash(digest).signature)) for one in reversed(node.witnesses[:2])]

    return collect


def balances(chain, archive):
    held = {}
    for record in archive.records:
        one = record.statement
        certificate = token_id(one.device_id, one.start, one.duration)
        held[one.device_id, one.start] = chain.balance_of(HOLDERS[one.device_id].address, certificate)
    return held


def expected(archive):
    return {(r.statement.device_id, r.statement.start): r.statement.energy_wh for r in archive.records}


def test_notarize_and_issue_put_the_energy_into_the_holders_accounts_once(sealed, node):
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    assert issuance.notarize(config, store, chain, account, collect=signing(node)).transactions == 1
    assert chain.notarization(archive.root).status is BatchStatus.OPEN
    assert chain.notarization(archive.root).energy_wh == 3 * 2_412 + 2 * 1_692
    assert set(balances(chain, archive).values()) == {0}
    assert issuance.issue(config, store, chain, account).transactions == 1
    assert balances(chain, archive) == expected(archive)
    reached = states(store)
    assert {key for key, state in reached.items() if state is DayState.FINAL} == set(expected(archive))
    assert reached[1, FIRST + 2 * DAY] is DayState.HELD

    block = chain.head().number
    again = issuance.run(config, store, chain, account, collect=signing(node))
    assert (again["transactions"], again["sealed"], again["failed"]) == (0, [], [])
    assert chain.head().number == block


def test_issue_many_chunks_each_have_their_proof(sealed, node, monkeypatch):
    monkeypatch.setattr(issuance, "ISSUE_CHUNK", 2)
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    assert issuance.issue(config, store, chain, account).transactions == 3
    assert balances(chain, archive) == expected(archive)


def test_issue_device_that_was_missing_from_the_sites_file_is_issued_when_it_is_back(sealed, node):
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    document = yaml.safe_load(config.sites_file.read_text())
    config.sites_file.write_text(yaml.safe_dump({**document, "devices": document["devices"][:1]}))
    assert issuance.issue(config, store, chain, account).transactions == 1
    assert {key: wh for key, wh in balances(chain, archive).items() if wh} == {
        (1, FIRST + day * DAY): 2_412 for day in (0, 1, 3)
    }
    assert states(store)[2, FIRST] is DayState.NOTARIZED
    config.sites_file.write_text(yaml.safe_dump(document))
    issuance.issue(config, store, chain, account)
    assert balances(chain, archive) == expected(archive)
    assert issuance.issue(config, store, chain, account).transactions == 0


def test_issue_unregistered_device_is_named_with_the_contracts_reason(tmp_path, node):
    """One statement that the contract refuses does not hold up the others."""
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    for device_id in (1, 2):
        create_device_key(config.device_keys_folder, device_id)
    nodes.register_device(node, 1, HOLDERS[1].address)
    pipeline.ingest(
        config, store, [write(tmp_path, "meter-1.csv", day_rows(0)), write(tmp_path, "meter-2.csv", day_rows(0, 70))]
    )
    [archive] = sealing.seal(config, store)
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    sent = issuance.issue(config, store, chain, account)
    assert balances(chain, archive) == {(1, FIRST): 2_412, (2, FIRST): 0}
    assert [act.key for act in sent.failed] == [f"issue:0x{archive.root.hex()}:2:{FIRST}"]
    assert states(store) == {(1, FIRST): DayState.FINAL, (2, FIRST): DayState.NOTARIZED}
    [gap] = [gap for gap in reports.gaps(config, store) if gap.device_id == 2]
    assert gap.reason.startswith("not issued: ") and "2" in gap.reason
    # The next run asks again without sending anything, and issues once the device is registered.
    assert issuance.issue(config, store, chain, account).transactions == 0
    nodes.register_device(node, 2, HOLDERS[2].address)
    assert issuance.issue(config, store, chain, account).transactions == 1
    assert balances(chain, archive) == {(1, FIRST): 2_412, (2, FIRST): 1_692}
    assert set(states(store).values()) == {DayState.FINAL}


def test_issue_statement_that_can_never_be_issued_is_reported_once_and_not_asked_again(tmp_path, node):
    """Device 2 counts on the chain only from a later day on, and that never changes there."""
    config, store = configure(tmp_path / "oracle", device(1), device(2))
    for device_id in (1, 2):
        create_device_key(config.device_keys_folder, device_id)
    nodes.register_device(node, 1, HOLDERS[1].address)
    late = (
        HOLDERS[2].address,
        10_000,
        1,
        1,
        b"US",
        DAY,
        1_040_100,
        10_100,
        FIRST + DAY,
        2**40 - 1,
        b"RMPA".ljust(16, b"\0"),
    )
    node.act("DeviceRegistry", "register", 2, (*late, b"\x02" * 32))
    pipeline.ingest(
        config, store, [write(tmp_path, "meter-1.csv", day_rows(0)), write(tmp_path, "meter-2.csv", day_rows(0, 70))]
    )
    [archive] = sealing.seal(config, store)
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    [failed] = issuance.issue(config, store, chain, account).failed
    assert failed.error.startswith("PeriodOutsideActivity(deviceId=2")
    assert balances(chain, archive) == {(1, FIRST): 2_412, (2, FIRST): 0}
    assert issuance.issue(config, store, chain, account) == issuance.Sent()
    [gap] = [gap for gap in reports.gaps(config, store) if gap.device_id == 2]
    assert gap.reason.startswith("not issued: PeriodOutsideActivity")


def test_notarize_refused_device_day_is_held_and_the_rest_notarized(sealed, node):
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    calls = []
    sign = signing(node, calls)

    def collect(batch, shown):
        if shown.record(2, FIRST + DAY):
            raise WitnessRefused(
                "2 of 2 witnesses refuse", refusals={"w": "leaf differs"}, device_days=((2, FIRST + DAY),)
            )
        return sign(batch, shown)

    issuance.notarize(config, store, chain, account, collect=collect)
    [signed] = calls
    assert signed.statements == 4
    assert chain.notarization(archive.root).status is BatchStatus.NONE
    assert chain.notarization(signed.root).status is BatchStatus.OPEN
    assert states(store)[2, FIRST + DAY] is DayState.HELD
    [gap] = [gap for gap in reports.gaps(config, store) if (gap.device_id, gap.start) == (2, FIRST + DAY)]
    assert "refused by witnesses" in gap.reason


def refusing(node, *disputed):
    """Witnesses who refuse a batch as long as it has one of the disputed (device, start), and does not withhold it."""
    sign = signing(node)

    def collect(batch, archive):
        withheld = {(one["deviceId"], one["start"]) for one in archive.manifest["withheld"]}
        if set(disputed) - withheld:
            raise WitnessRefused("they have other figures", refusals={"w": "root"}, device_days=disputed)
        return sign(batch, archive)

    return collect


def test_notarize_only_day_of_a_batch_refused_and_then_accepted_by_a_reviewer_is_notarized(plant, node):
    """The same statement once more is the same root; its archive now carries the decision."""
    config, store = plant
    chain, account = node.chain(), node.funded()
    [archive] = sealing.seal(config, store)
    issuance.notarize(config, store, chain, account, collect=refusing(node, (1, FIRST)))
    assert states(store) == {(1, FIRST): DayState.HELD}
    decisions.decide(config, store, REVIEWER, 1, FIRST, "accept", "the witness had an old file")
    [again] = sealing.seal(config, store)
    assert (again.root, again.archive_hash != archive.archive_hash) == (archive.root, True)
    assert [entry["reason"] for entry in again.manifest["reviewTrail"]] == ["the witness had an old file"]
    assert issuance.notarize(config, store, chain, account, collect=signing(node)).transactions == 1
    assert chain.find_notarization(archive.root).batch.archive_hash == again.archive_hash
    assert states(store) == {(1, FIRST): DayState.NOTARIZED}


def test_notarize_day_that_only_witnesses_know_of_is_withheld_and_the_rest_notarized(plant, node, tmp_path):
    """A witness has had the second meter's file already: the day is held here until its file comes."""
    config, store = plant
    chain, account = node.chain(), node.funded()
    [archive] = sealing.seal(config, store)
    issuance.notarize(config, store, chain, account, collect=refusing(node, (2, FIRST)))
    assert chain.notarization(archive.root).energy_wh == 2_412
    pipeline.assess_all(config, store)
    assert states(store) == {(1, FIRST): DayState.NOTARIZED, (2, FIRST): DayState.HELD}
    [gap] = [gap for gap in reports.gaps(config, store) if gap.device_id == 2]
    assert gap.reason.startswith("refused by witnesses")
    pipeline.ingest(config, store, [write(tmp_path, "meter-2.csv", day_rows(0, 70))])
    assert states(store)[2, FIRST] is DayState.ACCEPTED


@pytest.mark.parametrize("named", [(9, FIRST), (2, FIRST - DAY), (2, FIRST + 1), (2, FIRST + DAY)])
def test_notarize_refusal_that_names_what_cannot_be_held_holds_nothing(plant, node, named):
    """Of no device here, outside of the batch's time, no day: a witness that lies fills no database."""
    config, store = plant
    [archive] = sealing.seal(config, store)
    with pytest.raises(WitnessRefused):
        issuance.notarize(config, store, node.chain(), node.funded(), collect=refusing(node, named))
    assert states(store) == {(1, FIRST): DayState.SEALED}
    assert issuance.notarize(config, store, node.chain(), node.funded(), collect=signing(node)).transactions == 1
    assert node.chain().notarization(archive.root).status is BatchStatus.OPEN


def test_notarize_refused_while_its_transaction_waits_unsent_never_sends_it(sealed, node):
    """The first time enough signed, and there was no money; then a witness has other figures."""
    config, store, archive = sealed
    chain, account = node.chain(), node.funded(0)
    with pytest.raises(InsufficientFunds):
        issuance.notarize(config, store, chain, account, collect=signing(node))
    node.rpc("anvil_setBalance", account.address, hex(10**20))
    sent = issuance.notarize(config, store, chain, account, collect=refusing(node, (2, FIRST)))
    assert (sent.transactions, sent.failed) == (1, ())
    assert chain.notarization(archive.root).status is BatchStatus.NONE
    [event] = chain.notarized_events()
    assert event.batch.energy_wh == 3 * 2_412 + 1_692
    assert states(store)[2, FIRST] is DayState.HELD


def test_notarize_refused_while_another_process_sends_it_follows_what_was_sent(sealed, node):
    """Enough signed for the other one: taking the batch back would deny what the chain shows."""
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    refuse = refusing(node, (2, FIRST))

    def collect(batch, shown):
        issuance.notarize(config, store, chain, account, collect=signing(node))
        return refuse(batch, shown)

    issuance.notarize(config, store, chain, account, collect=collect)
    assert chain.notarization(archive.root).status is BatchStatus.OPEN
    assert states(store)[2, FIRST] is DayState.NOTARIZED
    [event] = chain.notarized_events()
    assert event.batch.root == archive.root


def test_confirm_batch_that_was_taken_back_and_is_notarized_asks_for_a_rebuild(sealed, node):
    """A reorganisation so deep that given-up bytes count again; or somebody else had the signatures."""
    config, store, _ = sealed
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    with store.session() as session:
        session.query(SealedBatch).one().state = DayState.REJECTED
    with pytest.raises(StoreError, match="rebuild"):
        issuance.confirm(config, store, chain)
    rebuild.rebuild(config, store, chain)
    assert states(store)[2, FIRST] is DayState.NOTARIZED


def test_notarize_too_few_witnesses_leaves_the_batch_sealed(sealed, node):
    config, store, _ = sealed
    chain, account = node.chain(), node.funded()

    def collect(batch, archive):
        raise WitnessRefused("1 of 2 signatures", refusals={"http://w": "no answer"})

    with pytest.raises(WitnessRefused):
        issuance.notarize(config, store, chain, account, collect=collect)
    assert DayState.SEALED in states(store).values()
    assert issuance.notarize(config, store, chain, account, collect=signing(node)).transactions == 1


def test_notarize_two_batches_follow_each_other_in_the_chain_of_heads(sealed, node, tmp_path):
    config, store, first = sealed
    pipeline.ingest(config, store, [write(tmp_path, "meter-1-rest.csv", day_rows(2))])
    [second] = sealing.seal(config, store)
    chain, account = node.chain(), node.funded()
    calls = []
    assert issuance.notarize(config, store, chain, account, collect=signing(node, calls)).transactions == 2
    assert [batch.root for batch in calls] == [first.root, second.root]
    assert calls[1].head == chain.find_notarization(first.root).new_head
    assert chain.call("Notary", "head") == chain.find_notarization(second.root).new_head


def test_confirm_reorganisation_takes_states_back_and_the_next_run_brings_them_again(sealed, node):
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    snapshot = node.rpc("evm_snapshot")
    issuance.notarize(config, store, chain, account, collect=signing(node))
    issuance.issue(config, store, chain, account)
    node.rpc("evm_revert", snapshot)
    issuance.confirm(config, store, chain)
    assert {states(store)[key] for key in expected(archive)} == {DayState.SEALED}
    issuance.run(config, store, chain, account, collect=signing(node))
    assert balances(chain, archive) == expected(archive)


def test_confirm_revoked_root_is_shown(sealed, node):
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    node.act("Notary", "revoke", archive.root, "meter was tampered with")
    issuance.confirm(config, store, chain)
    assert {gap.reason for gap in reports.gaps(config, store) if gap.root} == {"its batch is revoked on the chain"}
    assert issuance.issue(config, store, chain, account) == issuance.Sent()
    assert set(balances(chain, archive).values()) == {0}


def test_confirm_root_revoked_after_finality_is_shown(sealed, node):
    config, store, archive = sealed
    chain, account = node.chain(), node.funded()
    issuance.notarize(config, store, chain, account, collect=signing(node))
    issuance.issue(config, store, chain, account)
    assert {states(store)[key] for key in expected(archive)} == {DayState.FINAL}
    node.act("Notary", "revoke", archive.root, "meter was tampered with")
    issuance.confirm(config, store, chain)
    assert {gap.reason for gap in reports.gaps(config, store) if gap.root} == {"its batch is revoked on the chain"}


def test_notarize_chain_whose_last_block_is_hours_old_sets_a_deadline_that_the_next_block_keeps(tmp_path):
    """A kept or quiet chain: nothing was mined for longer than signatures hold, and the next block has today's time."""
    folder = tmp_path / "node"
    folder.mkdir()
    behind = 3 * issuance.DEADLINE_SECONDS
    with nodes.anvil(folder, "--timestamp", str(int(time.time()) - behind)) as node:
        config, store = configure(tmp_path / "oracle", device(1))
        create_device_key(config.device_keys_folder, 1)
        nodes.register_device(node, 1, HOLDERS[1].address)
        pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))])
        [archive] = sealing.seal(config, store)
        chain, account = node.chain(), node.funded()
        node.rpc("evm_increaseTime", behind)
        assert chain.head().time < time.time() - behind / 2
        calls = []
        sent = issuance.notarize(config, store, chain, account, collect=signing(node, calls))
        assert (sent.transactions, sent.failed) == (1, ())
        assert chain.notarization(archive.root).status is BatchStatus.OPEN
        assert calls[0].deadline <= time.time() + issuance.DEADLINE_SECONDS


# -- with a witness that is a process of its own ------------------------------------------------------


def adjust(config, node, signer, **changes):
    """Point a configuration at the node and give it a signer's keystore; returns it as loaded again."""
    folder = config.file.parent
    key = KeyFile(folder / "key.json", folder / "password")
    key.password_file.touch(mode=0o600)
    key.password_file.write_text("a password\n")
    key.keystore.touch(mode=0o600)
    key.keystore.write_text(json.dumps(Account.encrypt(signer.key, "a password", iterations=1_024)))
    network = {
        "rpc_urls": [node.url],
        "chain_id": nodes.CHAIN_ID,
        "addresses": str(node.config.addresses),
        "finality": 0,
    }
    document = yaml.safe_load(config.file.read_text())
    document |= {"network": network, "key": {"keystore": "key.json", "password_file": "password"}, **changes}
    config.file.write_text(yaml.safe_dump(document))
    return OracleConfig.load(config.file)


@contextlib.contextmanager
def serving(config, *options, **output):
    """``python -m oracle witness`` until the block ends; yields when it answers."""
    command = [sys.executable, "-m", "oracle", "--config", str(config.file), *options, "witness"]
    with nodes.process_group(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **output) as process:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://{config.listen}/v1/health", timeout=5) as answer:
                    assert json.load(answer)["chainId"] == nodes.CHAIN_ID
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, "the witness did not start"
                time.sleep(0.05)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("altered", [False, True], ids=["same files", "one byte altered"])
def test_run_with_a_witness_process_notarizes_only_what_its_own_files_confirm(sealed, node, tmp_path, altered):
    config, store, archive = sealed
    coordinator, signer, _ = node.witnesses
    node.rpc("anvil_setBalance", coordinator.address, hex(10**20))
    listen = f"127.0.0.1:{nodes.free_port()}"
    config = adjust(config, node, coordinator, witnesses=[{"url": f"http://{listen}", "address": signer.address}])

    theirs, their_store = configure(tmp_path / "witness", sites_file=config.sites_file)
    theirs = adjust(theirs, node, signer, coordinators=[coordinator.address], listen=listen)
    shutil.copytree(config.device_keys_folder, theirs.device_keys_folder)
    (tmp_path / "copies").mkdir()
    for device_id in (1, 2):
        text = (tmp_path / f"meter-{device_id}.csv").read_text()
        if altered and device_id == 2:
            text = text.replace("2022-06-02T18:00:00+00:00,70", "2022-06-02T18:00:00+00:00,71")
        (tmp_path / "copies" / f"meter-{device_id}.csv").write_text(text)
    pipeline.ingest(theirs, their_store, [tmp_path / "copies"])

    with serving(theirs):
        done = issuance.run(config, store, node.chain(), coordinator)
        assert issuance.run(config, store, node.chain(), coordinator)["transactions"] == 0
    certified = expected(archive)
    if altered:
        assert certified.pop((2, FIRST + DAY)) == 24 * 70 + 12
        [gap] = [gap for gap in reports.gaps(config, store) if (gap.device_id, gap.start) == (2, FIRST + DAY)]
        assert gap.state is DayState.HELD and "refused by witnesses" in gap.reason
        assert node.chain().notarization(archive.root).status is BatchStatus.NONE
    assert done["transactions"] == 2
    assert {key: wh for key, wh in balances(node.chain(), archive).items() if wh} == certified
