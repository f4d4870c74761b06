"""What whoever runs the server decides: who creates projects and how many, who manages secrets."""

from __future__ import annotations

import pytest

from dstack.server.settings import Rules
from support.http_api import Api, task, under


async def create(api: Api, name: str, status: int = 200):
    return await api.call("/api/projects/create", {"project_name": name}, status=status)


async def test_a_user_owns_as_many_projects_as_the_quota_says(api: Api) -> None:
    async with under(api, Rules(projects_per_user=1)) as admin:
        ann = await admin.user("ann")
        await create(ann, "one")
        answer = await create(ann, "two", status=400)
        assert answer["detail"][0]["msg"] == "You own 1 projects, which is as many as you may"
        await ann.call("/api/projects/delete", {"projects_names": ["one"]})
        await create(ann, "two")


async def test_an_admin_gives_a_user_another_quota(api: Api) -> None:
    made = await api.call("/api/users/create", {"username": "ann", "global_role": "user", "x_projects_quota": 0})
    assert (made["x_projects_quota"], made["permissions"]) == (0, {"can_create_projects": False})
    ann = api.having(made["x_token"])
    await create(ann, "one", status=400)
    await api.call("/api/users/update", {"username": "ann", "global_role": "user", "x_projects_quota": 1})
    await create(ann, "one")


async def test_admins_own_any_number_of_projects(api: Api) -> None:
    async with under(api, Rules(projects_per_user=0)) as admin:
        await create(admin, "one")


async def test_where_only_admins_create_projects_others_are_denied(api: Api) -> None:
    async with under(api, Rules(non_admins_create_projects=False)) as admin:
        ann = await admin.user("ann")
        await create(ann, "one", status=403)
        assert (await ann.call("/api/users/get_my_user"))["permissions"] == {"can_create_projects": False}
        await create(admin, "one")


async def test_where_managers_do_not_manage_secrets_they_are_denied(api: Api) -> None:
    async with under(api, Rules(managers_manage_secrets=False)) as admin:
        ann = await admin.user("ann", "manager")
        await ann.call("secrets/list", status=403)
        members = (await ann.call("/api/projects/main/get"))["members"]
        assert [one["permissions"]["can_manage_secrets"] for one in members] == [True, False]


async def test_a_manager_makes_and_unmakes_no_admins(api: Api) -> None:
    ann = await api.user("ann", "manager")
    await api.user("bob")
    add, remove = "/api/projects/main/add_members", "/api/projects/main/remove_members"
    for name, role in (("ann", "admin"), ("bob", "admin"), ("admin", "user")):
        await ann.call(add, {"members": [{"username": name, "project_role": role}]}, status=403)
    await ann.call("/api/projects/main/set_members", {"members": []}, status=403)
    await ann.call(remove, {"usernames": ["admin"]}, status=403)
    await ann.call(add, {"members": [{"username": "bob", "project_role": "user"}]})
    await ann.call(remove, {"usernames": ["bob"]})
    assert len((await ann.call(remove, {"usernames": ["ann"]}))["members"]) == 1


@pytest.mark.parametrize("spelled", ["ssh_config", "x_ssh_config"])
async def test_where_only_admins_make_ssh_fleets_others_are_denied(api: Api, spelled: str) -> None:
    hosts = {"user": "root", "ssh_key": {"public": "p", "private": "k"}, "hosts": ["h"]}
    plan = {"spec": {"configuration": {"type": "fleet", "name": "f", spelled: hosts}}}
    async with under(api, Rules(non_admins_manage_ssh_fleets=False)) as admin:
        ann = await admin.user("ann", "manager")
        await ann.call("fleets/apply", {"plan": plan, "force": False}, status=403)


async def test_numbers_for_prometheus_count_by_project_and_status(api: Api) -> None:
    await api.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    async with under(api, Rules(), prometheus=True) as admin:
        text = (await admin.having(None).raw("/metrics", method="GET")).text
    assert 'dstack_runs{project_name="main",status="submitted"} 1.0' in text
    assert "dstack_users 1.0" in text
