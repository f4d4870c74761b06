"""`dstack run`: details of one run. Starting one is `dstack apply`."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import click

from dstack.cli.group import Group
from dstack.cli.names import run_names
from dstack.cli.render import runs as words
from dstack.cli.render import values
from dstack.cli.render.runs import runs_table
from dstack.cli.render.table import properties
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, width
from dstack.errors import UsageError


class Run(Group):
    """Also answers the command line of older releases, `dstack run . -f FILE`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and (args[0] in (".", "..") or "/" in args[0] or "-f" in args):
            raise UsageError("`dstack run` starts nothing any more", hint=f"`{_modern(args)}`")
        return super().resolve_command(ctx, args)


@click.group(cls=Run, invoke_without_command=True, epilog="Example: dstack run get train --json")
@click.option("-f", "--file", metavar="FILE", hidden=True)
@project_option
@click.pass_context
def run(ctx: click.Context, file: str | None) -> None:
    """Details of a run. To start one: dstack apply -f FILE."""
    if file is not None:
        raise UsageError("`dstack run` starts nothing any more", hint=f"`dstack apply -f {file}`")
    if ctx.invoked_subcommand is None:
        put(ctx.get_help())


@run.command(epilog="Example: dstack run get train --json")
@click.argument("name", required=False, shell_complete=run_names)
@click.option("--id", "run_id", metavar="UUID", help="Instead of the name: finished and deleted runs have one, too")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def get(name: str | None, run_id: str | None, as_json: bool) -> None:
    """Show one run."""
    if (name is None) == (run_id is None):
        raise UsageError("expected NAME or --id")
    if run_id is not None and not _is_uuid(run_id):
        raise UsageError(f"Invalid UUID format: {run_id}")
    with connect() as client:
        found = client.runs.get(name, id=run_id)
    if as_json:
        return put_json(found)
    put(_details(found))
    put()
    put(runs_table([found], time.time(), verbose=True, width=width()))


def _details(found: dict[str, Any]) -> str:
    configuration = found["run_spec"]["configuration"]
    rows = [
        ("Name", words.name(found)),
        ("Project", found["project_name"]),
        ("User", found["user"]),
        ("Type", str(configuration.get("type"))),
        ("Status", words.status(found)),
        ("Waiting for", str(found.get("x_waiting_for") or "")),
        ("Submitted", values.clock(found.get("submitted_at"))),
        ("Fleet", str((found.get("fleet") or {}).get("name") or "")),
        ("Cost", values.money(found.get("cost") or 0)),
        ("Error", words.error_text(found)),
    ]
    return properties([row for row in rows if row[1]])


def _modern(args: list[str]) -> str:
    for index, item in enumerate(args):
        if item in ("-f", "--file") and index + 1 < len(args):
            return f"dstack apply -f {args[index + 1]}"
    file = next((item for item in args if re.search(r"\.ya?ml$", item)), None)
    return f"dstack apply -f {file}" if file else "dstack apply -f FILE"


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
