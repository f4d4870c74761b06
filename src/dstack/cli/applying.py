"""What `apply` and `plan` share for every type: the file with its flags, notices, refusals, the question."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dstack.api.client import Client
from dstack.cli import discovery
from dstack.cli.failures import Quit
from dstack.cli.forwards import LOCALHOST
from dstack.cli.overrides import Configuration, Overrides, applied
from dstack.cli.prompts import confirm
from dstack.cli.repo_flags import RepoFlags
from dstack.cli.terminal import error, say, warn
from dstack.model.configurations.hints import local_files, possible_files
from dstack.model.configurations.reading import read
from dstack.model.configurations.support import executed

Json = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """The flags that are not part of the configuration."""

    file: str | None = None
    yes: bool = False
    detach: bool = False
    force: bool = False
    verbose: bool = False
    json: bool = False
    max_offers: int = 3
    full_offers: bool = False
    unallocated: bool = False
    profile: str | None = None
    no_profile: bool = False
    host: str = LOCALHOST
    ssh_identity: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    repo: RepoFlags = field(default_factory=RepoFlags)


@dataclass(frozen=True)
class Prepared:
    """A configuration that is ready to be sent; local paths in it are relative to `folder`."""

    configuration: Configuration
    path: str
    folder: Path
    at: Callable[..., str] = lambda *path: ""  # `FILE:LINE:COL: ` of a part of the file


def prepare(options: Options) -> Prepared:
    """Find and read the file, tell what is old in it, put the flags on top."""
    source = discovery.find(options.file, assume_yes=options.yes, arguments=options.overrides.arguments)
    reading = read(source.text, source.shown)
    for notice in reading.notices:
        warn(notice)
    configuration = executed(reading.configuration, reading.at(source.shown, "type"))
    present = [path for path in possible_files(configuration) if os.path.isfile(source.folder / path)]
    for hint in local_files(configuration, present):
        warn(hint)
    whole = applied(configuration, options.overrides, os.environ)
    return Prepared(whole, source.shown, source.folder, partial(reading.at, source.shown))


def body(configuration: Configuration) -> Json:
    """The configuration as it is sent: what was written, nothing that is a default."""
    return configuration.model_dump(mode="json", exclude_unset=True) | {"type": configuration.type}


def tell_notices(plan: Json) -> None:
    """What the server remarks about the plan."""
    for notice in plan.get("x_notices") or []:
        warn(notice)


def stop_if_refused(plan: Json) -> None:
    """End here when the server says that it will refuse."""
    refusals = plan.get("x_refusals") or []
    if refusals:
        error("; ".join(refusals) if len(refusals) == 1 else "this cannot be applied:\n  " + "\n  ".join(refusals))
        raise Quit(1)


def agree(question: str, options: Options) -> None:
    """Ask, unless -y was given; a no ends the command, which is not a failure."""
    if options.yes:
        return
    if not confirm(question):
        say("Exiting...")
        raise Quit(0)


def has_fleets(client: Client) -> bool:
    """Whether the project has any fleet that is not on its way out."""
    return any(fleet["status"] not in ("terminating", "terminated", "failed") for fleet in client.fleets.list())
