"""Who calls, and what they are in a project: one statement from a token to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.server.auth.tokens import hash_token
from dstack.server.store.tables import member, project, user

MANAGERS = ("admin", "manager")


@dataclass(frozen=True)
class User:
    """`global_role` is `admin` or `user`."""

    id: str
    username: str
    global_role: str
    email: str | None
    active: bool
    ssh_public_key: str | None
    created_at: float
    projects_quota: int | None = None

    @property
    def is_admin(self) -> bool:
        return self.global_role == "admin"


@dataclass(frozen=True)
class Project:
    id: str
    name: str
    owner_id: str
    is_public: bool
    created_at: float
    templates_repo: str | None = None


@dataclass(frozen=True)
class Access:
    """A user in a project. `role` is admin, manager, user, or None: not a member."""

    user: User
    project: Project
    role: str | None

    @property
    def manages(self) -> bool:
        return self.user.is_admin or self.role in MANAGERS

    @property
    def administers(self) -> bool:
        return self.user.is_admin or self.role == "admin"


USER_COLUMNS = (
    user.c.id.label("user_id"),
    user.c.username,
    user.c.global_role,
    user.c.email,
    user.c.active,
    user.c.ssh_public_key,
    user.c.created_at.label("user_created_at"),
    user.c.projects_quota,
)
PROJECT_COLUMNS = (
    project.c.id.label("project_id"),
    project.c.name.label("project_name"),
    project.c.owner_id,
    project.c.is_public,
    project.c.created_at.label("project_created_at"),
    project.c.templates_repo,
)


def user_of(row: Any) -> User:
    """A user from a row of `USER_COLUMNS`."""
    return User(
        row.user_id,
        row.username,
        row.global_role,
        row.email,
        row.active,
        row.ssh_public_key,
        row.user_created_at,
        row.projects_quota,
    )


def project_of(row: Any) -> Project:
    """A project from a row of `PROJECT_COLUMNS`."""
    return Project(
        row.project_id, row.project_name, row.owner_id, row.is_public, row.project_created_at, row.templates_repo
    )


# Made once: to put a statement together takes longer than SQLite needs to answer it.
_BY_TOKEN = (user.c.token_hash == bindparam("token_hash"), user.c.active)
_USER = select(*USER_COLUMNS).where(*_BY_TOKEN)
_USER_WITH_KEY = select(*USER_COLUMNS, user.c.ssh_private_key).where(*_BY_TOKEN)
_ACCESS = (
    select(*USER_COLUMNS, *PROJECT_COLUMNS, member.c.role)
    .select_from(user)
    .outerjoin(project, project.c.name == bindparam("project"))
    .outerjoin(member, and_(member.c.project_id == project.c.id, member.c.user_id == user.c.id))
    .where(*_BY_TOKEN)
)


async def find_user(connection: AsyncConnection, token: str) -> User | None:
    """The active user whose token it is."""
    row = (await connection.execute(_USER, {"token_hash": hash_token(token)})).first()
    return user_of(row) if row else None


async def find_user_with_key(connection: AsyncConnection, token: str) -> tuple[User, bytes | None] | None:
    """The active user whose token it is, with their sealed private key."""
    row = (await connection.execute(_USER_WITH_KEY, {"token_hash": hash_token(token)})).first()
    return (user_of(row), row.ssh_private_key) if row else None


async def find_access(connection: AsyncConnection, token: str, name: str) -> tuple[User, Access | None] | None:
    """The active user whose token it is, and the project of that name with their role in it, if it exists."""
    row = (await connection.execute(_ACCESS, {"token_hash": hash_token(token), "project": name})).first()
    if row is None:
        return None
    caller = user_of(row)
    return caller, Access(caller, project_of(row), row.role) if row.project_id else None
