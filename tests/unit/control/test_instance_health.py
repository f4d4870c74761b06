"""What failing accelerators of a host mean for it: a note, or no more jobs."""

from __future__ import annotations

from dstack.control.instance.decide import decide
from dstack.control.instance.remarks import remark
from dstack.control.run.decide import queue_ref
from dstack.control.scheduling.candidates import candidates
from dstack.control.snapshots import InstanceSnapshot
from dstack.model.instance import HostInfo
from dstack.model.observation import HostHealth, LinkUp, Observation
from support.builders import PROJECT, T0, changed, fleet, inbox, instance, messages, requirements

FLEET = fleet()
LOST = "GPU 2: Xid 79: the GPU has fallen off the bus"


def host(health: str = "healthy", message: str = "") -> HostInfo:
    return HostInfo(hostname="h", boot_id="b", gpus=8, health=health, health_message=message)


def decided(i, *seen: Observation):
    return decide(InstanceSnapshot(i, FLEET, (), (), inbox(*seen)), T0)


def matching(i):
    return candidates(requirements(reuse_only=True), [FLEET], [i], [])


def test_a_change_of_health_is_an_event_and_is_kept_on_the_row():
    i = instance(host=host())
    d = decided(i, HostHealth(health="failure", message=LOST))
    assert messages(d) == [f"Instance health changed HEALTHY -> FAILURE: {LOST}"]
    kept = changed(d, i)["host"]
    assert (kept.health, kept.health_message, kept.health_at) == ("failure", LOST, T0)


def test_the_same_health_told_again_is_no_news():
    i = instance(host=host("warning", "GPU 0: 1 uncorrected memory error"))
    assert messages(decided(i, LinkUp(host=i.host), HostHealth(health="warning", message="GPU 0: 2 errors"))) == []


def test_a_host_with_a_failure_gets_no_new_jobs_and_the_reason_names_it():
    found = matching(instance(host=host("failure", LOST)))
    assert found.candidates == ()
    assert found.best_reason == f"unhealthy: the accelerators failed: {LOST}"


def test_a_host_with_a_warning_stays_in_use_with_a_note():
    i = instance(host=host("warning", "GPU 0: slowed down by heat (88 C)"))
    assert len(matching(i).candidates) == 1
    assert remark(i) == "GPU 0: slowed down by heat (88 C)"


def test_a_host_that_is_well_again_wakes_the_queue():
    i = instance(host=host("failure", LOST))
    d = decided(i, HostHealth(health="healthy"))
    assert queue_ref(PROJECT) in d.wakes
    assert len(matching(i.replace(host=changed(d, i)["host"])).candidates) == 1
