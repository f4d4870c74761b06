"""When a chore's next round begins, and what follows from what the last one saw."""

from __future__ import annotations

from dstack.control import wording
from dstack.control.kernel import Decision, Draft
from dstack.control.policy.deadlines import RECHECK_S
from dstack.control.snapshots import ChoreSnapshot
from dstack.ids import derived_id
from dstack.model.chore import Chore, ChoreName, ChoreStatus
from dstack.model.observation import BackendRemoved, Retained, Stranger, Swept
from dstack.model.orphan import Orphan, OrphanOrigin

EVERY_S = {ChoreName.SWEEP: 300.0, ChoreName.RETENTION: 3600.0}
FIRST_S = {ChoreName.SWEEP: 60.0, ChoreName.RETENTION: 300.0}
VERBS = {ChoreName.SWEEP: "sweep_backend", ChoreName.RETENTION: "apply_retention"}
# Two sweeps must agree, and this much time must lie between them: a list that forgets, or is behind, does no harm.
CONFIRM_S = 240.0


def decide(s: ChoreSnapshot, now: float) -> Decision:
    d = Draft(s.chore, now, s.pending)
    for received in s.inbox:
        d.consume(received)
        if d.row.terminal:
            continue
        match received.observation:
            case Swept() as seen:
                _swept(d, s, seen)
            case Retained(removed=removed, more=more):
                d.set(ended_at=now, removed=removed)
                if more:
                    d.set(next_at=now)
            case BackendRemoved():
                d.set(status=ChoreStatus.CLOSED, strangers={}, unlisted={})
            case _:
                pass  # not about a chore: a bug of the sender, harmless here
    if d.row.terminal:
        return d.finish()
    verb = VERBS[d.row.name]
    if d.row.next_at <= now and not d.unfinished(verb):
        d.act(verb, attempt=d.row.rounds)
        d.set(rounds=d.row.rounds + 1, next_at=now + EVERY_S[d.row.name])
    # A round that takes longer than the pause between two: its end wakes this row.
    return d.finish(d.row.next_at if d.row.next_at > now else now + RECHECK_S)


def _swept(d: Draft[Chore], s: ChoreSnapshot, seen: Swept) -> None:
    """Suspicions of the sweep before that this one shares are facts now; those that it does not share are dropped."""
    strangers, orphaned = _since(d.row.strangers, [one.token for one in seen.strangers], seen.at)
    for one in seen.strangers:
        if one.token in orphaned:
            _orphan(d, one)
    unlisted, lost = _since(d.row.unlisted, [*seen.unlisted, *seen.unlisted_orphans], seen.at)
    for orphan in s.orphans:
        if orphan.id in lost and not orphan.terminal and orphan.unlisted_at is None:
            d.change(orphan, unlisted_at=seen.at)
            d.wake(orphan.ref)
    d.set(strangers=strangers, unlisted=unlisted, ended_at=d.now)


def _since(before: dict[str, float], now_seen: list[str], at: float) -> tuple[dict[str, float], set[str]]:
    """Since when each is suspected, and those that are confirmed by now. A sweep that began earlier adds nothing."""
    since = {key: min(before.get(key, at), at) for key in now_seen}
    return since, {key for key, first in since.items() if at - first >= CONFIRM_S}


def _orphan(d: Draft[Chore], one: Stranger) -> None:
    """A row of its own, which decides what becomes of the machine."""
    origin = OrphanOrigin.UNKNOWN if one.instance_id is None else OrphanOrigin.ENDED
    orphan = Orphan(
        # Not by the token alone: the same one may come back after it was settled.
        id=derived_id(d.row.id, f"orphan:{one.token}", d.row.rounds),
        project_id=d.row.project_id,
        created_at=d.now,
        origin=origin,
        backend=d.row.backend,
        token=one.token,
        backend_id=one.backend_id,
        first_seen=d.row.strangers.get(one.token, d.now),
        machine_created_at=one.created_at,
        instance_id=one.instance_id,
        instance_name=one.instance_name,
    )
    d.create(orphan)
    words = "no row knows it" if one.instance_id is None else f"its instance {one.instance_name} is terminated"
    d.event(f"Orphaned machine {one.backend_id} found: {words}", wording.target(orphan))
