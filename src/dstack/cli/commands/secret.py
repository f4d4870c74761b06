"""`dstack secret`: values that runs may use."""

from __future__ import annotations

import click

from dstack.cli.group import Group
from dstack.cli.names import secret_names
from dstack.cli.prompts import ask_secret, confirm
from dstack.cli.render.table import table
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, say, warn, width
from dstack.errors import UsageError


@click.group(cls=Group, invoke_without_command=True, epilog="Example: dstack secret set hf_token")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
@click.pass_context
def secret(ctx: click.Context, as_json: bool) -> None:
    """Secrets of the project; without a subcommand, list their names."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@secret.command("list", epilog="Example: dstack secret list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def list_(as_json: bool) -> None:
    """List the names; values are not shown."""
    _list(as_json)


@secret.command(epilog="Example: dstack secret get hf_token")
@click.argument("name", shell_complete=secret_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def get(name: str, as_json: bool) -> None:
    """Show the value of a secret."""
    with connect() as client:
        found = client.secrets.get(name)
    put_json(found) if as_json else put(table(("NAME", "VALUE"), [(found["name"], str(found.get("value") or ""))]))


@secret.command("set", epilog="Example: dstack secret set hf_token < token.txt")
@click.argument("name", shell_complete=secret_names)
@click.argument("value", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def set_(name: str, value: str | None, as_json: bool) -> None:
    """Create a secret, or replace its value. Without VALUE it is asked for, or read from stdin.

    A value on the command line can be seen by others on this machine and stays in the history of the shell.
    """
    if value is None:
        value = ask_secret(f"Value of {name}: ")
    if not value:
        raise UsageError(f"No value for {name}", hint="type it, or pipe it in: `dstack secret set NAME < FILE`")
    with connect() as client:
        found = client.secrets.set(name, value)
    if not name.replace("-", "_").isidentifier():
        warn(f"${{{{ secrets.{name} }}}} is not a legal reference: a name should start with a letter")
    put_json({"id": found["id"], "name": found["name"]}) if as_json else put("OK")


@secret.command(epilog="Example: dstack secret delete hf_token -y")
@click.argument("name", shell_complete=secret_names)
@click.option("-y", "--yes", is_flag=True, help="Ask no questions")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def delete(name: str, yes: bool, as_json: bool) -> None:
    """Delete a secret."""
    with connect() as client:
        if not yes and not confirm(f"Delete the secret {name}?"):
            return say("Exiting...")
        client.secrets.delete([name])
    put_json({"deleted": {"type": "secret", "name": name}}) if as_json else put("OK")


def _list(as_json: bool) -> None:
    with connect() as client:
        secrets = client.secrets.list()
    if as_json:
        return put_json({"secrets": [{"id": item["id"], "name": item["name"]} for item in secrets]})
    put(table(("NAME", "VALUE"), [(item["name"], "******") for item in secrets], width()))
    if not secrets:
        say("\nThe project has no secrets. `dstack secret set NAME` makes one.")
