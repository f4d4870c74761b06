"""`dstack project`: which servers and projects this machine knows."""

from __future__ import annotations

import click

from dstack.api import config
from dstack.api.client import Client
from dstack.cli.group import Group
from dstack.cli.prompts import confirm
from dstack.cli.render.table import table
from dstack.cli.terminal import put, put_json, say, width
from dstack.errors import DstackError, ResourceNotFound


@click.group(
    cls=Group,
    invoke_without_command=True,
    epilog="Example: dstack project add --name main --url http://127.0.0.1:3000 --token TOKEN",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the user, too (asks the servers)")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@click.pass_context
def project(ctx: click.Context, verbose: bool, as_json: bool) -> None:
    """Projects in ~/.dstack/config.yml; without a subcommand, list them."""
    if ctx.invoked_subcommand is None:
        _list(verbose, as_json)


@project.command("list", epilog="Example: dstack project list -v")
@click.option("-v", "--verbose", is_flag=True, help="Show the user, too (asks the servers)")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def list_(verbose: bool, as_json: bool) -> None:
    """List the projects that are configured here."""
    _list(verbose, as_json)


@project.command(epilog="Example: dstack project add --name main --url http://127.0.0.1:3000 --token TOKEN")
@click.option("--name", required=True, help="Name of the project on the server")
@click.option("--url", required=True, help="Address of the server")
@click.option("--token", required=True, envvar="DSTACK_TOKEN", help="Your token [env: DSTACK_TOKEN]")
@click.option("-y", "--yes", is_flag=True, help="Make it the default without asking")
@click.option("-n", "--no", is_flag=True, help="Do not make it the default, do not ask")
def add(name: str, url: str, token: str, yes: bool, no: bool) -> None:
    """Add a project, or change its address and token, after the server has accepted both."""
    with Client(url, token, name) as client:
        client.projects.get(name)
        url = client.url
    entries = config.load()
    was_default = any(entry.default and entry.name == name for entry in entries)
    default = was_default or not any(entry.default for entry in entries) or yes
    if not default and not no:
        default = confirm(f"Set '{name}' as your default project?")
    config.save(config.with_entry(entries, config.ProjectEntry(name, url, token, default)))
    put("OK")


@project.command("set-default", epilog="Example: dstack project set-default main")
@click.argument("name")
def set_default(name: str) -> None:
    """Use this project where none is named."""
    entries = config.load()
    _known(name, entries)
    config.save(config.with_default(entries, name))
    put("OK")


@project.command(epilog="Example: dstack project delete --name main -y")
@click.option("--name", required=True, help="Name of the project")
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
def delete(name: str, yes: bool) -> None:
    """Forget a project here; on the server nothing changes."""
    entries = config.load()
    _known(name, entries)
    if not yes and not confirm(f"Forget the project {name}?"):
        return say("Exiting...")
    config.save([entry for entry in entries if entry.name != name])
    put("OK")


def _known(name: str, entries: list[config.ProjectEntry]) -> None:
    if name not in [entry.name for entry in entries]:
        known = ", ".join(entry.name for entry in entries)
        raise ResourceNotFound(
            f"Project '{name}' not found", hint=f"configured: {known}" if known else "none is configured"
        )


def _list(verbose: bool, as_json: bool) -> None:
    entries = config.load()
    users = {entry.name: _user(entry) for entry in entries} if verbose else {}
    if as_json:
        shown = [
            {"name": e.name, "url": e.url, "default": e.default} | ({"user": users[e.name]} if verbose else {})
            for e in entries
        ]
        return put_json({"projects": shown})
    headers = ("PROJECT", "URL", "USER", "DEFAULT") if verbose else ("PROJECT", "URL", "DEFAULT")
    rows = [(e.name, e.url, *((users[e.name],) if verbose else ()), "✓" if e.default else "") for e in entries]
    put(table(headers, rows, width()))


def _user(entry: config.ProjectEntry) -> str:
    try:
        with Client(entry.url, entry.token, entry.name, timeout_s=5.0) as client:
            return str(client.users.me()["username"])
    except DstackError as error:
        return f"({error.message})"
