"""Events: what `dstack event` shows, one sentence and what it is about."""

from __future__ import annotations

from typing import NamedTuple


class EventTarget(NamedTuple):
    """`type` is one of project, user, fleet, instance, run, job, volume, gateway, secret."""

    type: str
    id: str
    name: str


class Event(NamedTuple):
    """`actor_id` is the user who caused it; None is the system."""

    message: str
    targets: tuple[EventTarget, ...]
    actor_id: str | None = None
    project_id: str | None = None
