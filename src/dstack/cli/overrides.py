"""Flags of the command line on top of what the file says: flags beat the file, the file beats the profile."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dstack.cli.forwards import parsed
from dstack.errors import ConfigurationError, UsageError
from dstack.model.configurations import DevEnvironmentConfiguration, FleetConfiguration, TaskConfiguration
from dstack.model.configurations.environment import resolve_env
from dstack.model.configurations.reading import parse
from dstack.model.configurations.support import executed

Configuration = TaskConfiguration | DevEnvironmentConfiguration | FleetConfiguration

_RUN_ARGS = re.compile(r"(\$?)\$\{\{\s*run\.(\w+)\s*\}\}")
_FLAGS = {
    "name": "--name",
    "max_price": "--max-price",
    "max_duration": "--max-duration",
    "backends": "--backend",
    "regions": "--region",
    "instance_types": "--instance-type",
    "fleets": "--fleet",
    "creation_policy": "--reuse",
    "idle_duration": "--idle-duration",
    "spot_policy": "--spot-policy",
    "retry": "--retry",
    "repos": "--repo",
    "ports": "--port",
    "resources": "--gpu, --cpu, --memory and --disk",
}


@dataclass(frozen=True)
class Overrides:
    """Values as typed; None and empty are not given."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()  # values of -p


def applied(configuration: Configuration, overrides: Overrides, environ: Mapping[str, str]) -> Configuration:
    """The configuration that is sent: with flags, arguments and the values of its variables."""
    data: dict[str, Any] = configuration.model_dump(mode="json", exclude_unset=True) | {"type": configuration.type}
    changed = {key: value for key, value in overrides.fields.items() if value not in (None, (), "")}
    if overrides.ports:
        own = {port.container for port in parsed(overrides.ports)}
        written = data.get("ports") or []
        changed["ports"] = [*(port for port in written if _container(port) not in own), *overrides.ports]
    for key in [*changed, *(["resources"] if overrides.resources else [])]:
        if key not in type(configuration).model_fields:
            raise UsageError(f"{_FLAGS.get(key, key)} does not apply to a {configuration.type}")
    if overrides.resources:
        written = data.get("resources") or {}
        changed["resources"] = written | {key: value for key, value in overrides.resources.items() if value}
    if changed:
        configuration = executed(parse(data | changed, "command line"), "")
    configuration = _with_arguments(configuration, overrides.arguments)
    given = _given_env(overrides.env, environ)
    if isinstance(configuration, TaskConfiguration):
        return resolve_env(configuration, given, environ)
    if isinstance(configuration, DevEnvironmentConfiguration):
        return resolve_env(configuration, given, environ)
    return resolve_env(configuration, given, environ)


def _container(port: Any) -> int | None:
    return port.get("container_port") if isinstance(port, dict) else None


def _given_env(items: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    given = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(
                f"-e {name or item!r}: not a name of a variable", hint="expected `-e NAME=value`, or `-e NAME`"
            )
        if not equals and name not in environ:
            raise ConfigurationError(
                f"Environment variable {name} is not set", hint=f"`export {name}=...`, or `-e {name}=...`"
            )
        given[name] = value if equals else environ[name]
    return given


def _with_arguments(configuration: Configuration, arguments: tuple[str, ...]) -> Configuration:
    """The commands with `${{ run.args }}` filled in."""
    if not isinstance(configuration, TaskConfiguration):
        if arguments:
            raise UsageError(f"A {configuration.type} takes no arguments: {shlex.join(arguments)}")
        return configuration
    text = shlex.join(arguments)
    used = False

    def fill(match: re.Match[str]) -> str:
        nonlocal used
        if match[1]:
            return match[0][1:]  # `$${{` stands for itself
        if match[2] != "args":
            raise ConfigurationError(
                f"${{{{ run.{match[2]} }}}} in `commands` is not known", hint="expected ${{ run.args }}"
            )
        used = True
        return text

    def filled(commands: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_RUN_ARGS.sub(fill, command) for command in commands)

    changes: dict[str, Any] = {"commands": filled(configuration.commands)}
    if configuration.groups is not None:
        groups = (g.model_copy(update={"commands": filled(g.commands)}) for g in configuration.groups)
        changes = {"groups": tuple(groups)}
    if arguments and not used:
        raise UsageError(
            f"The arguments are not used: {text}",
            hint="write ${{ run.args }} where the commands shall have them"
            if not os.path.exists(arguments[0])
            else f"did you mean `-f {arguments[0]}`?",
        )
    return configuration.model_copy(update=changes) if used else configuration
