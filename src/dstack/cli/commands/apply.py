"""`dstack apply`: whatever the file says, after a look at the plan."""

from __future__ import annotations

from typing import Any

import click

from dstack.cli.applying import prepare
from dstack.cli.command import Command
from dstack.cli.commands.flags import SECTIONS, apply_flags, options_of
from dstack.cli.failures import Quit
from dstack.cli.session import connect
from dstack.cli.terminal import put, width
from dstack.errors import UsageError
from dstack.model.configurations import FleetConfiguration

GENERAL = "-"  # --help without a type


def _help(ctx: click.Context, _: click.Parameter, type_: str | None) -> None:
    """The help of the command, or of the files of one type; ends the command."""
    if type_ is None or ctx.resilient_parsing:
        return
    put(ctx.get_help() if type_ == GENERAL else _properties(type_))
    ctx.exit()


def _properties(type_: str) -> str:
    from dstack.cli.render.keys import keys_table
    from dstack.model.configurations.reading import MODELS
    from dstack.model.configurations.schema import json_schema

    if type_ not in MODELS:
        raise UsageError(f"{type_} is not a type of configuration", hint=f"expected one of: {', '.join(MODELS)}")
    head = f"Properties of a file with `type: {type_}`. Flags: dstack apply --help. For editors: dstack schema {type_}"
    return f"{head}\n\n{keys_table(json_schema(type_), width())}"


@click.command(
    cls=Command,
    sections=SECTIONS,
    epilog="Example: dstack apply -f train.dstack.yml --gpu 24GB.. -- --epochs 3",
    context_settings={"ignore_unknown_options": False},
    add_help_option=False,
)
@click.option(
    "-h",
    "--help",
    "type_",
    metavar="[TYPE]",
    is_flag=False,
    flag_value=GENERAL,
    is_eager=True,
    expose_value=False,
    callback=_help,
    help="Show this text, or the properties of files of a type: task, fleet, ...",
)
@apply_flags
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("-d", "--detach", is_flag=True, help="Do not stay with the run")
@click.option("--force", is_flag=True, help="Apply when nothing has changed, too")
def apply(yes: bool, detach: bool, force: bool, **values: Any) -> None:
    """Run a task or a dev environment, or create a fleet: show the plan, ask, submit, and stay until the end.

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
