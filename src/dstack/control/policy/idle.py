"""How long an instance may idle."""

from __future__ import annotations

from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.profile import DEFAULT_FLEET_IDLE_S, DEFAULT_RUN_IDLE_S


def seconds(written: int | None, default: float) -> float | None:
    """A written idle duration (None default, negative never) in seconds; None is never."""
    if written is None:
        return default
    return None if written < 0 else float(written)


def of_fleet(configuration: FleetConfiguration) -> float | None:
    return seconds(configuration.idle_duration, DEFAULT_FLEET_IDLE_S)


def of_run(written: int | None) -> float | None:
    return seconds(written, DEFAULT_RUN_IDLE_S)


def shorter(first: float | None, second: float | None) -> float | None:
    """The shorter of two durations, None being endless: what an instance made for a run gets."""
    return min((d for d in (first, second) if d is not None), default=None)


def deadline(idle_since: float, duration_s: float | None) -> float | None:
    return None if duration_s is None else idle_since + duration_s
