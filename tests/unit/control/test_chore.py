"""Chores and orphans: rounds by stored times, suspicions that need two sweeps, machines that are left alone."""

from __future__ import annotations

from typing import Any

from dstack.control.chore import decide as chores
from dstack.control.chore.compare import KnownInstance, KnownOrphan, compare
from dstack.control.chore.decide import CONFIRM_S
from dstack.control.decide import decide
from dstack.control.kernel import Decision
from dstack.control.snapshots import ChoreSnapshot, OrphanSnapshot
from dstack.model.chore import Chore, ChoreName, ChoreStatus
from dstack.model.observation import Adopted, BackendRemoved, Gone, Retained, Stranger, Swept
from dstack.model.orphan import Orphan, OrphanOrigin, OrphanStatus
from support.builders import PROJECT, T0, changed, inbox, messages, pending, some_id, verbs

EVERY_S = chores.EVERY_S[ChoreName.SWEEP]


def sweep(**fields: Any) -> Chore:
    values = {"name": ChoreName.SWEEP, "backend": "sim", "next_at": T0} | fields
    return Chore(id=some_id("chore"), project_id=PROJECT, created_at=T0, **values)


def orphan(**fields: Any) -> Orphan:
    values = {"origin": OrphanOrigin.UNKNOWN, "backend": "sim", "token": "t", "backend_id": "i-1", "first_seen": T0}
    return Orphan(id=some_id("orphan"), project_id=PROJECT, created_at=T0, **(values | fields))


def on_chore(chore: Chore, *observations: Any, now: float = T0, **parts: Any) -> Decision:
    return decide(ChoreSnapshot(chore, inbox=inbox(*observations, at=now), **parts), now).own


def on_orphan(row: Orphan, *observations: Any, now: float = T0, **parts: Any) -> Decision:
    return decide(OrphanSnapshot(row, inbox=inbox(*observations, at=now), **parts), now).own


def stranger(token: str = "t", **fields: Any) -> Stranger:
    return Stranger(token=token, backend_id="i-1", **fields)


def created(decision: Decision) -> list[Any]:
    return [c.row for c in decision.creates]


def test_a_round_begins_at_its_time_and_the_next_one_has_its_time_then():
    row = sweep()
    d = on_chore(row)
    assert verbs(d) == ["sweep_backend"]
    assert d.wake_at == T0 + EVERY_S == changed(d, row)["next_at"]


def test_before_its_time_nothing_happens():
    d = on_chore(sweep(next_at=T0 + 60))
    assert d.empty
    assert d.wake_at == T0 + 60


def test_a_round_that_lasts_longer_than_the_pause_is_not_begun_twice():
    d = on_chore(sweep(), pending=(pending("sweep_backend"),))
    assert verbs(d) == []
    assert d.wake_at is not None and d.wake_at > T0


def test_a_machine_that_nobody_knows_is_only_remembered_by_the_first_sweep():
    row = sweep(next_at=T0 + 60)
    d = on_chore(row, Swept(at=T0, strangers=(stranger(),)))
    assert changed(d, row)["strangers"] == {"t": T0}
    assert created(d) == []


def test_the_second_sweep_makes_an_orphan_of_it():
    later = T0 + CONFIRM_S
    d = on_chore(sweep(next_at=later + 60, strangers={"t": T0}), Swept(at=later, strangers=(stranger(),)), now=later)
    (row,) = created(d)
    assert (row.token, row.origin, row.status) == ("t", OrphanOrigin.UNKNOWN, OrphanStatus.QUARANTINED)
    assert messages(d) == ["Orphaned machine i-1 found: no row knows it"]


def test_two_sweeps_one_right_after_the_other_confirm_nothing():
    soon = T0 + CONFIRM_S - 1
    d = on_chore(sweep(next_at=soon + 60, strangers={"t": T0}), Swept(at=soon, strangers=(stranger(),)), now=soon)
    assert created(d) == []


def test_a_machine_that_the_second_sweep_does_not_list_was_a_ghost():
    row = sweep(next_at=T0 + 900, strangers={"t": T0})
    d = on_chore(row, Swept(at=T0 + 600), now=T0 + 600)
    assert changed(d, row)["strangers"] == {}
    assert created(d) == []


def test_an_orphan_that_two_sweeps_do_not_list_is_told_so():
    row, later = orphan(), T0 + CONFIRM_S
    chore = sweep(next_at=later + 60, unlisted={row.id: T0})
    d = on_chore(chore, Swept(at=later, unlisted_orphans=(row.id,)), now=later, orphans=(row,))
    assert changed(d, row) == {"unlisted_at": later}
    assert row.ref in d.wakes


def test_an_orphan_that_one_sweep_does_not_list_stays_as_it_is():
    row = orphan()
    d = on_chore(sweep(next_at=T0 + 60), Swept(at=T0, unlisted_orphans=(row.id,)), orphans=(row,))
    assert changed(d, row) == {}


def test_the_sweep_of_a_backend_that_was_removed_ends():
    row = sweep()
    d = on_chore(row, BackendRemoved())
    assert changed(d, row)["status"] == ChoreStatus.CLOSED
    assert d.wake_at is None


def test_retention_that_had_no_time_for_all_goes_on_at_once():
    row = sweep(name=ChoreName.RETENTION, backend="", next_at=T0 + 60)
    d = on_chore(row, Retained(removed={"events": 5}, more=True))
    assert verbs(d) == ["apply_retention"]
    assert changed(d, row)["removed"] == {"events": 5}


def test_a_machine_that_no_row_knows_is_never_terminated_unasked():
    d = on_orphan(orphan(), now=T0 + 365 * 86400)
    assert verbs(d) == []
    assert [p.verb for p in d.probes] == ["report_orphan"]
    assert d.wake_at is not None


def test_a_machine_of_a_terminated_instance_is_terminated():
    row = orphan(origin=OrphanOrigin.ENDED, instance_id="i", instance_name="f-0")
    d = on_orphan(row)
    assert verbs(d) == ["terminate_machine"]
    assert changed(d, row)["status"] == OrphanStatus.TERMINATING


def test_a_quarantined_machine_is_terminated_when_a_person_says_so():
    assert verbs(on_orphan(orphan(terminate_requested_at=T0))) == ["terminate_machine"]


def test_an_orphan_is_settled_when_its_provider_says_that_it_is_gone():
    row = orphan(status=OrphanStatus.TERMINATING)
    d = on_orphan(row, Gone(), pending=(pending("terminate_machine"),))
    assert changed(d, row)["status"] == OrphanStatus.SETTLED
    assert d.wake_at is None


def test_an_orphan_that_is_terminated_waits_for_the_proof_however_long_it_takes():
    row = orphan(status=OrphanStatus.TERMINATING, unlisted_at=T0)
    d = on_orphan(row, pending=(pending("terminate_machine", attempts=900),), now=T0 + 1e6)
    assert changed(d, row) == {}
    assert d.wake_at is not None


def test_a_machine_for_which_an_instance_answers_after_all_is_let_alone():
    row = orphan(terminate_requested_at=T0)
    d = on_orphan(row, Adopted())
    assert verbs(d) == []
    assert changed(d, row)["status"] == OrphanStatus.SETTLED


def test_an_abandoned_machine_that_is_not_listed_any_more_is_settled():
    row = orphan(origin=OrphanOrigin.ABANDONED, unlisted_at=T0)
    assert changed(on_orphan(row), row)["status"] == OrphanStatus.SETTLED


def known(token: str, *, mine: bool = True, created_at: float | None = 0.0, linked: bool = False) -> KnownInstance:
    return KnownInstance(f"id-{token}", token, mine, created_at, linked)


def test_a_listed_machine_of_another_project_is_no_stranger():
    assert compare(["a", "b"], [known("a", mine=False)], [], T0).strangers == ("b",)


def test_a_listed_machine_that_is_an_orphan_already_is_no_stranger():
    assert compare(["a"], [], [KnownOrphan("o", "a", mine=False)], T0).strangers == ()


def test_an_instance_whose_machine_is_not_listed_is_told():
    assert compare([], [known("a")], [], T0).unlisted == ("id-a",)


def test_an_instance_whose_agent_answers_is_there_whatever_the_list_says():
    assert compare([], [known("a", linked=True)], [], T0).unlisted == ()


def test_an_instance_that_was_just_made_may_be_missing_in_a_list_that_is_behind():
    assert compare([], [known("a", created_at=T0 - 10), known("b", created_at=None)], [], T0).unlisted == ()


def test_an_instance_of_another_project_is_judged_by_its_own_sweep():
    assert compare([], [known("a", mine=False)], [], T0).unlisted == ()


def test_an_orphan_for_which_an_instance_answers_is_adopted():
    found = compare(["a"], [known("a")], [KnownOrphan("o", "a", mine=True)], T0)
    assert (found.adopted, found.unlisted_orphans) == (("o",), ())
