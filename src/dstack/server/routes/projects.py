"""Projects and their members."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dstack.model.wire.requests import CreateProject, DeleteProjects, ListProjects, Members, UpdateProject, Usernames
from dstack.server.routes.access import Caller, Joiner, Manager, Member, PartsOf, ProjectAdmin, Visitor
from dstack.server.routes.reply import nothing, reply
from dstack.server.services import members, projects

router = APIRouter(prefix="/api/projects", tags=["projects"])


@router.post("/list")
async def list_projects(parts: PartsOf, caller: Caller, body: ListProjects | None = None) -> Response:
    return reply(await projects.list_projects(parts, caller, body or ListProjects()))


@router.post("/list_only_no_fleets")
async def list_only_no_fleets(parts: PartsOf, caller: Caller) -> Response:
    return reply(await projects.list_without_fleets(parts, caller))


@router.post("/create")
async def create(parts: PartsOf, caller: Caller, body: CreateProject) -> Response:
    return reply(await projects.create(parts, caller, body))


@router.post("/delete")
async def delete(parts: PartsOf, caller: Caller, body: DeleteProjects) -> Response:
    await projects.delete_projects(parts, caller, body.projects_names)
    return nothing()


@router.post("/{project_name}/get")
async def get(parts: PartsOf, access: Visitor) -> Response:
    return reply(await projects.render(parts, access.project.id))


@router.post("/{project_name}/update")
async def update(parts: PartsOf, access: ProjectAdmin, body: UpdateProject) -> Response:
    return reply(await projects.update_settings(parts, access, body))


@router.post("/{project_name}/set_members")
async def set_members(parts: PartsOf, access: Manager, body: Members) -> Response:
    await members.set_(parts, access, body.members)
    return reply(await projects.render(parts, access.project.id))


@router.post("/{project_name}/add_members")
async def add_members(parts: PartsOf, access: Joiner, body: Members) -> Response:
    await members.add(parts, access, body.members)
    return reply(await projects.render(parts, access.project.id))


@router.post("/{project_name}/remove_members")
async def remove_members(parts: PartsOf, access: Member, body: Usernames) -> Response:
    await members.remove(parts, access, body.usernames)
    return reply(await projects.render(parts, access.project.id))
