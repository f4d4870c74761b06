"""`dstack delete`: remove what a file describes, or what has a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dstack.api.client import Client
from dstack.cli import discovery
from dstack.cli.apply_fleet import delete_and_wait
from dstack.cli.commands.listing import deleted
from dstack.cli.names import run_or_fleet_names
from dstack.cli.prompts import confirm
from dstack.cli.render.runs import finished
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import say
from dstack.errors import ConfigurationError, DstackError, ResourceNotFound, UsageError

KINDS = ("run", "fleet", "volume", "gateway")


@click.command(epilog="Example: dstack delete -f fleet.dstack.yml")
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
        kind, found = _named(client, name) if name else _in_file(file, yes)
        _check(client, kind, found)
        if not yes and not confirm(f"Delete the {kind} {found}?"):
            return say("Exiting...")
        _remove(client, kind, found)
    deleted(kind, found, as_json)


def _in_file(file: str | None, yes: bool) -> tuple[str, str]:
    from dstack.model.configurations.reading import read

    source = discovery.find(file, assume_yes=yes)
    configuration = read(source.text, source.shown).configuration
    kind = configuration.type if configuration.type in KINDS else "run"
    if configuration.name is None:
        raise ConfigurationError(
            f"Configuration specifies no {kind} to delete", hint=f"`dstack delete NAME`, or `name:` in {source.shown}"
        )
    return kind, configuration.name


def _named(client: Client, name: str) -> tuple[str, str]:
    kinds = [kind for kind in KINDS[:2] if _exists(client, kind, name)]
    kinds = kinds or [kind for kind in KINDS[2:] if _exists(client, kind, name)]
    if not kinds:
        raise ResourceNotFound(
            f"There is no run, fleet, volume or gateway {name}",
            hint="`dstack ps -a` and `dstack fleet` list what there is",
        )
    if len(kinds) > 1:
        raise DstackError(
            f"{name} is both a {kinds[0]} and a {kinds[1]}", hint="`dstack delete -f FILE` says which is meant"
        )
    return kinds[0], name


def _exists(client: Client, kind: str, name: str) -> bool:
    get: dict[str, Callable[[str], Any]] = {
        "run": client.runs.get,
        "fleet": client.fleets.get,
        "volume": client.volumes.get,
        "gateway": client.gateways.get,
    }
    try:
        get[kind](name)
    except ResourceNotFound:
        return False
    return True


def _remove(client: Client, kind: str, name: str) -> None:
    if kind == "fleet":
        return delete_and_wait(client, name)
    {"run": client.runs, "volume": client.volumes, "gateway": client.gateways}[kind].delete([name])


def _check(client: Client, kind: str, name: str) -> None:
    if not _exists(client, kind, name):
        raise ResourceNotFound(f"{kind.capitalize()} {name} does not exist")
    if kind == "run" and not finished(client.runs.get(name)):
        raise DstackError(f"Cannot delete active runs: ['{name}']", hint=f"`dstack stop {name}` ends it first")
