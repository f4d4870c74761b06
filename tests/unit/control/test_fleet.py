"""What a fleet does next."""

from __future__ import annotations

import pytest

from dstack.control.fleet.decide import decide
from dstack.control.kernel import Decision
from dstack.control.snapshots import FleetSnapshot
from dstack.model.fleet import Fleet, FleetStatus
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.offer import Offer
from support.builders import T0, changed, fleet, instance, messages, offer

CHEAP, DEAR = offer("cheap", price=1), offer("dear", price=2)


def decided(f: Fleet, *instances: Instance, offers: tuple[Offer, ...] = (DEAR, CHEAP), at: float = T0) -> Decision:
    return decide(FleetSnapshot(f, instances, offers), at)


def created(d: Decision) -> list[Instance]:
    return [c.row for c in d.creates if isinstance(c.row, Instance)]


def test_a_new_fleet_makes_its_target_from_the_cheapest_offer():
    f = fleet(nodes={"min": 0, "target": 2, "max": 3}, seeded=False)
    d = decided(f)
    assert [(i.name, i.offer, i.status) for i in created(d)] == [
        ("f-0", CHEAP, InstanceStatus.PENDING),
        ("f-1", CHEAP, InstanceStatus.PENDING),
    ]
    assert changed(d, f) == {"next_instance_num": 2, "seeded": True}
    assert messages(d)[0] == "Instance created on fleet submission. Status: PENDING"


def test_the_target_is_made_only_once():
    assert created(decided(fleet(nodes={"min": 0, "target": 2, "max": 3}))) == []


def test_a_template_fleet_makes_nothing():
    f = fleet(nodes="0..2", seeded=False)
    d = decided(f)
    assert created(d) == []
    assert changed(d, f) == {"seeded": True}


def test_a_lost_instance_is_made_again_under_a_new_number():
    f = fleet(nodes="1..2", next_instance_num=5)
    assert [i.num for i in created(decided(f))] == [5]


def test_an_instance_that_is_about_to_go_is_replaced_but_counts_for_the_maximum():
    f = fleet(nodes="1..1", next_instance_num=1)
    going = instance(0, of=f, status=InstanceStatus.TERMINATING)
    assert created(decided(f, going)) == []
    assert len(created(decided(fleet(nodes="1..2", next_instance_num=1), going))) == 1


def test_after_a_failure_the_fleet_waits_its_pause():
    f = fleet(nodes="1..2", create_failures=1, next_create_at=T0 + 60)
    assert created(decided(f)) == []
    assert decided(f).wake_at == T0 + 60


def test_after_its_pause_it_tries_the_next_offer():
    f = fleet(nodes="1..2", create_failures=1, next_create_at=T0)
    assert [i.offer for i in created(decided(f))] == [DEAR]


def test_a_fleet_for_which_there_is_no_offer_says_why_and_pauses():
    f = fleet(nodes="1..2", resources={"memory": "64GB"})
    fields = changed(decided(f), f)
    assert fields["next_create_at"] == T0 + 60
    assert fields["last_error"] == ("No offers match the fleet. memory: fleet 'f': needs 64GB, best has 32GB")


@pytest.mark.parametrize(("failures", "pause"), [(0, 60), (1, 120), (2, 300), (3, 600), (4, 1800), (9, 1800)])
def test_the_pauses_grow_to_half_an_hour(failures: int, pause: float):
    f = fleet(nodes="1..2", create_failures=failures)
    assert changed(decided(f, offers=()), f)["next_create_at"] == T0 + pause


def idle(num: int, f: Fleet, since: float = T0 - 400) -> Instance:
    return instance(num, of=f, idle_since=since, idle_deadline=since + 300)


def test_instances_past_their_idle_time_go():
    f = fleet(nodes="0..2")
    over, fresh = idle(0, f), idle(1, f, since=T0)
    d = decided(f, over, fresh)
    assert changed(d, over) == {"terminate_requested": Reason.IDLE_TIMEOUT}
    assert changed(d, fresh) == {}
    assert d.wakes == (over.ref,)


def test_a_large_fleet_is_made_in_several_turns_up_to_its_target():
    f = fleet(nodes={"min": 0, "target": 230}, seeded=False)
    made: tuple[Instance, ...] = ()
    for expected in (100, 100, 30):
        d = decided(f, *made)
        assert len(created(d)) == expected
        assert (d.wake_at == T0) == (expected == 100)
        f, made = f.replace(**changed(d, f)), (*made, *created(d))
    assert f.seeded and len({i.name for i in made}) == 230


def test_the_minimum_stays_and_those_that_idle_longest_go():
    f = fleet(nodes="1..3")
    young, old = idle(0, f, since=T0 - 400), idle(1, f, since=T0 - 900)
    d = decided(f, young, old)
    assert changed(d, old)["terminate_requested"] is Reason.IDLE_TIMEOUT
    assert changed(d, young) == {}


def test_a_busy_instance_never_goes_for_idling():
    f = fleet()
    busy = instance(0, of=f, status=InstanceStatus.BUSY, busy_blocks=1, idle_deadline=T0 - 1)
    assert changed(decided(f, busy), busy) == {}


def test_idle_instances_above_a_lowered_maximum_go():
    f = fleet(nodes="0..1")
    first, second = instance(0, of=f, idle_since=T0 - 2), instance(1, of=f, idle_since=T0 - 1)
    d = decided(f, first, second)
    assert changed(d, first)["terminate_requested"] is Reason.MAX_INSTANCES_LIMIT
    assert changed(d, second) == {}


def test_a_deleted_fleet_lets_all_its_instances_go():
    f = fleet(nodes="1..3", delete_requested_at=T0)
    one, other = instance(0, of=f), instance(1, of=f, status=InstanceStatus.TERMINATING)
    d = decided(f, one, other)
    assert changed(d, f) == {"status": FleetStatus.TERMINATING}
    assert changed(d, one)["terminate_requested"] is Reason.TERMINATED_BY_USER
    assert changed(d, other) == {}
    assert messages(d) == ["Fleet status changed ACTIVE -> TERMINATING"]


def test_a_terminating_fleet_ends_with_its_last_instance():
    f = fleet(status=FleetStatus.TERMINATING)
    assert decided(f, instance(0, of=f, status=InstanceStatus.TERMINATING)).empty
    d = decided(f)
    assert changed(d, f)["status"] is FleetStatus.TERMINATED
    assert messages(d) == ["Fleet status changed TERMINATING -> TERMINATED"]
