"""`dstack gateway`: gateways of the project."""

from __future__ import annotations

import time

import click

from dstack.cli.commands.listing import deleted, list_flags, show_list
from dstack.cli.group import Group
from dstack.cli.names import gateway_names
from dstack.cli.prompts import confirm
from dstack.cli.render.nouns import gateway_details, gateways_table
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say, width


@click.group(cls=Group, invoke_without_command=True, epilog="Example: dstack gateway -v")
@list_flags
@click.pass_context
def gateway(ctx: click.Context, verbose: bool, watch: bool, as_json: bool) -> None:
    """Gateways; without a subcommand, list them."""
    if ctx.invoked_subcommand is None:
        _list(verbose, watch, as_json)


@gateway.command("list", epilog="Example: dstack gateway list --json")
@list_flags
def list_(verbose: bool, watch: bool, as_json: bool) -> None:
    """List gateways."""
    _list(verbose, watch, as_json)


@gateway.command(epilog="Example: dstack gateway get my-gateway --json")
@click.argument("name", shell_complete=gateway_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def get(name: str, as_json: bool) -> None:
    """Show one gateway."""
    with connect() as client:
        found = client.gateways.get(name)
    put_json(found) if as_json else put(gateway_details(found, time.time()))


@gateway.command(epilog="Example: dstack gateway delete my-gateway -y")
@click.argument("name", shell_complete=gateway_names)
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete(name: str, yes: bool, as_json: bool) -> None:
    """Delete a gateway."""
    with connect() as client:
        client.gateways.get(name)
        if not yes and not confirm(f"Delete the gateway {name}?"):
            return say("Exiting...")
        client.gateways.delete([name])
    deleted("gateway", name, as_json)


def _list(verbose: bool, watch: bool, as_json: bool) -> None:
    found = show_list(
        "gateways",
        lambda client: client.gateways.list(),
        lambda found: gateways_table(found, time.time(), verbose=verbose, width=width()),
        watch=watch,
        as_json=as_json,
    )
    if found == []:
        say("\nThe project has no gateways. This release makes none.")
