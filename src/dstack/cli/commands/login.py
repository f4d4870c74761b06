"""`dstack login`: signing in by single sign-on, where a server has it."""

from __future__ import annotations

import click

from dstack.api.client import Client
from dstack.cli.command import Command
from dstack.errors import DstackError

TOKEN_HINT = "sign in by token: `dstack project add --name PROJECT --url URL --token TOKEN`"


@click.command(cls=Command, epilog="Example: dstack login --url https://dstack.example.com")
@click.option("--url", required=True, metavar="URL", help="Address of the server")
@click.option("-p", "--provider", metavar="NAME", help="The provider to sign in with, where there are several")
@click.option("-y", "--yes", is_flag=True, help="Make the project the default without asking")
@click.option("-n", "--no", is_flag=True, help="Do not make it the default, do not ask")
def login(url: str, provider: str | None, yes: bool, no: bool) -> None:
    """Sign in through the single sign-on of a server. Servers without one are used by token."""
    del provider, yes, no  # what they choose does not come up: see below
    with Client(url, "", timeout_s=10.0) as client:
        providers = client.login_providers()
    if not providers:
        raise DstackError("No SSO providers configured on the server.", hint=TOKEN_HINT)
    names = ", ".join(str(item.get("name")) for item in providers)
    raise DstackError(f"Signing in with {names} is not supported yet", hint=TOKEN_HINT)
