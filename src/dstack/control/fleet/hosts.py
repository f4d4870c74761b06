"""The instances of an SSH fleet: one for each of its hosts, made, changed and let go as the list of hosts changes."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.fleet.network import internal_addresses, no_common_network
from dstack.control.kernel import Draft
from dstack.control.run.decide import queue_ref
from dstack.ids import derived_id
from dstack.model.fleet import Fleet
from dstack.model.host import RemoteHost
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.offer import Availability, Offer, Resources

BACKEND, REGION, INSTANCE_TYPE = "ssh", "remote", "ssh"
REMOVED = "The host was removed from the fleet"
_SET_UP = (InstanceStatus.IDLE, InstanceStatus.BUSY)


def keep_hosts(d: Draft[Fleet], instances: tuple[Instance, ...]) -> None:
    """`instances` are all that are not terminated.

    A host whose instance ended is not taken up again by itself: the next `apply` does that, by resetting `seeded`.
    """
    wanted = {host.key: host for host in d.row.spec.hosts}
    _let_go(d, [i for i in instances if i.remote is None or i.remote.key not in wanted])
    present = {i.remote.key: i for i in instances if i.remote is not None}
    if not d.row.seeded:
        seeded = True
        for key, host in wanted.items():
            instance = present.get(key)
            if instance is None:
                _create(d, host)
            elif instance.leaving:
                seeded = False  # its end wakes this row
            else:
                _revisit(d, instance, host)
        d.set(seeded=seeded)
    _tell_addresses(d, [i for key, i in present.items() if key in wanted and not i.leaving])


def unknown_offer() -> Offer:
    """What a host has before anybody has looked: nothing that a job could be placed on."""
    resources = Resources(cpus=0, memory_mib=0)
    availability = Availability.AVAILABLE
    return Offer(
        backend=BACKEND,
        region=REGION,
        instance_type=INSTANCE_TYPE,
        resources=resources,
        price=0.0,
        availability=availability,
    )


def _create(d: Draft[Fleet], host: RemoteHost) -> None:
    num = d.row.next_instance_num
    instance = Instance(
        id=derived_id(d.row.id, "instance", num),
        project_id=d.row.project_id,
        created_at=d.now,
        fleet_id=d.row.id,
        fleet_name=d.row.name,
        name=f"{d.row.name}-{num}",
        num=num,
        offer=unknown_offer(),
        remote=host,
    )
    d.create(instance)
    text = f"Instance created for the host {host.key}. Status: PENDING"
    d.event(text, wording.target(instance), wording.target(d.row))
    d.set(next_instance_num=num + 1)


def _revisit(d: Draft[Fleet], instance: Instance, host: RemoteHost) -> None:
    """What changed for the host, and what was wrong with it, is a reason to look at it again."""
    if instance.remote == host and in_order(instance):
        return
    d.change(instance, remote=host, setup_requested_at=d.now)
    d.wake(instance.ref)


def in_order(instance: Instance) -> bool:
    """Whether the host can be used as it is; one that cannot is looked at anew when its fleet is applied again."""
    failed = instance.host is not None and instance.host.health == "failure"
    return instance.status in _SET_UP and instance.unreachable_since is None and not failed


def _let_go(d: Draft[Fleet], instances: list[Instance]) -> None:
    for instance in instances:
        if not instance.leaving:
            d.change(instance, terminate_requested=Reason.TERMINATED_BY_USER, terminate_message=REMOVED)
            d.wake(instance.ref)


def _tell_addresses(d: Draft[Fleet], instances: list[Instance]) -> None:
    """Each host's address in the network of all, where nobody wrote it down; jobs of several nodes wait for it."""
    hosts = {i.remote.key: i.data.addresses for i in instances if i.remote and i.data and _looked_at(i)}
    written = any(h.internal_ip or h.network for h in d.row.spec.hosts)
    if written or not hosts:
        d.set(last_error=None)
        return
    found = internal_addresses(hosts)
    cluster = d.row.spec.configuration.placement == "cluster"
    error = no_common_network(hosts) if found is None and cluster else None
    if error != d.row.last_error:
        d.set(last_error=error)
        d.wake(queue_ref(d.row.project_id))
    for instance in instances:
        address = (found or {}).get(instance.remote.key if instance.remote else "")
        if instance.data is not None and address is not None and instance.data.internal_ip != address:
            d.change(instance, data=instance.data.model_copy(update={"internal_ip": address}))
            d.wake(queue_ref(d.row.project_id))


def _looked_at(instance: Instance) -> bool:
    return bool(instance.data and instance.data.addresses) or instance.status in _SET_UP
