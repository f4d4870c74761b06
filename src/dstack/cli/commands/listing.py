"""What commands about nouns have in common: a table, again and again, or JSON; and the words for a deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dstack.api.client import Client
from dstack.cli.redraw import redraw
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json
from dstack.errors import UsageError

Json = dict[str, Any]


def list_flags(function: Any) -> Any:
    """`--verbose`, `--watch`, `--json`, `--project`."""
    for option in (
        project_option,
        click.option("--json", "as_json", is_flag=True, help="Print JSON"),
        click.option("-w", "--watch", is_flag=True, help="Show again every 2 seconds, until Ctrl-C"),
        click.option("-v", "--verbose", is_flag=True, help="More columns, and what went wrong"),
    ):
        function = option(function)
    return function


def show_list(
    noun: str,
    ask: Callable[[Client], list[Json]],
    form: Callable[[list[Json]], str],
    *,
    watch: bool,
    as_json: bool,
) -> list[Json] | None:
    """Show what `ask` answers as `form` has it, or as `{"project", noun}`; returns it when it was shown once."""
    if as_json and watch:
        raise UsageError("JSON output is not supported together with --watch")
    with connect() as client:
        if watch:
            return redraw(lambda: form(ask(client)))
        found = ask(client)
        if as_json:
            put_json({"project": client.project, noun: found}, indent=None)
            return None
    put(form(found))
    return found


def deleted(kind: str, name: str, as_json: bool, **more: Any) -> None:
    """Tell that something is gone, in words or as `{"deleted": {"type", "name"}}`."""
    if as_json:
        return put_json({"deleted": {"type": kind, "name": name, **more}})
    what = " instances" if more.get("instances") else ""
    put(f"{kind.capitalize()} {name}{what} deleted")
