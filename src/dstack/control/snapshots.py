"""Snapshots: the frozen input of each decision, loaded in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from dstack.control.kernel import Pending, Received
from dstack.model.chore import Chore
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.offer import Offer
from dstack.model.orphan import Orphan
from dstack.model.queue import Queue
from dstack.model.run import Run


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """`jobs`: the newest submission of every (replica, job number) of the run."""

    run: Run
    jobs: tuple[Job, ...]
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """`gang`: the other nodes of its submission, by their numbers, while it may have to wait for them."""

    job: Job
    instance: Instance | None
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()
    gang: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """`jobs`: those that are placed on it and not terminal."""

    instance: Instance
    fleet: Fleet | None
    jobs: tuple[Job, ...]
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """`instances`: the non-terminal ones; `offers`: all that the project's backends offer now."""

    fleet: Fleet
    instances: tuple[Instance, ...]
    offers: tuple[Offer, ...] = ()
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """`jobs`: the submitted ones of the project with no stop asked for; fleets and instances: the non-terminal ones."""

    queue: Queue
    jobs: tuple[Job, ...]
    fleets: tuple[Fleet, ...]
    instances: tuple[Instance, ...]
    offers: tuple[Offer, ...] = ()
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoreSnapshot:
    """`orphans`: those of the chore's project and backend that are not settled."""

    chore: Chore
    orphans: tuple[Orphan, ...] = ()
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class OrphanSnapshot:
    orphan: Orphan
    pending: tuple[Pending, ...] = ()
    inbox: tuple[Received, ...] = ()


Snapshot = RunSnapshot | JobSnapshot | InstanceSnapshot | FleetSnapshot | QueueSnapshot | ChoreSnapshot | OrphanSnapshot
