"""`dstack apply`: whatever the file says, after a look at the plan."""

from __future__ import annotations

from typing import Any

import click

from dstack.cli.applying import prepare
from dstack.cli.commands.flags import apply_flags, options_of
from dstack.cli.failures import Quit
from dstack.cli.session import connect
from dstack.model.configurations import FleetConfiguration


@click.command(
    epilog="Example: dstack apply -f train.dstack.yml --gpu 24GB.. -- --epochs 3",
    context_settings={"ignore_unknown_options": False},
)
@apply_flags
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("-d", "--detach", is_flag=True, help="Do not stay with the run")
@click.option("--force", is_flag=True, help="Apply when nothing has changed, too")
def apply(yes: bool, detach: bool, force: bool, **values: Any) -> None:
    """Run a task or create a fleet: show the plan, ask, submit, and stay until the end.

    Values after `--` replace ${{ run.args }} in the commands. Ctrl-C asks whether to stop the run. The exit code is
    that of the job, 1 when it could not run.
    """
    options = options_of(values, yes=yes, detach=detach, force=force)
    prepared = prepare(options)
    with connect() as client:
        if isinstance(prepared.configuration, FleetConfiguration):
            from dstack.cli.apply_fleet import apply_fleet

            raise Quit(apply_fleet(client, prepared, options))
        from dstack.cli.apply_run import apply_run

        raise Quit(apply_run(client, prepared, options))
