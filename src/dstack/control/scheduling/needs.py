"""Needs: what a run, or the template of a fleet, asks of a machine, in the form in which it is matched."""

from __future__ import annotations

from dataclasses import dataclass

from dstack.control.wording import size
from dstack.model.fleet import Fleet
from dstack.model.profile import SpotPolicy
from dstack.model.requirements import Requirements
from dstack.model.resources import GPUSpec, ResourcesSpec


@dataclass(frozen=True, slots=True)
class Span:
    """Both ends belong to it; None is open. Cores, or MiB."""

    low: float | None
    high: float | None

    def miss(self, has: float) -> float:
        """By what share of the bound `has` is outside; 0 is inside."""
        if self.low is not None and has < self.low:
            return (self.low - has) / self.low
        if self.high is not None and has > self.high:
            return (has - self.high) / max(self.high, 1)
        return 0.0


@dataclass(frozen=True, slots=True)
class Needs:
    """`owner` is None for a run and the fleet's name for a template; names are lower case."""

    owner: str | None
    cpu: Span
    memory: Span
    disk: Span | None
    gpu: GPUSpec | None
    arch: str | None
    defaulted: frozenset[str]
    backends: frozenset[str] | None
    regions: frozenset[str] | None
    zones: frozenset[str] | None
    instance_types: frozenset[str] | None
    spot: bool | None
    max_price: float | None
    needs_containers: tuple[str, ...] = ()
    privileged: bool = False
    host_folders: bool = False


def of_requirements(requirements: Requirements) -> Needs:
    return Needs(
        owner=None,
        **_of_resources(requirements.resources),
        backends=_names(requirements.backends),
        regions=_names(requirements.regions),
        zones=_names(requirements.zones),
        instance_types=_names(requirements.instance_types),
        spot=requirements.spot,
        max_price=requirements.max_price,
        needs_containers=requirements.needs_containers,
        privileged=requirements.privileged,
        host_folders=requirements.host_folders,
    )


def of_fleet(fleet: Fleet) -> Needs:
    """The template by which the fleet makes instances. Its owner is shown in the reasons of what it drops."""
    c = fleet.spec.configuration
    resources = c.resources or ResourcesSpec()
    return Needs(
        owner=fleet.name,
        **_of_resources(resources, unconstrained=c.resources is None),
        backends=_names(c.backends),
        regions=_names(c.regions),
        zones=_names(c.availability_zones),
        instance_types=_names(c.instance_types),
        spot=spot_of(c.spot_policy),
        max_price=c.max_price,
    )


def spot_of(policy: SpotPolicy | None) -> bool | None:
    """True only spot, False only on-demand (the default), None both."""
    if policy is SpotPolicy.AUTO:
        return None
    return policy is SpotPolicy.SPOT


def span_text(span: Span, *, memory: bool) -> str:
    """`8GB` (at least), `4..8`, `..16GB`: as a person writes it."""

    def one(value: float) -> str:
        return size(value) if memory else f"{value:g}"

    low = "" if span.low is None else one(span.low)
    high = "" if span.high is None else one(span.high)
    return f"{low}..{high}" if high else low


def _of_resources(spec: ResourcesSpec, *, unconstrained: bool = False) -> dict:
    if unconstrained:
        return {
            "cpu": Span(None, None),
            "memory": Span(None, None),
            "disk": None,
            "gpu": None,
            "arch": None,
            "defaulted": frozenset(),
        }
    return {
        "cpu": Span(spec.cpu.count.min, spec.cpu.count.max),
        "memory": _mib(spec.memory.min, spec.memory.max),
        "disk": _mib(spec.disk.size.min, spec.disk.size.max) if spec.disk else None,
        "gpu": spec.gpu,
        "arch": spec.cpu.arch,
        "defaulted": spec.defaulted(),
    }


def _mib(low: float | None, high: float | None) -> Span:
    return Span(None if low is None else low * 1024, None if high is None else high * 1024)


def _names(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(v.lower() for v in values)
