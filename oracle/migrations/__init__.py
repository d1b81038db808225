"""The database's schema, step by step (Alembic). Models live in :mod:`oracle.store`; a test keeps both equal."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from ..errors import StoreError

# Any constant will do, as long as every process takes the same one.
_POSTGRES_LOCK = 0x776D


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema; several processes may do so at once.

    Raises StoreError when the database cannot be opened or was written by a newer program.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    where = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            if _revision(connection) == scripts.get_current_head():
                return
        with engine.begin() as connection:
            _lock(connection)
            revision = _revision(connection)
            if revision and revision not in {script.revision for script in scripts.walk_revisions()}:
                raise StoreError(f"{where} has schema {revision}, which this program does not know; use a newer one")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as fault:
        raise StoreError(f"{where} cannot be opened: {fault.orig}") from None


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
