"""From a request's plain data to specs: strict where it costs money, tolerant of other versions around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dstack.errors import ConfigurationError
from dstack.model.configurations.base import RunConfiguration
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.messages import field_text, illegal_text
from dstack.model.configurations.parts import EnvSentinel
from dstack.model.configurations.reading import parse, parse_profile
from dstack.model.configurations.support import executed
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.fleet import FleetSpec
from dstack.model.profile import Profile, ProfileParams, ProvisioningParams, merge
from dstack.model.run import RunSpec
from dstack.values.grammar import Invalid
from dstack.values.names import parse_name

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound=ProvisioningParams)


def read_run_spec(data: Mapping[str, Any], where: str = "run_spec") -> RunSpec:
    """The spec of a run. Raises ConfigurationError in words for people."""
    configuration = executed(parse(our_names(data.get("configuration")), "configuration"), "configuration: ")
    if isinstance(configuration, FleetConfiguration):
        raise ConfigurationError(f"{where}: a {configuration.type} is not a run")
    spec = _envelope(RunSpec, data, where, configuration, _profile(data))
    try:
        name = parse_name(spec.run_name) if spec.run_name else configuration.name
    except Invalid as e:
        raise ConfigurationError(f"{where}: run_name: {e}") from None
    return spec.model_copy(update={"run_name": name})


def read_fleet_spec(data: Mapping[str, Any], where: str = "spec") -> FleetSpec:
    """The spec of a fleet. Raises ConfigurationError in words for people."""
    configuration = executed(parse(our_names(data.get("configuration")), "configuration"), "configuration: ")
    if not isinstance(configuration, FleetConfiguration):
        raise ConfigurationError(f"{where}: a {configuration.type} is not a fleet")
    return _envelope(FleetSpec, data, where, configuration, _profile(data))


def effective_run_spec(spec: RunSpec) -> RunSpec:
    """What holds in the end: the profile's parameters in their place, and defaults written out. Idempotent."""
    c = spec.configuration
    params = merge(c, spec.profile)
    fields = {name: getattr(params, name) for name in ProfileParams.model_fields}
    more: dict[str, Any] = {"priority": c.priority or 0}
    if isinstance(c, TaskConfiguration):
        more["nodes"] = c.nodes if c.groups is not None else c.nodes or 1
    return spec.model_copy(update={"configuration": c.model_copy(update=_set(fields | more, c))})


def effective_fleet_spec(spec: FleetSpec) -> FleetSpec:
    """The same for a fleet. An SSH fleet takes nothing from a profile."""
    c = spec.configuration
    if spec.profile is None or c.ssh_config is not None:
        return spec
    params = merge(c, spec.profile)
    fields = {name: getattr(params, name) for name in ProvisioningParams.model_fields}
    return spec.model_copy(update={"configuration": c.model_copy(update=_set(fields, c))})


def open_env(configuration: RunConfiguration | FleetConfiguration) -> list[str]:
    """Names of variables whose value the client should have filled in and did not."""
    return [name for name, value in configuration.env.items() if isinstance(value, EnvSentinel)]


def _set(fields: Mapping[str, Any], configuration: BaseModel) -> dict[str, Any]:
    """Only what differs, so that fields which nobody wrote stay unset and are not stored."""
    return {name: value for name, value in fields.items() if getattr(configuration, name) != value}


def our_names(data: Any) -> Any:
    """`x_backends` is how our answers say backends that the public API does not know; clients send it back."""
    if isinstance(data, dict) and any(str(key).startswith("x_") for key in data):
        own = {str(key)[2:]: value for key, value in data.items() if str(key).startswith("x_")}
        return {key: value for key, value in data.items() if not str(key).startswith("x_")} | own
    return data


def _profile(data: Mapping[str, Any]) -> Profile | None:
    written = data.get("profile")
    return None if written is None else parse_profile(our_names(written), "profile")


def _envelope(cls: type[M], data: Mapping[str, Any], where: str, configuration: Any, profile: Profile | None) -> M:
    """The fields around the configuration; unknown ones are ignored, wrong ones are named."""
    if problem := illegal_text(dict(data)):
        raise ConfigurationError(f"{where}: {field_text(problem.path)}: {problem.message}")
    try:
        return cls.model_validate({**data, "configuration": configuration, "profile": profile})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{where}: {path}: {first['msg']}") from None
