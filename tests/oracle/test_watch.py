"""Continuous mode on a real node whose time is moved: quarter hours as INTERIM batches, the day as a FINAL one."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from oracle import checks, issuance, pipeline, sealing
from oracle import watch as watch_module
from oracle.archive import read_archive, roots_in
from oracle.config import OracleConfig
from oracle.domain import BatchKind, DayState, Verdict
from oracle.errors import StoreError
from oracle.keys import create_device_key, load_device_key
from oracle.protocol import day_hash, day_salt, profile_hash, token_id
from oracle.reports import export_slots
from oracle.signer import SignerUnreachable
from oracle.store import SealedBatch, WitnessSignature
from oracle.watch import AcceleratedClock, Inbox, WallClock, watch
from tests.oracle import nodes
from tests.oracle.test_issuance import signing
from tests.oracle.test_pipeline import DAY, FIRST, configure, day_rows, device, states, write

HOLDER = "0x00000000000000000000000000000000000000A1"


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    with nodes.anvil(folder, "--timestamp", str(FIRST)) as running:
        yield running


@pytest.fixture
def plant(tmp_path, node):
    config, store = configure(tmp_path / "oracle", device(1))
    create_device_key(config.device_keys_folder, 1)
    nodes.register_device(node, 1, HOLDER)
    return config, store


def test_watch_mines_quarter_hours_as_interim_and_the_day_as_final(plant, node, tmp_path):
    """From 20:30 UTC, in the last hours of generation, to 21:15, then over midnight. 101 and 100 Wh alternate."""
    config, store = plant
    inbox = tmp_path / "inbox"
    write(inbox, "meter-1.csv", day_rows(0))
    chain, account, told = node.chain(), node.funded(), []
    clock = AcceleratedClock(chain, FIRST + 82 * 900, 1e9)

    def go(until):
        watch(
            config,
            store,
            chain,
            account,
            Inbox([inbox], settle_seconds=0),
            clock=clock,
            tell=told.append,
            until=until,
            delay_seconds=0,
            collect=signing(node),
        )

    go(FIRST + 84 * 900)
    assert [(step.at - FIRST) // 900 for step in told] == [82, 83, 84]
    assert [len(step.interim) for step in told] == [1, 1, 1]
    assert [step.waits for step in told] == [(), (), ()] and [step.files for step in told] == [1, 0, 0]
    events = chain.notarized_events()
    shown = [(event.batch.kind, (event.batch.start - FIRST) // 900, event.batch.energy_wh) for event in events]
    # Slots 60 to 81 hold 100 + slot % 2 Wh; then one slot each.
    assert shown == [(BatchKind.INTERIM, 0, 22 * 100 + 11), (BatchKind.INTERIM, 82, 100), (BatchKind.INTERIM, 83, 101)]
    assert all(chain.notarization(event.batch.root).kind == BatchKind.INTERIM for event in events)
    assert states(store) == {(1, FIRST): DayState.HELD}  # the day is not over

    clock.wait_until(FIRST + DAY)
    go(FIRST + DAY)
    kinds = [event.batch.kind for event in chain.notarized_events()]
    assert kinds[3:] == [BatchKind.INTERIM, BatchKind.FINAL]
    assert states(store) == {(1, FIRST): DayState.FINAL}
    assert chain.balance_of(HOLDER, token_id(1, FIRST, DAY)) == 2_412
    assert [len(step.final) for step in told] == [0, 0, 0, 1]
    # Nothing was issued of the evidence, and each of its statements can be checked like any other.
    assert sum(event.values["energyWh"] for event in chain.events("EnergyCertificate", "Issued")) == 2_412
    verdicts = {one.result.headline for one in checks.check_archive(config.archive_folder, chain)}
    assert verdicts == {Verdict.VERIFIED}
    assert len(list(export_slots(config))) == 96
    block = chain.head().number
    go(FIRST + DAY)
    assert chain.head().number == block


def test_seal_interim_salts_each_part_of_a_day_apart(plant, tmp_path):
    """The profile hash by hand from the device key: one slot's five bytes under the salt of its own start."""
    config, store = plant
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))], now=FIRST + 71 * 900)
    sealing.seal_interim(config, store, FIRST + 70 * 900 + 5)
    [archive] = sealing.seal_interim(config, store, FIRST + 71 * 900 + 899)
    [record] = archive.records
    assert (record.statement.start, record.statement.duration) == (FIRST + 70 * 900, 900)
    salt = day_salt(load_device_key(config.device_keys_folder, 1), 1, FIRST + 70 * 900, 0)
    assert record.profile.hex() == "0000006421"
    assert record.statement.profile_hash == profile_hash([day_hash(salt, bytes.fromhex("00000064" + "21"))])
    assert archive.manifest["kind"] == "interim"

    assert sealing.seal_interim(config, store, FIRST + 71 * 900 + 899) == []


def test_issue_interim_batch_issues_nothing(plant, node, tmp_path):
    config, store = plant
    chain, account = node.chain(), node.funded()
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))], now=FIRST + 70 * 900)
    [archive] = sealing.seal_interim(config, store, FIRST + 70 * 900)
    AcceleratedClock(chain, FIRST + 70 * 900, 1)
    assert issuance.notarize(config, store, chain, account, collect=signing(node)).transactions == 1
    assert issuance.issue(config, store, chain, account) == issuance.Sent()
    with store.session() as session:
        [batch] = session.query(SealedBatch).all()
    assert (batch.kind, batch.state) == (BatchKind.INTERIM, DayState.FINAL)
    assert roots_in(config.archive_folder) == [archive.root]
    assert read_archive(config.archive_folder, archive.root).kind is BatchKind.INTERIM


def test_inbox_gives_a_file_once_it_rests_and_again_when_it_changed(tmp_path):
    file = write(tmp_path, "meter-1.csv", day_rows(0))
    write(tmp_path, ".part", day_rows(0))
    inbox = Inbox([tmp_path], settle_seconds=60)
    assert inbox() == []
    os.utime(file, (time.time() - 61, time.time() - 61))
    assert inbox() == [file]
    assert inbox() == []
    file.write_text("time,Wh\n")
    os.utime(file, (time.time() - 70, time.time() - 70))
    assert inbox() == [file]


def test_wall_clock_waits_no_longer_than_asked_and_looks_again_after_each_piece(monkeypatch):
    """The machine's time is moved by the sleeping alone; the first sleep is one through which the machine slept on."""
    time_now, slept = [1_000_000.25], []

    def sleep(seconds):
        slept.append(seconds)
        time_now[0] += seconds if len(slept) > 1 else seconds + 3_600

    monkeypatch.setattr(watch_module.time, "time", lambda: time_now[0])
    monkeypatch.setattr(watch_module.time, "sleep", sleep)
    clock = WallClock()
    assert clock.now() == 1_000_000
    clock.wait_until(1_003_612)
    assert slept == [5.0, 5.0, 1.75]
    clock.wait_until(1_003_612)
    assert len(slept) == 3


def test_watch_round_that_fails_keeps_its_files_for_the_next(plant, node, tmp_path, monkeypatch):
    """Another process writes for too long; then the signer is silent; then the archive is damaged. Nothing ends the watch."""
    config, store = plant
    inbox = tmp_path / "inbox"
    write(inbox, "meter-1.csv", day_rows(0))
    chain, account, told = node.chain(), node.funded(), []
    start, take = FIRST + 70 * 900, watch_module.take

    def busy(*arguments):
        monkeypatch.setattr(watch_module, "take", take)
        raise StoreError("the database cannot be used now")

    def silent(batch, archive):
        file = config.archive_folder / f"{archive.root.hex()}.parquet"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        raise SignerUnreachable("no answer from the signer")

    monkeypatch.setattr(watch_module, "take", busy)
    watch(
        config,
        store,
        chain,
        account,
        Inbox([inbox], settle_seconds=0),
        clock=AcceleratedClock(chain, start, 1e9),
        tell=told.append,
        until=start + 2 * 900,
        delay_seconds=0,
        collect=silent,
    )
    assert [step.files for step in told] == [0, 1, 0]
    assert ["; ".join(step.waits).split(";")[0] for step in told[:2]] == [
        "the database cannot be used now",
        "no answer from the signer",
    ]
    assert "archive 0x" in told[2].waits[0]


def test_watch_takes_what_the_configured_sources_have(plant, node, tmp_path):
    """A watched folder with a file, and an address where nobody answers: told of, and the rest goes on."""
    config, store = plant
    write(tmp_path / "box", "meter-1.csv", day_rows(0))
    folder = {"name": "box", "kind": "folder", "folder": str(tmp_path / "box")}
    web = {"name": "web", "kind": "http", "url": "http://127.0.0.1:9/meter-1.csv"}
    document = yaml.safe_load(config.file.read_text()) | {"sources": [folder, web]}
    config.file.write_text(yaml.safe_dump(document))
    config, told = OracleConfig.load(config.file), []
    chain, start = node.chain(), FIRST + 70 * 900
    for file in (tmp_path / "box").iterdir():
        os.utime(file, (start - 600, start - 600))
    watch(
        config,
        store,
        chain,
        node.funded(),
        list,
        clock=AcceleratedClock(chain, start, 1e9),
        tell=told.append,
        until=start,
        delay_seconds=0,
        collect=signing(node),
    )
    [step] = told
    assert (step.files, len(step.interim), step.sent.transactions) == (1, 1, 1)
    assert [reason.split(":")[0] for reason in step.waits] == ["source web"]


def test_forget_unproposed_removes_what_a_crash_left_and_nothing_else(plant, node, tmp_path, monkeypatch):
    config, store = plant
    chain, account = node.chain(), node.funded()
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))], now=FIRST + 71 * 900)
    [kept] = sealing.seal_interim(config, store, FIRST + 70 * 900)
    AcceleratedClock(chain, FIRST + 70 * 900, 1)
    issuance.notarize(config, store, chain, account, collect=signing(node))
    monkeypatch.setattr(sealing, "batch_row", lambda archive: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        sealing.seal_interim(config, store, FIRST + 71 * 900)
    [left] = set(roots_in(config.archive_folder)) - {kept.root}
    assert sealing.forget_unproposed(config, store, chain) == [left]
    assert roots_in(config.archive_folder) == [kept.root]
    # A database that forgot it does not make the chain forget it.
    with store.session() as session:
        session.query(WitnessSignature).delete()
        session.query(SealedBatch).delete()
    assert sealing.forget_unproposed(config, store, chain) == []
    assert roots_in(config.archive_folder) == [kept.root]


def test_forget_unproposed_while_another_watcher_seals_waits_and_removes_nothing(plant, node, tmp_path, monkeypatch):
    """A watcher starts in the moment in which another one wrote an archive that the database does not know of yet."""
    config, store = plant
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))], now=FIRST + 71 * 900)
    written, entered, begun, made = threading.Event(), threading.Event(), threading.Event(), sealing.batch_row

    def enter(archive):
        written.set()
        assert begun.wait(30)
        entered.wait(0.5)  # what would hurt happens in this time
        return made(archive)

    chain = node.chain()

    def start_beside():
        assert written.wait(30)
        begun.set()
        gone = sealing.forget_unproposed(config, store, chain)
        entered.set()
        return gone

    monkeypatch.setattr(sealing, "batch_row", enter)
    with ThreadPoolExecutor() as pool:
        gone = pool.submit(start_beside)
        [sealed] = sealing.seal_interim(config, store, FIRST + 70 * 900)
        assert gone.result(30) == []
    assert roots_in(config.archive_folder) == [sealed.root]


def test_seal_interim_by_two_watchers_at_once_seals_the_time_once(plant, tmp_path, monkeypatch):
    """The second has other readings of the same quarter hours: they would be another root."""
    config, store = plant
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))], now=FIRST + 71 * 900)
    proposed = sealing.propose_interim

    def first_of_two(*arguments, **period):
        records = proposed(*arguments, **period)
        monkeypatch.setattr(sealing, "propose_interim", proposed)
        assert len(sealing.seal_interim(config, store, FIRST + 71 * 900)) == 1
        return records

    monkeypatch.setattr(sealing, "propose_interim", first_of_two)
    assert sealing.seal_interim(config, store, FIRST + 70 * 900) == []
    assert len(roots_in(config.archive_folder)) == 1
