"""`dstack fleet`: fleets and their instances."""

from __future__ import annotations

import time
from typing import Any

import click

from dstack.cli.apply_fleet import delete_and_wait
from dstack.cli.commands.listing import deleted, list_flags, show_list
from dstack.cli.draining import runs_on, wait_until_empty
from dstack.cli.group import Group
from dstack.cli.names import fleet_names
from dstack.cli.prompts import confirm
from dstack.cli.render.fleets import details, fleets_table
from dstack.cli.render.funnel import MAKE_A_FLEET, NO_FLEETS
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say, width
from dstack.errors import ResourceNotFound, UsageError

instances_option = click.option(
    "-i",
    "--instance",
    "instances",
    type=click.IntRange(0),
    multiple=True,
    metavar="NUM",
    help="Only this instance; may be given several times",
)


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
    put_json(found) if as_json else put(details(found, time.time(), width()))


@fleet.command(epilog="Example: dstack fleet delete my-fleet -i 0 -y")
@click.argument("name", shell_complete=fleet_names)
@instances_option
@click.option(
    "--abandon", is_flag=True, help="Do not wait for hosts that do not answer, nor for the proof that machines are gone"
)
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete(name: str, instances: tuple[int, ...], abandon: bool, yes: bool, as_json: bool) -> None:
    """Delete a fleet with its instances, or some of its instances."""
    _delete(name, [*instances], yes, as_json, abandon)


def some_instances(function: Any) -> Any:
    """`NAME`, `-i`, `--json`, `--project`."""
    for option in (
        project_option,
        click.option("--json", "as_json", is_flag=True, help="Print JSON"),
        instances_option,
        click.argument("name", shell_complete=fleet_names),
    ):
        function = option(function)
    return function


@fleet.command(epilog="Example: dstack fleet cordon my-fleet -i 0")
@some_instances
def cordon(name: str, instances: tuple[int, ...], as_json: bool) -> None:
    """Place no new jobs on a fleet's instances; what runs on them goes on."""
    with connect() as client:
        _cordoned(client.fleets.cordon(name, instances or None), instances, "cordoned", as_json)


@fleet.command(epilog="Example: dstack fleet uncordon my-fleet -i 0")
@some_instances
def uncordon(name: str, instances: tuple[int, ...], as_json: bool) -> None:
    """Place new jobs on a fleet's instances again."""
    with connect() as client:
        _cordoned(client.fleets.uncordon(name, instances or None), instances, "uncordoned", as_json)


@fleet.command(epilog="Example: dstack fleet drain my-fleet -i 0 --stop")
@some_instances
@click.option("--stop", is_flag=True, help="Stop the runs that are on them, instead of waiting for their end")
@click.option("-d", "--detach", is_flag=True, help="Do not wait until they are empty")
def drain(name: str, instances: tuple[int, ...], as_json: bool, stop: bool, detach: bool) -> None:
    """Place no new jobs on a fleet's instances, and wait until what runs on them has ended."""
    with connect() as client:
        found = client.fleets.drain(name, instances or None)
        if stop and (runs := runs_on(found, instances)):
            client.runs.stop(runs)
        if not detach:
            found = wait_until_empty(client, found, instances)
        _cordoned(found, instances, "being drained" if detach else "drained", as_json)


def _cordoned(found: dict[str, Any], instances: tuple[int, ...], what: str, as_json: bool) -> None:
    if as_json:
        return put_json(found)
    noun = "instance" if len(instances) == 1 else "instances"
    numbers = f", {noun} {', '.join(map(str, instances))}:" if instances else ""
    put(f"Fleet {found['name']}{numbers} {what}")


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


def _delete(name: str, instances: list[int], yes: bool, as_json: bool, abandon: bool = False) -> None:
    if "/" in name:
        raise UsageError(f"{name} belongs to another project", hint="--project chooses the project")
    with connect() as client:
        known = {i["instance_num"] for i in client.fleets.get(name)["instances"]}
        if missing := sorted(set(instances) - known):
            raise ResourceNotFound(f"Fleet {name} has no instance {', '.join(map(str, missing))}")
        what = f"Delete the fleet {name} instances {instances}?" if instances else f"Delete the fleet {name}?"
        if not yes and not confirm(what):
            return say("Exiting...")
        delete_and_wait(client, name, instances, abandon=abandon)
        deleted("fleet", name, as_json, **({"instances": instances} if instances else {}))
