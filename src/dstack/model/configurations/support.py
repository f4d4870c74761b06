"""What a configuration may say and this release does not execute yet. When it does, its line here goes away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dstack.errors import ConfigurationError
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.hints import remarks
from dstack.model.configurations.parts import VolumeMountPoint
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.profile import ProvisioningParams
from dstack.values.ide import expected_version, ide_name

EXECUTED = ("task", "dev-environment", "fleet")


class _Rule(NamedTuple):
    field: str
    reason: str
    concerns: Callable[[Any], bool] = bool


_REFUSED = (
    _Rule(
        "volumes",
        "one of several network volumes cannot be mounted yet; name one",
        lambda mounts: any(_several(mount) for mount in mounts),
    ),
    _Rule("reservation", "reservations are not used yet"),
)
_NOTED = (_Rule("backend_options", "none of the backends of this release has options"),)
_NOTED_OF_ONE_NODE = (
    _Rule("startup_order", "has no effect on a task of one node"),
    _Rule("stop_criteria", "has no effect on a task of one node"),
)


def executed(configuration: Any, prefix: str) -> TaskConfiguration | DevEnvironmentConfiguration | FleetConfiguration:
    """The configuration, when its type is executed; else ConfigurationError, which begins with `prefix`."""
    if isinstance(configuration, (TaskConfiguration, DevEnvironmentConfiguration, FleetConfiguration)):
        return configuration
    supported = ", ".join(EXECUTED)
    raise ConfigurationError(
        f"{prefix}type: {configuration.type} is not supported yet by this server; supported: {supported}"
    )


def unsupported(configuration: ProvisioningParams) -> list[str]:
    """What the plan refuses, `FIELD: reason` each; for configurations and for profiles."""
    return _matching(_REFUSED, configuration)


def notices(configuration: ProvisioningParams) -> list[str]:
    """What the plan only mentions, because the run makes sense without it."""
    alone = isinstance(configuration, TaskConfiguration) and configuration.node_count == 1
    rules = (*_NOTED, *_NOTED_OF_ONE_NODE) if alone else _NOTED
    return (
        _matching(rules, configuration)
        + _kept_by_hosts(configuration)
        + _unknown_server(configuration)
        + remarks(configuration)
    )


def _unknown_server(configuration: ProvisioningParams) -> list[str]:
    """A version of the IDE by which its vendor's downloads are not found."""
    c = configuration
    if not isinstance(c, DevEnvironmentConfiguration) or c.ide is None or c.version is None or c.server is not None:
        return []
    return [f"version: the server of {ide_name(c.ide)} is not put in beforehand: expected {expected_version(c.ide)}"]


def _kept_by_hosts(configuration: ProvisioningParams) -> list[str]:
    """Mounts by name: the project has no volume of that name, so the hosts keep a folder."""
    names = [m.name for m in getattr(configuration, "volumes", ()) if isinstance(m, VolumeMountPoint)]
    return [
        f"volumes: '{name}' is no volume of the project: each host keeps a folder of that name for later runs"
        for name in names
        if isinstance(name, str)
    ]


def _several(mount: Any) -> bool:
    return isinstance(mount, VolumeMountPoint) and not isinstance(mount.name, str)


def _matching(rules: tuple[_Rule, ...], configuration: ProvisioningParams) -> list[str]:
    found = []
    for rule in rules:
        value = getattr(configuration, rule.field, None)
        if value is not None and rule.concerns(value):
            found.append(f"{rule.field}: {rule.reason}")
    return found
