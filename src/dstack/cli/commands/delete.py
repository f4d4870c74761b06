"""`dstack delete`: remove what a file describes, or what has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dstack.api.client import Client
from dstack.cli import discovery
from dstack.cli.apply_fleet import delete_and_wait
from dstack.cli.command import Command
from dstack.cli.commands.listing import deleted
from dstack.cli.names import run_or_fleet_names
from dstack.cli.prompts import confirm
from dstack.cli.render.runs import finished
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import say
from dstack.errors import ConfigurationError, DstackError, ResourceNotFound, UsageError

KINDS = ("run", "fleet", "volume", "gateway")


@click.command(cls=Command, epilog="Example: dstack delete -f fleet.dstack.yml")
@click.argument("name", required=False, shell_complete=run_or_fleet_names)
@click.option("-f", "--file", metavar="FILE", help="The configuration file [default: .dstack.yml]")
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete(name: str | None, file: str | None, yes: bool, as_json: bool) -> None:
    """Delete a finished run, a fleet with its instances, a volume or a gateway."""
    if name and file:
        raise UsageError("NAME and -f exclude each other")
    with connect() as client:
        kind, found = _named(client, name) if name else _in_file(client, file, yes)
        if not yes and not confirm(f"Delete the {kind} {found}?"):
            return say("Exiting...")
        _remove(client, kind, found)
    deleted(kind, found, as_json)


def _in_file(client: Client, file: str | None, yes: bool) -> tuple[str, str]:
    from dstack.model.configurations.reading import read

    source = discovery.find(file, assume_yes=yes)
    configuration = read(source.text, source.shown).configuration
    kind = configuration.type if configuration.type in KINDS else "run"
    if configuration.name is None:
        raise ConfigurationError(
            f"Configuration specifies no {kind} to delete", hint=f"`dstack delete NAME`, or `name:` in {source.shown}"
        )
    thing = _get(client, kind, configuration.name)
    if thing is None:
        raise ResourceNotFound(f"{kind.capitalize()} {configuration.name} does not exist")
    _check(kind, thing, configuration.name)
    return kind, configuration.name


def _named(client: Client, name: str) -> tuple[str, str]:
    things = {kind: _get(client, kind, name) for kind in KINDS[:2]}
    if not any(things.values()):
        things = {kind: _get(client, kind, name) for kind in KINDS[2:]}
    kinds = [kind for kind, thing in things.items() if thing is not None]
    if not kinds:
        raise ResourceNotFound(
            f"There is no run, fleet, volume or gateway {name}",
            hint="`dstack ps -a` and `dstack fleet` list what there is",
        )
    if len(kinds) > 1:
        raise DstackError(
            f"{name} is both a {kinds[0]} and a {kinds[1]}", hint="`dstack delete -f FILE` says which is meant"
        )
    _check(kinds[0], things[kinds[0]], name)
    return kinds[0], name


def _get(client: Client, kind: str, name: str) -> Any:
    """The thing as the server has it, None when there is none."""
    get: dict[str, Callable[[str], Any]] = {
        "run": client.runs.get,
        "fleet": client.fleets.get,
        "volume": client.volumes.get,
        "gateway": client.gateways.get,
    }
    try:
        return get[kind](name)
    except ResourceNotFound:
        return None


def _remove(client: Client, kind: str, name: str) -> None:
    if kind == "fleet":
        return delete_and_wait(client, name)
    {"run": client.runs, "volume": client.volumes, "gateway": client.gateways}[kind].delete([name])


def _check(kind: str, thing: Any, name: str) -> None:
    if kind == "run" and not finished(thing):
        raise DstackError(f"Cannot delete active runs: ['{name}']", hint=f"`dstack stop {name}` ends it first")
