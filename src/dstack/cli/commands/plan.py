"""`dstack plan`: what apply would do."""

from __future__ import annotations

from typing import Any

import click

from dstack.cli.applying import prepare, stop_if_refused
from dstack.cli.command import Command
from dstack.cli.commands.flags import SECTIONS, apply_flags, options_of
from dstack.cli.session import connect
from dstack.cli.terminal import put_json
from dstack.model.configurations import FleetConfiguration


@click.command(cls=Command, sections=SECTIONS, epilog="Example: dstack plan -f train.dstack.yml --max-offers 10")
@apply_flags
def plan(**values: Any) -> None:
    """Show the plan of a run or fleet and do nothing. Exit code 1 when apply would be refused."""
    from dstack.cli.apply_fleet import plan_fleet, show_fleet_plan
    from dstack.cli.apply_run import plan_run, show_run_plan

    options = options_of(values, yes=True)
    prepared = prepare(options)
    with connect() as client:
        if isinstance(prepared.configuration, FleetConfiguration):
            found = plan_fleet(client, prepared, options)
            put_json(found) if options.json else show_fleet_plan(found, options)
        else:
            found = plan_run(client, prepared, options)
            put_json(found) if options.json else show_run_plan(client, found, options)
    stop_if_refused(found)
