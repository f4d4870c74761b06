"""What a fleet of hosts of one's own, and the instances of its hosts, do next."""

from __future__ import annotations

from typing import Any

from dstack.control.fleet.decide import decide as decide_fleet
from dstack.control.fleet.network import internal_addresses
from dstack.control.instance.decide import decide as decide_instance
from dstack.control.kernel import Decision
from dstack.control.run.decide import queue_ref
from dstack.control.scheduling import Ask, Placed, Pool, Unit, Unplaceable, Waiting, candidates, place
from dstack.control.scheduling.each import in_a_line
from dstack.control.snapshots import FleetSnapshot, InstanceSnapshot
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.host import Finding, HostReport
from dstack.model.instance import Cordon, HostInfo, Instance, InstanceStatus, ProvisioningData
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.observation import HostUnfit, InstanceCreated, LinkUp, Observation
from dstack.model.requirements import Requirements
from dstack.model.resources import ResourcesSpec
from support.builders import PROJECT, T0, changed, inbox, instance, messages, offer, pending, some_id, verbs

UNFIT = HostReport(
    hostname="a", findings=(Finding(check="sudo", state="failed", message="asks for a password", remedy="visudo"),)
)


def hosts(*names: str, placement: str = "any", blocks: Any = 1, **fields: Any) -> Fleet:
    ssh = {"user": "u", "identity_file": "k", "hosts": list(names)}
    written = {"type": "fleet", "name": "f", "ssh_config": ssh, "placement": placement, "blocks": blocks}
    spec = FleetSpec(configuration=FleetConfiguration.model_validate(written))
    return Fleet(id=some_id("fleet", "f"), project_id=PROJECT, created_at=T0, name="f", spec=spec, **fields)


def host(fleet: Fleet, num: int = 0, **fields: Any) -> Instance:
    """The instance of the fleet's host with that number."""
    values = {"remote": fleet.spec.hosts[num], "offer": offer("ssh", backend="ssh", price=0.0), "idle_duration_s": None}
    return instance(num, of=fleet, **values | fields)


def fleet_decides(fleet: Fleet, *instances: Instance) -> Decision:
    return decide_fleet(FleetSnapshot(fleet, instances), T0)


def host_decides(one: Instance, *seen: Observation, at: float = T0, acts: tuple = ()) -> Decision:
    return decide_instance(InstanceSnapshot(one, hosts("a"), (), acts, inbox(*seen)), at)


def created(d: Decision) -> list[str]:
    return [c.row.remote.key for c in d.creates if isinstance(c.row, Instance) and c.row.remote]


def test_each_host_becomes_one_instance():
    d = fleet_decides(hosts("a", "b"))
    assert created(d) == ["a", "b"]
    assert [c.row.num for c in d.creates if isinstance(c.row, Instance)] == [0, 1]


def test_a_host_whose_instance_ended_is_not_taken_up_again_by_itself():
    assert created(fleet_decides(hosts("a", "b", seeded=True))) == []


def test_a_new_host_is_added_beside_those_that_are_there():
    fleet = hosts("a", "b", next_instance_num=1)
    d = fleet_decides(fleet, host(fleet, 0))
    assert created(d) == ["b"]
    assert d.creates[0].row.num == 1  # type: ignore[attr-defined]


def test_a_host_that_is_not_in_the_list_any_more_is_let_go():
    old = hosts("a", "b")
    gone = host(old, 1)
    d = fleet_decides(hosts("a", seeded=True), host(old, 0), gone)
    assert changed(d, gone)["terminate_requested"] is Reason.TERMINATED_BY_USER


def test_a_host_that_is_just_being_left_is_taken_up_when_it_is_gone():
    fleet = hosts("a")
    leaving = host(fleet, status=InstanceStatus.TERMINATING)
    d = fleet_decides(fleet, leaving)
    assert created(d) == [] and changed(d, fleet).get("seeded", False) is False
    assert created(fleet_decides(fleet)) == ["a"]


def test_an_unreachable_host_is_looked_at_again_when_the_fleet_is_applied_again():
    fleet = hosts("a")
    away = host(fleet, unreachable_since=T0 - 5, linked=False)
    assert changed(fleet_decides(fleet, away), away)["setup_requested_at"] == T0


def test_hosts_of_a_cluster_get_their_addresses_in_the_network_of_all():
    fleet = hosts("a", "b", placement="cluster", seeded=True)
    ones = [host(fleet, n, data=_data(f"10.0.0.{n}/24", "172.17.0.1/16", f"8.8.8.{n}/24")) for n in (0, 1)]
    d = fleet_decides(fleet, *ones)
    assert [changed(d, one)["data"].internal_ip for one in ones] == ["10.0.0.0", "10.0.0.1"]


def test_a_cluster_without_a_common_network_says_what_each_host_has():
    fleet = hosts("a", "b", placement="cluster", seeded=True)
    ones = [host(fleet, 0, data=_data("10.0.0.1/24")), host(fleet, 1, data=_data("10.1.0.2/24"))]
    error = changed(fleet_decides(fleet, *ones), fleet)["last_error"]
    assert error.endswith("a has 10.0.0.1/24; b has 10.1.0.2/24")


def test_the_narrowest_private_network_in_common_wins():
    found = internal_addresses({"a": ["10.0.0.1/8", "10.9.9.1/24"], "b": ["10.0.0.2/8", "10.9.9.2/24"]})
    assert found == {"a": "10.9.9.1", "b": "10.9.9.2"}


def test_what_a_host_has_is_known_when_it_was_looked_at():
    one = host(hosts("a", blocks=2), status=InstanceStatus.PROVISIONING)
    seen = InstanceCreated(data=_data("10.0.0.1/24"), offer=offer("ssh", cpus=64), report=HostReport(hostname="a"))
    fields = changed(host_decides(one, seen), one)
    assert (fields["offer"].resources.cpus, fields["total_blocks"]) == (64, 2)


def test_a_host_that_cannot_be_cut_into_its_blocks_ends_with_the_reason():
    one = host(hosts("a", blocks=3), status=InstanceStatus.PROVISIONING)
    seen = InstanceCreated(data=_data("10.0.0.1/24"), offer=offer("ssh", cpus=64), report=HostReport(hostname="a"))
    d = host_decides(one, seen)
    assert changed(d, one)["termination_message"] == "a: blocks: 64 cores cannot be divided into 3 blocks"


def test_a_host_that_is_not_mended_in_time_ends_with_what_mends_it():
    one = host(hosts("a"), status=InstanceStatus.PROVISIONING, provisioning_deadline=T0 + 600)
    waiting = host_decides(one, HostUnfit(report=UNFIT))
    assert changed(waiting, one) == {"report": UNFIT}
    late = one.replace(report=UNFIT)
    fields = changed(host_decides(late, at=T0 + 600), late)
    assert fields["termination_reason"] is Reason.PROVISIONING_TIMEOUT
    assert fields["termination_message"] == "sudo: asks for a password (mend it: visudo)"


def test_a_host_that_is_still_being_looked_at_is_left_without_waiting_for_the_look():
    one = host(hosts("a"), status=InstanceStatus.TERMINATING, data=None)
    d = host_decides(one, acts=(pending("create_instance", attempts=3),))
    assert [settle.verb for settle in d.settles] == ["create_instance"]


def test_an_instance_that_was_applied_again_is_set_up_again_once():
    one = host(hosts("a"), setup_requested_at=T0)
    d = host_decides(one)
    assert "create_instance" in verbs(d)
    assert changed(d, one)["setup_requested_at"] is None


def test_a_reboot_is_told_from_a_network_cut():
    one = host(hosts("a"), unreachable_since=T0 - 9, linked=False, host=HostInfo(hostname="h", boot_id="one"))
    again = host_decides(one, LinkUp(host=HostInfo(hostname="h", boot_id="one")))
    rebooted = host_decides(one, LinkUp(host=HostInfo(hostname="h", boot_id="two")))
    assert "The host answers again" in messages(again)
    assert "The host was rebooted and answers again" in messages(rebooted)


def test_a_host_that_lost_an_accelerator_takes_no_jobs_until_its_fleet_is_applied_again():
    fleet = hosts("a", seeded=True)
    eight = host(fleet, offer=offer("ssh", backend="ssh", gpu="H100", gpus=8))
    seven = eight.replace(host=changed(host_decides(eight, LinkUp(host=HostInfo(gpus=7))), eight)["host"])
    assert seven.host is not None and seven.host.health == "failure"
    (told,) = candidates(_asks(), [fleet], [seven], ()).report.hosts
    assert told.reason.startswith("unhealthy: the accelerators failed: the host has only 7 of the 8 accelerators")
    assert changed(fleet_decides(hosts("a"), seven), seven)["setup_requested_at"] == T0
    now = InstanceCreated(data=_data(), offer=offer("ssh", gpu="H100", gpus=7), report=HostReport(hostname="a"))
    fields = changed(host_decides(seven, now), seven)
    assert fields["host"].health == "healthy" and len(fields["offer"].resources.gpus) == 7


def test_an_accelerator_that_failed_by_itself_keeps_its_own_words():
    eight = host(hosts("a"), offer=offer("ssh", backend="ssh", gpu="H100", gpus=8))
    said = HostInfo(gpus=7, health="failure", health_message="GPU 1: it is not there any more")
    assert changed(host_decides(eight, LinkUp(host=said)), eight)["host"].health_message == said.health_message


def test_another_version_of_the_agent_is_an_event():
    one = host(hosts("a"), host=HostInfo(hostname="h", agent_version="0.1"))
    again = host_decides(one, LinkUp(host=HostInfo(hostname="h", agent_version="0.2")))
    assert "The agent was 0.1 and is 0.2 now" in messages(again)
    first = one.replace(host=None)
    assert messages(host_decides(first, LinkUp(host=HostInfo(hostname="h", agent_version="0.2")))) == []


def test_a_drained_instance_says_when_its_last_job_has_left():
    busy = host(hosts("a"), cordon=Cordon.DRAINING, status=InstanceStatus.BUSY, busy_blocks=1)
    assert "cordon" not in changed(host_decides(busy), busy)
    empty = busy.replace(busy_blocks=0)
    d = host_decides(empty)
    assert changed(d, empty)["cordon"] is Cordon.CORDONED
    assert "Instance is drained: no job runs on it" in messages(d)


def test_every_host_says_for_itself_why_it_does_not_fit():
    fleet = hosts("a", "b", "c", "d", seeded=True)
    ones = (
        host(fleet, 0, cordon=Cordon.CORDONED),
        host(fleet, 1, linked=False, unreachable_since=T0),
        host(fleet, 2, status=InstanceStatus.BUSY, busy_blocks=1),
        host(fleet, 3, offer=offer("ssh", backend="ssh", cpus=1)),
    )
    report = candidates(_asks(cpu=4), [fleet], ones, ()).report
    assert [(one.instance, one.host, one.reason) for one in report.hosts] == [
        ("f-0", "a", "cordoned: the instance takes no new jobs"),
        ("f-1", "b", "unreachable: the machine does not answer"),
        ("f-2", "c", "busy: it runs another job"),
        ("f-3", "d", "cpu: needs 4, has 1"),
    ]


def test_what_is_wrong_with_a_host_is_said_in_its_own_words():
    fleet = hosts("a", "b", seeded=True)
    unfit = host(fleet, 0, status=InstanceStatus.PROVISIONING, report=UNFIT)
    silent = host(fleet, 1, linked=False, unreachable_since=T0, unreachable_message="Nothing listens on b:22")
    report = candidates(_asks(), [fleet], (unfit, silent), ()).report
    reasons = [one.reason for one in report.hosts]
    assert reasons == ["sudo: asks for a password", "unreachable: Nothing listens on b:22"]


def test_of_many_hosts_the_first_are_named_and_the_others_counted():
    fleet = hosts(*(f"h{n}" for n in range(60)), seeded=True)
    report = candidates(_asks(cpu=999), [fleet], [host(fleet, n) for n in range(60)], ()).report
    assert [one.host for one in report.hosts] == [f"h{n}" for n in range(50)] and report.more_hosts == 10
    assert in_a_line(report).endswith("; f-2: cpu: needs 999, has 8; 57 more")


def test_hosts_that_the_run_itself_leaves_out_are_not_named():
    fleet = hosts("a", "b", seeded=True)
    ones = [host(fleet, n, cordon=Cordon.CORDONED) for n in (0, 1)]
    asked = _asks().model_copy(update={"instances": ("f-1",)})
    assert [one.instance for one in candidates(asked, [fleet], ones, ()).report.hosts] == ["f-1"]
    elsewhere = _asks().model_copy(update={"fleets": ("g",)})
    assert candidates(elsewhere, [fleet], ones, ()).report.hosts == ()


def test_jobs_of_several_nodes_pass_over_hosts_without_a_network_in_common():
    fleet = hosts("a", "b", placement="cluster", seeded=True, last_error="The hosts have no network in common")
    ones = [host(fleet, 0, data=_data("10.0.0.1/24")), host(fleet, 1, data=_data("10.1.0.2/24"))]
    assert len(candidates(_asks(), [fleet], ones, ()).candidates) == 2
    gang = _asks().model_copy(update={"multinode": True})
    (outcome,) = place(Pool([fleet], ones, ()), [Unit("r", (Ask("1", gang), Ask("2", gang)), together=True)])
    assert isinstance(outcome, Unplaceable)
    assert outcome.best_reason == "network: the host has no network in common with the others"
    assert [one.reason.partition(":")[0] for one in outcome.report.hosts] == ["network", "network"]


def test_jobs_of_several_nodes_wait_until_the_fleet_knows_the_addresses_of_its_hosts():
    fleet = hosts("a", "b", placement="cluster", seeded=True)
    ones = [host(fleet, n, data=_data(f"10.0.0.{n}/24")) for n in (0, 1)]
    gang = _asks().model_copy(update={"multinode": True})
    unit = Unit("r", (Ask("1", gang), Ask("2", gang)), together=True)
    (outcome,) = place(Pool([fleet], ones, ()), [unit])
    assert isinstance(outcome, Waiting) and outcome.report.waiting_for == "f-0 to be set up"
    told = fleet_decides(fleet, *ones)
    assert queue_ref(PROJECT) in told.wakes
    (outcome,) = place(Pool([fleet], [one.replace(data=changed(told, one)["data"]) for one in ones], ()), [unit])
    assert isinstance(outcome, Placed)


def test_the_disk_of_a_host_counts_only_where_somebody_asked_for_one():
    fleet = hosts("a", seeded=True)
    small = host(fleet, offer=offer("ssh", backend="ssh", disk_gb=12))
    assert len(candidates(_asks(), [fleet], [small], ()).candidates) == 1
    assert candidates(_asks(disk="50GB"), [fleet], [small], ()).candidates == ()


def _asks(**resources: Any) -> Requirements:
    return Requirements(resources=ResourcesSpec.model_validate(resources))


def _data(*addresses: str) -> ProvisioningData:
    return ProvisioningData(backend_id="i", hostname="a", addresses=addresses)
