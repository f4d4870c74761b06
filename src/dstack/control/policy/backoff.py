"""Growing pauses between attempts at what failed."""

from __future__ import annotations

FLEET_CREATE_S = (60.0, 120.0, 300.0, 600.0, 1800.0)
ACT_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


def fleet_create_delay(failures: int) -> float:
    """Seconds until a fleet tries again to create instances, after that many failures in a row (>= 1)."""
    return FLEET_CREATE_S[min(max(failures, 1), len(FLEET_CREATE_S)) - 1]


def act_delay(attempts: int) -> float:
    """Seconds until an act is tried again, after that many attempts (>= 1). It never gives up."""
    return ACT_S[min(max(attempts, 1), len(ACT_S)) - 1]
