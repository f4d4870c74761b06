"""Public keys of users, quotas of projects, credentials and code of repositories; active runs at hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


LIVE_RUN = sa.text("NOT deleted AND status NOT IN ('done', 'failed', 'terminated')")


def upgrade() -> None:
    columns = ["project_id", "submitted_at", "id"]
    op.create_index("run_live", "run", columns, sqlite_where=LIVE_RUN, postgresql_where=LIVE_RUN)
    op.add_column("user", sa.Column("projects_quota", sa.Integer(), nullable=True))
    op.add_column("project", sa.Column("templates_repo", sa.String(), nullable=True))
    op.create_table(
        "public_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "fingerprint", name="public_key_once"),
    )
    op.create_table(
        "repo_creds",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("repo_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["project_id", "repo_id"], ["repo.project_id", "repo.repo_id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "repo_id", "user_id"),
    )
    op.create_table(
        "repo_code",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("repo_id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project_id", "repo_id"], ["repo.project_id", "repo.repo_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "repo_id", "hash"),
    )


def downgrade() -> None:
    op.drop_index("run_live", table_name="run", sqlite_where=LIVE_RUN, postgresql_where=LIVE_RUN)
    op.drop_table("repo_code")
    op.drop_table("repo_creds")
    op.drop_table("public_key")
    op.drop_column("project", "templates_repo")
    op.drop_column("user", "projects_quota")
