"""The database made again: what it was before and what it is afterwards are compared column by column."""

import pytest
from sqlalchemy import select

from oracle import issuance, pipeline, sealing
from oracle.errors import OracleError
from oracle.rebuild import rebuild
from oracle.store import (
    Act,
    Base,
    Correction,
    DeviceDay,
    RawFile,
    RefusedRow,
    ReviewDecision,
    SealedBatch,
    Store,
    WitnessSignature,
)
from tests.oracle import nodes
from tests.oracle.test_corrections import SLOT, Plant, signing
from tests.oracle.test_pipeline import DAY, FIRST, day_rows

#: Times of the database's own, and numbers that it hands out.
OWN = {"updated_at", "sealed_at", "signed_at", "created_at", "id"}
TABLES = (RawFile, RefusedRow, DeviceDay, Correction, SealedBatch, WitnessSignature, ReviewDecision)


def contents(store, tables=TABLES):
    found = {}
    with store.session() as session:
        for table in tables:
            names = [column.name for column in table.__table__.columns if column.name not in OWN]
            rows = session.scalars(select(table)).all()
            for row in sorted(rows, key=lambda row: repr([getattr(row, name) for name in names])):
                found.setdefault(table.__tablename__, []).append({name: getattr(row, name) for name in names})
    return found


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


@pytest.fixture
def plant(node, tmp_path):
    """Everything at once: a refused row, a held day, an edited correction, an INTERIM batch, a day that waits."""
    one = Plant(node, tmp_path)
    rows = day_rows(0)
    one.run(one.file("", rows, ["2022-06-01T01:15:00+00:00,many"]))
    pipeline.ingest(one.config, one.store, [one.file("-today", day_rows(1, slots=range(70)))])
    sealing.seal_interim(one.config, one.store, FIRST + DAY + SLOT * 900)
    late = one.late(300)
    one.run(late)
    one.choose(late)
    one.run()
    pipeline.ingest(one.config, one.store, [one.file("-waits", day_rows(3))])
    return one


def test_rebuild_leaves_the_database_as_it_was(plant):
    before = contents(plant.store)
    assert {name: len(rows) for name, rows in before.items()} == {
        "raw_file": 4,
        "refused_row": 1,
        "device_day": 4,
        "correction": 1,
        "batch": 3,
        "witness_signature": 6,
        "review_decision": 1,
    }
    report = rebuild(plant.config, plant.store, plant.chain)
    assert (report.files, report.batches, report.statements, report.decisions, report.unread) == (4, 3, 3, 0, ())
    assert difference(before, contents(plant.store)) == []
    # And the outbox, which was not touched, sends nothing twice.
    assert [one.key.split(":")[0] for one in acts(plant.store)] == [
        "notarize",
        "issue",
        "notarize",
        "notarize",
        "correct",
    ]
    block = plant.chain.head().number
    sealed = plant.run()["sealed"]
    assert len(sealed) == 1 and plant.chain.head().number == block + 2  # only the day that waited


def acts(store):
    with store.session() as session:
        return session.scalars(select(Act).order_by(Act.id)).all()


def test_rebuild_of_a_lost_database_takes_the_decisions_from_the_archives(plant):
    before = contents(plant.store)
    with plant.store.engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    store = Store.open(plant.config.database_url)
    assert rebuild(plant.config, store, plant.chain).decisions == 1
    assert difference(before, contents(store)) == []
    done = issuance.run(plant.config, store, plant.chain, plant.account, collect=signing(plant.node))
    assert (done["transactions"], plant.balance(), plant.on_chain()) == (2, 2_612, (1, 2_612))
    assert rebuild(plant.config, store, plant.chain).decisions == 0


def test_rebuild_damaged_archive_changes_nothing(plant):
    before = contents(plant.store)
    [archive, *_] = sorted(plant.config.archive_folder.glob("*.json"))
    parquet = archive.with_suffix(".parquet")
    parquet.write_bytes(parquet.read_bytes()[:-1] + b"x")
    with pytest.raises(OracleError, match=archive.stem):
        rebuild(plant.config, plant.store, plant.chain)
    assert difference(before, contents(plant.store)) == []


def test_rebuild_interrupted_changes_nothing_and_may_be_done_again(plant):
    before = contents(plant.store)
    told = []

    def interrupt():
        raise KeyboardInterrupt

    rebuild(plant.config, plant.store, plant.chain, lambda *step: told.append(step))
    steps = list(told)
    for last in range(0, len(steps), 2):
        calls = iter(steps[:last])
        with pytest.raises(KeyboardInterrupt):
            rebuild(plant.config, plant.store, plant.chain, lambda *step, calls=calls: next(calls, None) or interrupt())
    assert rebuild(plant.config, plant.store, plant.chain).unread == ()
    assert difference(before, contents(plant.store)) == []


def difference(before, after):
    return [
        (table, name, old[name], new[name])
        for table in before
        for old, new in zip(before[table], after[table], strict=True)
        for name in old
        if old[name] != new[name]
    ]
