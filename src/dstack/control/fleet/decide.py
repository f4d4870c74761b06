"""What a fleet does next: make the instances that it keeps, let go of what idles above them, end when it is deleted."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.fleet.hosts import keep_hosts
from dstack.control.fleet.instances import new_instance
from dstack.control.kernel import Decision, Draft
from dstack.control.policy import backoff, idle
from dstack.control.policy.deadlines import RECHECK_S
from dstack.control.scheduling.candidates import fleet_candidates
from dstack.control.snapshots import FleetSnapshot
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason

# Instances that one turn makes: more would keep everybody else from writing for long.
MAX_CREATES = 100


def decide(s: FleetSnapshot, now: float) -> Decision:
    d = Draft(s.fleet, now, s.pending)
    for received in s.inbox:
        d.consume(received)
    if s.fleet.terminal:
        return d.finish()
    instances = tuple(sorted((i for i in s.instances if not i.terminal), key=lambda i: i.num))
    if s.fleet.status is FleetStatus.TERMINATING:
        _terminating(d, instances)
    elif s.fleet.delete_requested_at is not None:
        d.event(wording.status_changed(d.row, FleetStatus.TERMINATING), wording.target(d.row))
        d.set(status=FleetStatus.TERMINATING)
        _dismiss(d, instances, Reason.TERMINATED_BY_USER, "The fleet was deleted")
        return d.finish(now + RECHECK_S if instances else now)
    elif s.fleet.spec.configuration.nodes is not None:
        if _keep_size(d, s, instances):
            return d.finish(now)
    else:
        keep_hosts(d, instances)
    return d.finish(now + RECHECK_S, _next_create(d.row, now))


def _next_create(fleet: Fleet, now: float) -> float | None:
    at = fleet.next_create_at
    return at if at is not None and at > now else None


def _terminating(d: Draft[Fleet], instances: tuple[Instance, ...]) -> None:
    _dismiss(d, instances, Reason.TERMINATED_BY_USER, "The fleet was deleted")
    if not instances:
        d.event(wording.status_changed(d.row, FleetStatus.TERMINATED), wording.target(d.row))
        d.set(status=FleetStatus.TERMINATED, finished_at=d.now)


def _dismiss(d: Draft[Fleet], instances: tuple[Instance, ...], reason: Reason, message: str | None) -> None:
    for instance in instances:
        if not instance.leaving:
            d.change(instance, terminate_requested=reason, terminate_message=message)
            d.wake(instance.ref)


def _keep_size(d: Draft[Fleet], s: FleetSnapshot, instances: tuple[Instance, ...]) -> bool:
    """Whether there are more to be made at once. `instances` are all that are paid for; `kept` those that are not about
    to go."""
    nodes = d.row.spec.configuration.nodes
    assert nodes is not None  # a backend fleet
    kept = tuple(i for i in instances if not i.leaving)
    wanted = nodes.min if d.row.seeded else max(nodes.target, nodes.min)
    room = float("inf") if nodes.max is None else nodes.max - len(instances)
    missing = int(min(wanted - len(kept), room))
    if len(kept) >= wanted:
        d.set(seeded=True)
    more = False
    if missing > 0 and (d.row.next_create_at is None or d.row.next_create_at <= d.now):
        more = _create(d, s, missing)
    _let_go(d, kept, nodes.min, nodes.max)
    return more


def _create(d: Draft[Fleet], s: FleetSnapshot, count: int) -> bool:
    """The cheapest offers first; after failures the next ones, in turn. Whether the next turn goes on with the rest."""
    found = fleet_candidates(d.row.spec.configuration, s.offers, at=d.now)
    if not found.candidates:
        failures = d.row.create_failures + 1
        d.set(
            create_failures=failures,
            next_create_at=d.now + backoff.fleet_create_delay(failures),
            last_error=f"No offers match the fleet. {found.best_reason or 'Its backends offer nothing'}",
        )
        return False
    chosen = found.candidates[d.row.create_failures % len(found.candidates)]
    configuration = d.row.spec.configuration
    for _ in range(min(count, MAX_CREATES)):
        instance = new_instance(
            d.row, chosen.offer, chosen.total_blocks, idle_duration_s=idle.of_fleet(configuration), now=d.now
        )
        d.create(instance)
        how = "fleet submission" if not d.row.seeded else "the fleet's minimum"
        d.event(f"Instance created on {how}. Status: PENDING", wording.target(instance), wording.target(d.row))
        d.set(next_instance_num=instance.num + 1)
    d.set(seeded=d.row.seeded or count <= MAX_CREATES, next_create_at=None)
    return count > MAX_CREATES


def _let_go(d: Draft[Fleet], kept: tuple[Instance, ...], least: int, most: int | None) -> None:
    """Idle instances whose time is over, those that idle longest first, but never below the minimum."""
    idle_ones = sorted((i for i in kept if _idles(i)), key=lambda i: (i.idle_since or 0.0, i.num))
    surplus = 0 if most is None else max(len(kept) - most, 0)
    _dismiss(d, tuple(idle_ones[:surplus]), Reason.MAX_INSTANCES_LIMIT, "The fleet has more than its maximum")
    rest = idle_ones[surplus:]
    over = [i for i in rest if i.idle_deadline is not None and i.idle_deadline <= d.now]
    spare = max(len(kept) - min(surplus, len(idle_ones)) - least, 0)
    _dismiss(d, tuple(over[:spare]), Reason.IDLE_TIMEOUT, None)


def _idles(instance: Instance) -> bool:
    return instance.status is InstanceStatus.IDLE and instance.busy_blocks == 0 and not instance.unknown_tasks
