"""Worse worlds and servers: each has one bug of a family that the simulation must find."""

from __future__ import annotations

from dstack.control.decide import decide
from dstack.control.kernel import Decision, Probe
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.model.row import Ref
from dstack.sim.cloud import CloudDown
from dstack.sim.host import Host
from dstack.sim.links import Links
from dstack.sim.server import CLAIM_LEASE_S, Server
from dstack.sim.world import Claim, ClaimedAct, World


class LosesWakes(World):
    """What was woken between load and commit is forgotten."""

    def _release(self, claim: Claim, wake_at: float | None, now: float) -> None:
        if self._holds(claim):
            seen = self.leases[claim.ref].wake_seq
            super()._release(Claim(claim.ref, claim.owner, claim.fence, seen), wake_at, now)


class WritesUnguarded(World):
    """Versions are not compared: the later writer wins."""

    def _acceptable(self, decision: Decision) -> bool:
        return all(c.row.ref not in self.rows for c in decision.creates) and not any(
            (a.ref, a.verb) in self.acts for a in decision.acts
        )


class ForgetsClaims(World):
    """A server that comes back after its claims have run out still writes."""

    def _holds(self, claim: Claim) -> bool:
        return True

    def _acceptable(self, decision: Decision) -> bool:
        return True


class ActsBeforeCommit(Server):
    """The machine is created first and recorded after: a crash between the two loses it."""

    def _turn(self) -> bool:
        p, now = self.parts, self.parts.clock.now()
        claims = p.world.claim_due(now, self.owner, 256, CLAIM_LEASE_S)
        if not claims:
            return False
        batch = [(c, decide(s, now)) for c, s in zip(claims, p.world.load(claims, now), strict=True)]
        for _, turn in batch:
            for unit in turn.units:
                for create in unit.creates:
                    try:
                        p.cloud.create(create.row)  # type: ignore[arg-type]
                    except CloudDown:
                        pass
        if any(turn.units for _, turn in batch) and p.faults.between(0, 1) < 0.3:
            self._dies("between effect and commit")
        else:
            self._commit(self._life, batch)
        return True


class StartsTwice(Server):
    """A start whose record was lost is sent under a new name."""

    def _start_task(self, one: ClaimedAct):
        job = self._job(one.ref)
        host = self._host(job)
        if host is not None:
            host.tasks.pop(job.id, None)
            host.tombstones.discard(job.id)
        return super()._start_task(one)


class TrustingLinks(Links):
    """Whoever answers at the address is taken for the instance's own machine."""

    def _own(self, host: Host, instance: Instance) -> bool:
        return True


class Unanswered(Server):
    """Providers do not answer when they are asked about one machine: that it is gone is learned from two lists."""

    def _probe(self, probe: Probe) -> None:
        pass


class TrustsAddresses(Unanswered):
    links_class = TrustingLinks

    def _host(self, job: Job) -> Host | None:
        data = self._instance(Ref("instance", job.instance_id or "")).data
        return self.parts.cloud.at_address(data.hostname) if data else None


class SweepsAtSight(Server):
    """What no row knows is ended at once: after a restored backup, all that was made since."""

    def _sweep_backend(self, one: ClaimedAct):
        for machine in self.parts.cloud.list():
            if machine.foreign:
                self.parts.cloud.terminate(machine.token)
        return super()._sweep_backend(one)
