"""What becomes of an orphan: ours goes, what we do not know waits for a person, and what is gone is settled."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.kernel import Decision, Draft
from dstack.control.policy.deadlines import RECHECK_S
from dstack.control.snapshots import OrphanSnapshot
from dstack.model.observation import Adopted, Gone
from dstack.model.orphan import Orphan, OrphanOrigin, OrphanStatus

REMIND_S = 24 * 3600.0  # between two lines of the log about a machine that waits for a person
VERB = "terminate_machine"


def decide(s: OrphanSnapshot, now: float) -> Decision:
    d = Draft(s.orphan, now, s.pending)
    gone = adopted = False
    for received in s.inbox:
        d.consume(received)
        gone |= isinstance(received.observation, Gone)
        adopted |= isinstance(received.observation, Adopted)
    if d.row.terminal:
        return d.finish()
    if adopted:
        _settle(d, "an instance answers for it")
    elif gone:
        _settle(d, "its provider says that it is gone")
    elif d.row.settle_requested_at is not None:
        _settle(d, "a person said that it is settled")
    elif d.row.unlisted_at is not None and d.row.status is OrphanStatus.QUARANTINED:
        _settle(d, "its provider does not list it any more")
    elif d.row.status is OrphanStatus.QUARANTINED:
        return _quarantined(d)
    if d.row.terminal:
        return d.finish()
    d.act(VERB)
    return d.finish(now + RECHECK_S)


def _quarantined(d: Draft[Orphan]) -> Decision:
    """Only what our own records prove to be ours and unwanted is terminated unasked."""
    if d.row.origin is OrphanOrigin.ENDED or d.row.terminate_requested_at is not None:
        d.event(f"Orphaned machine {d.row.backend_id} is being terminated", wording.target(d.row))
        d.set(status=OrphanStatus.TERMINATING)
        d.act(VERB)
        return d.finish(d.now + RECHECK_S)
    d.probe("report_orphan")
    return d.finish(d.now + REMIND_S)


def _settle(d: Draft[Orphan], why: str) -> None:
    d.settle(VERB)
    d.event(f"Orphaned machine {d.row.backend_id} is settled: {why}", wording.target(d.row))
    d.set(status=OrphanStatus.SETTLED, settled_at=d.now, outcome=why)
