"""What routes depend on: the parts of this server, and who calls with which rights."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from dstack.errors import AccessDenied, NotAuthenticated
from dstack.server.auth.identity import Access, User, find_access, find_user, find_user_with_key
from dstack.server.auth.rules import manages_secrets
from dstack.server.parts import Parts
from dstack.server.routes.errors import PathNotFound

DENIED = "Access denied"


# Without `async` FastAPI would hand each of these to a thread, which takes longer than most requests.
async def parts_of(request: HTTPConnection) -> Parts:
    return request.app.state.parts


async def bearer(request: HTTPConnection) -> str:
    """The token of a request, or of the opening of a websocket. Raises NotAuthenticated without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("Not authenticated")
    return token.strip()


PartsOf = Annotated[Parts, Depends(parts_of)]
Token = Annotated[str, Depends(bearer)]


async def caller(parts: PartsOf, token: Token) -> User:
    async with parts.database.read() as connection:
        user = await find_user(connection, token)
    if user is None:
        raise AccessDenied("Invalid token")
    return user


async def caller_with_key(parts: PartsOf, token: Token) -> tuple[User, bytes | None]:
    """The caller and their sealed private key."""
    async with parts.database.read() as connection:
        found = await find_user_with_key(connection, token)
    if found is None:
        raise AccessDenied("Invalid token")
    return found


async def visitor(parts: PartsOf, token: Token, project_name: str) -> Access:
    """Whoever may look at the project: members, global admins, and everybody when it is public."""
    async with parts.database.read() as connection:
        found = await find_access(connection, token, project_name)
    if found is None:
        raise AccessDenied("Invalid token")
    user, access = found
    if access is None:
        raise PathNotFound("Not found")
    if access.role is None and not user.is_admin and not access.project.is_public:
        raise AccessDenied(DENIED)
    return access


async def member(access: Annotated[Access, Depends(visitor)]) -> Access:
    if access.role is None and not access.user.is_admin:
        raise AccessDenied(DENIED)
    return access


async def manager(access: Annotated[Access, Depends(member)]) -> Access:
    if not access.manages:
        raise AccessDenied(DENIED)
    return access


async def joiner(access: Annotated[Access, Depends(visitor)]) -> Access:
    """Who manages members; of a public project also who is none yet and may become one."""
    if not access.manages and not (access.project.is_public and access.role is None):
        raise AccessDenied(DENIED)
    return access


async def secrets_manager(parts: PartsOf, access: Annotated[Access, Depends(member)]) -> Access:
    if not manages_secrets(parts.settings.rules, access):
        raise AccessDenied(DENIED)
    return access


async def project_admin(access: Annotated[Access, Depends(member)]) -> Access:
    if not access.administers:
        raise AccessDenied(DENIED)
    return access


async def global_admin(user: Annotated[User, Depends(caller)]) -> User:
    if not user.is_admin:
        raise AccessDenied(DENIED)
    return user


Caller = Annotated[User, Depends(caller)]
CallerWithKey = Annotated[tuple[User, bytes | None], Depends(caller_with_key)]
Visitor = Annotated[Access, Depends(visitor)]
Member = Annotated[Access, Depends(member)]
Manager = Annotated[Access, Depends(manager)]
Joiner = Annotated[Access, Depends(joiner)]
SecretsManager = Annotated[Access, Depends(secrets_manager)]
ProjectAdmin = Annotated[Access, Depends(project_admin)]
GlobalAdmin = Annotated[User, Depends(global_admin)]
