"""`dstack project`: which servers and projects this machine knows."""

from __future__ import annotations

import sys

import click

from dstack.api import config
from dstack.api.client import Client
from dstack.cli.group import Group
from dstack.cli.prompts import ask, confirm
from dstack.cli.render.table import table
from dstack.cli.session import project_names
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
    """Projects in ~/.dstack/config.yml; without a subcommand, list them, and on a terminal ask for the default."""
    if ctx.invoked_subcommand is not None:
        return
    _list(verbose, as_json)
    if not verbose and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        _choose()


@project.command("list", epilog="Example: dstack project list -v")
@click.option("-v", "--verbose", is_flag=True, help="Show the user, too (asks the servers)")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def list_(verbose: bool, as_json: bool) -> None:
    """List the projects that are configured here."""
    _list(verbose, as_json)


@project.command(epilog="Example: dstack project add --name main --url http://127.0.0.1:3000 --token TOKEN")
@click.option("--name", required=True, metavar="NAME", help="Name of the project on the server")
@click.option("--url", required=True, metavar="URL", help="Address of the server")
@click.option("--token", required=True, metavar="TOKEN", envvar="DSTACK_TOKEN", help="Your token [env: DSTACK_TOKEN]")
@click.option("-y", "--yes", is_flag=True, help="Make it the default without asking")
@click.option("-n", "--no", is_flag=True, help="Do not make it the default, do not ask")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def add(name: str, url: str, token: str, yes: bool, no: bool, as_json: bool) -> None:
    """Add a project, or change its address and token, after the server has accepted both."""
    with Client(url, token, name) as client:
        client.projects.get(name)
        url = client.url
    entries = config.load()
    was_default = any(entry.default and entry.name == name for entry in entries)
    default = was_default or not any(entry.default for entry in entries) or yes
    if not default and not no:
        default = confirm(f"Set '{name}' as your default project?")
    entry = config.ProjectEntry(name, url, token, default)
    config.save(config.with_entry(entries, entry))
    put_json(_shown(entry)) if as_json else put("OK")


@project.command("set-default", epilog="Example: dstack project set-default main")
@click.argument("name", shell_complete=project_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def set_default(name: str, as_json: bool) -> None:
    """Use this project where none is named."""
    entries = config.load()
    _known(name, entries)
    entries = config.with_default(entries, name)
    config.save(entries)
    put_json(_shown(next(entry for entry in entries if entry.default))) if as_json else put("OK")


@project.command(epilog="Example: dstack project delete --name main -y")
@click.option("--name", required=True, metavar="NAME", help="Name of the project", shell_complete=project_names)
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def delete(name: str, yes: bool, as_json: bool) -> None:
    """Forget a project here; on the server nothing changes."""
    entries = config.load()
    _known(name, entries)
    if not yes and not confirm(f"Forget the project {name}?"):
        return say("Exiting...")
    config.save([entry for entry in entries if entry.name != name])
    put_json({"deleted": {"type": "project", "name": name}}) if as_json else put("OK")


def _choose() -> None:
    """Ask for the default among several; Enter leaves it as it is."""
    entries = config.load()
    if len(entries) < 2:
        return
    say()
    for number, entry in enumerate(entries, 1):
        say(f" {number}. {entry.name}{' (default)' if entry.default else ''}")
    while (answer := ask(f"Default project [1-{len(entries)}, Enter keeps it]: ")) and answer.strip():
        word = answer.strip()
        names = [entry.name for entry in entries]
        name = names[int(word) - 1] if word.isdecimal() and 0 < int(word) <= len(names) else word
        if name in names:
            config.save(config.with_default(entries, name))
            return say(f"The default project is {name}")
        say(f"Expected a number from 1 to {len(names)}, or a name")


def _shown(entry: config.ProjectEntry) -> dict[str, object]:
    return {"name": entry.name, "url": entry.url, "default": entry.default}


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
        shown = [_shown(e) | ({"user": users[e.name]} if verbose else {}) for e in entries]
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
