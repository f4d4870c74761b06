"""What this server counts about itself while it works, for Prometheus."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

STEP_S = 0.5
_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_WORK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Meter:
    """Counters of one server, in a registry of its own: several servers may live in one process."""

    def __init__(self) -> None:
        # Else each counter and histogram has a second series that only tells when this process began, as
        # `process_start_time_seconds` does. The switch is the whole process's.
        disable_created_metrics()
        self.registry = registry = CollectorRegistry()
        self._decisions = Counter("dstack_engine_decisions", "Decisions made", ["kind"], registry=registry)
        self._commits = Counter("dstack_engine_commits", "Decisions and units committed", registry=registry)
        self._conflicts = Counter("dstack_engine_conflicts", "Decisions refused: a row had changed", registry=registry)
        self._failures = Counter("dstack_engine_failures", "Resources that could not be decided", registry=registry)
        self._turns = Histogram("dstack_engine_turn_seconds", "One turn", buckets=_WORK, registry=registry)
        self._acts = Counter("dstack_acts_ended", "Tries of acts by their end", ["verb", "outcome"], registry=registry)
        self._act_s = Histogram("dstack_act_seconds", "One try of an act", ["verb"], buckets=_WORK, registry=registry)
        self._running = Gauge("dstack_acts_running", "Acts that this server runs now", ["verb"], registry=registry)
        self._lag = Histogram(
            "dstack_event_loop_lag_seconds", "How much later than asked for", buckets=_LAG, registry=registry
        )
        ProcessCollector(registry=registry)  # resident memory, processor time, open files

    def decided(self, kind: str) -> None:
        self._decisions.labels(kind).inc()

    def committed(self, accepted: int, refused: int) -> None:
        self._commits.inc(accepted)
        self._conflicts.inc(refused)

    def failed(self) -> None:
        self._failures.inc()

    def turned(self, seconds: float) -> None:
        self._turns.observe(seconds)

    def act_began(self, verb: str) -> None:
        self._running.labels(verb).inc()

    def act_ended(self, verb: str, outcome: str, seconds: float) -> None:
        """`outcome`: done, again, or error."""
        self._running.labels(verb).dec()
        self._acts.labels(verb, outcome).inc()
        self._act_s.labels(verb).observe(seconds)

    async def run(self) -> None:
        """Measure the event loop until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(STEP_S)
            self._lag.observe(max(0.0, time.perf_counter() - before - STEP_S))
