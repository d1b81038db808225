import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, StatementError

from oracle.domain import DayState
from oracle.errors import StoreError
from oracle.store import Base, DeviceDay, RawFile, RefusedRow, Store
from tests.oracle import databases, nodes
from webapp.catalogue import Catalogue
from webapp.desk import Desk
from webapp.index import Contracts, Index


@pytest.fixture
def url(tmp_path):
    return databases.url(tmp_path / "state")


only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def device_day(**changes):
    fields = {
        "device_id": 1,
        "start": 86_400,
        "state": DayState.HELD,
        "profile": b"\x01",
        "energy_wh": 1,
        "evidence": [],
        "assessment": {},
    }
    return DeviceDay(**{**fields, **changes})


def test_open_new_database_has_the_schema_of_the_models(url):
    store = Store.open(url)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_open_schema_lacking_a_column_is_told_apart_by_the_comparison(url):
    """The comparison above can fail: it sees a dropped column and a dropped index."""
    store = Store.open(url)
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE device_day DROP COLUMN pending"))
        connection.execute(text("DROP INDEX ix_device_day_root"))
        found = str(compare_metadata(MigrationContext.configure(connection), Base.metadata))
    assert "add_column" in found and "pending" in found and "ix_device_day_root" in found


def test_open_again_keeps_what_is_there(url):
    with Store.open(url).session() as session:
        session.add(device_day())
    with Store.open(url).session() as session:
        assert session.get(DeviceDay, (1, 86_400)).state is DayState.HELD


def test_open_by_many_at_once_makes_one_schema(url):
    faults = []

    def open_it():
        try:
            Store.open(url)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


OPENED = {
    "oracle": lambda file: Store.open(f"sqlite:///{file}"),
    "catalogue": lambda file: Catalogue(file, file.parent),
    "operators": Desk,
    "index": lambda file: Index(file, Contracts(1, 0, {})),
}


@only_sqlite
@pytest.mark.parametrize("name", OPENED)
def test_open_new_file_by_many_at_once_makes_one_schema(name, tmp_path):
    for turn in range(10):
        start = threading.Barrier(6)

        def opened(turn=turn, start=start):
            start.wait()
            OPENED[name](tmp_path / f"{turn}.db")

        with ThreadPoolExecutor(6) as pool:
            for opening in [pool.submit(opened) for _ in range(6)]:
                opening.result(30)


def test_open_database_of_a_newer_program_refuses(url):
    store = Store.open(url)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="9999"):
        Store.open(url)


@only_sqlite
def test_open_file_that_is_no_database_refuses(tmp_path):
    file = tmp_path / "oracle.db"
    file.write_text("time;watt\n" * 1_000)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(f"sqlite:///{file}")
    assert file.read_text() == "time;watt\n" * 1_000


@only_sqlite
def test_open_sqlite_is_durable_and_checks_foreign_keys(url):
    store = Store.open(url)
    with store.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with pytest.raises(IntegrityError), store.session() as session:
        session.add(RefusedRow(sha256="00" * 32, source="device:1", line=1, text="", reason=""))


@only_postgresql
def test_open_postgresql_is_a_real_server_and_checks_foreign_keys(url):
    store = Store.open(url)
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version()").scalar().startswith("PostgreSQL ")
    with pytest.raises(IntegrityError), store.session() as session:
        session.add(RefusedRow(sha256="00" * 32, source="device:1", line=1, text="", reason=""))


@only_postgresql
def test_open_server_that_is_not_there_refuses_without_the_password():
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Store.open(f"postgresql+psycopg://oracle:hidden@127.0.0.1:{nodes.free_port()}/oracle")
    assert "hidden" not in str(caught.value)


def test_session_exception_rolls_everything_back(url):
    store = Store.open(url)
    with pytest.raises(RuntimeError), store.session() as session:
        session.add(device_day())
        session.flush()
        raise RuntimeError
    with store.session() as session:
        assert session.get(DeviceDay, (1, 86_400)) is None


def test_session_datetime_of_any_zone_comes_back_as_utc(url):
    store = Store.open(url)
    local = datetime(2016, 7, 1, 5, tzinfo=timezone(timedelta(hours=-7)))
    fields = {"name": "x", "source": "s", "format": "f", "size_bytes": 1, "rows_used": 0, "rows_refused": 0}
    with store.session() as session:
        session.add(RawFile(sha256="ab", received_at=local, **fields))
    with store.session() as session:
        received = session.get(RawFile, ("ab", "s")).received_at
    assert (received, received.tzinfo) == (datetime(2016, 7, 1, 12, tzinfo=UTC), UTC)
    with pytest.raises(StatementError, match="time zone"), store.session() as session:
        session.add(RawFile(sha256="cd", received_at=datetime.fromisoformat("2016-07-01"), **fields))


@only_sqlite
def test_open_database_and_its_log_are_for_their_owner_alone(url, tmp_path):
    before = os.umask(0o022)
    try:
        store = Store.open(url)
        with store.session() as session:
            session.add(device_day())
            session.flush()
            modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "state").iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("oracle.db", "oracle.db-wal", "oracle.db-shm"), 0o600)


@only_sqlite
def test_catalogue_web_database_with_its_session_key_is_for_its_owner_alone(tmp_path):
    before = os.umask(0o022)
    try:
        catalogue = Catalogue(tmp_path / "web" / "web.sqlite3", tmp_path)
        assert len(catalogue.secret("session")) == 64
        with catalogue.connection() as reader:
            reader.execute("SELECT * FROM setting").fetchall()
            modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "web").iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("web.sqlite3", "web.sqlite3-wal", "web.sqlite3-shm"), 0o600)


@only_sqlite
def test_session_second_writer_waits_for_the_first(url, tmp_path):
    store = Store.open(url)
    holder = sqlite3.connect(tmp_path / "state" / "oracle.db", check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    waiting = threading.Event()

    def write():
        with store.session() as session:
            session.add(device_day())

    event.listen(store.engine, "before_cursor_execute", lambda *_: waiting.set())
    thread = threading.Thread(target=write)
    thread.start()
    assert waiting.wait(10)
    holder.commit()
    thread.join(30)
    with store.session() as session:
        assert session.get(DeviceDay, (1, 86_400)) is not None


@only_sqlite
def test_session_that_others_keep_waiting_raises_and_shows_nothing_of_what_was_written(url, tmp_path, monkeypatch):
    monkeypatch.setattr("oracle.store.SQLITE_PATIENCE_SECONDS", 0.1)
    store = Store.open(url)
    holder = sqlite3.connect(tmp_path / "state" / "oracle.db")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked; .* run again") as caught, store.session() as session:
        session.add(device_day(reason="2412 Wh"))
    assert "2412" not in str(caught.value)
    holder.rollback()
    with store.session() as session:
        session.add(device_day(reason="2412 Wh"))
    with pytest.raises(IntegrityError) as doubled, store.session() as session:
        session.add(device_day(reason="2412 Wh"))
    assert "2412" not in str(doubled.value)


#: Ends all other connections to a database, as a server does that is started anew.
END_OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@only_postgresql
def test_session_after_the_server_ended_its_connections_goes_on(url):
    store, other = Store.open(url), Store.open(url)
    with store.session() as session:
        session.add(device_day())
    with other.session() as session:
        session.execute(END_OTHERS)
    with store.session() as session:
        assert session.get(DeviceDay, (1, 86_400)) is not None
    with pytest.raises(StoreError, match="cannot be used now"), store.session() as session:
        session.add(device_day(start=0))
        session.flush()
        with other.session() as killer:
            killer.execute(END_OTHERS)
        session.flush()
        session.get(DeviceDay, (1, 86_400 * 2))


@only_sqlite
def test_open_folder_that_cannot_be_made_refuses(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"oracle\.db cannot be opened"):
        Store.open(f"sqlite:///{tmp_path}/file/oracle.db")


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_writing_what_was_read_holds_until_it_is_written(url, isolation):
    """Two that add one to what they read: without the lock from the start, one of them would be lost.

    Whatever a server takes for its default: a transaction that looks back to before it had the lock would lose it too.
    """
    if url.startswith("postgresql"):
        with Store.open(url).session() as session:
            name = session.execute(text("SELECT current_database()")).scalar()
            session.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"))
    store = Store.open(url)
    with store.session() as session:
        session.add(device_day(energy_wh=0))
    ready = threading.Barrier(4)

    def add_one():
        ready.wait(10)
        for _ in range(10):
            with store.writing() as session:
                row = session.get(DeviceDay, (1, 86_400))
                row.energy_wh = row.energy_wh + 1

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.session() as session:
        assert session.get(DeviceDay, (1, 86_400)).energy_wh == 40
