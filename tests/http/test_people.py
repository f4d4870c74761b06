"""Users, projects, members."""

from __future__ import annotations

import pytest

from dstack.errors import ResourceNotFound
from dstack.model.wire.requests import ApplyFleetPlan, ApplyRunPlan
from dstack.server.auth.identity import find_access
from dstack.server.services.fleets import applying
from dstack.server.services.runs import submitting
from support.http_api import Api, fleet, task


async def test_a_user_is_created_with_a_token_that_works(api: Api) -> None:
    made = await api.call("/api/users/create", {"username": "ann", "global_role": "user", "email": "a@b.c"})
    assert "creds" not in made
    own = await api.having(made["x_token"]).call("/api/users/get_my_user")
    assert (own["username"], own["email"], own["ssh_public_key"].split()[-1]) == ("ann", "a@b.c", "ann")


async def test_a_user_name_is_given_once_and_must_be_legal(api: Api) -> None:
    answer = await api.call("/api/users/create", {"username": "admin", "global_role": "user"}, status=400)
    assert answer["detail"][0]["code"] == "resource_exists"
    answer = await api.call("/api/users/create", {"username": "no good", "global_role": "user"}, status=400)
    assert answer["detail"][0]["code"] == "error"


async def test_an_admin_does_not_see_the_tokens_of_others(api: Api) -> None:
    await api.user("ann")
    assert (await api.call("/api/users/get_user", {"username": "ann"}))["creds"] == {"token": ""}


async def test_users_who_are_no_admins_see_themselves(api: Api) -> None:
    ann = await api.user("ann")
    assert [one["username"] for one in await ann.call("/api/users/list")] == ["ann"]
    assert [one["username"] for one in await api.call("/api/users/list", {"ascending": True})] == ["admin", "ann"]
    counted = await api.call("/api/users/list", {"return_total_count": True, "limit": 1})
    assert (len(counted["users"]), counted["total_count"]) == (1, 2)
    await ann.call("/api/users/create", {"username": "bob", "global_role": "user"}, status=403)


async def test_a_new_key_pair_replaces_the_old_one(api: Api) -> None:
    before = await api.call("/api/users/get_my_user")
    after = await api.call("/api/users/refresh_ssh_key", {"username": "admin"})
    assert after["ssh_public_key"] != before["ssh_public_key"]
    assert await api.call("/api/users/get_my_user") == after


async def test_admins_cannot_lock_themselves_out(api: Api) -> None:
    await api.call("/api/users/update", {"username": "admin", "global_role": "user"}, status=400)
    await api.call("/api/users/delete", {"users": ["admin"]}, status=400)


async def test_a_user_with_an_active_run_is_not_deleted_and_one_without_is(api: Api) -> None:
    ann = await api.user("ann", "user")
    await ann.call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    answer = await api.call("/api/users/delete", {"users": ["ann"]}, status=400)
    assert "The run t" in answer["detail"][0]["msg"]
    await api.user("bob", "user")
    assert await api.call("/api/users/delete", {"users": ["bob"]}) is None
    members = (await api.call("/api/projects/main/get"))["members"]
    assert [one["user"]["username"] for one in members] == ["admin", "ann"]


async def test_a_project_can_be_created_used_and_deleted(api: Api) -> None:
    ann = await api.user("ann")
    made = await ann.call("/api/projects/create", {"project_name": "lab"})
    assert (made["owner"]["username"], made["members"][0]["project_role"]) == ("ann", "admin")
    await ann.having(ann.token, "lab").call("runs/apply", {"plan": {"run_spec": task("true", name="t")}})
    answer = await ann.call("/api/projects/delete", {"projects_names": ["lab"]}, status=400)
    assert answer["detail"][0]["msg"] == "The project lab still has active runs"
    await ann.call("/api/projects/create", {"project_name": "empty"})
    assert await ann.call("/api/projects/delete", {"projects_names": ["empty"]}) is None
    assert [one["project_name"] for one in await ann.call("/api/projects/list")] == ["lab"]


@pytest.mark.parametrize("what", ["run", "fleet"])
async def test_nothing_is_made_in_a_project_that_was_deleted_in_that_moment(api: Api, what: str) -> None:
    await api.call("/api/projects/create", {"project_name": "lab"})
    async with api.parts.database.read() as connection:
        found = await find_access(connection, api.token or "", "lab")
    assert found is not None and found[1] is not None
    await api.call("/api/projects/delete", {"projects_names": ["lab"]})
    with pytest.raises(ResourceNotFound, match="does not exist any more"):
        if what == "run":
            plan = {"plan": {"run_spec": task("true", name="t")}}
            await submitting.apply_plan(api.parts, found[1], ApplyRunPlan.model_validate(plan))
        else:
            plan = {"plan": {"spec": fleet()}}
            await applying.apply_plan(api.parts, found[1], ApplyFleetPlan.model_validate(plan))


async def test_unknown_projects_cannot_be_deleted_and_names_are_given_once(api: Api) -> None:
    answer = await api.call("/api/projects/delete", {"projects_names": ["nope"]}, status=400)
    assert answer["detail"] == [{"msg": "Projects not found: nope", "code": "error"}]
    answer = await api.call("/api/projects/create", {"project_name": "main"}, status=400)
    assert answer["detail"][0]["code"] == "resource_exists"


async def test_others_do_not_delete_ones_project(api: Api) -> None:
    ann = await api.user("ann")
    bob = await api.user("bob")
    await ann.call("/api/projects/create", {"project_name": "lab"})
    await bob.call("/api/projects/delete", {"projects_names": ["lab"]}, status=403)


async def test_members_are_set_added_and_removed(api: Api) -> None:
    ann = await api.user("ann", "user")
    await api.user("bob")
    path = "/api/projects/main"
    await ann.call(f"{path}/add_members", {"members": [{"username": "bob", "project_role": "user"}]}, status=403)
    wanted = {
        "members": [{"username": "admin", "project_role": "admin"}, {"username": "bob", "project_role": "manager"}]
    }
    after = await api.call(f"{path}/set_members", wanted)
    assert {one["user"]["username"]: one["project_role"] for one in after["members"]} == {
        "admin": "admin",
        "bob": "manager",
    }
    after = await api.call(f"{path}/remove_members", {"usernames": ["bob"]})
    assert len(after["members"]) == 1
    await api.call(f"{path}/add_members", {"members": [{"username": "x", "project_role": "user"}]}, status=400)


async def test_anybody_joins_a_public_project_as_a_user_and_leaves_it_again(api: Api) -> None:
    ann = await api.user("ann")
    add, own = "/api/projects/main/add_members", {"members": [{"username": "ann", "project_role": "user"}]}
    await ann.call(add, own, status=403)
    await api.call("/api/projects/main/update", {"is_public": True})
    assert len((await ann.call(add, own))["members"]) == 2
    assert await ann.call("fleets/list") == []
    assert len((await ann.call("/api/projects/main/remove_members", {"usernames": ["ann"]}))["members"]) == 1
    await ann.call("fleets/list", status=403)


async def test_who_joins_a_public_project_gets_no_other_role_and_brings_nobody(api: Api) -> None:
    ann = await api.user("ann")
    await api.user("bob")
    await api.call("/api/projects/main/update", {"is_public": True})
    for name, role in (("ann", "manager"), ("ann", "admin"), ("bob", "user")):
        members = {"members": [{"username": name, "project_role": role}]}
        await ann.call("/api/projects/main/add_members", members, status=403)
    await ann.call("/api/projects/main/add_members", {"members": []}, status=403)
    await ann.call("/api/projects/main/add_members", {"members": [{"username": "ann", "project_role": "user"}]})
    await ann.call(
        "/api/projects/main/add_members", {"members": [{"username": "ann", "project_role": "admin"}]}, status=403
    )


async def test_the_last_admin_of_a_project_stays(api: Api) -> None:
    ann = await api.user("ann")
    await api.user("bob")
    await ann.call("/api/projects/create", {"project_name": "lab"})
    path, bob = "/api/projects/lab", {"username": "bob", "project_role": "admin"}
    demoted = {"members": [{"username": "ann", "project_role": "user"}]}
    for act, body in (("remove_members", {"usernames": ["ann"]}), ("add_members", demoted), ("set_members", demoted)):
        answer = await ann.call(f"{path}/{act}", body, status=400)
        assert answer["detail"][0]["msg"] == "The project lab would have no admin any more"
    await ann.call(f"{path}/add_members", {"members": [bob]})
    assert len((await ann.call(f"{path}/remove_members", {"usernames": ["ann"]}))["members"]) == 1


async def test_listed_projects_are_ones_own_and_the_public_ones(api: Api) -> None:
    ann = await api.user("ann")
    assert await ann.call("/api/projects/list") == []
    await api.call("/api/projects/main/update", {"is_public": True})
    assert len(await ann.call("/api/projects/list")) == 1
    assert await ann.call("/api/projects/list", {"include_not_joined": False}) == []
    found = await api.call("/api/projects/list", {"username": "admin", "return_total_count": True})
    assert (found["total_count"], len(found["projects"][0]["members"])) == (1, 1)


async def test_projects_are_paged_and_found_by_a_part_of_their_name(api: Api) -> None:
    for name in ("lab-1", "lab-2", "other"):
        await api.call("/api/projects/create", {"project_name": name})
    first = await api.call("/api/projects/list", {"name_pattern": "LAB", "ascending": True, "limit": 1})
    assert [one["project_name"] for one in first] == ["lab-1"]
    page = {"prev_created_at": first[0]["created_at"], "prev_id": first[0]["project_id"]}
    rest = await api.call("/api/projects/list", {"name_pattern": "lab", "ascending": True, **page})
    assert [one["project_name"] for one in rest] == ["lab-2"]


async def test_users_are_paged_and_found_by_a_part_of_their_name(api: Api) -> None:
    for name in ("ann", "anna", "bob"):
        await api.user(name)
    first = await api.call("/api/users/list", {"name_pattern": "ann", "ascending": True, "limit": 1})
    page = {"prev_created_at": first[0]["created_at"], "prev_id": first[0]["id"]}
    rest = await api.call("/api/users/list", {"name_pattern": "ann", "ascending": True, **page})
    assert [one["username"] for one in first + rest] == ["ann", "anna"]


async def test_projects_without_a_fleet_are_listed_until_they_have_one(api: Api) -> None:
    await api.call("/api/projects/create", {"project_name": "lab"})
    await api.call("fleets/apply", {"plan": {"spec": fleet()}})
    without = await api.call("/api/projects/list_only_no_fleets")
    assert [one["project_name"] for one in without] == ["lab"]


async def test_templates_of_a_project_are_named_and_forgotten(api: Api) -> None:
    path = "/api/projects/main/update"
    assert (await api.call(path, {"templates_repo": "https://example.org/t"}))["templates_repo"]
    assert (await api.call(path, {"is_public": False}))["templates_repo"] == "https://example.org/t"
    assert (await api.call(path, {"reset_templates_repo": True}))["templates_repo"] is None
