"""The contract of the commit: what any store must do with decisions."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from dstack.control.kernel import Act as ActOf
from dstack.control.kernel import Change, Create, Decision, Guard, Settle, Turn
from dstack.model.event import Event, EventTarget
from dstack.model.fleet import Fleet, FleetSpec
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.observation import Gone
from dstack.model.offer import Offer, Resources
from dstack.model.queue import Queue
from dstack.model.row import Ref
from support.ledger import Ledger

NOW = 1000.0
LATER = 2000.0
OFFER = Offer(backend="local", region="r", instance_type="t", price=0, resources=Resources(cpus=1, memory_mib=1))


def instance(n: int = 0, **fields: object) -> Instance:
    values: dict = {
        "id": f"00000000-0000-4000-8000-{n:012d}",
        "project_id": "p",
        "created_at": NOW,
        "fleet_id": "f",
        "fleet_name": "f",
        "name": f"f-{n}",
        "num": n,
        "offer": OFFER,
    }
    return Instance(**{**values, **fields})


def fleet() -> Fleet:
    spec = FleetSpec.model_validate({"configuration": {"type": "fleet", "name": "f", "nodes": 1}})
    return Fleet(id="fleet-1", project_id="p", created_at=NOW, name="f", spec=spec)


def change(row: Instance | Fleet, **fields: object) -> Change:
    return Change(row.ref, row.version, fields)


def decision(row: Instance | Fleet | Queue, wake_at: float | None = LATER, **parts: object) -> Decision:
    return Decision(row.ref, row.version, wake_at=wake_at, **parts)  # type: ignore[arg-type]


async def claimed(ledger: Ledger, *rows: Instance | Fleet | Queue) -> list:
    for row in rows:
        await ledger.add(row, NOW)
    claims = await ledger.claim(NOW)
    return [claims[row.ref] for row in rows]


async def test_a_row_that_is_due_later_is_not_claimed(ledger: Ledger):
    await ledger.add(instance(), LATER)
    assert await ledger.claim(NOW) == {}


async def test_a_claimed_row_is_not_claimed_again_before_its_lease_ends(ledger: Ledger):
    await ledger.add(instance(), NOW)
    await ledger.claim(NOW, "server-a")
    assert await ledger.claim(NOW + 1, "server-b") == {}
    assert len(await ledger.claim(NOW + 31, "server-b")) == 1


async def test_a_commit_writes_the_change_raises_the_version_and_sets_the_next_wake(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    done = await ledger.commit((claim, decision(row, changes=(change(row, status="provisioning"),))), now=NOW)
    stored = await ledger.get(row.ref)
    assert (stored.status, stored.version) == (InstanceStatus.PROVISIONING, 2)
    assert await ledger.due_at(row.ref) == LATER
    assert len(done.accepted) == 1


async def test_a_decision_on_an_old_version_changes_nothing_and_is_due_again_at_once(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    await ledger.intend(row.ref, NOW, terminate_requested="terminated_by_user")
    done = await ledger.commit((claim, decision(row, changes=(change(row, status="provisioning"),))), now=NOW)
    assert (await ledger.get(row.ref)).status == InstanceStatus.PENDING
    assert [d.ref for d in done.refused] == [row.ref]
    assert row.ref in await ledger.claim(NOW)


async def test_a_refused_decision_leaves_no_trace_of_any_of_its_parts(ledger: Ledger):
    row, other = instance(0), instance(1)
    (claim,) = await claimed(ledger, row)
    await ledger.add(other, LATER)
    parts = {
        "creates": (Create(instance(2)),),
        "changes": (change(other, busy_blocks=1),),
        "guards": (Guard(row.ref, 7),),
        "acts": (ActOf(row.ref, "create_instance", "token", {}),),
        "events": (Event("it happened", (EventTarget("instance", row.id, row.name),)),),
        "wakes": (other.ref,),
    }
    await ledger.commit((claim, decision(row, **parts)), now=NOW)
    assert await ledger.get(instance(2).ref) is None
    assert (await ledger.get(other.ref)).busy_blocks == 0
    assert await ledger.acts_of(row.ref) == []
    assert await ledger.events() == []
    assert await ledger.due_at(other.ref) == LATER


async def test_one_refused_decision_does_not_hold_back_the_others_of_its_batch(ledger: Ledger):
    good, bad = instance(0), instance(1)
    claims = await claimed(ledger, good, bad)
    decisions = [
        decision(good, changes=(change(good, status="provisioning"),)),
        decision(bad, changes=(Change(bad.ref, 9, {"status": "provisioning"}),)),
    ]
    await ledger.commit(*zip(claims, decisions, strict=True), now=NOW)
    assert (await ledger.get(good.ref)).status == InstanceStatus.PROVISIONING
    assert (await ledger.get(bad.ref)).status == InstanceStatus.PENDING


async def test_a_guard_on_a_row_that_changed_meanwhile_refuses_the_decision(ledger: Ledger):
    row, guarded = instance(), fleet()
    claim, _ = await claimed(ledger, row, guarded)
    await ledger.intend(guarded.ref, NOW, delete_requested_at=NOW)
    parts = {"changes": (change(row, status="provisioning"),), "guards": (Guard(guarded.ref, 1),)}
    await ledger.commit((claim, decision(row, **parts)), now=NOW)
    assert (await ledger.get(row.ref)).status == InstanceStatus.PENDING


async def test_of_two_decisions_on_one_row_in_a_batch_the_first_wins(ledger: Ledger):
    one, two, shared = instance(0), instance(1), instance(2)
    claims = await claimed(ledger, one, two)
    await ledger.add(shared, LATER)
    decisions = [decision(row, changes=(change(shared, busy_blocks=n + 1),)) for n, row in enumerate((one, two))]
    await ledger.commit(*zip(claims, decisions, strict=True), now=NOW)
    assert (await ledger.get(shared.ref)).busy_blocks == 1


async def test_units_of_one_turn_build_on_one_another_in_order(ledger: Ledger):
    queue = Queue(id="q", project_id="p", created_at=NOW)
    shared = instance(0, total_blocks=4)
    (claim,) = await claimed(ledger, queue)
    await ledger.add(shared, LATER)
    units = tuple(decision(queue, changes=(Change(shared.ref, n + 1, {"busy_blocks": n + 1}),)) for n in range(3))
    await ledger.commit((claim, Turn(decision(queue), units)), now=NOW)
    stored = await ledger.get(shared.ref)
    assert (stored.busy_blocks, stored.version) == (3, 4)


async def test_a_unit_that_builds_on_a_refused_one_is_refused_too_and_the_queue_is_due_again(ledger: Ledger):
    queue = Queue(id="q", project_id="p", created_at=NOW)
    shared = instance(0, total_blocks=4)
    (claim,) = await claimed(ledger, queue)
    await ledger.add(shared, LATER)
    first = decision(queue, changes=(Change(shared.ref, 1, {"busy_blocks": 1}),), guards=(Guard(Ref("fleet", "x"), 1),))
    second = decision(queue, changes=(Change(shared.ref, 2, {"busy_blocks": 2}),))
    done = await ledger.commit((claim, Turn(decision(queue), (first, second))), now=NOW)
    assert (await ledger.get(shared.ref)).busy_blocks == 0
    assert len(done.refused) == 2
    assert queue.ref in await ledger.claim(NOW)


async def test_a_unit_that_leans_on_a_refused_one_is_refused_even_if_its_version_happens_to_fit(ledger: Ledger):
    queue = Queue(id="q", project_id="p", created_at=NOW)
    shared = instance(0, total_blocks=4)
    (claim,) = await claimed(ledger, queue)
    await ledger.add(shared, LATER)
    units = tuple(decision(queue, changes=(Change(shared.ref, n + 1, {"busy_blocks": n + 1}),)) for n in range(2))
    await ledger.intend(shared.ref, NOW, terminate_requested="terminated_by_user")  # raises the version to 2
    done = await ledger.commit((claim, Turn(decision(queue), units)), now=NOW)
    assert (await ledger.get(shared.ref)).busy_blocks == 0
    assert len(done.refused) == 2


async def test_a_wake_between_load_and_commit_is_not_lost(ledger: Ledger):
    row, other = instance(0), instance(1)
    claim, other_claim = await claimed(ledger, row, other)
    await ledger.commit((other_claim, decision(other, wakes=(row.ref,))), now=NOW)
    await ledger.commit((claim, decision(row)), now=NOW + 1)
    assert row.ref in await ledger.claim(NOW + 1)


async def test_an_observation_between_load_and_commit_is_not_lost(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    await ledger.observe(row.ref, Gone(), NOW)
    await ledger.commit((claim, decision(row)), now=NOW + 1)
    assert row.ref in await ledger.claim(NOW + 1)
    assert len(await ledger.inbox_of(row.ref)) == 1


async def test_a_commit_deletes_exactly_the_observations_that_it_consumed(ledger: Ledger):
    row = instance()
    await ledger.add(row, NOW)
    await ledger.observe(row.ref, Gone(), NOW)
    (first,) = await ledger.inbox_of(row.ref)
    claim = (await ledger.claim(NOW))[row.ref]
    await ledger.observe(row.ref, Gone(), NOW)
    await ledger.commit((claim, decision(row, consumes=(first,))), now=NOW)
    left = await ledger.inbox_of(row.ref)
    assert len(left) == 1 and left != [first]


async def test_a_second_unfinished_act_of_the_same_verb_is_refused(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    await ledger.commit((claim, decision(row, wake_at=NOW, acts=(ActOf(row.ref, "v", "t1", {}),))), now=NOW)
    again = (await ledger.claim(NOW))[row.ref]
    done = await ledger.commit((again, decision(row, acts=(ActOf(row.ref, "v", "t2", {}),))), now=NOW)
    assert await ledger.acts_of(row.ref) == ["v"]
    assert len(done.refused) == 1


async def test_a_worker_whose_claim_was_taken_over_commits_nothing(ledger: Ledger):
    row = instance()
    (stale,) = await claimed(ledger, row)
    fresh = (await ledger.claim(NOW + 31, "server-b"))[row.ref]
    done = await ledger.commit((stale, decision(row, changes=(change(row, status="provisioning"),))), now=NOW + 31)
    assert (await ledger.get(row.ref)).status == InstanceStatus.PENDING
    assert len(done.refused) == 1
    done = await ledger.commit((fresh, decision(row, changes=(change(row, status="provisioning"),))), now=NOW + 31)
    assert len(done.accepted) == 1


async def test_a_row_that_became_terminal_is_never_due_again(ledger: Ledger):
    row = instance(status="terminating")
    (claim,) = await claimed(ledger, row)
    await ledger.observe(row.ref, Gone(), NOW)
    await ledger.commit((claim, decision(row, wake_at=None, changes=(change(row, status="terminated"),))), now=NOW)
    assert await ledger.due_at(row.ref) is None


async def test_a_living_row_without_a_next_wake_is_refused_by_the_database(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    with pytest.raises(IntegrityError):
        await ledger.commit((claim, decision(row, wake_at=None)), now=NOW)


async def test_the_observation_of_a_finished_act_reaches_its_resource_together_with_its_end(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    await ledger.commit((claim, decision(row, acts=(ActOf(row.ref, "v", "t", {"a": 1}),))), now=NOW)
    (one,) = await ledger.claim_acts(NOW)
    assert (one.token, one.payload) == ("t", {"a": 1})
    assert await ledger.finish(one, [(row.ref, Gone())], NOW + 1)
    assert await ledger.acts_of(row.ref) == []
    assert len(await ledger.inbox_of(row.ref)) == 1
    assert row.ref in await ledger.claim(NOW + 1)


async def test_an_act_whose_worker_died_is_claimed_again_and_the_late_worker_is_refused(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    await ledger.commit((claim, decision(row, acts=(ActOf(row.ref, "v", "t", {}),))), now=NOW)
    (late,) = await ledger.claim_acts(NOW, "server-a")
    assert await ledger.claim_acts(NOW + 1, "server-b") == []
    (taken,) = await ledger.claim_acts(NOW + 31, "server-b")
    assert not await ledger.finish(late, [(row.ref, Gone())], NOW + 32)
    assert await ledger.inbox_of(row.ref) == []
    assert await ledger.finish(taken, [], NOW + 33)


async def test_an_act_that_is_tried_again_waits_until_it_is_due(ledger: Ledger):
    row = instance()
    (claim,) = await claimed(ledger, row)
    await ledger.commit((claim, decision(row, acts=(ActOf(row.ref, "v", "t", {}),))), now=NOW)
    (one,) = await ledger.claim_acts(NOW)
    await ledger.retry(one, NOW + 5, NOW)
    assert await ledger.claim_acts(NOW + 4) == []
    (again,) = await ledger.claim_acts(NOW + 5)
    assert again.attempts == 1


async def test_settling_ends_an_act_that_nobody_holds_and_leaves_one_that_is_running(ledger: Ledger):
    held, free = instance(0), instance(1)
    claims = await claimed(ledger, held, free)
    for claim, row in zip(claims, (held, free), strict=True):
        act = ActOf(row.ref, "v", f"t-{row.num}", {})
        await ledger.commit((claim, decision(row, wake_at=NOW, acts=(act,))), now=NOW)
        if row is held:
            assert len(await ledger.claim_acts(NOW)) == 1
    again = await ledger.claim(NOW)
    for row in (held, free):
        await ledger.commit((again[row.ref], decision(row, settles=(Settle(row.ref, "v"),))), now=NOW)
    assert await ledger.acts_of(held.ref) == ["v"]
    assert await ledger.acts_of(free.ref) == []


async def test_a_created_row_is_due_at_once(ledger: Ledger):
    row = instance(0)
    (claim,) = await claimed(ledger, row)
    await ledger.commit((claim, decision(row, creates=(Create(instance(1)),))), now=NOW)
    assert instance(1).ref in await ledger.claim(NOW)


async def test_what_was_seen_of_a_row_while_it_ended_does_not_lie_unread_for_ever(ledger: Ledger):
    row, other = instance(status="terminating"), instance(1)
    (claim,) = await claimed(ledger, row)
    await ledger.add(other, NOW)
    await ledger.observe(row.ref, Gone(), NOW)
    await ledger.observe(other.ref, Gone(), NOW)
    await ledger.commit((claim, decision(row, wake_at=None, changes=(change(row, status="terminated"),))), now=NOW)
    assert await ledger.inbox_of(row.ref) == []
    assert len(await ledger.inbox_of(other.ref)) == 1


async def test_a_finished_row_and_an_unknown_one_hear_nothing(ledger: Ledger):
    row = instance(status="terminating")
    (claim,) = await claimed(ledger, row)
    await ledger.commit((claim, decision(row, wake_at=None, changes=(change(row, status="terminated"),))), now=NOW)
    await ledger.observe(row.ref, Gone(), NOW)
    await ledger.observe(instance(9).ref, Gone(), NOW)
    assert await ledger.inbox_of(row.ref) == []
    assert await ledger.inbox_of(instance(9).ref) == []
