"""`dstack init`: register how this person fetches a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dstack.cli.command import Command
from dstack.cli.commands.flags import CREDENTIAL_FLAGS
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json

NO_REPO = "This directory is in no Git repo: nothing to register. Runs without `repos` need nothing; -P names a repo."


def _credential_flags(function: Any) -> Any:
    for flag in reversed(CREDENTIAL_FLAGS):
        function = flag(function)
    return function


@click.command(cls=Command, epilog="Example: dstack init -P https://github.com/org/private -t $TOKEN")
@click.option("-P", "--repo", metavar="REPO", help="The Git repo: a directory or an address [default: this directory]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@_credential_flags
@project_option
def init(repo: str | None, as_json: bool, token: str | None, git_identity: str | None) -> None:
    """Register credentials for a private Git repo: your runs of this project fetch it with them.

    Without --token and --git-identity: public ones need none, else those that git and gh of this machine have. They
    are sealed on the server and used for your runs alone. Registering again replaces them.
    """
    from dstack.cli.repo_access import accessible
    from dstack.cli.repo_checkout import in_checkout
    from dstack.cli.repos import address_of, register

    here = Path.cwd()
    named = repo or token or git_identity or in_checkout(here)
    address = address_of(repo or ".", here) if named else None
    with connect() as client:
        if address is None:  # nothing to register: what runs without `repos` need is there
            client.repos.init_virtual()
            put_json({"project": client.project, "repo": "none"}) if as_json else put(NO_REPO)
            return
        access = accessible(client, address, token, git_identity)
        register(client, address, access)
        project = client.project
    if as_json:
        put_json({"project": project, "repo": address.id, "url": access.url})
    elif access.token or access.private_key:
        put("OK")
    else:
        put(f"{access.url} needs no credentials: your runs can fetch it as it is")
