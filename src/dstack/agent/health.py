"""Looks at the accelerators' health every minute, where there are any, and tells what has changed."""

from __future__ import annotations

import asyncio
import logging
from typing import Callable, Optional

from dstack.agent.gpus import Gpus
from dstack.agentapi.wire import HostHealth

log = logging.getLogger("dstack.agent")

HEALTH_EVERY_S = 60.0


async def watch_health(gpus: Gpus, tell: Callable[[HostHealth], None], every_s: float) -> None:
    """Until cancelled. A machine without accelerators costs nothing but this sleep."""
    told: Optional[HostHealth] = None
    while True:
        try:
            if await gpus.facts() or gpus.broken or told is not None:
                health = await gpus.health()
                if health != (told or HostHealth()):
                    log.warning("accelerators: %s %s", health.status, health.message)
                    tell(health)
                told = health
        except Exception:  # whatever it was: the next look may work, and the agent must not fall
            log.exception("the accelerators' health")
        await asyncio.sleep(every_s)
