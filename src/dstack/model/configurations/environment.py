"""Values of variables that a configuration only names: from the command line, else from the process environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from dstack.errors import ConfigurationError
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.parts import EnvSentinel, RegistryAuth
from dstack.model.configurations.task import TaskConfiguration
from dstack.values.interpolate import interpolate

C = TypeVar("C", TaskConfiguration, DevEnvironmentConfiguration, FleetConfiguration)


def resolve_env(configuration: C, given: Mapping[str, str], environ: Mapping[str, str]) -> C:
    """The configuration with a value for each variable, also for `${{ env.NAME }}` in `registry_auth`.

    `given` (`-e`) is added to it and wins. ConfigurationError names the variables that are set nowhere.
    """
    values: dict[str, str | EnvSentinel] = {**configuration.env, **given}
    missing: list[str] = []
    for name, value in values.items():
        if isinstance(value, EnvSentinel):
            if value.key in environ:
                values[name] = environ[value.key]
            else:
                missing.append(name)
    known = dict(environ) | {name: value for name, value in values.items() if isinstance(value, str)}
    changed: dict[str, Any] = {"env": values} if values else {}
    if not isinstance(configuration, FleetConfiguration) and configuration.registry_auth is not None:
        auth = _filled(configuration.registry_auth, known, missing)
        changed |= {} if auth == configuration.registry_auth else {"registry_auth": auth}
    if missing:
        many = len(missing) > 1
        raise ConfigurationError(
            f"Environment variable{'s' if many else ''} {', '.join(missing)} {'are' if many else 'is'} not set",
            hint=f"`export {missing[0]}=...`, or pass `-e {missing[0]}=...`",
        )
    return configuration.model_copy(update=changed) if changed else configuration


def _filled(auth: RegistryAuth, known: Mapping[str, str], missing: list[str]) -> RegistryAuth:
    """References to secrets stay for the server. What is not known is added to `missing`."""

    def value_of(reference: str) -> str:
        name = reference.removeprefix("env.")
        if name not in known and name not in missing:
            missing.append(name)
        return known.get(name, "")

    fields = {
        name: interpolate(text, value_of, keep=lambda reference: reference.startswith("secrets."))
        for name, text in (("username", auth.username), ("password", auth.password))
    }
    return auth.model_copy(update=fields)
