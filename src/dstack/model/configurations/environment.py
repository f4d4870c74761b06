"""Values of variables that a configuration only names: from the command line, else from the process environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dstack.errors import ConfigurationError
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.parts import EnvSentinel
from dstack.model.configurations.task import TaskConfiguration

C = TypeVar("C", TaskConfiguration, FleetConfiguration)


def resolve_env(configuration: C, given: Mapping[str, str], environ: Mapping[str, str]) -> C:
    """The configuration with a value for each variable; `given` (`-e`) is added to it and wins."""
    values: dict[str, str | EnvSentinel] = {**configuration.env, **given}
    missing: list[str] = []
    for name, value in values.items():
        if isinstance(value, EnvSentinel):
            if value.key in environ:
                values[name] = environ[value.key]
            else:
                missing.append(name)
    if missing:
        many = len(missing) > 1
        raise ConfigurationError(
            f"Environment variable{'s' if many else ''} {', '.join(missing)} {'are' if many else 'is'} not set",
            hint=f"`export {missing[0]}=...`, or pass `-e {missing[0]}=...`",
        )
    return configuration.model_copy(update={"env": values})
