"""`dstack init`: register the repo of runs that bring no repo of their own."""

from __future__ import annotations

from typing import Any

import click

from dstack.cli.commands.flags import REPO_FLAGS
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json


def _repo_flags(function: Any) -> Any:
    for flag in reversed(REPO_FLAGS):
        function = flag(function)
    return function


@click.command(epilog="Example: dstack init")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@_repo_flags
@project_option
def init(as_json: bool) -> None:
    """Register the project's default repo. Optional: apply does what is needed."""
    with connect() as client:
        client.repos.init_virtual()
        project = client.project
    put_json({"project": project, "repo": "none"}) if as_json else put("OK")
