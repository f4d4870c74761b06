"""Services: commands that go on, behind an endpoint, in one or more replicas."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dstack.model.base import Model, read_by
from dstack.model.configurations.base import PythonVersion, RunConfiguration, check_image
from dstack.model.configurations.parts import GroupName, PortMapping
from dstack.model.configurations.serving import (
    ChatModel,
    ProbeConfig,
    RateLimit,
    ScalingSpec,
    check_limits,
    check_probes,
)
from dstack.model.profile import EntityReference, SpotPolicy
from dstack.model.resources import IntRange, ResourcesSpec, range_by
from dstack.values.grammar import Invalid
from dstack.values.ranges import Bounds, parse_int, parse_range

# What the service says or its groups say, but not both.
ONE_LEVEL = ("image", "docker", "privileged", "python", "nvcc", "spot_policy", "reservation")


def _replicas(value: Any) -> Bounds[int]:
    return parse_range(value, parse_int, noun="number of replicas")


Replicas = Annotated[IntRange, range_by(_replicas)]


def replica_bounds(replicas: IntRange | None) -> tuple[int, int]:
    """The least and the greatest number of replicas."""
    if replicas is None:
        return 1, 1
    return replicas.min or 0, replicas.max or 0


def _check_replicas(replicas: IntRange | None, scaling: ScalingSpec | None) -> None:
    if replicas is None:
        return
    if replicas.max is None:
        raise Invalid("has no maximum, expected for instance `1..4`", at=("replicas",))
    if replicas.max < 1:
        raise Invalid("has a maximum of 0, expected at least 1", at=("replicas",))
    low, high = replica_bounds(replicas)
    if low < high and scaling is None:
        raise Invalid("is a range, expected `scaling` beside it", at=("replicas",))


def _router_type(value: Any) -> Any:
    return "smg" if value == "sglang" else value


class ReplicaGroupRouterConfig(Model):
    """The replica of this group sends the requests on to the others."""

    type: Annotated[Literal["smg", "dynamo"], read_by(_router_type, {"const": "sglang"})] = "smg"


class ReplicaGroup(Model):
    """Replicas of a service that are alike; its resources do not come from the top level."""

    SHORT_FORMS = ({"type": "object", "required": ["count"]},)

    name: GroupName | None = None
    replicas: Replicas = IntRange(min=1, max=1)
    scaling: ScalingSpec | None = None
    resources: ResourcesSpec = ResourcesSpec()
    spot_policy: SpotPolicy | None = None
    reservation: str | None = None
    commands: tuple[str, ...] = ()
    image: Annotated[str, Field(min_length=1)] | None = None
    python: PythonVersion | None = None
    nvcc: bool | None = None
    docker: bool | None = None
    privileged: bool | None = None
    router: ReplicaGroupRouterConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _old_count(cls, value: Any) -> Any:
        if isinstance(value, dict) and "count" in value and "replicas" not in value:
            return {"replicas" if key == "count" else key: item for key, item in value.items()}
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        check_image(self.image, self.python, self.docker, self.nvcc)
        if self.docker and self.privileged is False:
            raise Invalid("`docker` needs a privileged container, expected `privileged` left out", at=("privileged",))
        _check_replicas(self.replicas, self.scaling)
        if self.router is not None and replica_bounds(self.replicas) != (1, 1):
            raise Invalid("is more or less than one, expected one replica in the group of the router", at=("replicas",))
        return self


def _gateway_form(value: Any) -> str:
    return "~flag" if isinstance(value, bool) else "~reference"


Gateway = Annotated[
    Annotated[bool, Tag("~flag")] | Annotated[EntityReference, Tag("~reference")], Discriminator(_gateway_form)
]


class ServiceConfiguration(RunConfiguration):
    """`replicas` None is one, `gateway` None the default gateway if there is any, `probes` None the model's own."""

    type: Literal["service"] = "service"
    port: PortMapping
    gateway: Gateway | None = None
    strip_prefix: bool = True
    model: ChatModel | None = None
    https: bool | Literal["auto"] | None = None
    auth: bool = True
    replicas: Replicas | None = None
    scaling: ScalingSpec | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    probes: tuple[ProbeConfig, ...] | None = None
    groups: tuple[ReplicaGroup, ...] | None = None
    commands: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _serves(self) -> Self:
        check_limits(self.rate_limits)
        check_probes(self.probes or ())
        if self.groups is not None:
            self._check_groups(self.groups)
        else:
            _check_replicas(self.replicas, self.scaling)
            if not self.commands and not self.image:
                raise Invalid("has neither `commands` nor `image`, expected at least one of them")
        groups = self.groups or (self,)
        if self.schedule is not None and all(replica_bounds(group.replicas)[0] == 0 for group in groups):
            raise Invalid("starts a service that scales to zero, expected a minimum of replicas", at=("schedule",))
        return self

    def _check_groups(self, groups: tuple[ReplicaGroup, ...]) -> None:
        if not groups:
            raise Invalid("is empty, expected at least one group", at=("groups",))
        for field in ("replicas", "scaling", "commands"):
            if getattr(self, field):
                raise Invalid(f"is not allowed beside `groups`, expected `{field}` in each group", at=(field,))
        names = [group.name or str(index) for index, group in enumerate(groups)]
        for index, group in enumerate(groups):
            at = ("groups", index)
            if names.index(names[index]) != index:
                raise Invalid(f"`{names[index]}` is used twice, expected a name of its own", at=at)
            for field in ONE_LEVEL:
                if getattr(self, field) and getattr(group, field) is not None:
                    raise Invalid(f"`{field}` is given at the top too, expected it in one place", at=(*at, field))
            if not group.commands and not group.image and not self.image:
                raise Invalid("has no `commands`, expected them here, or an `image`", at=at)
        self._check_routers([(index, group.router) for index, group in enumerate(groups) if group.router])

    def _check_routers(self, routers: list[tuple[int, ReplicaGroupRouterConfig]]) -> None:
        if len(routers) > 1:
            raise Invalid(
                "is a second router, expected one group with a router", at=("groups", routers[1][0], "router")
            )
        if routers and routers[0][1].type == "dynamo" and self.retry:
            raise Invalid("is not possible with a router of type `dynamo`", at=("retry",))
