"""From options, environment and configuration file to a client of the right project."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from dstack.api import config
from dstack.api.client import Client
from dstack.errors import DstackError

F = TypeVar("F", bound=Callable[..., Any])

ADD_HINT = (
    "`dstack server` starts a server and writes the configuration; for one that runs elsewhere:\n"
    "dstack project add --name main --url URL --token TOKEN"
)


def project_option(function: F) -> F:
    """`--project`, for every command that speaks to a server; the value lands in the click context."""

    def remember(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.find_root().meta["project"] = value

    return click.option(
        "--project",
        metavar="NAME",
        help="The project to use [default: $DSTACK_PROJECT, else the default of ~/.dstack/config.yml]",
        expose_value=False,
        callback=remember,
        shell_complete=project_names,
    )(function)


job_option = click.option(
    "--job",
    "job_num",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The node of a distributed task",
)


def project_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The projects that are configured here, for a shell that completes."""
    try:
        return [entry.name for entry in config.load() if entry.name.startswith(incomplete)]
    except DstackError:
        return []


def connect() -> Client:
    """A client of the project that the running command is about."""
    entry = entry_of_command()
    return Client(entry.url, entry.token, entry.name)


def entry_of_command() -> config.ProjectEntry:
    """The project that the running command is about."""
    ctx = click.get_current_context(silent=True)
    chosen = ctx.find_root().meta.get("project") if ctx else None
    return choose(chosen, os.environ)


def choose(project: str | None, environ: Mapping[str, str]) -> config.ProjectEntry:
    """The project: by name, else by DSTACK_PROJECT, else the default; with its server and token.

    DSTACK_SERVER_URL with DSTACK_TOKEN needs no configuration file; DSTACK_TOKEN alone replaces the token.
    """
    name = project or environ.get("DSTACK_PROJECT") or None
    url, token = environ.get("DSTACK_SERVER_URL"), environ.get("DSTACK_TOKEN")
    if url:
        if not token:
            raise DstackError(
                "DSTACK_SERVER_URL is set, but DSTACK_TOKEN is not set", hint="export DSTACK_TOKEN=... too"
            )
        return config.ProjectEntry(name or "main", url, token)
    entry = _configured(name, config.load())
    return config.ProjectEntry(entry.name, entry.url, token or entry.token, entry.default)


def _configured(name: str | None, entries: list[config.ProjectEntry]) -> config.ProjectEntry:
    if name is None:
        entry = next((entry for entry in entries if entry.default), entries[0] if len(entries) == 1 else None)
        if entry is None and not entries:
            raise DstackError("No project is configured", hint=ADD_HINT)
        if entry is None:
            raise DstackError(
                "No default project, specify project name", hint="`dstack project set-default NAME`, or --project NAME"
            )
        return entry
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        known = ", ".join(entry.name for entry in entries)
        raise DstackError(f"Project {name} is not configured", hint=f"configured: {known}" if known else ADD_HINT)
    return found
