"""Decisions that came as files, what a decision must name, and reports over all days.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("device_day", sa.Column("for_review", sa.JSON(), nullable=True))
    op.add_column("correction", sa.Column("for_review", sa.JSON(), nullable=True))
    state = sa.Enum("taken", "refused", "waiting", name="decisionstate", native_enum=False, length=16)
    op.create_table(
        "received_decision",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("state", state, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "kept_report",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("made_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    op.drop_table("kept_report")
    op.drop_table("received_decision")
    op.drop_column("correction", "for_review")
    op.drop_column("device_day", "for_review")
