"""`dstack attach`: into a run, with its ports on this machine, until it ends or one leaves."""

from __future__ import annotations

from typing import Any

import click

from dstack.api.client import Client
from dstack.cli.attached import Attached
from dstack.cli.command import Command
from dstack.cli.entrance import Entrance, Wish
from dstack.cli.failures import Quit
from dstack.cli.forwards import LOCALHOST, parsed
from dstack.cli.names import run_names
from dstack.cli.render import runs as words
from dstack.cli.session import connect, job_option, project_option
from dstack.cli.terminal import put
from dstack.errors import DstackError

Json = dict[str, Any]


@click.command(cls=Command, epilog="Example: dstack attach train --logs -p 8502:8501")
@click.argument("run_name", shell_complete=run_names)
@click.option("--logs", is_flag=True, help="Show the log, from its start, and end with the run's exit code")
@click.option("--since", metavar="TIME", help="With --logs: only what is newer, a duration (`10m`) or an instant")
@job_option
@click.option(
    "--replica", metavar="N", type=click.IntRange(0), help="The replica of a service [default: any that runs]"
)
@click.option(
    "--host", metavar="ADDRESS", default=LOCALHOST, show_default=True, help="Where forwarded ports listen here"
)
@click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="MAPPING",
    help="A local port for a port of the run, `8502:8501` or `*:8501`; may be given several times",
)
@click.option("--ssh-identity", metavar="FILE", help="The private key to log in with, instead of your own of dstack")
@project_option
def attach(
    run_name: str,
    logs: bool,
    since: str | None,
    job_num: int,
    replica: int | None,
    host: str,
    ports: tuple[str, ...],
    ssh_identity: str | None,
) -> None:
    """Make `ssh RUN_NAME` work and forward the run's ports, while the command runs.

    Waits for the run to start. Ends with it, or with Ctrl-C; the run goes on then.
    """
    parsed(ports)
    with connect() as client:
        run = client.runs.get(run_name)
        if words.finished(run):
            hint = f"`dstack logs {run_name}` shows its log"
            if run["status"] == "failed":
                hint += f", `dstack why {run_name}` what went wrong"
            raise DstackError(f"Run {run_name} is finished ({words.status(run)})", hint=hint)
        raise Quit(
            _stay(
                client,
                run,
                Wish(ports, host, job_num, replica, ssh_identity, log_shown=logs and not since),
                logs,
                since,
            )
        )


def _stay(client: Client, run: Json, wish: Wish, logs: bool, since: str | None) -> int:
    from dstack.cli.loglines import Filter

    after = Filter.of(since, None, False, False).since if since else None
    attached = Attached(client, run, assume_yes=True, show_log=logs, since=after, stays=not logs)
    attached.entrance = Entrance(client.fork(), wish, attached.events)
    attached.tell = put
    return attached.follow()
