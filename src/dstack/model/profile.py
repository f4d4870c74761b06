"""Where and how a run may be placed, retried and stopped: the parameters that profiles and configurations share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from dstack.model.base import FLAG, TEXT, Integer, Model, Number, read_all_by, read_by
from dstack.values.cron import parse_cron
from dstack.values.duration import parse_duration, parse_idle_duration, parse_off_duration
from dstack.values.grammar import Invalid, show
from dstack.values.names import parse_reference, parse_tags
from dstack.values.suggest import did_you_mean

DEFAULT_RUN_IDLE_S = 300
DEFAULT_FLEET_IDLE_S = 3 * 86400
DEFAULT_STOP_S = 300
DEFAULT_RETRY_S = 3600

_BACKENDS = (
    "amddevcloud aws azure cloudrift crusoe cudo datacrunch daytona digitalocean dstack gcp hotaisle jarvislabs "
    "kubernetes lambda lium local nebius oci remote runpod seeweb sim slurm tensordock vastai verda vultr"
)
BACKEND_NAMES = tuple(_BACKENDS.split())


class SpotPolicy(StrEnum):
    SPOT = "spot"
    ONDEMAND = "on-demand"
    AUTO = "auto"


class CreationPolicy(StrEnum):
    REUSE = "reuse"
    REUSE_OR_CREATE = "reuse-or-create"


class RetryEvent(StrEnum):
    NO_CAPACITY = "no-capacity"
    INTERRUPTION = "interruption"
    ERROR = "error"


class StartupOrder(StrEnum):
    ANY = "any"
    MASTER_FIRST = "master-first"
    WORKERS_FIRST = "workers-first"


class StopCriteria(StrEnum):
    ALL_DONE = "all-done"
    MASTER_DONE = "master-done"


class ProfileRetry(Model):
    """Which failures lead to another attempt, and for how long (seconds); None is all events, an hour."""

    on_events: tuple[RetryEvent, ...] | None = None
    duration: Annotated[int | None, read_by(parse_duration, TEXT)] = None

    @field_validator("on_events")
    @classmethod
    def _some(cls, value: tuple[RetryEvent, ...] | None) -> tuple[RetryEvent, ...] | None:
        if value == ():
            raise Invalid("is empty, expected at least one of `no-capacity`, `interruption`, `error`")
        return value


class UtilizationPolicy(Model):
    """A run is ended when a GPU stays below `min_gpu_utilization` percent for `time_window` seconds."""

    min_gpu_utilization: Annotated[Integer, Field(ge=0, le=100)]
    time_window: Annotated[int, read_by(parse_duration, TEXT)]

    @field_validator("time_window")
    @classmethod
    def _within(cls, value: int) -> int:
        if not 300 <= value <= 3600:
            raise Invalid("is out of range, expected 5m to 1h")
        return value


class Schedule(Model):
    """When a run starts again: five-field cron expressions in UTC."""

    cron: Annotated[str | tuple[str, ...], read_all_by(parse_cron)]


class EntityReference(Model):
    """A resource by name, of this project (`project` None) or of another."""

    SHORT_FORMS = (TEXT,)

    project: str | None = None
    name: str

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return parse_reference(value)._asdict() if isinstance(value, str) else value


class InstanceNameSelector(Model):
    SHORT_FORMS = (TEXT,)

    name: Annotated[str, Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class InstanceHostnameSelector(Model):
    hostname: Annotated[str, Field(min_length=1)]


class FleetInstanceSelector(Model):
    fleet: EntityReference
    instance: Annotated[Integer, Field(ge=0)]


def _selector_form(value: Any) -> str:
    keys = value.keys() if isinstance(value, dict) else {type(value)}
    if keys & {"fleet", "instance", FleetInstanceSelector}:
        return "~fleet"
    return "~hostname" if keys & {"hostname", InstanceHostnameSelector} else "~name"


InstanceSelector = Annotated[
    Annotated[InstanceNameSelector, Tag("~name")]
    | Annotated[InstanceHostnameSelector, Tag("~hostname")]
    | Annotated[FleetInstanceSelector, Tag("~fleet")],
    Discriminator(_selector_form),
]


class VastAIProfileOptions(Model):
    """Options of one backend."""

    type: Literal["vastai"] = "vastai"
    offer_order: Literal["score", "price"] | None = None
    min_reliability: Annotated[Number, Field(ge=0, le=1)] | None = None
    min_score: Annotated[Integer, Field(ge=0)] | None = None


def _backend(value: Any) -> str:
    name = value.strip().lower() if isinstance(value, str) else ""
    if name not in BACKEND_NAMES:
        question = did_you_mean(name, BACKEND_NAMES)
        meant = f" ({question})" if question else ""
        raise Invalid(f"{show(value)} is not a backend{meant}, expected one of {', '.join(BACKEND_NAMES)}")
    return name


Retry = Annotated[
    Annotated[bool, Tag("~flag")] | Annotated[ProfileRetry, Tag("~rule")],
    Discriminator(lambda value: "~flag" if isinstance(value, bool) else "~rule"),
]
Duration = Annotated[int, read_by(parse_duration, TEXT)]
OffDuration = Annotated[int | Literal["off"] | None, read_all_by(parse_off_duration, TEXT, FLAG)]
IdleDuration = Annotated[int | None, read_all_by(parse_idle_duration, TEXT, FLAG)]
BackendName = Annotated[str, read_all_by(_backend, {"enum": list(BACKEND_NAMES)})]


class ProvisioningParams(Model):
    """The parameters that fleets have too. `idle_duration` is in seconds, -1 never; None is the default."""

    backends: tuple[BackendName, ...] | None = None
    regions: tuple[str, ...] | None = None
    availability_zones: tuple[str, ...] | None = None
    instance_types: tuple[str, ...] | None = None
    reservation: str | None = None
    spot_policy: SpotPolicy | None = None
    retry: Retry | None = None
    max_price: Annotated[Number, Field(gt=0)] | None = None
    idle_duration: IdleDuration = None
    tags: Annotated[dict[str, str] | None, read_all_by(parse_tags)] = None
    backend_options: tuple[VastAIProfileOptions, ...] | None = None

    @property
    def retry_rule(self) -> ProfileRetry | None:
        """The retry with its defaults filled in, or None when nothing is retried."""
        if not self.retry:
            return None
        rule = ProfileRetry() if self.retry is True else self.retry
        return ProfileRetry(
            on_events=rule.on_events or tuple(RetryEvent),
            duration=DEFAULT_RETRY_S if rule.duration is None else rule.duration,
        )


class ProfileParams(ProvisioningParams):
    """All parameters of a run. Durations are seconds or `off`; None is the default."""

    max_duration: OffDuration = None
    stop_duration: OffDuration = None
    creation_policy: CreationPolicy | None = None
    utilization_policy: UtilizationPolicy | None = None
    startup_order: StartupOrder | None = None
    stop_criteria: StopCriteria | None = None
    schedule: Schedule | None = None
    fleets: tuple[EntityReference, ...] | None = None
    instances: Annotated[tuple[InstanceSelector, ...], Field(min_length=1)] | None = None


class Profile(ProfileParams):
    """A named set of parameters, for configurations that do not say them."""

    name: str = ""
    default: bool = False


def merge(run_params: ProvisioningParams, profile: Profile | None) -> Profile:
    """The parameters that hold: the configuration's own, else the profile's, field by field."""
    merged = {}
    for name in ProfileParams.model_fields:
        own = getattr(run_params, name, None)
        merged[name] = own if own is not None or profile is None else getattr(profile, name)
    return Profile.model_construct(
        **merged, name=profile.name if profile else "", default=profile.default if profile else False
    )
