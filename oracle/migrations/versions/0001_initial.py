"""The first schema.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
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
SAGA_STATE = sa.Enum(
    "queued", "signed", "sent", "mined", "final", "failed", name="sagastate", native_enum=False, length=16
)


def upgrade() -> None:
    op.create_table(
        "act",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("state", SAGA_STATE, nullable=False),
        sa.Column("to", sa.String(length=42), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("gas", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("transaction", sa.String(length=66), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.String(length=66), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("chain_id", "key"),
    )
    op.create_index("ix_act_state", "act", ["state"])
    op.create_table(
        "batch",
        sa.Column("root", sa.String(length=66), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("statements", sa.BigInteger(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("archive_hash", sa.String(length=66), nullable=False),
        sa.Column("state", DAY_STATE, nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=True),
        sa.Column("sealed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("root"),
    )
    op.create_table(
        "device_day",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", DAY_STATE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.Column("energy_wh", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("assessment", sa.JSON(), nullable=False),
        sa.Column("root", sa.String(length=66), nullable=True),
        sa.Column("disputed", sa.Text(), nullable=False),
        sa.Column("pending", sa.Text(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("device_id", "start"),
    )
    op.create_index("ix_device_day_root", "device_day", ["root"])
    op.create_index("ix_device_day_state", "device_day", ["state"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "raw_file",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.String(length=40), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("rows_used", sa.BigInteger(), nullable=False),
        sa.Column("rows_refused", sa.BigInteger(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", "source"),
    )
    op.create_table(
        "review_decision",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("profile_hash", sa.String(length=66), nullable=False),
        sa.Column("reviewer", sa.String(length=42), nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("review_decision_day", "review_decision", ["device_id", "start"])
    op.create_table(
        "signed_statement",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.String(length=66), nullable=False),
        sa.Column("root", sa.String(length=66), nullable=False),
        sa.Column("signed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "device_id", "start", "version"),
    )
    op.create_table(
        "refused_row",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sha256", "source"], ["raw_file.sha256", "raw_file.source"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("refused_row_file", "refused_row", ["sha256", "source"])
    op.create_table(
        "signed_transaction",
        sa.Column("hash", sa.String(length=66), nullable=False),
        sa.Column("act_id", SERIAL, nullable=False),
        sa.Column("sender", sa.String(length=42), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("max_fee_wei", sa.BigInteger(), nullable=False),
        sa.Column("priority_fee_wei", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", TIME, nullable=False),
        sa.Column("sent_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["act_id"], ["act.id"]),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("ix_signed_transaction_act_id", "signed_transaction", ["act_id"])
    op.create_index("signed_transaction_nonce", "signed_transaction", ["sender", "nonce"])
    op.create_table(
        "witness_signature",
        sa.Column("root", sa.String(length=66), nullable=False),
        sa.Column("signer", sa.String(length=42), nullable=False),
        sa.Column("digest", sa.String(length=66), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["root"], ["batch.root"]),
        sa.PrimaryKeyConstraint("root", "signer", "digest"),
    )
