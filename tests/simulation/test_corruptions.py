"""Each invariant of the simulation speaks when the store has just been damaged in the way that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dstack.control.kernel import Turn
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.model.row import Row
from dstack.model.run import Run, RunStatus
from dstack.sim.simulation import Simulation
from dstack.sim.world import Claim, Committed, World

Damage = Callable[[World], bool]  # whether there was anything to damage


def damaging(damage: Damage) -> type[World]:
    """A store that is damaged once, before the first commit that finds a row of the kind."""

    class Damaged(World):
        done = False

        def commit(self, batch: Sequence[tuple[Claim, Turn]], now: float) -> Committed:
            self.done = self.done or damage(self)
            return super().commit(batch, now)

    return Damaged


def first(world: World, kind: type[Row], which: Callable[[World, Any], bool]) -> Iterator[Row]:
    yield from [row for row in world.rows.values() if isinstance(row, kind) and which(world, row)][:1]


def put(kind: type[Row], which: Callable[[World, Any], bool], **fields) -> Damage:
    """The first such row gets other fields, and nobody is told."""

    def damage(world: World) -> bool:
        for row in first(world, kind, which):
            world.rows[row.ref] = row.replace(**fields)
            return True
        return False

    return damage


def forget(world: World) -> bool:
    for row in first(world, Job, lambda w, job: not job.terminal and w.leases[job.ref].owner is None):
        world.leases[row.ref].due_at = None
        return True
    return False


def double(world: World) -> bool:
    for key in list(world.acts)[:1]:
        world.unfinished[key] += 1
        return True
    return False


def over(world: World) -> bool:
    """A machine that runs counts as gone."""
    for row in first(world, Instance, lambda _, i: i.status is InstanceStatus.IDLE):
        world.leases[row.ref].due_at = None
        world.rows[row.ref] = row.replace(status=InstanceStatus.TERMINATED)
        return True
    return False


def ended(_: World, row: Row) -> bool:
    return row.terminal


def placed_with_others(_: World, job: Job) -> bool:
    return job.is_gang and job.status is JobStatus.PROVISIONING


UNPLACED = {"status": JobStatus.SUBMITTED, "place": None, "instance_id": None, "tried_offers": ()}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (forget, "and never due"),
        (put(Job, ended, status=JobStatus.RUNNING), "had ended as"),
        (double, "has 2 unfinished acts"),
        (put(Instance, lambda _, i: i.busy_blocks == 1, busy_blocks=2), "blocks busy"),
        (over, "no instance answers for it"),
        (put(Run, lambda _, r: r.status is RunStatus.PROVISIONING, status=RunStatus.RUNNING), "none of its jobs"),
        (put(Job, placed_with_others, **UNPLACED), "nodes without a place"),
        (put(Instance, lambda _, i: i.idle_deadline is not None, idle_deadline=None), "no time at which it goes"),
    ],
)
def test_damage_is_noticed_at_once(damage: Damage, words: str):
    said = (Simulation(seed, jobs=12, hours=0.5, faults=(), world=damaging(damage)).run().broken for seed in range(3))
    assert any(words in one for broken in said for one in broken)


def forgetting(kind: str) -> type[World]:
    """What happens no row of that kind ever hears."""

    class Forgets(World):
        def wake(self, refs, now: float) -> None:
            super().wake([ref for ref in refs if ref.kind != kind], now)

        def _release(self, claim, wake_at: float | None, now: float) -> None:
            super()._release(claim, now + 1e6 if claim.ref.kind == kind else wake_at, now)

    return Forgets


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("fleet", "idles long after its time"),
        ("run", "all of its jobs have long ended"),
        ("queue", "not over when it should be"),
    ],
)
def test_what_is_never_heard_is_noticed(kind: str, words: str):
    broken = Simulation(1, jobs=6, hours=0.1, faults=(), world=forgetting(kind)).run().broken
    assert any(words in one for one in broken), broken
