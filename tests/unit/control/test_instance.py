"""What an instance does next."""

from __future__ import annotations

import pytest

from dstack.control.instance.decide import decide
from dstack.control.kernel import Decision, Pending
from dstack.control.run.decide import queue_ref
from dstack.control.snapshots import InstanceSnapshot
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.host import Hop, RemoteHost
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.job import Job
from dstack.model.observation import (
    CreateFailed,
    Gone,
    HostTrouble,
    InstanceCreated,
    LinkDown,
    LinkUp,
    NoCapacity,
    Observation,
    Vanished,
)
from support.builders import (
    PROJECT,
    T0,
    changed,
    data,
    fleet,
    host,
    inbox,
    instance,
    job,
    messages,
    offer,
    pending,
    verbs,
)

FLEET = fleet()


def decided(
    i: Instance,
    *seen: Observation,
    at: float = T0,
    of: Fleet | None = FLEET,
    jobs: tuple[Job, ...] = (),
    acts: tuple[Pending, ...] = (),
) -> Decision:
    return decide(InstanceSnapshot(i, of, jobs, acts, inbox(*seen)), at)


def ordered(**fields) -> Instance:
    return instance(status=InstanceStatus.PROVISIONING, **{"provisioning_deadline": T0 + 600} | fields)


def test_a_wish_is_ordered():
    i = instance(status=InstanceStatus.PENDING)
    d = decided(i)
    assert changed(d, i) == {"status": InstanceStatus.PROVISIONING, "provisioning_deadline": T0 + 600}
    assert verbs(d) == ["create_instance"]
    assert d.acts[0].token == i.token
    assert messages(d) == ["Instance status changed PENDING -> PROVISIONING"]


def test_a_wish_of_a_deleted_fleet_is_not_ordered():
    i = instance(status=InstanceStatus.PENDING)
    d = decided(i, of=fleet(status=FleetStatus.TERMINATED))
    assert d.acts == ()
    assert changed(d, i)["status"] is InstanceStatus.TERMINATING


def test_a_created_machine_is_paid_for_and_awaited():
    i = ordered()
    d = decided(i, InstanceCreated(data=data()))
    assert changed(d, i) == {"data": data(), "started_at": T0}
    assert d.wake_at == T0 + 60


def test_a_machine_that_is_awaited_is_looked_at_when_its_time_is_over():
    assert decided(ordered(data=data(), started_at=T0 - 580, provisioning_deadline=T0 + 20)).wake_at == T0 + 20


def test_a_linked_machine_without_jobs_idles_from_now_on():
    i = ordered(data=data())
    fields = changed(decided(i, LinkUp(host=host())), i)
    assert fields["status"] is InstanceStatus.IDLE
    assert (fields["idle_since"], fields["idle_deadline"]) == (T0, T0 + 300)
    assert fields["linked"] is True


def test_a_linked_machine_with_a_job_is_busy_and_wakes_it():
    i = ordered(data=data(), busy_blocks=1)
    j = job(on=i)
    d = decided(i, LinkUp(host=host()), jobs=(j,))
    assert changed(d, i)["status"] is InstanceStatus.BUSY
    assert j.ref in d.wakes


def test_a_machine_that_never_ends_by_idling_has_no_idle_deadline():
    i = ordered(data=data(), idle_duration_s=None)
    assert changed(decided(i, LinkUp(host=host())), i).get("idle_deadline") is None


@pytest.mark.parametrize(
    ("seen", "reason", "message"),
    [
        (NoCapacity(message="sold out"), Reason.NO_OFFERS, "sold out"),
        (NoCapacity(), Reason.NO_OFFERS, "The provider has no capacity"),
        (CreateFailed(message="quota"), Reason.ERROR, "quota"),
        (Vanished(), Reason.ERROR, "The instance vanished from its provider"),
        (Vanished(preempted=True), Reason.ERROR, "The provider took the instance back"),
    ],
)
def test_each_bad_answer_of_the_provider_ends_the_instance(seen: Observation, reason: Reason, message: str):
    i = ordered(busy_blocks=1)
    j = job(on=i)
    d = decided(i, seen, jobs=(j,))
    fields = changed(d, i)
    assert (fields["status"], fields["termination_reason"]) == (InstanceStatus.TERMINATING, reason)
    assert fields["termination_message"] == message
    assert j.ref in d.wakes
    assert messages(d) == [
        f"Instance status changed PROVISIONING -> TERMINATING. Termination reason: {reason.upper()} ({message})"
    ]


def test_a_machine_that_does_not_come_in_time_ends():
    i = ordered(provisioning_deadline=T0)
    fields = changed(decided(i), i)
    assert fields["termination_reason"] is Reason.PROVISIONING_TIMEOUT
    assert fields["termination_message"] == "The instance was not created within 10m"


def test_a_machine_that_was_created_but_never_answers_ends():
    i = ordered(provisioning_deadline=T0, data=data())
    assert changed(decided(i), i)["termination_message"] == "The instance did not answer within 10m"


def test_a_fleet_that_keeps_instances_pauses_after_a_failure():
    keeper = fleet(nodes="1..2", create_failures=1)
    d = decided(ordered(), NoCapacity(message="sold out"), of=keeper)
    assert changed(d, keeper) == {"create_failures": 2, "next_create_at": T0 + 120, "last_error": "sold out"}


def test_a_fleet_that_keeps_none_does_not_mind_a_failure():
    assert changed(decided(ordered(), NoCapacity(), of=FLEET), FLEET) == {}


def test_a_success_forgives_the_failures_before():
    keeper = fleet(nodes="1..2", create_failures=3, next_create_at=T0 + 9, last_error="x")
    d = decided(ordered(data=data()), LinkUp(host=host()), of=keeper)
    assert changed(d, keeper) == {"create_failures": 0, "next_create_at": None, "last_error": None}


def test_a_machine_whose_last_block_was_given_back_idles():
    i = instance(status=InstanceStatus.BUSY, busy_blocks=0)
    fields = changed(decided(i), i)
    assert fields["status"] is InstanceStatus.IDLE
    assert fields["idle_deadline"] == T0 + 300


def test_a_machine_that_must_not_idle_at_all_asks_its_fleet_at_once():
    i = instance(status=InstanceStatus.BUSY, busy_blocks=0, idle_duration_s=0.0)
    assert FLEET.ref in decided(i).wakes


def test_a_machine_at_its_idle_deadline_asks_its_fleet_and_does_nothing_itself():
    i = instance(idle_since=T0 - 300, idle_deadline=T0)
    d = decided(i)
    assert FLEET.ref in d.wakes
    assert d.changes == ()


def test_an_idle_machine_is_due_at_its_idle_deadline():
    assert decided(instance(idle_since=T0, idle_deadline=T0 + 300)).wake_at == T0 + 300


def test_a_machine_that_stops_answering_is_given_time_and_its_provider_is_asked():
    i = instance(status=InstanceStatus.BUSY, busy_blocks=1)
    j = job(on=i)
    d = decided(i, LinkDown(message="x"), jobs=(j,))
    fields = changed(d, i)
    assert fields == {
        "linked": False,
        "unreachable_since": T0,
        "unreachable_deadline": T0 + 1200,
        "unreachable_message": "x",
    }
    assert [p.verb for p in d.probes] == ["describe_instance"]
    assert j.ref in d.wakes


@pytest.mark.parametrize(("silent_s", "asked", "again_s"), [(59.0, [], 1.0), (60.0, ["describe_instance"], 60.0)])
def test_a_new_machine_that_is_silent_for_a_minute_is_asked_for_at_its_provider(
    silent_s: float, asked: list[str], again_s: float
):
    i = ordered(data=data(), started_at=T0 - silent_s)
    d = decided(i)
    assert [p.verb for p in d.probes] == asked
    assert d.wake_at == T0 + again_s


def test_neither_what_was_not_made_yet_nor_a_host_of_ones_own_is_asked_for():
    own = ordered(data=data(), started_at=T0 - 600, remote=RemoteHost(hop=Hop(hostname="10.0.0.1", user="me")))
    for i in (ordered(), own):
        assert decided(i).probes == ()


def test_what_the_provider_says_of_a_silent_machine_is_kept_until_it_answers():
    i = ordered(data=data(), started_at=T0 - 600)
    kept = changed(decided(i, HostTrouble(message="no IP address is left")), i)
    assert kept == {"unreachable_message": "no IP address is left"}
    answers = changed(decided(i.replace(**kept), LinkUp(host=host())), i.replace(**kept))
    assert answers["unreachable_message"] is None


@pytest.mark.parametrize("backend", ["local", "ssh"])
def test_a_persons_own_machine_is_never_given_up(backend: str):
    i = instance(offer=offer(backend=backend))
    fields = changed(decided(i, LinkDown()), i)
    assert fields["unreachable_since"] == T0
    assert fields.get("unreachable_deadline") is None


def test_a_machine_that_answers_again_is_as_before():
    i = instance(linked=False, unreachable_since=T0 - 60, unreachable_deadline=T0 + 1000)
    d = decided(i, LinkUp(host=host()))
    fields = changed(d, i)
    assert (fields["linked"], fields["unreachable_since"], fields["unreachable_deadline"]) == (True, None, None)
    assert queue_ref(PROJECT) in d.wakes


def test_a_cloud_machine_that_does_not_answer_for_too_long_ends():
    i = instance(linked=False, unreachable_since=T0 - 1200, unreachable_deadline=T0)
    fields = changed(decided(i), i)
    assert fields["termination_reason"] is Reason.UNREACHABLE
    assert fields["termination_message"] == "The instance did not answer for 20m"


def test_a_wish_to_terminate_is_followed_with_its_reason():
    i = instance(terminate_requested=Reason.IDLE_TIMEOUT)
    d = decided(i)
    assert changed(d, i)["termination_reason"] is Reason.IDLE_TIMEOUT
    assert messages(d) == ["Instance status changed IDLE -> TERMINATING. Termination reason: IDLE_TIMEOUT"]


def leaving(**fields) -> Instance:
    return instance(status=InstanceStatus.TERMINATING, **{"data": data(), "provisioning_deadline": T0, **fields})


def test_a_terminating_machine_is_terminated_under_its_own_token():
    i = leaving()
    d = decided(i)
    assert verbs(d) == ["terminate_instance"]
    assert d.acts[0].payload == {"machine": i.token}


def test_termination_waits_while_the_order_is_under_way():
    d = decided(leaving(data=None), acts=(pending("create_instance", 2),))
    assert d.acts == ()
    assert d.settles == ()


def test_an_order_that_was_never_tried_is_withdrawn_first():
    d = decided(leaving(data=None), acts=(pending("create_instance", 0),))
    assert [s.verb for s in d.settles] == ["create_instance"]
    assert d.acts == ()


def test_only_the_providers_word_ends_it():
    i = leaving()
    d = decided(i, Gone())
    assert changed(d, i) == {"status": InstanceStatus.TERMINATED, "finished_at": T0}
    assert {FLEET.ref, queue_ref(PROJECT)} <= set(d.wakes)
    assert d.wake_at is None


def test_a_wish_that_was_never_ordered_needs_no_word_of_the_provider():
    i = leaving(data=None, provisioning_deadline=None)
    assert changed(decided(i), i)["status"] is InstanceStatus.TERMINATED


def test_termination_is_never_given_up():
    d = decided(leaving(), acts=(pending("terminate_instance", 500),), at=T0 + 10**7)
    assert d.empty
    assert d.wake_at is not None
