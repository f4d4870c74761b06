"""`dstack stop`: end a run."""

from __future__ import annotations

import click

from dstack.cli.command import Command
from dstack.cli.names import run_names
from dstack.cli.prompts import confirm
from dstack.cli.render.runs import finished, status
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say
from dstack.errors import DstackError


@click.command(cls=Command, epilog="Example: dstack stop train -y")
@click.argument("run_name", shell_complete=run_names)
@click.option("-x", "--abort", is_flag=True, help="At once, without giving the job time to end")
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON")
@project_option
def stop(run_name: str, abort: bool, yes: bool, as_json: bool) -> None:
    """Ask a run to stop. Its jobs get an interrupt and time to end; --abort does not wait for that."""
    with connect() as client:
        run = client.runs.get(run_name)
        if finished(run):
            raise DstackError(
                f"Run {run_name} is finished ({status(run)})", hint=f"`dstack delete {run_name}` removes it"
            )
        verb = "abort" if abort else "stop"
        if not yes and not confirm(f"Are you sure you want to {verb} the run {run_name}?"):
            return say("Exiting...")
        client.runs.stop([run_name], abort=abort)
        if as_json:
            return put_json(client.runs.get(run_name))
        put("Aborted" if abort else "Stopped")
