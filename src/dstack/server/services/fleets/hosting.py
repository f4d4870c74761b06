"""The hosts of SSH fleets when a file is applied: what is refused, what changes, and that their keys are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.control.fleet.hosts import in_order
from dstack.control.instance.remarks import remark
from dstack.errors import DstackError
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.server.auth.cipher import Cipher
from dstack.server.services.fleets import keys
from dstack.server.services.hosts import keep, kept, seal, taken
from dstack.server.services.rows import change_rows, fetch, live
from dstack.server.store.tables import TABLES, act

instance_t, job_t = TABLES["instance"], TABLES["job"]
NEW, AGAIN, STAYS, REMOVED = "new", "again", "stays", "removed"


@dataclass(frozen=True)
class HostPlan:
    """What an apply does with one host. `again`: it is not in order, and is looked at once more."""

    host: str
    state: str
    instance: Instance | None = None
    runs: tuple[str, ...] = ()

    def wire(self) -> dict[str, Any]:
        one = self.instance
        return {
            "host": self.host,
            "state": self.state,
            "instance_num": one.num if one else None,
            "message": remark(one) if one else None,
            "runs": list(self.runs),
        }


async def refused(connection: AsyncConnection, project_id: str, spec: FleetSpec, existing: Fleet | None) -> list[str]:
    """Why the project does not get these hosts, a line each. `spec` has its private keys in clear."""
    known = await kept(connection, existing.id) if existing is not None else {}
    lines: list[str] = []
    for host, found in keys.credentials(spec).items():
        if found is None and host not in known:
            lines.append(f"ssh_config: the private key for the host {host} was not sent")
        elif found is not None:
            lines += _unusable(host, found)
    return lines + await taken(connection, [host.key for host in spec.hosts], project_id, existing and existing.id)


async def host_plans(connection: AsyncConnection, spec: FleetSpec, existing: Fleet | None) -> list[HostPlan]:
    """In the order of the file; what is not in it any more comes last."""
    instances = await _living(connection, existing)
    present = {one.remote.key: one for one in instances if one.remote is not None}
    wanted = {host.key: host for host in spec.hosts}
    runs = await _runs(connection, [one for key, one in present.items() if key not in wanted])
    plans = [HostPlan(key, _state(present.get(key), host), present.get(key)) for key, host in wanted.items()]
    gone = [one for key, one in present.items() if key not in wanted and one.terminate_requested is None]
    return plans + [HostPlan(one.remote.key, REMOVED, one, runs.get(one.id, ())) for one in gone if one.remote]


def check_removal(plans: Sequence[HostPlan]) -> None:
    """Raises DstackError when a job still runs on a host that is removed."""
    for plan in plans:
        if plan.state == REMOVED and plan.runs:
            raise DstackError(
                f"The host {plan.host} cannot be removed: it is in use by {', '.join(plan.runs)}",
                hint=f"stop it first: `dstack stop {plan.runs[0]}`; --force removes the host and ends what runs on it",
            )


def changed_blocks(old: FleetSpec, new: FleetSpec) -> list[str]:
    """Hosts that stay and would be split otherwise: their jobs could not follow."""
    before = {host.key: host.blocks for host in old.hosts}
    return [host.key for host in new.hosts if host.key in before and before[host.key] != host.blocks]


async def keep_keys(connection: AsyncConnection, cipher: Cipher, fleet: Fleet, spec: FleetSpec) -> None:
    """`spec` has its private keys in clear. Those that were not sent stay as they are."""
    found = keys.credentials(spec)
    await keep(connection, fleet, {host: seal(cipher, one) for host, one in found.items() if one is not None})


async def look_again(connection: AsyncConnection, plans: Sequence[HostPlan], now: float) -> None:
    """What the last look at hosts that were not in order said is void, and the next one is due now."""
    again = [plan.instance for plan in plans if plan.instance is not None and plan.state == AGAIN]
    await change_rows(connection, Instance, [one.id for one in again], report=None)
    await hasten(connection, again, now)


async def hasten(connection: AsyncConnection, instances: Sequence[Instance], now: float) -> None:
    """Looks at hosts, and farewells from them, that wait for another try are due now."""
    waiting = (act.c.kind == "instance") & act.c.resource_id.in_([one.id for one in instances])
    free = act.c.claimed_by.is_(None) & (act.c.due_at > now)
    await connection.execute(update(act).where(waiting & free).values(due_at=now))


def _unusable(host: str, found: Any) -> list[str]:
    try:
        keys.check(found)
    except DstackError as e:
        return [f"ssh_config: the key for the host {host}: {e.message}" + (f" ({e.hint})" if e.hint else "")]
    return []


def _state(instance: Instance | None, host: Any) -> str:
    if instance is None or instance.leaving:
        return NEW
    return STAYS if in_order(instance) and instance.remote == host else AGAIN


async def _living(connection: AsyncConnection, fleet: Fleet | None) -> list[Instance]:
    if fleet is None:
        return []
    return await fetch(
        connection, Instance, instance_t.c.fleet_id == fleet.id, live(Instance), order=(instance_t.c.num,)
    )


async def _runs(connection: AsyncConnection, instances: Sequence[Instance]) -> dict[str, tuple[str, ...]]:
    """Names of the runs with a job on each, by instance id."""
    if not instances:
        return {}
    jobs = await fetch(connection, Job, job_t.c.instance_id.in_([one.id for one in instances]), live(Job))
    return {one.id: tuple(sorted({job.run_name for job in jobs if job.instance_id == one.id})) for one in instances}
