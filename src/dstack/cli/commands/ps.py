"""`dstack ps`: the runs of the project."""

from __future__ import annotations

import time

import click

from dstack.api.client import Client
from dstack.cli.command import Command
from dstack.cli.redraw import redraw
from dstack.cli.render.runs import runs_table
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say, width
from dstack.errors import UsageError


@click.command(cls=Command, epilog="Example: dstack ps -n 10 --json")
@click.option("-a", "--all", "every", is_flag=True, help="Finished runs too")
@click.option("-n", "--last", type=click.IntRange(1, 10000), metavar="N", help="The last N runs, finished ones too")
@click.option("-v", "--verbose", is_flag=True, help="Resources, instance types and errors")
@click.option("-w", "--watch", is_flag=True, help="Show again every 2 seconds, until Ctrl-C")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@click.option("--format", "form", type=click.Choice(["plain", "json"]), help="The same as one option")
@project_option
def ps(every: bool, last: int | None, verbose: bool, watch: bool, as_json: bool, form: str | None) -> None:
    """List active runs; when there is none, the last one that finished."""
    as_json = as_json or form == "json"
    if as_json and watch:
        raise UsageError("JSON output is not supported together with --watch")
    with connect() as client:
        if as_json:
            return put_json({"project": client.project, "runs": _runs(client, every, last)}, indent=None)
        if watch:
            return redraw(lambda: runs_table(_runs(client, every, last), time.time(), verbose=verbose, width=width()))
        found = _runs(client, every, last)
        put(runs_table(found, time.time(), verbose=verbose, width=width()))
        if not found:
            say("\nThe project has no runs yet. `dstack apply -f FILE` submits one.")


def _runs(client: Client, every: bool, last: int | None) -> list[dict]:
    if every or last:
        return client.runs.list(limit=last or 100)
    return client.runs.list(only_active=True) or client.runs.list(limit=1)
