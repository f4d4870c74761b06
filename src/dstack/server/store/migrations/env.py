"""How Alembic runs the scripts: on the connection that `store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from dstack.server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite changes tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
