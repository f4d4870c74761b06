"""The store in memory: the parts of the commit contract that only units of a queue need."""

from __future__ import annotations

from dstack.control.kernel import Change, Decision, Turn
from dstack.sim.world import World
from support.builders import T0, instance, queue


def prepared() -> tuple:
    world, q, i = World(), queue(), instance()
    world.add(q, T0)
    world.add(i, T0 + 100)
    (claim,) = world.claim_due(T0, "s", 10, 30)
    return world, q, i, claim


def unit(q, i, version: int, busy: int) -> Decision:
    return Decision(q.ref, q.version, changes=(Change(i.ref, version, {"busy_blocks": busy}),), wake_at=T0 + 50)


def test_units_of_a_turn_build_on_one_another():
    world, q, i, claim = prepared()
    own = Decision(q.ref, q.version, wake_at=T0 + 50)
    done = world.commit([(claim, Turn(own, (unit(q, i, 1, 1), unit(q, i, 2, 2))))], T0)
    assert done.refused == []
    assert world.rows[i.ref].busy_blocks == 2  # type: ignore[attr-defined]
    assert world.leases[q.ref].due_at == T0 + 50


def test_a_unit_that_leans_on_a_refused_one_is_refused_even_if_its_version_happens_to_fit():
    world, q, i, claim = prepared()
    world.intend(i.ref, T0, idle_since=T0)  # somebody else raises the version to just what the second unit expects
    own = Decision(q.ref, q.version, wake_at=T0 + 50)
    done = world.commit([(claim, Turn(own, (unit(q, i, 1, 1), unit(q, i, 2, 2))))], T0)
    assert len(done.refused) == 2
    assert world.rows[i.ref].busy_blocks == 0  # type: ignore[attr-defined]
    assert world.leases[q.ref].due_at == T0
