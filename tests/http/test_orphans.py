"""Orphaned machines, as the admins of a server see and end them."""

from __future__ import annotations

from typing import Any

from dstack.model.orphan import Orphan, OrphanOrigin
from dstack.server.services.rows import fetch, insert_rows
from dstack.server.store.tables import TABLES
from support.builders import some_id
from support.http_api import Api

NOW = 1_700_000_000.0


async def quarantined(api: Api, token: str = "tok-1", **fields: Any) -> Orphan:
    row = Orphan(
        id=some_id("orphan", token),
        project_id="",
        created_at=NOW,
        origin=OrphanOrigin.UNKNOWN,
        backend="local",
        token=token,
        backend_id=f"i-{token}",
        first_seen=NOW,
        **fields,
    )
    async with api.parts.database.write() as connection:
        await insert_rows(connection, [row], NOW * 2)
    return row


async def stored(api: Api, row: Orphan) -> Orphan:
    async with api.parts.database.read() as connection:
        return (await fetch(connection, Orphan, TABLES["orphan"].c.id == row.id))[0]


async def test_orphans_are_listed_with_why_they_are_there(api: Api) -> None:
    await quarantined(api)
    (one,) = await api.call("/api/server/orphans/list")
    assert one == {
        "token": "tok-1",
        "status": "quarantined",
        "origin": "unknown",
        "backend": "local",
        "backend_id": "i-tok-1",
        "project_name": None,
        "instance_name": None,
        "first_seen": "2023-11-14T22:13:20.000000Z",
        "machine_created_at": None,
        "last_error": None,
    }


async def test_an_admin_has_one_terminated_and_the_event_says_who(api: Api) -> None:
    row = await quarantined(api)
    await api.call("/api/server/orphans/terminate", {"token": "tok-1"})
    assert (await stored(api, row)).terminate_requested_at is not None
    (event, *_) = await api.call("/api/events/list", {})
    assert event["message"] == "Termination of the orphaned machine i-tok-1 requested"
    assert event["actor_user"] == "admin"


async def test_an_admin_takes_one_off_the_list(api: Api) -> None:
    row = await quarantined(api)
    await api.call("/api/server/orphans/settle", {"token": "tok-1"})
    assert (await stored(api, row)).settle_requested_at is not None


async def test_one_that_is_not_there_is_told(api: Api) -> None:
    answer = await api.call("/api/server/orphans/terminate", {"token": "nope"}, status=400)
    assert "There is no orphaned machine nope" in str(answer)


async def test_whoever_is_no_admin_of_the_server_is_denied(api: Api) -> None:
    await quarantined(api)
    pia = await api.user("pia", "admin")
    for act in ("list", "terminate", "settle"):
        await pia.call(f"/api/server/orphans/{act}", {"token": "tok-1"}, status=403)
