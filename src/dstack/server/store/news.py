"""What servers tell one another: topics over LISTEN/NOTIFY of PostgreSQL, on a connection of its own.

Nothing depends on it but speed. What is missed while the connection is away is made up for by looking at everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dstack.server.store.direct import CONNECT_S, connect

log = logging.getLogger(__name__)
CHANNEL = "dstack"
BATCH_S = 0.01  # what is told within it goes out together
CHECK_S = 15.0  # a quiet connection is asked whether it still lives
RETRY_S = 1.0
PAYLOAD_BYTES = 7900  # PostgreSQL takes less than 8000
MANY = 2000  # more topics than that at once are told as EVERYTHING
EVERYTHING = "*"
HELLO = "hello"


class News:
    """`heard` gets the topics that another server told, `missed` is called when some may have been lost.

    `alone`: nobody would hear; nothing is sent.
    """

    def __init__(
        self,
        url: str,
        me: str,
        heard: Callable[[Sequence[str]], None],
        missed: Callable[[], None],
        retry_s: float = RETRY_S,
    ):
        self.alone = True
        self.connected = False
        self._url = url
        self._me = me
        self._heard = heard
        self._missed = missed
        self._outgoing: set[str] = set()
        self._something = asyncio.Event()
        self._trouble = ""
        self._retry_s = retry_s

    def tell(self, topics: Iterable[str]) -> None:
        """Tell the other servers, soon."""
        if self.alone:
            return
        self._outgoing.update(topics)
        if EVERYTHING in self._outgoing or len(self._outgoing) > MANY:
            self._outgoing = {EVERYTHING}
        self._something.set()

    async def run(self) -> None:
        """Listen and tell until cancelled."""
        while True:
            try:
                await self._connected()
            except Exception as e:
                self._complain(type(e).__name__)
            self.connected = False
            self._missed()
            await asyncio.sleep(self._retry_s)

    async def say(self, *topics: str) -> None:
        """Tell at once, whatever became of `run`: the last words of a server that stops."""
        async with asyncio.timeout(CONNECT_S):
            connection = await connect(self._url)
            try:
                await self._send(connection, set(topics))
            finally:
                await connection.close()

    async def _connected(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            connection = await connect(self._url)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: (lost.set(), self._something.set()))
            async with asyncio.timeout(CONNECT_S):
                await connection.add_listener(CHANNEL, self._on_message)
                await self._send(connection, {HELLO})
            self.connected = True
            self._complain("")
            self._missed()
            if self._outgoing:
                self._something.set()
            while not lost.is_set():
                await self._serve(connection)
        finally:
            connection.terminate()

    def _complain(self, trouble: str) -> None:
        """A line for each reason, not for each try: a database may be away for hours."""
        if trouble and trouble != self._trouble:
            log.warning("servers cannot wake one another: %s; trying again", trouble)
        elif self._trouble and not trouble:
            log.warning("servers wake one another again")
        self._trouble = trouble

    async def _serve(self, connection: Any) -> None:
        """Send what there is; look after a quiet connection. Raises when it is broken."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._something.wait()
        except TimeoutError:
            await connection.execute("SELECT 1", timeout=CONNECT_S)
            return
        await asyncio.sleep(BATCH_S)
        self._something.clear()
        if self._outgoing and not connection.is_closed():
            topics, self._outgoing = self._outgoing, set()
            try:
                await self._send(connection, topics)
            except BaseException:
                self._outgoing |= topics  # the others heard on: they do not know that something was lost
                raise

    async def _send(self, connection: Any, topics: set[str]) -> None:
        for payload in payloads(self._me, topics):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload, timeout=CONNECT_S)

    def _on_message(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        sender, *topics = str(payload).split(" ")
        if sender == self._me:
            return
        self.alone = False
        if EVERYTHING in topics:
            self._missed()
        else:
            self._heard(topics)


def payloads(sender: str, topics: set[str]) -> list[str]:
    """The topics as texts that NOTIFY takes, the sender first."""
    if len(topics) > MANY:
        return [f"{sender} {EVERYTHING}"]
    result, line = [], sender
    for topic in sorted(topics):
        if len(line) + 1 + len(topic) > PAYLOAD_BYTES:
            result.append(line)
            line = sender
        line += f" {topic}"
    return [*result, line]
