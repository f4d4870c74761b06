"""What waits for a program or a disk, beside the loop."""

from __future__ import annotations

import asyncio
from typing import Any, Callable


async def aside(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
