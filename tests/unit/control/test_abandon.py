"""Abandoned instances: closed on a person's word, and never forgotten."""

from __future__ import annotations

from typing import Any

from dstack.control.decide import decide
from dstack.control.instance.abandon import LAST_TRY_S
from dstack.control.kernel import Decision
from dstack.control.snapshots import InstanceSnapshot
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.orphan import OrphanOrigin
from support.builders import T0, changed, data, instance, pending, verbs


def abandoned(**fields: Any) -> Instance:
    values = {"status": InstanceStatus.TERMINATING, "provisioning_deadline": T0, "abandon_requested_at": T0} | fields
    return instance(data=data(), started_at=T0, **values)


def on_instance(row: Instance, now: float = T0, **parts: Any) -> Decision:
    return decide(InstanceSnapshot(row, None, (), **parts), now).own


def test_an_abandoned_instance_whose_provider_fails_is_closed_and_its_machine_stays_listed():
    row = abandoned()
    d = on_instance(row, pending=(pending("terminate_instance", attempts=3),))
    assert changed(d, row)["status"] == InstanceStatus.TERMINATED
    (orphan,) = (c.row for c in d.creates)
    assert (orphan.token, orphan.origin, orphan.instance_name) == (row.token, OrphanOrigin.ABANDONED, row.name)
    assert [s.verb for s in d.settles] == ["terminate_instance"]


def test_an_abandoned_instance_has_a_minute_to_go_by_itself():
    row = abandoned()
    d = on_instance(row)
    assert verbs(d) == ["terminate_instance"]
    assert d.wake_at == T0 + LAST_TRY_S
    assert on_instance(row, T0 + LAST_TRY_S).creates


def test_an_instance_that_nobody_abandoned_is_waited_for_for_ever():
    row = abandoned(abandon_requested_at=None)
    d = on_instance(row, T0 + 1e7, pending=(pending("terminate_instance", attempts=9999),))
    assert not d.creates
    assert changed(d, row) == {}
