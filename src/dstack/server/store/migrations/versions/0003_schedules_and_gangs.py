"""When a scheduled run starts next, when a node was ready, when the use of GPUs is measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("next_triggered_at", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("ready_since", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("utilization_check_at", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "utilization_check_at")
    op.drop_column("job", "ready_since")
    op.drop_column("run", "next_triggered_at")
