"""`dstack export` and `dstack import`: resources shared between projects, which only some servers have."""

from __future__ import annotations

from typing import Any

import click

from dstack.cli.command import Command
from dstack.cli.render.table import table
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, width

_ANY = {"ignore_unknown_options": True}


def _command(direction: str) -> Any:
    noun = f"{direction}s"

    @click.command(direction, cls=Command, epilog=f"Example: dstack {direction} list", context_settings=_ANY)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[list]")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON")
    @project_option
    def command(arguments: tuple[str, ...], as_json: bool) -> None:
        del arguments  # whatever is wanted, the server says first whether it has such a thing
        with connect() as client:
            found = client.list_shared(noun)
            project = client.project
        if as_json:
            return put_json({"project": project, noun: found})
        put(table(("NAME",), [(str(item.get("name") or item.get("export_name")),) for item in found], width()))

    command.help = f"List the {noun} of the project, on a server that has them. This project's server has none."
    return command


export = _command("export")
import_ = _command("import")
