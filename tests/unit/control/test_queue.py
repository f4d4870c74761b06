"""Placement as a decision."""

from __future__ import annotations

from dstack.control.kernel import Decision
from dstack.control.queue.decide import MAX_UNITS, decide
from dstack.control.snapshots import QueueSnapshot
from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Gone
from dstack.model.job import DropReason, Job, JobStatus, PlacementReport
from dstack.model.job import JobTerminationReason as Reason
from dstack.model.offer import Offer
from support.builders import T0, changed, fleet, instance, job, jobs_of, messages, offer, place_on, queue, run

FLEET = fleet()
OFFERS = (offer("dear", price=2), offer("cheap", price=1))


def turned(
    *jobs: Job,
    fleets: tuple[Fleet, ...] = (FLEET,),
    instances: tuple[Instance, ...] = (),
    offers: tuple[Offer, ...] = OFFERS,
    at: float = T0,
):
    return decide(QueueSnapshot(queue(), jobs, fleets, instances, offers), at)


def only(*args, **kwargs) -> Decision:
    (unit,) = turned(*args, **kwargs).units
    return unit


def refused(j: Job, **kwargs) -> str:
    fields = changed(only(j, **kwargs), j)
    assert fields["termination_reason"] is Reason.FAILED_TO_START_DUE_TO_NO_CAPACITY
    return fields["termination_message"]


def test_a_job_gets_a_new_instance_of_the_cheapest_offer():
    j = job()
    unit = only(j)
    (created,) = unit.creates
    assert isinstance(created.row, Instance)
    assert (created.row.name, created.row.offer.instance_type, created.row.busy_blocks) == ("f-0", "cheap", 1)
    fields = changed(unit, j)
    assert fields["status"] is JobStatus.PROVISIONING
    assert fields["instance_id"] == created.row.id
    assert fields["place"].created_instance
    assert changed(unit, FLEET) == {"next_instance_num": 1}
    assert messages(unit) == [
        "Instance created for job. Status: PENDING",
        "Job status changed SUBMITTED -> PROVISIONING",
    ]


def test_an_idle_instance_is_taken_before_a_cheaper_offer():
    j, i = job(), instance(offer=offer(price=5), idle_since=T0 - 9, idle_deadline=T0 + 9)
    unit = only(j, instances=(i,))
    assert unit.creates == ()
    assert changed(unit, i) == {
        "status": InstanceStatus.BUSY,
        "busy_blocks": 1,
        "idle_since": None,
        "idle_deadline": None,
    }
    assert [g.ref for g in unit.guards] == [FLEET.ref]
    assert set(unit.wakes) >= {j.ref, i.ref}


def test_the_higher_priority_is_placed_first_then_the_older():
    jobs = (
        job("low", submitted_at=T0 - 9),
        job("late", submitted_at=T0).replace(priority=5),
        job("early", submitted_at=T0 - 5).replace(priority=5),
    )
    units = turned(*jobs, fleets=(fleet(nodes="0..9"),)).units
    assert [e.targets[0].name for u in units for e in u.events if "Job status" in e.message] == [
        "early-0-0",
        "late-0-0",
        "low-0-0",
    ]


def test_units_of_one_turn_expect_the_versions_that_the_earlier_ones_make():
    units = turned(job("a"), job("b"), fleets=(fleet(nodes="0..9", version=3),)).units
    assert [c.version for u in units for c in u.changes if c.ref == FLEET.ref] == [3, 4]
    assert [c.fields["next_instance_num"] for u in units for c in u.changes if c.ref == FLEET.ref] == [1, 2]


def test_two_jobs_share_the_blocks_of_an_instance_that_the_first_one_made():
    f = fleet(nodes="0..1", blocks=2)
    first, second = turned(job("a"), job("b"), fleets=(f,)).units
    made = first.creates[0].row
    assert second.creates == ()
    assert changed(second, made)["busy_blocks"] == 2


def test_a_gang_is_placed_whole():
    r = run(nodes=3)
    f = fleet(nodes="0..3", placement="cluster")
    unit = only(*jobs_of(r), fleets=(f,))
    assert len(unit.creates) == 3
    assert len([c for c in unit.changes if c.ref.kind == "job"]) == 3


def test_a_gang_for_which_one_place_is_missing_gets_none():
    jobs = jobs_of(run(nodes=3))
    unit = only(*jobs, fleets=(fleet(nodes="0..2", placement="cluster"),))
    assert unit.creates == ()
    assert {changed(unit, j)["status"] for j in jobs} == {JobStatus.TERMINATING}


def test_a_gang_of_which_a_job_is_missing_is_left_alone():
    assert turned(*jobs_of(run(nodes=3))[:2], fleets=(fleet(nodes="0..9", placement="cluster"),)).units == ()


def test_a_node_that_lost_its_place_is_placed_beside_its_gang():
    f = fleet(nodes="0..9", placement="cluster")
    west, east = offer("w", region="west", price=1), offer("e", region="east", price=9)
    beside = place_on(instance(0, of=f, offer=east))
    lost = jobs_of(run(nodes=2))[0].replace(place=beside, tried_offers=("x",))
    unit = only(lost, fleets=(f,), offers=(west, east))
    assert changed(unit, lost)["place"].offer.region == "east"


def test_a_new_instance_idles_the_shorter_of_what_run_and_fleet_say():
    unit = only(job(idle_duration="1h"), fleets=(fleet(idle_duration="10m"),))
    assert unit.creates[0].row.idle_duration_s == 600  # type: ignore[attr-defined]
    unit = only(job(), fleets=(fleet(idle_duration="off"),))
    assert unit.creates[0].row.idle_duration_s == 300  # type: ignore[attr-defined]


def test_an_offer_that_was_tried_is_passed_over():
    j = job(tried_offers=(OFFERS[1].key,))
    assert changed(only(j), j)["place"].offer.instance_type == "dear"


def test_without_a_fleet_the_message_says_so():
    assert refused(job(), fleets=()) == "No matching fleet found. The project has no fleets"


def test_the_message_names_the_fleet_and_the_nearest_miss():
    assert refused(job(resources={"disk": "300GB"})) == (
        "No offers matching the run requirements in fleet 'f'. disk: needs 300GB, best has 200GB"
    )


def test_fleets_that_do_not_exist_are_named():
    assert refused(job(fleets=["nope"])) == "Failed to use specified fleets: nope"


def test_a_run_that_names_an_instance_gets_it_though_another_is_as_good():
    unit = only(job(instances=["f-1"]), instances=(instance(0), instance(1)))
    assert changed(unit, instance(1))["busy_blocks"] == 1


def test_a_run_that_names_instances_never_makes_one():
    message = refused(job(instances=[{"hostname": "h9"}]), instances=(instance(0),))
    assert message == "Failed to use specified instances: h9. instance: not in `instances: h9`, offered is f-0"


def test_instances_that_do_not_exist_are_named():
    assert refused(job(instances=["f-7"])).startswith("Failed to use specified instances: f-7.")


def test_a_run_that_only_reuses_says_that_nothing_could_be_reused():
    assert refused(job(creation_policy="reuse")).startswith("Could not reuse any instance for this job.")


def test_a_full_fleet_is_named_with_the_change_that_would_help():
    f = fleet(nodes="0..1")
    busy = instance(0, of=f, status=InstanceStatus.BUSY, busy_blocks=1)
    j = job()
    unit = only(j, fleets=(f,), instances=(busy,))
    assert "busy: all that fit are busy" in changed(unit, j)["termination_message"]
    drops = {d.stage: d for d in changed(unit, j)["placement"].drops}
    assert drops["full"].reason == "fleet 'f' has its maximum of 1 instance"
    assert drops["full"].hint == "set `nodes: 0..2` in the fleet"


def test_what_providers_said_of_tried_offers_stays_in_the_report():
    key = OFFERS[1].key
    earlier = PlacementReport(at=T0, drops=(DropReason(stage="create", reason=f"{key}: sold out", nearest=key),))
    j = job(tried_offers=tuple(o.key for o in OFFERS), placement=earlier)
    assert f"{key}: sold out" in [d.reason for d in changed(only(j), j)["placement"].drops]


def test_a_job_waits_for_a_machine_that_makes_room_soon():
    f = fleet(nodes="0..1")
    going = instance(0, of=f, terminate_requested=Gone.IDLE_TIMEOUT)
    j = job()
    turn = turned(j, fleets=(f,), instances=(going,))
    fields = changed(turn.units[0], j)
    assert set(fields) == {"placement"}
    assert fields["placement"].waiting_for == "f-0 to be gone"
    assert turn.own.wake_at == T0 + 600


def test_a_job_does_not_wait_for_ever():
    f = fleet(nodes="0..1")
    going = instance(0, of=f, terminate_requested=Gone.IDLE_TIMEOUT)
    assert "waited for f-0 to be gone" in refused(job(), fleets=(f,), instances=(going,), at=T0 + 600)


def test_a_fleet_that_is_being_deleted_takes_nobody():
    assert refused(job(), fleets=(fleet(delete_requested_at=T0),)).startswith("No matching fleet found.")


def test_with_nobody_waiting_nothing_is_decided():
    turn = turned()
    assert turn.units == ()
    assert turn.own.empty


def test_jobs_that_only_wait_hold_up_nobody_behind_them_and_let_the_queue_rest():
    small = fleet("small", nodes="0..1")
    going = instance(of=small, status=InstanceStatus.TERMINATING, busy_blocks=0)
    other = fleet("other", nodes="0..1")
    waiting = [job(f"w{n}", fleets=["small"], submitted_at=T0 - 100 + n / 100) for n in range(MAX_UNITS + 9)]
    last = job("last", fleets=["other"])
    first = turned(*waiting, last, fleets=(small, other), instances=(going,))
    assert changed(first.units[-1], last)["status"] is JobStatus.PROVISIONING
    seen = [w.replace(placement=changed(u, w)["placement"]) for w, u in zip(waiting, first.units, strict=False)]
    assert turned(*seen, fleets=(small, other), instances=(going,)).own.wake_at > T0
