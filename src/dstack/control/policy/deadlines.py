"""How long each state may last. All values are seconds."""

from __future__ import annotations

# A row that waits for a neighbour is woken by it; this is only the net below.
RECHECK_S = 3600.0

INSTANCE_CREATE_S = 600.0
INSTANCE_LINK_S = 600.0
INSTANCE_UNREACHABLE_S = 1200.0
FIRST_PROBE_S = 60.0  # a new machine that is silent for so long is asked for at its provider: it may be gone already
UNREACHABLE_PROBE_S = 60.0  # between questions to the provider about a machine that does not answer

JOB_START_S = 600.0
JOB_PULL_S = 6 * 3600.0
JOB_CLEANUP_S = 600.0  # beyond the stop duration
SETTLE_S = 0.5

# A job whose only obstacle is a machine that is being terminated waits this long for it.
QUEUE_WAIT_S = 600.0

# Backends whose machines are never terminated because they do not answer: they are a person's own.
OWN_MACHINES = frozenset({"local", "ssh", "remote"})


def unreachable_deadline(backend: str, now: float) -> float | None:
    """When an instance that does not answer is given up; None is never."""
    return None if backend in OWN_MACHINES else now + INSTANCE_UNREACHABLE_S


def terminating_deadline(stop_duration_s: float, now: float) -> float:
    """When a job ends although its clean-up was not confirmed."""
    return now + stop_duration_s + JOB_CLEANUP_S


def terminating_since(deadline: float, stop_duration_s: float) -> float:
    """When a job that has this deadline began to terminate."""
    return deadline - stop_duration_s - JOB_CLEANUP_S


def settle_delay(created_at: float, now: float) -> float:
    """Seconds until an act that was called back is looked at again. One that a worker holds wakes its row when it ends,
    so the older it is the less often it is looked at."""
    return max(SETTLE_S, (now - created_at) / 4)
