"""`dstack server orphans`: machines that no instance answers for, and what a person decides about them."""

from __future__ import annotations

import time
from typing import Any

from dstack.api.client import Client
from dstack.cli.prompts import confirm
from dstack.cli.render import values
from dstack.cli.render.table import table
from dstack.cli.session import connect
from dstack.cli.terminal import put, put_json, say, width
from dstack.errors import ResourceNotFound

Json = dict[str, Any]
HEADERS = ("TOKEN", "BACKEND", "MACHINE", "PROJECT", "WHY", "STATUS", "SEEN")
WHY = {
    "unknown": "no row knows it",
    "ended": "its instance {name} is terminated",
    "abandoned": "its instance {name} was abandoned",
}


def show(as_json: bool) -> None:
    """List them."""
    with connect() as client:
        found = client.orphans.list()
    if as_json:
        return put_json({"orphans": found}, indent=None)
    put(table(HEADERS, [_row(one, time.time()) for one in found], width()))
    if not found:
        say("\nNo machine is without an instance.")
    if any(one["status"] == "quarantined" for one in found):
        say("\nThey are left alone and may cost money. `dstack server orphans --terminate TOKEN` ends one.")


def terminate(token: str, yes: bool, as_json: bool) -> None:
    """Have one ended, after a question."""
    with connect() as client:
        one = _find(client, token)
        say(f"{_why(one)}.")
        machine = f"{one['backend']} machine {one['backend_id']}"
        if not yes and not confirm(f"Terminate the {machine} with all that runs on it?"):
            return say("Exiting...")
        client.orphans.terminate(token)
    if as_json:
        return put_json({"terminating": token})
    put(f"The machine {one['backend_id']} is being terminated; it is listed until it is proven gone")


def settle(token: str, yes: bool, as_json: bool) -> None:
    """Take one off the list, after a question."""
    with connect() as client:
        one = _find(client, token)
        if not yes and not confirm(f"Is the {one['backend']} machine {one['backend_id']} gone, or nothing of ours?"):
            return say("Exiting...")
        client.orphans.settle(token)
    if as_json:
        return put_json({"settled": token})
    put(f"The machine {one['backend_id']} is off the list; a sweep that finds it puts it there again")


def _find(client: Client, token: str) -> Json:
    found = next((one for one in client.orphans.list() if one["token"] == token), None)
    if found is None:
        raise ResourceNotFound(f"There is no orphaned machine {token}", hint="`dstack server orphans` lists them")
    return found


def _row(one: Json, now: float) -> tuple[str, ...]:
    status = one["status"] + (f": {one['last_error']}" if one["last_error"] else "")
    project, seen = one["project_name"] or "", values.age(one["first_seen"], now)
    return one["token"], one["backend"], one["backend_id"], project, _why(one), status, seen


def _why(one: Json) -> str:
    return WHY[one["origin"]].format(name=one["instance_name"])
