"""Which account an act is sent from, and until when a signature given to a batch can be used.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("act", sa.Column("sender", sa.String(42)))
    op.execute(
        "UPDATE act SET sender = (SELECT max(sender) FROM signed_transaction WHERE signed_transaction.act_id = act.id)"
    )
    op.add_column("signed_statement", sa.Column("deadline", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("signed_statement", "deadline")
    op.drop_column("act", "sender")
