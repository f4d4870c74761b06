"""Chores, orphaned machines; metrics by their age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chore",
        *_row(),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("removed", sa.Text(), nullable=True),
        sa.Column("strangers", sa.Text(), nullable=True),
        sa.Column("unlisted", sa.Text(), nullable=True),
        *_engine(),
        sa.CheckConstraint("due_at IS NOT NULL OR status IN ('closed')", name="chore_is_due_or_terminal"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("chore_due", "chore", ["due_at"])
    op.create_index("chore_of", "chore", ["project_id", "backend"])
    op.create_table(
        "orphan",
        *_row(),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("backend_id", sa.String(), nullable=False),
        sa.Column("first_seen", sa.Float(), nullable=False),
        sa.Column("machine_created_at", sa.Float(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("instance_id", sa.String(), nullable=True),
        sa.Column("instance_name", sa.String(), nullable=True),
        sa.Column("unlisted_at", sa.Float(), nullable=True),
        sa.Column("terminate_requested_at", sa.Float(), nullable=True),
        sa.Column("settle_requested_at", sa.Float(), nullable=True),
        sa.Column("settled_at", sa.Float(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        *_engine(),
        sa.CheckConstraint("due_at IS NOT NULL OR status IN ('settled')", name="orphan_is_due_or_terminal"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("orphan_due", "orphan", ["due_at"])
    op.create_index("orphan_of", "orphan", ["backend", "status"])
    op.create_index("job_metric_at", "job_metric", ["at"])


def downgrade() -> None:
    op.drop_index("job_metric_at", table_name="job_metric")
    op.drop_table("orphan")
    op.drop_table("chore")


def _row() -> list[sa.Column]:
    return [
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    ]


def _engine() -> list[sa.Column]:
    return [
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("wake_seq", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
    ]
