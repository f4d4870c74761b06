"""Waiting for what must not be left alone: a thread at work cannot be called back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeVar

T = TypeVar("T")


async def unbroken(working: asyncio.Future[T]) -> T:
    """Its result. A cancellation, or several, takes effect only when it has ended, however it does."""
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        while not working.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # looked at: the cancellation is what is told
        raise
