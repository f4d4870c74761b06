"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "act",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("token"),
        sa.UniqueConstraint("kind", "resource_id", "verb", name="act_unfinished"),
    )
    op.create_index("act_due", "act", ["due_at"], unique=False)
    op.create_table(
        "archive",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "hash", name="archive_hash"),
    )
    op.create_table(
        "event",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=True),
        sa.Column("recorded_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("event_listing", "event", ["project_id", "recorded_at"], unique=False)
    op.create_table(
        "fleet",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=True),
        sa.Column("next_instance_num", sa.BigInteger(), nullable=False),
        sa.Column("seeded", sa.Boolean(), nullable=False),
        sa.Column("create_failures", sa.BigInteger(), nullable=False),
        sa.Column("next_create_at", sa.Float(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("delete_requested_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("wake_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("due_at IS NOT NULL OR status IN ('terminated')", name="fleet_is_due_or_terminal"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("fleet_due", "fleet", ["due_at"], unique=False)
    op.create_index(
        "fleet_name",
        "fleet",
        ["project_id", "name"],
        unique=True,
        sqlite_where=sa.text("status <> 'terminated'"),
        postgresql_where=sa.text("status <> 'terminated'"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("observation", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("inbox_resource", "inbox", ["kind", "resource_id"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("fleet_id", sa.String(), nullable=False),
        sa.Column("fleet_name", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("num", sa.BigInteger(), nullable=False),
        sa.Column("offer", sa.Text(), nullable=True),
        sa.Column("total_blocks", sa.BigInteger(), nullable=False),
        sa.Column("busy_blocks", sa.BigInteger(), nullable=False),
        sa.Column("idle_duration_s", sa.Float(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("linked", sa.Boolean(), nullable=False),
        sa.Column("unreachable_since", sa.Float(), nullable=True),
        sa.Column("preempted", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("provisioning_deadline", sa.Float(), nullable=True),
        sa.Column("idle_since", sa.Float(), nullable=True),
        sa.Column("idle_deadline", sa.Float(), nullable=True),
        sa.Column("unreachable_deadline", sa.Float(), nullable=True),
        sa.Column("terminate_requested", sa.String(), nullable=True),
        sa.Column("terminate_message", sa.String(), nullable=True),
        sa.Column("termination_reason", sa.String(), nullable=True),
        sa.Column("termination_message", sa.String(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("wake_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("due_at IS NOT NULL OR status IN ('terminated')", name="instance_is_due_or_terminal"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fleet_id", "num", name="instance_num"),
    )
    op.create_index("instance_due", "instance", ["due_at"], unique=False)
    op.create_index("instance_pool", "instance", ["project_id", "status"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("run_name", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("replica_num", sa.BigInteger(), nullable=False),
        sa.Column("job_num", sa.BigInteger(), nullable=False),
        sa.Column("submission_num", sa.BigInteger(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("last_processed_at", sa.Float(), nullable=False),
        sa.Column("instance_id", sa.String(), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("tried_offers", sa.Text(), nullable=True),
        sa.Column("placement", sa.Text(), nullable=True),
        sa.Column("provisioning_deadline", sa.Float(), nullable=True),
        sa.Column("running_since", sa.Float(), nullable=True),
        sa.Column("max_duration_deadline", sa.Float(), nullable=True),
        sa.Column("terminating_deadline", sa.Float(), nullable=True),
        sa.Column("task_started", sa.Boolean(), nullable=False),
        sa.Column("working_dir", sa.String(), nullable=True),
        sa.Column("username", sa.String(), nullable=True),
        sa.Column("port_mapping", sa.Text(), nullable=True),
        sa.Column("task_ended", sa.Boolean(), nullable=False),
        sa.Column("stop_grace_s", sa.Float(), nullable=True),
        sa.Column("exit_status", sa.BigInteger(), nullable=True),
        sa.Column("stop_reason", sa.String(), nullable=True),
        sa.Column("stop_message", sa.String(), nullable=True),
        sa.Column("termination_reason", sa.String(), nullable=True),
        sa.Column("termination_message", sa.String(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("wake_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "due_at IS NOT NULL OR status IN ('aborted', 'done', 'failed', 'terminated')", name="job_is_due_or_terminal"
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "replica_num", "job_num", "submission_num", name="job_submission"),
    )
    op.create_index("job_due", "job", ["due_at"], unique=False)
    op.create_index("job_instance", "job", ["instance_id"], unique=False)
    op.create_index("job_queue", "job", ["project_id", "status"], unique=False)
    op.create_table(
        "job_gauge",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("pull", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "job_metric",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("sample", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "at"),
    )
    op.create_table(
        "log_offset",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("index_size", sa.BigInteger(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "queue",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("wake_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("due_at IS NOT NULL OR status IN ('closed')", name="queue_is_due_or_terminal"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("queue_due", "queue", ["due_at"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=True),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("last_processed_at", sa.Float(), nullable=False),
        sa.Column("termination_reason", sa.String(), nullable=True),
        sa.Column("termination_message", sa.String(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("retry_since", sa.Float(), nullable=True),
        sa.Column("retry_attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.Float(), nullable=True),
        sa.Column("fleet_id", sa.String(), nullable=True),
        sa.Column("stop_requested_at", sa.Float(), nullable=True),
        sa.Column("stop_actor_id", sa.String(), nullable=True),
        sa.Column("abort_requested", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("wake_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claim_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "due_at IS NOT NULL OR status IN ('done', 'failed', 'terminated')", name="run_is_due_or_terminal"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("run_due", "run", ["due_at"], unique=False)
    op.create_index("run_listing", "run", ["project_id", "submitted_at", "id"], unique=False)
    op.create_index(
        "run_name",
        "run",
        ["project_id", "name"],
        unique=True,
        sqlite_where=sa.text("NOT deleted"),
        postgresql_where=sa.text("NOT deleted"),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("global_role", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("ssh_public_key", sa.Text(), nullable=True),
        sa.Column("ssh_private_key", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
        sa.UniqueConstraint("username"),
    )
    op.create_table(
        "event_target",
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("target_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", "position"),
    )
    op.create_index("event_target_lookup", "event_target", ["target_id"], unique=False)
    op.create_table(
        "project",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("is_public", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "member",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "user_id"),
    )
    op.create_table(
        "repo",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("repo_id", sa.String(), nullable=False),
        sa.Column("info", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "repo_id"),
    )
    op.create_table(
        "secret",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name", name="secret_name"),
    )
    op.create_table(
        "backend",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "type"),
    )


def downgrade() -> None:
    op.drop_table("backend")
    op.drop_table("secret")
    op.drop_table("repo")
    op.drop_table("member")
    op.drop_table("project")
    op.drop_index("event_target_lookup", table_name="event_target")
    op.drop_table("event_target")
    op.drop_table("user")
    op.drop_index(
        "run_name", table_name="run", sqlite_where=sa.text("NOT deleted"), postgresql_where=sa.text("NOT deleted")
    )
    op.drop_index("run_listing", table_name="run")
    op.drop_index("run_due", table_name="run")
    op.drop_table("run")
    op.drop_index("queue_due", table_name="queue")
    op.drop_table("queue")
    op.drop_table("meta")
    op.drop_table("log_offset")
    op.drop_table("job_metric")
    op.drop_table("job_gauge")
    op.drop_index("job_queue", table_name="job")
    op.drop_index("job_instance", table_name="job")
    op.drop_index("job_due", table_name="job")
    op.drop_table("job")
    op.drop_index("instance_pool", table_name="instance")
    op.drop_index("instance_due", table_name="instance")
    op.drop_table("instance")
    op.drop_index("inbox_resource", table_name="inbox")
    op.drop_table("inbox")
    op.drop_index(
        "fleet_name",
        table_name="fleet",
        sqlite_where=sa.text("status <> 'terminated'"),
        postgresql_where=sa.text("status <> 'terminated'"),
    )
    op.drop_index("fleet_due", table_name="fleet")
    op.drop_table("fleet")
    op.drop_index("event_listing", table_name="event")
    op.drop_table("event")
    op.drop_table("archive")
    op.drop_index("act_due", table_name="act")
    op.drop_table("act")
