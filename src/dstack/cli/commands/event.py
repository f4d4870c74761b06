"""`dstack event`: what happened, and who did it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import click

from dstack.api.client import Client
from dstack.cli.group import Group
from dstack.cli.loglines import parse_since
from dstack.cli.render import values
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say
from dstack.errors import ResourceNotFound, ServerUnreachable

Json = dict[str, Any]

TYPES = (
    "project",
    "user",
    "fleet",
    "instance",
    "run",
    "job",
    "volume",
    "gateway",
    "gateway-replica",
    "secret",
    "preset",
)
PERIOD_S = 1.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TARGETS = ("project", "user", "fleet", "instance", "run", "volume", "gateway", "secret")
SCOPES = ("fleet", "run", "gateway")


def _flags(function: Any) -> Any:
    options = [
        project_option,
        click.option("--json", "as_json", is_flag=True, help="Print JSON, with -w an object per line"),
        click.option("-w", "--watch", is_flag=True, help="Go on with new events, until Ctrl-C"),
        click.option("--since", metavar="TIME", help="Only newer ones: a duration (`10m`) or an instant"),
        *(
            click.option(f"--target-{kind}", multiple=True, metavar="NAME", help=f"About this {kind}")
            for kind in TARGETS
        ),
        *(
            click.option(
                f"--within-{kind}", multiple=True, metavar="NAME", help=f"About this {kind} and what belongs to it"
            )
            for kind in SCOPES
        ),
        click.option(
            "--include-target-type",
            "types",
            multiple=True,
            type=click.Choice(TYPES),
            metavar="TYPE",
            help=f"About things of this type: {', '.join(TYPES)}",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group(cls=Group, invoke_without_command=True, epilog="Example: dstack event -w --within-run train")
@_flags
@click.pass_context
def event(ctx: click.Context, **flags: Any) -> None:
    """The last 100 events of the project, oldest first."""
    if ctx.invoked_subcommand is None:
        _show(flags)


@event.command("list", epilog="Example: dstack event list --since 1h")
@_flags
def list_(**flags: Any) -> None:
    """The last 100 events of the project, oldest first."""
    _show(flags)


def line(item: Json) -> str:
    """`[2026-11-21 05:44:57] [👤admin] [run t1] Run submitted. Status: SUBMITTED`."""
    actor = f" [👤{item['actor_user']}]" if item.get("actor_user") else ""
    targets = ", ".join(f"{target['type']} {target['name']}" for target in item.get("targets") or [])
    return f"[{values.clock(item['recorded_at'])}]{actor} [{targets}] {item['message']}"


def _show(flags: Json) -> None:
    since = parse_since(flags["since"], time.time()) if flags["since"] else None
    with connect() as client:
        filters = _filters(client, flags)
        found = [item for item in reversed(client.events.list(filters=filters)) if _is_new(item, since)]
        if flags["as_json"] and not flags["watch"]:
            return put_json({"project": client.project, "events": found})
        show: Callable[[Json], None] = lambda item: put_json(item, indent=None) if flags["as_json"] else put(line(item))  # noqa: E731
        for item in found:
            show(item)
        if flags["watch"]:
            _watch(client, filters, found[-1] if found else None, show)


def _filters(client: Client, flags: Json) -> Json:
    """The filters of the HTTP API: ids in place of names."""
    filters: Json = {}
    for scope, kinds in (("target", TARGETS), ("within", SCOPES)):
        for kind in kinds:
            if names := flags.get(f"{scope}_{kind}"):
                filters[f"{scope}_{kind}s"] = [_id(client, kind, name) for name in names]
    if flags["types"]:
        filters["include_target_types"] = [*flags["types"]]
    return filters


def _id(client: Client, kind: str, name: str) -> str:
    """The id of what has that name now; an id stays one, so that what is gone can be asked about, too."""
    if _ID.fullmatch(name):
        return name
    if kind == "instance":
        found = [i for fleet in client.fleets.list() for i in fleet["instances"] if i["name"] == name]
        if not found:
            raise ResourceNotFound(f"Instance {name} not found", hint="`dstack fleet get FLEET` lists instances")
        return found[0]["id"]
    get: dict[str, Callable[[str], Json]] = {
        "run": client.runs.get,
        "fleet": client.fleets.get,
        "secret": client.secrets.get,
        "volume": client.volumes.get,
        "gateway": client.gateways.get,
        "user": client.users.get,
        "project": lambda name: {"id": client.projects.get(name)["project_id"]},
    }
    return get[kind](name)["id"]


def _is_new(item: Json, since: float | None) -> bool:
    at = values.instant(item["recorded_at"])
    return since is None or at is None or at >= since


def _watch(client: Client, filters: Json, last: Json | None, show: Callable[[Json], None]) -> None:
    """Ask for what came after the last one that was shown."""
    try:
        while True:
            time.sleep(PERIOD_S)
            try:
                found = (
                    client.events.list(filters=filters, after=last)
                    if last
                    else client.events.list(filters=filters)[::-1]
                )
            except ServerUnreachable as error:
                say(f"{error.message}; trying again")
                time.sleep(5 * PERIOD_S)
                continue
            for item in found:
                show(item)
                last = item
    except KeyboardInterrupt:
        say()
