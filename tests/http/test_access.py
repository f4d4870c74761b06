"""Who gets in, and what is said to those who do not."""

from __future__ import annotations

from sqlalchemy import select

from dstack.server.services import bootstrap
from dstack.server.store.tables import user
from support.http_api import TOKEN, Api


async def test_a_request_without_a_token_is_answered_401(api: Api) -> None:
    answer = await api.having(None).call("/api/users/get_my_user", status=401)
    assert answer == {"detail": "Not authenticated"}


async def test_a_scheme_other_than_bearer_is_answered_401(api: Api) -> None:
    response = await api.having(None).raw("runs/get", {}, headers={"Authorization": f"Basic {TOKEN}"})
    assert response.status_code == 401


async def test_a_wrong_token_is_answered_403(api: Api) -> None:
    answer = await api.having("nonsense").call("/api/users/get_my_user", status=403)
    assert answer == {"detail": {"msg": "Invalid token", "code": None}}


async def test_a_wrong_token_is_told_before_an_unknown_project(api: Api) -> None:
    answer = await api.having("nonsense", "nowhere").call("runs/get", {}, status=403)
    assert answer["detail"]["msg"] == "Invalid token"


async def test_an_unknown_project_is_answered_404(api: Api) -> None:
    answer = await api.having(TOKEN, "nowhere").call("runs/get", {"run_name": "x"}, status=404)
    assert answer == {"detail": {"msg": "Not found", "code": None}}


async def test_who_is_not_a_member_is_denied(api: Api) -> None:
    stranger = await api.user("stranger")
    answer = await stranger.call("runs/get", {"run_name": "x"}, status=403)
    assert answer == {"detail": {"msg": "Access denied", "code": None}}


async def test_a_global_admin_needs_no_membership(api: Api) -> None:
    other = await api.user("second", global_role="admin")
    assert await other.call("fleets/list") == []


async def test_a_public_project_can_be_looked_at_but_not_used(api: Api) -> None:
    stranger = await api.user("stranger")
    await api.call("/api/projects/main/update", {"is_public": True})
    assert (await stranger.call("/api/projects/main/get"))["is_public"]
    await stranger.call("fleets/list", status=403)


async def test_secrets_are_for_managers(api: Api) -> None:
    plain = await api.user("plain", "user")
    manager = await api.user("manager", "manager")
    await plain.call("secrets/list", status=403)
    assert await manager.call("secrets/list") == []


async def test_the_token_of_an_inactive_user_is_refused(api: Api) -> None:
    other = await api.user("other", "user")
    await api.call("/api/users/update", {"username": "other", "global_role": "user", "active": False})
    await other.call("/api/users/get_my_user", status=403)


async def test_a_refreshed_token_replaces_the_old_one_at_once(api: Api) -> None:
    other = await api.user("other", "user")
    fresh = await other.call("/api/users/refresh_token", {"username": "other"})
    await other.call("/api/users/get_my_user", status=403)
    assert (await api.having(fresh["creds"]["token"]).call("/api/users/get_my_user"))["username"] == "other"


async def test_the_database_holds_no_token_and_no_private_key_in_clear(api: Api) -> None:
    own = await api.call("/api/users/get_my_user")
    assert own["creds"]["token"] == TOKEN
    async with api.parts.database.read() as connection:
        row = (await connection.execute(select(user))).one()
    assert TOKEN not in repr(row)
    assert own["ssh_private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert b"PRIVATE KEY" not in row.ssh_private_key


async def test_a_reset_token_lets_the_admin_in_again(api: Api) -> None:
    token = await bootstrap.reset_token(api.parts.database, 1.0)
    await api.call("/api/users/get_my_user", status=403)
    assert (await api.having(token).call("/api/users/get_my_user"))["username"] == "admin"


async def test_only_a_first_start_and_a_changed_setting_give_a_token_to_show(api: Api) -> None:
    database, cipher = api.parts.database, api.parts.cipher
    assert await bootstrap.ensure(database, cipher, 2.0, "main") is None
    assert await bootstrap.ensure(database, cipher, 2.0, "main", TOKEN) is None
    assert await bootstrap.ensure(database, cipher, 2.0, "main", "another-token") == "another-token"
    assert (await api.having("another-token").call("/api/users/get_my_user"))["username"] == "admin"
