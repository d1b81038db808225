"""Later versions of device-days, and decisions that edit slots.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

DAY_STATE = sa.Enum(
    "metered",
    "held",
    "accepted",
    "sealed",
    "notarized",
    "issued",
    "final",
    "rejected",
    name="daystate",
    native_enum=False,
    length=16,
)


def upgrade() -> None:
    op.create_table(
        "correction",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", DAY_STATE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("previous_wh", sa.BigInteger(), nullable=False),
        sa.Column("owed_wh", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("assessment", sa.JSON(), nullable=False),
        sa.Column("root", sa.String(length=66), nullable=True),
        sa.Column("disputed", sa.Text(), nullable=False),
        sa.Column("assessed", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "start", "version"),
    )
    op.create_index("ix_correction_state", "correction", ["state"])
    op.create_index("ix_correction_root", "correction", ["root"])
    op.add_column("device_day", sa.Column("assessed", sa.LargeBinary(), nullable=True))
    op.add_column("review_decision", sa.Column("edits", sa.JSON(), nullable=True))
    op.add_column("review_decision", sa.Column("evidence", sa.String(length=64), nullable=True))
    op.add_column("review_decision", sa.Column("conflict", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("review_decision", "conflict")
    op.drop_column("review_decision", "evidence")
    op.drop_column("review_decision", "edits")
    op.drop_column("device_day", "assessed")
    op.drop_table("correction")
