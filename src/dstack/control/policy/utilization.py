"""For how long a GPU of a job has stood idle, by the samples of its host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Between two samples that are further apart nobody knows what happened: the count begins anew.
GAP_S = 180.0
# How late the first sample of a window may be.
SLACK_S = 60.0
CHECK_S = 60.0


def idle_s(samples: Sequence[tuple[float, Mapping[str, int]]], least: int) -> float:
    """Seconds for which at least one GPU has been below `least` percent without a break, up to the newest sample.

    `samples`: instant and percent by GPU, in their order.
    """
    if not samples:
        return 0.0
    newest = samples[-1][0]
    since = dict.fromkeys(samples[-1][1], newest)
    idle = {gpu for gpu, percent in samples[-1][1].items() if percent < least}
    later = newest
    for at, used in reversed(samples):
        if later - at > GAP_S:
            break
        idle = {gpu for gpu in idle if used.get(gpu, 100) < least}
        since |= dict.fromkeys(idle, at)
        later = at
    return newest - min(since.values(), default=newest)


def over(idle: float, window_s: float) -> bool:
    return idle >= window_s - SLACK_S


def next_check(idle: float, window_s: float, now: float) -> float:
    """When the window can be over at the earliest."""
    return now + max(window_s - SLACK_S - idle, CHECK_S)
