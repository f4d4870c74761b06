"""Writes down a placed gang: its jobs, the blocks of its instances, and the instances that are to be made."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.fleet.instances import new_instance
from dstack.control.kernel import Decision, Draft
from dstack.control.policy import idle
from dstack.control.policy.deadlines import INSTANCE_CREATE_S, JOB_START_S
from dstack.control.queue.ledger import Ledger
from dstack.control.scheduling.place import Placed, Seat
from dstack.control.scheduling.pool import NewInstance
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobPlace, JobStatus
from dstack.model.queue import Queue
from dstack.model.row import Ref


class Seating:
    """One turn's seats. Wanted instances become rows when their first job is seated."""

    def __init__(self, queue: Queue, ledger: Ledger, now: float):
        self._queue = queue
        self._ledger = ledger
        self._now = now
        self._made: dict[int, Instance] = {}  # by identity of the wish

    def seat(self, gang: tuple[Job, ...], placed: Placed) -> Decision:
        d = Draft(self._queue, self._now)
        jobs = {job.id: job for job in gang}
        fresh: dict[int, tuple[Instance, int]] = {}
        for seat in placed.seats:
            self._seat_one(d, jobs[seat.ask.id], seat, fresh)
        for instance, busy in fresh.values():
            d.create(instance.replace(busy_blocks=busy))
        d.wake(*(Ref("run", j.run_id) for j in gang[:1]))
        return d.finish(self._now)

    def _seat_one(self, d: Draft[Queue], job: Job, seat: Seat, fresh: dict[int, tuple[Instance, int]]) -> None:
        if isinstance(seat.machine, Instance):
            instance = self._occupy(d, self._ledger.current(seat.machine), seat.blocks)
        else:
            instance = self._make(d, job, seat, seat.machine, fresh)
        self._place(d, job, seat, instance)

    def _occupy(self, d: Draft[Queue], instance: Instance, blocks: int) -> Instance:
        """Take blocks of an instance; the same unit may have taken some already."""
        busy = d.current(instance).busy_blocks + blocks
        fields: dict = {"busy_blocks": busy, "idle_since": None, "idle_deadline": None}
        if d.current(instance).status is InstanceStatus.IDLE:
            fields["status"] = InstanceStatus.BUSY
            d.event(wording.status_changed(instance, InstanceStatus.BUSY), wording.target(instance))
        d.wake(instance.ref)
        return d.change(instance, **fields)

    def _make(
        self, d: Draft[Queue], job: Job, seat: Seat, wish: NewInstance, fresh: dict[int, tuple[Instance, int]]
    ) -> Instance:
        made = self._made.get(id(wish))
        if made is not None and id(wish) not in fresh:
            return self._occupy(d, self._ledger.current(made), seat.blocks)
        if made is None:
            made = self._made[id(wish)] = self._new_row(d, job, wish)
        _, busy = fresh.get(id(wish), (made, 0))
        fresh[id(wish)] = (made, busy + seat.blocks)
        return made

    def _new_row(self, d: Draft[Queue], job: Job, wish: NewInstance) -> Instance:
        fleet = d.current(self._ledger.current(wish.fleet))
        limit = idle.shorter(idle.of_fleet(fleet.spec.configuration), job.spec.idle_duration_s)
        instance = new_instance(fleet, wish.offer, wish.total_blocks, idle_duration_s=limit, now=self._now)
        d.change(self._ledger.current(wish.fleet), next_instance_num=instance.num + 1)
        d.event("Instance created for job. Status: PENDING", wording.target(instance), wording.target(job))
        return instance

    def _place(self, d: Draft[Queue], job: Job, seat: Seat, instance: Instance) -> None:
        d.guard(self._ledger.current(seat.fleet))
        place = JobPlace(
            fleet_id=seat.fleet.id,
            fleet_name=seat.fleet.name,
            instance_id=instance.id,
            instance_name=instance.name,
            offer=seat.offer,
            blocks=seat.blocks,
            total_blocks=seat.total_blocks,
            hostname=instance.data.hostname if instance.data else None,
            created_instance=seat.created,
            remote=instance.remote,
        )
        ready = instance.status in (InstanceStatus.IDLE, InstanceStatus.BUSY)
        d.event(wording.status_changed(job, JobStatus.PROVISIONING), wording.target(job))
        d.change(
            job,
            status=JobStatus.PROVISIONING,
            instance_id=instance.id,
            place=place,
            provisioning_deadline=self._now + (JOB_START_S if ready else INSTANCE_CREATE_S + JOB_START_S),
            last_processed_at=self._now,
        )
        d.wake(job.ref)
