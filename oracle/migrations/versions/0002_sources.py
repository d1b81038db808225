"""Sources of files: how far each was looked at, and what of it was refused.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "source_state",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("cursor", sa.JSON(), nullable=False),
        sa.Column("looked_at", TIME, nullable=False),
        sa.Column("succeeded_at", TIME, nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "refused_file",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_refused_file_source", "refused_file", ["source"])


def downgrade() -> None:
    op.drop_table("refused_file")
    op.drop_table("source_state")
