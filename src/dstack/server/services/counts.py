"""Numbers of this server in Prometheus' text format."""

from __future__ import annotations

from sqlalchemy import func, select

from dstack.server.parts import Parts
from dstack.server.store.tables import TABLES, project, user

_KINDS = ("run", "job", "fleet", "instance")


async def exposition(parts: Parts) -> str:
    """Rows by project and status; deleted runs are left out."""
    lines: list[str] = []
    async with parts.database.read() as connection:
        names = {id_: name for id_, name in await connection.execute(select(project.c.id, project.c.name))}
        for kind in _KINDS:
            t = TABLES[kind]
            statement = select(t.c.project_id, t.c.status, func.count()).group_by(t.c.project_id, t.c.status)
            if kind == "run":
                statement = statement.where(t.c.deleted.is_(False))
            lines += [f"# HELP dstack_{kind}s {kind}s by status", f"# TYPE dstack_{kind}s gauge"]
            rows = [tuple(row) for row in await connection.execute(statement)]
            for project_id, status, count in sorted(rows):
                labels = f'project_name="{names.get(project_id, "")}",status="{status}"'
                lines.append(f"dstack_{kind}s{{{labels}}} {count}")
        users = (await connection.execute(select(func.count()).select_from(user))).scalar()
    lines += ["# HELP dstack_users users", "# TYPE dstack_users gauge", f"dstack_users {users}"]
    return "\n".join(lines) + "\n"
