"""Names that a shell completes: asked of the server, quickly or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from dstack.api.client import Client
from dstack.cli.session import choose
from dstack.errors import DstackError

TIMEOUT_S = 1.5  # a shell that waits longer is worse than one that completes nothing


def run_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Runs of the project, active or not."""
    return _asked(ctx, incomplete, lambda client: [str(run["run_spec"]["run_name"]) for run in client.runs.list()])


def fleet_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Fleets of the project."""
    return _asked(ctx, incomplete, lambda client: [fleet["name"] for fleet in client.fleets.list()])


def run_or_fleet_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What `why` and `delete` take."""
    return [*run_names(ctx, parameter, incomplete), *fleet_names(ctx, parameter, incomplete)]


def secret_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Secrets of the project."""
    return _asked(ctx, incomplete, lambda client: [secret["name"] for secret in client.secrets.list()])


def volume_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Volumes of the project."""
    return _asked(ctx, incomplete, lambda client: [volume["name"] for volume in client.volumes.list()])


def gateway_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Gateways of the project."""
    return _asked(ctx, incomplete, lambda client: [gateway["name"] for gateway in client.gateways.list()])


def _asked(ctx: click.Context, incomplete: str, names: Callable[[Client], list[str]]) -> list[str]:
    try:
        entry = choose(ctx.find_root().meta.get("project"), os.environ)
        with Client(entry.url, entry.token, entry.name, timeout_s=TIMEOUT_S, sleep=lambda _: None) as client:
            return _matching(names(client), incomplete)
    except DstackError:
        return []  # a shell that completes has nobody to tell


def _matching(names: list[str], incomplete: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
