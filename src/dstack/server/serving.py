"""Serving HTTP on a socket until a signal says stop, inside a running server."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from dstack.clock import WallClock
from dstack.server.app import http_app, running
from dstack.server.first_start import greet
from dstack.server.garbage import collecting
from dstack.server.settings import Settings
from dstack.server.store.changes import Changes

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Uvicorn raises the signals that it caught once more when it is done, which would skip our own shutdown."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings, listening: socket.socket) -> None:
    """Start everything, serve, and stop in order: requests first, then workers, then the database.

    Jobs are not touched by a stop: they run on their hosts and are found again.
    """
    # Collected in our way until all is closed: the interpreter's would look at everything again and again meanwhile.
    async with collecting(), running(settings, WallClock()) as server:
        config = uvicorn.Config(
            http_app(server.parts),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=int(settings.shutdown_grace_s),
            timeout_keep_alive=75,
            ws_per_message_deflate=False,  # what is encrypted does not get smaller
        )
        http = _Server(config)
        _stop_on_signals(http, server.parts.changes)
        async with asyncio.TaskGroup() as group:
            greeting = group.create_task(_greet_when_up(http, settings, server.token))
            await http.serve(sockets=[listening])
            greeting.cancel()
        log.info("stopped; running jobs go on and are found again at the next start")


def _stop_on_signals(http: uvicorn.Server, changes: Changes) -> None:
    def stop() -> None:
        # Requests that wait for news would use up the whole grace.
        changes.close()
        # The second signal does not wait for requests that still run.
        http.force_exit = http.should_exit
        http.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def _greet_when_up(http: _Server, settings: Settings, token: str | None) -> None:
    await http.up.wait()
    await greet(settings, token)
