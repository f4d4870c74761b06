"""Growing pauses between attempts at what failed."""

from __future__ import annotations

FLEET_CREATE_S = (60.0, 120.0, 300.0, 600.0, 1800.0)


def fleet_create_delay(failures: int) -> float:
    """Seconds until a fleet tries again to create instances, after that many failures in a row (>= 1)."""
    return FLEET_CREATE_S[min(max(failures, 1), len(FLEET_CREATE_S)) - 1]
