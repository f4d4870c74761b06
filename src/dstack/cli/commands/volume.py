"""`dstack volume`: volumes of the project."""

from __future__ import annotations

import time

import click

from dstack.cli.commands.listing import deleted, list_flags, show_list
from dstack.cli.group import Group
from dstack.cli.names import volume_names
from dstack.cli.prompts import confirm
from dstack.cli.render.nouns import volume_details, volumes_table
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say, width


@click.group(cls=Group, invoke_without_command=True, epilog="Example: dstack volume -v")
@list_flags
@click.pass_context
def volume(ctx: click.Context, verbose: bool, watch: bool, as_json: bool) -> None:
    """Volumes; without a subcommand, list them."""
    if ctx.invoked_subcommand is None:
        _list(verbose, watch, as_json)


@volume.command("list", epilog="Example: dstack volume list -w")
@list_flags
def list_(verbose: bool, watch: bool, as_json: bool) -> None:
    """List volumes."""
    _list(verbose, watch, as_json)


@volume.command(epilog="Example: dstack volume get my-volume --json")
@click.argument("name", shell_complete=volume_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def get(name: str, as_json: bool) -> None:
    """Show one volume."""
    with connect() as client:
        found = client.volumes.get(name)
    put_json(found) if as_json else put(volume_details(found, time.time()))


@volume.command(epilog="Example: dstack volume delete my-volume -y")
@click.argument("name", shell_complete=volume_names)
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete(name: str, yes: bool, as_json: bool) -> None:
    """Delete a volume."""
    with connect() as client:
        client.volumes.get(name)
        if not yes and not confirm(f"Delete the volume {name}?"):
            return say("Exiting...")
        client.volumes.delete([name])
    deleted("volume", name, as_json)


def _list(verbose: bool, watch: bool, as_json: bool) -> None:
    found = show_list(
        "volumes",
        lambda client: client.volumes.list(),
        lambda found: volumes_table(found, time.time(), verbose=verbose, width=width()),
        watch=watch,
        as_json=as_json,
    )
    if found == []:
        say("\nThe project has no volumes. This release makes none.")
