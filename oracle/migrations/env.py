"""Alembic's hook: runs the migrations on the connection that :func:`oracle.migrations.upgrade` opened."""

from alembic import context

from oracle.store import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
