"""What people do in a simulated project: fleets, runs of all kinds, stops, aborts, deletions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dstack.control.run.decide import queue_ref
from dstack.control.run.submission import submitted
from dstack.ids import derived_id
from dstack.model.chore import Chore, ChoreName
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.instance import InstanceTerminationReason
from dstack.model.offer import Gpu, Offer, Resources
from dstack.model.queue import Queue
from dstack.model.row import Ref
from dstack.model.run import Run, RunSpec
from dstack.sim.host import Script
from dstack.sim.world import World

PROJECT = derived_id("sim", "project")
USER = derived_id("sim", "user")


def offers() -> tuple[Offer, ...]:
    """Three machine types in two regions, on demand and spot."""
    types = (("small", 4, 16, 0, 0.2), ("gpu", 16, 64, 1, 1.0), ("big", 64, 256, 4, 4.0))
    return tuple(
        Offer(
            backend="sim",
            region=region,
            instance_type=name,
            price=price * (0.4 if spot else 1) * (1.1 if region == "west" else 1),
            resources=Resources(
                cpus=cpus,
                memory_mib=gb * 1024,
                disk_mib=500 * 1024,
                gpus=(Gpu(name="L4", memory_mib=23034),) * gpus,
                spot=spot,
            ),
        )
        for name, cpus, gb, gpus, price in types
        for region in ("east", "west")
        for spot in (False, True)
    )


def fleet(name: str, now: float, **configuration: Any) -> Fleet:
    spec = FleetSpec(configuration=FleetConfiguration.model_validate({"type": "fleet", "name": name, **configuration}))
    return Fleet(id=derived_id(PROJECT, "fleet", name), project_id=PROJECT, created_at=now, name=name, spec=spec)


def run(name: str, now: float, **configuration: Any) -> Run:
    body = TaskConfiguration.model_validate({"type": "task", "commands": ["work"], "name": name, **configuration})
    return Run(
        id=derived_id(PROJECT, "run", name),
        project_id=PROJECT,
        created_at=now,
        name=name,
        user_id=USER,
        spec=RunSpec(run_name=name, configuration=body),
        priority=body.priority or 0,
        submitted_at=now,
        last_processed_at=now,
    )


def submit(world: World, row: Run, now: float) -> None:
    """As the route does: the run, its jobs, and the queue is woken."""
    row, jobs = submitted(row, now)
    world.add(row, now)
    for job in jobs:
        world.add(job, now)
    world.wake([queue_ref(row.project_id)], now)


def queue(now: float) -> Queue:
    return Queue(id=queue_ref(PROJECT).id, project_id=PROJECT, created_at=now)


def sweep(now: float) -> Chore:
    return Chore(
        id=derived_id(PROJECT, "sweep"),
        project_id=PROJECT,
        created_at=now,
        name=ChoreName.SWEEP,
        backend="sim",
        next_at=now + 60.0,
    )


@dataclass
class People:
    """Chance decides what they want; the same seed wants the same.

    Each wish has a source of chance of its own: leaving out `without` some of the runs, or some of what they do later,
    changes nothing about the rest.
    """

    seed: int
    without: frozenset[str] = frozenset()  # names of wishes: run-0, run-1, ..., meddling-0, ...
    scripts: dict[str, Script] = field(default_factory=dict)
    runs: list[Ref] = field(default_factory=list)
    fleets: list[Ref] = field(default_factory=list)

    def begin(self, world: World, now: float) -> None:
        world.add(queue(now), now)
        world.add(sweep(now), now)
        wanted = (
            fleet("pool", now, nodes="0..12", idle_duration="5m", spot_policy="auto"),
            fleet("warm", now, nodes="1..3", blocks="auto", idle_duration="10m"),
            fleet("cluster", now, nodes="0..6", placement="cluster", idle_duration="5m"),
        )
        for row in wanted:
            world.add(row, now)
            self.fleets.append(row.ref)

    def plans(self, runs: int, length_s: float) -> Iterator[tuple[float, str]]:
        """When, from the beginning, somebody wants what."""
        for n in range(runs):
            yield self.chance(f"run-{n}", "when").uniform(0, length_s * 0.8), f"run-{n}"
        for n in range(runs // 5):
            yield self.chance(f"meddling-{n}", "when").uniform(0, length_s), f"meddling-{n}"

    def want(self, wish: str, world: World, now: float) -> None:
        if wish in self.without:
            return
        if wish.startswith("run-"):
            self._submit(wish, world, now)
        else:
            self._meddle(self.chance(wish), world, now)

    def leave(self, world: World, now: float) -> None:
        """Delete all fleets."""
        for ref in self.fleets:
            if not world.rows[ref].terminal:
                world.intend(ref, now, delete_requested_at=now)

    def chance(self, *of: str) -> random.Random:
        return random.Random(" ".join((str(self.seed), *of)))

    def _submit(self, name: str, world: World, now: float) -> None:
        row = run(name, now, **_wishes(self.chance(name, "wishes")))
        self.scripts[name] = _script(self.chance(name, "script"))
        submit(world, row, now)
        self.runs.append(row.ref)

    def _meddle(self, chance: random.Random, world: World, now: float) -> None:
        """Someone stops, aborts, or takes a machine away."""
        live = [r for r in self.runs if not world.rows[r].terminal]
        if live and chance.random() < 0.6:
            fields: dict[str, Any] = {"stop_requested_at": now, "stop_actor_id": USER}
            if chance.random() < 0.4:
                fields["abort_requested"] = True
            world.intend(chance.choice(live), now, **fields)
            return
        machines = [r for r, row in world.rows.items() if r.kind == "instance" and not row.terminal]
        if machines:
            world.intend(chance.choice(machines), now, terminate_requested=InstanceTerminationReason.TERMINATED_BY_USER)


def _wishes(chance: random.Random) -> dict[str, Any]:
    wishes: dict[str, Any] = {"resources": {"memory": "1GB..", "disk": "10GB..", "cpu": "1.."}}
    wishes["spot_policy"] = chance.choice(["on-demand", "auto", "spot"])
    if chance.random() < 0.3:
        wishes["resources"]["gpu"] = chance.choice(["1", "L4:1..", "24GB"])
    if chance.random() < 0.5:
        wishes["retry"] = chance.choice([True, {"on_events": ["no-capacity"]}, {"duration": "10m"}])
    if chance.random() < 0.2:
        wishes["max_duration"] = "3m"
    if chance.random() < 0.2:
        wishes["nodes"] = chance.choice([2, 3])
    if chance.random() < 0.2:
        wishes["priority"] = chance.randrange(100)
    return wishes


def _script(chance: random.Random) -> Script:
    return Script(
        pull_s=chance.choice([0.0, 20.0]),
        run_s=chance.choice([0.0, 5.0, 60.0, 400.0]),
        exit_code=chance.choice([0, 0, 0, 1]),
        stop_s=chance.choice([0.5, 30.0, 10_000.0]),
    )
