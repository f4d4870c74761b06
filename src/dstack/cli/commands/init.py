"""`dstack init`: register the repo of runs that bring no repo of their own."""

from __future__ import annotations

import click

from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put


@click.command(epilog="Example: dstack init")
@project_option
def init() -> None:
    """Register the project's default repo. Optional: apply does what is needed."""
    with connect() as client:
        client.repos.init_virtual()
    put("OK")
