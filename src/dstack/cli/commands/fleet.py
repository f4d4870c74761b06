"""`dstack fleet`: fleets and their instances."""

from __future__ import annotations

import time

import click

from dstack.cli.apply_fleet import delete_and_wait
from dstack.cli.commands.listing import deleted, list_flags, show_list
from dstack.cli.group import Group
from dstack.cli.names import fleet_names
from dstack.cli.prompts import confirm
from dstack.cli.render.fleets import details, fleets_table
from dstack.cli.render.funnel import MAKE_A_FLEET, NO_FLEETS
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say, width
from dstack.errors import ResourceNotFound, UsageError


@click.group(cls=Group, invoke_without_command=True, epilog="Example: dstack fleet -v")
@list_flags
@click.pass_context
def fleet(ctx: click.Context, verbose: bool, watch: bool, as_json: bool) -> None:
    """Fleets and their instances; without a subcommand, list them."""
    if ctx.invoked_subcommand is None:
        _list(verbose, watch, as_json)


@fleet.command("list", epilog="Example: dstack fleet list -w")
@list_flags
def list_(verbose: bool, watch: bool, as_json: bool) -> None:
    """List fleets and their instances."""
    _list(verbose, watch, as_json)


@fleet.command(epilog="Example: dstack fleet get my-fleet --json")
@click.argument("name", required=False, shell_complete=fleet_names)
@click.option("--id", "fleet_id", metavar="UUID", help="Instead of the name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def get(name: str | None, fleet_id: str | None, as_json: bool) -> None:
    """Show one fleet."""
    if (name is None) == (fleet_id is None):
        raise UsageError("expected NAME or --id")
    with connect() as client:
        found = client.fleets.get(name, id=fleet_id)
    put_json(found) if as_json else put(details(found, time.time()))


@fleet.command(epilog="Example: dstack fleet delete my-fleet -i 0 -y")
@click.argument("name", shell_complete=fleet_names)
@click.option(
    "-i",
    "--instance",
    "instances",
    type=click.IntRange(0),
    multiple=True,
    metavar="NUM",
    help="Only this instance; may be given several times",
)
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete(name: str, instances: tuple[int, ...], yes: bool, as_json: bool) -> None:
    """Delete a fleet with its instances, or some of its instances."""
    _delete(name, [*instances], yes, as_json)


@fleet.command("delete-instance", epilog="Example: dstack fleet delete-instance my-fleet 0 -y")
@click.argument("name", shell_complete=fleet_names)
@click.argument("instance")
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete_instance(name: str, instance: str, yes: bool, as_json: bool) -> None:
    """Delete one instance of a fleet, by its number or id."""
    if instance.isdecimal():
        return _delete(name, [int(instance)], yes, as_json)
    with connect() as client:
        known = client.fleets.get(name)["instances"]
    found = [i["instance_num"] for i in known if instance in (i["id"], i["name"])]
    if not found:
        numbers = ", ".join(str(i["instance_num"]) for i in known)
        raise ResourceNotFound(
            f"Fleet {name} has no instance {instance}", hint=f"its instances: {numbers}" if known else None
        )
    _delete(name, found, yes, as_json)


def _list(verbose: bool, watch: bool, as_json: bool) -> None:
    found = show_list(
        "fleets",
        lambda client: client.fleets.list(),
        lambda fleets: fleets_table(fleets, time.time(), verbose=verbose, width=width()),
        watch=watch,
        as_json=as_json,
    )
    if found == []:
        say(f"\n{NO_FLEETS}\n{MAKE_A_FLEET}")


def _delete(name: str, instances: list[int], yes: bool, as_json: bool) -> None:
    if "/" in name:
        raise UsageError(f"{name} belongs to another project", hint="--project chooses the project")
    with connect() as client:
        known = {i["instance_num"] for i in client.fleets.get(name)["instances"]}
        if missing := sorted(set(instances) - known):
            raise ResourceNotFound(f"Fleet {name} has no instance {', '.join(map(str, missing))}")
        what = f"Delete the fleet {name} instances {instances}?" if instances else f"Delete the fleet {name}?"
        if not yes and not confirm(what):
            return say("Exiting...")
        if instances:
            client.fleets.delete_instances(name, instances)
        else:
            delete_and_wait(client, name)
        deleted("fleet", name, as_json, **({"instances": instances} if instances else {}))
