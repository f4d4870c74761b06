"""`dstack why`: the reason for the present state, and what would change it."""

from __future__ import annotations

import click

from dstack.api.client import Client
from dstack.cli.command import Command
from dstack.cli.names import run_or_fleet_names
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json
from dstack.errors import ResourceNotFound


@click.command(cls=Command, epilog="Example: dstack why train")
@click.argument("name", metavar="RUN|FLEET", shell_complete=run_or_fleet_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def why(name: str, as_json: bool) -> None:
    """Say why a run or a fleet is where it is: what it waits for, what was tried, the smallest change that helps."""
    with connect() as client:
        answer = _answer(client, name)
    if as_json:
        return put_json(answer)
    for line in answer["lines"]:
        put(line)


def _answer(client: Client, name: str) -> dict:
    for ask in (client.runs.why, client.fleets.why):
        try:
            return ask(name)
        except ResourceNotFound:
            continue
    raise ResourceNotFound(
        f"There is no run or fleet {name}", hint="`dstack ps -a` and `dstack fleet` list what there is"
    )
