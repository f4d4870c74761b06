"""`dstack delete`: remove what a file describes, or what has a name."""

from __future__ import annotations

import click

from dstack.api.client import Client
from dstack.cli import discovery
from dstack.cli.apply_fleet import delete_and_wait
from dstack.cli.prompts import confirm
from dstack.cli.render.runs import finished
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, say
from dstack.errors import ConfigurationError, DstackError, ResourceNotFound, UsageError


@click.command(epilog="Example: dstack delete -f fleet.dstack.yml")
@click.argument("name", required=False)
@click.option("-f", "--file", metavar="FILE", help="The configuration file [default: .dstack.yml]")
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@project_option
def delete(name: str | None, file: str | None, yes: bool) -> None:
    """Delete a finished run, or a fleet with its instances."""
    if name and file:
        raise UsageError("NAME and -f exclude each other")
    with connect() as client:
        kind, found = _named(client, name) if name else _in_file(file, yes)
        _check(client, kind, found)
        if not yes and not confirm(f"Delete the {kind} {found}?"):
            return say("Exiting...")
        if kind == "run":
            client.runs.delete([found])
        else:
            delete_and_wait(client, found)
        put(f"{kind.capitalize()} {found} deleted")


def _in_file(file: str | None, yes: bool) -> tuple[str, str]:
    from dstack.model.configurations.reading import read
    from dstack.model.configurations.support import executed

    source = discovery.find(file, assume_yes=yes)
    reading = read(source.text, source.shown)
    configuration = executed(reading.configuration, reading.at(source.shown, "type"))
    kind = "fleet" if configuration.type == "fleet" else "run"
    if configuration.name is None:
        raise ConfigurationError(
            f"Configuration specifies no {kind} to delete", hint=f"`dstack delete NAME`, or `name:` in {source.shown}"
        )
    return kind, configuration.name


def _named(client: Client, name: str) -> tuple[str, str]:
    kinds = [kind for kind in ("run", "fleet") if _exists(client, kind, name)]
    if not kinds:
        raise ResourceNotFound(
            f"There is no run or fleet {name}", hint="`dstack ps -a` and `dstack fleet` list what there is"
        )
    if len(kinds) > 1:
        raise DstackError(
            f"{name} is both a run and a fleet", hint=f"`dstack delete -f FILE`, or `dstack fleet delete {name}`"
        )
    return kinds[0], name


def _exists(client: Client, kind: str, name: str) -> bool:
    try:
        client.runs.get(name) if kind == "run" else client.fleets.get(name)
    except ResourceNotFound:
        return False
    return True


def _check(client: Client, kind: str, name: str) -> None:
    if not _exists(client, kind, name):
        raise ResourceNotFound(f"{kind.capitalize()} {name} does not exist")
    if kind == "run" and not finished(client.runs.get(name)):
        raise DstackError(f"Cannot delete active runs: ['{name}']", hint=f"`dstack stop {name}` ends it first")
