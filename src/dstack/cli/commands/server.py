"""`dstack server`: become the server process."""

from __future__ import annotations

import os
import sys

import click

from dstack.cli.group import Group
from dstack.cli.session import project_option
from dstack.errors import UsageError


@click.group(cls=Group, invoke_without_command=True, epilog="Example: dstack server --port 3001 -y")
@click.option(
    "--host", metavar="ADDRESS", help="The address to listen on [env: DSTACK_SERVER_HOST; default: 127.0.0.1]"
)
@click.option(
    "-p",
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The port to listen on [env: DSTACK_SERVER_PORT; default: 3000]",
)
@click.option(
    "-l",
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    metavar="LEVEL",
    help="How much to log: debug, info, warning or error [env: DSTACK_SERVER_LOG_LEVEL; default: info]",
)
@click.option("-d", "--debug", is_flag=True, help="The same as -l debug")
@click.option("-y", "--yes", is_flag=True, help="Write this server into ~/.dstack/config.yml without asking")
@click.option("-n", "--no", is_flag=True, help="Leave ~/.dstack/config.yml as it is")
@click.option(
    "--token", metavar="TOKEN", help="The admin's token, instead of a random one [env: DSTACK_SERVER_ADMIN_TOKEN]"
)
@click.pass_context
def server(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    log_level: str | None,
    debug: bool,
    yes: bool,
    no: bool,
    token: str | None,
) -> None:
    """Start a server on this machine; its state lies in ~/.dstack/server.

    The first start prints the address, the token and the command to type next.
    """
    if yes and no:
        raise UsageError("-y and -n exclude each other")
    if ctx.invoked_subcommand is not None:
        return
    level = "debug" if debug else log_level
    arguments = [*(["--host", host] if host else []), *(["--port", str(port)] if port else [])]
    arguments += [*(["--log-level", level.lower()] if level else []), *(["-y"] if yes else []), *(["-n"] if no else [])]
    _become(arguments, token)


@server.command(epilog="Example: dstack server doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def doctor(as_json: bool) -> None:
    """Look whether the server of this machine is well, running or not; exit code 1 when something is wrong.

    It reads the database and the server's folder and changes nothing.
    """
    _become(["doctor", *(["--json"] if as_json else [])], None)


@server.command(epilog="Example: dstack server orphans --terminate 8a1c2f0e-58fb-4d6f-9c36-2e7d7f0c9d11")
@click.option("--terminate", "terminated", metavar="TOKEN", help="End this machine")
@click.option("--settle", "settled", metavar="TOKEN", help="Take this machine off the list: it is gone, or not ours")
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def orphans(terminated: str | None, settled: str | None, yes: bool, as_json: bool) -> None:
    """Machines under our tag that no instance answers for; for admins of the server.

    They are left alone until a person decides, as they may be another server's, or younger than a restored backup.
    """
    from dstack.cli import orphans as command

    if terminated and settled:
        raise UsageError("--terminate and --settle exclude each other")
    if terminated:
        command.terminate(terminated, yes, as_json)
    elif settled:
        command.settle(settled, yes, as_json)
    else:
        command.show(as_json)


@server.command("reset-token", epilog="Example: dstack server reset-token")
def reset_token() -> None:
    """Give the admin a new token and print it; the old one ends."""
    _become(["reset-token"], None)


@server.command(epilog="Example: dstack server migrate --to postgresql://dstack@db.example.com/dstack")
@click.option("--to", "target", required=True, metavar="URL", help="An empty database: postgresql://user@host/name")
def migrate(target: str) -> None:
    """Move the state of the stopped server from SQLite into another database."""
    _become(["migrate"], None, DSTACK_SERVER_MIGRATE_TO=target)


def _become(arguments: list[str], token: str | None, **variables: str) -> None:
    """This process becomes the server. Secrets go through the environment: argv is for everybody to see."""
    environment = {**os.environ, **variables}
    if token:
        environment["DSTACK_SERVER_ADMIN_TOKEN"] = token
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", "dstack.server", *arguments], environment)
