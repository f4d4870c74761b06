"""Hosts of one's own: where they are, the way there, what a look at them found; instances that take no new jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("remote", sa.Text()),
    ("unreachable_message", sa.String()),
    ("report", sa.Text()),
    ("cordon", sa.String()),
    ("setup_requested_at", sa.Float()),
    ("abandon_requested_at", sa.Float()),
)


def upgrade() -> None:
    for name, type_ in _COLUMNS:
        op.add_column("instance", sa.Column(name, type_, nullable=True))
    op.create_table(
        "host_access",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("fleet_id", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("host_key", sa.Text(), nullable=True),
        sa.Column("proxy_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_index("host_access_fleet", "host_access", ["fleet_id"])


def downgrade() -> None:
    op.drop_index("host_access_fleet", table_name="host_access")
    op.drop_table("host_access")
    for name, _ in reversed(_COLUMNS):
        op.drop_column("instance", name)
