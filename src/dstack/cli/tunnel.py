"""Staying in: the shared connection to a job, made again whenever it breaks, and news of it for whoever shows them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dstack.cli.attach_home import AttachHome
from dstack.cli.forwards import Forward
from dstack.cli.ssh_process import SshProcess, is_shared
from dstack.cli.way_in import Way, reachable, remove_entries, write_entries
from dstack.errors import DstackError

CONNECT_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
PATIENCE = 4  # tries of a connection that never was there
LOOK_S = 1.0
END_S = 12.0


@dataclass(frozen=True)
class Entered:
    """The connection is there, for the first time or again. `shared`: another `attach` holds it."""

    way: Way
    through_server: bool
    again: bool
    shared: bool
    forwards: tuple[Forward, ...]


@dataclass(frozen=True)
class Lost:
    """The connection broke; it is being made again."""

    reason: str


@dataclass(frozen=True)
class Detour:
    """There is no route from here to the job: the connection goes through the server."""

    reason: str


@dataclass(frozen=True)
class Barred:
    """There is no use in trying."""

    error: Exception


class Tunnel:
    """`events` get `Entered`, `Lost`, `Detour`, and `Barred` at the end of all tries.

    `forwards` answers what to forward, given the place and whether one goes through the server; asked once for each.
    """

    def __init__(
        self,
        home: AttachHome,
        identity: Path,
        project: str,
        forwards: Callable[[Way, bool], list[Forward]],
        host: str,
        events: queue.Queue[Any],
    ):
        self._home, self._identity, self._project = home, identity, project
        self._plan, self._host, self._events = forwards, host, events
        self._forwards: dict[bool, tuple[Forward, ...]] = {}
        self._serial, self._last_words = "", ""
        self._way: Way | None = None
        self._written: Way | None = None  # whose entries are in the configuration
        self._news = threading.Condition()
        self._closed = False
        self._process: SshProcess | None = None
        self._through_server = False
        self._thread: threading.Thread | None = None

    def lead_to(self, way: Way | None) -> None:
        """Where the job is now; None while it is nowhere. A new attempt of a job is another place."""
        with self._news:
            if way == self._way:
                return
            self._way = way
            self._news.notify_all()
        if way is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the connection and take the entries away."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(END_S)
        if self._written is not None:
            remove_entries(self._home, self._written)

    def _run(self) -> None:
        try:
            was_there, tries, pause_s = False, 0, FIRST_PAUSE_S
            while (way := self._wait_for_way()) is not None:
                if self._stay(way, was_there):
                    was_there, tries, pause_s = True, 0, FIRST_PAUSE_S
                else:
                    tries += 1
                    if not was_there and tries >= PATIENCE:
                        raise DstackError("Can't connect to the remote host", hint=self._last_words)
                self._pause(way, pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        except Exception as e:
            self._events.put(Barred(e))

    def _stay(self, way: Way, was_there: bool) -> bool:
        """Connect and stay until it breaks; whether it was there at all."""
        if way.serial != self._serial:
            self._serial, self._through_server = way.serial, False  # another attempt, maybe at another place
        if not self._through_server and not reachable(way):
            self._detour("there is no route to it from here")
        if not self._current(way):
            return False
        self._written = way
        socket = write_entries(self._home, way, self._identity, self._project, self._through_server)
        if is_shared(self._home.arguments, way.alias, socket):
            self._events.put(Entered(way, self._through_server, was_there, True, self._wanted(way, shared=True)))
            while self._current(way) and is_shared(self._home.arguments, way.alias, socket):
                self._sleep(way, LOOK_S)
            return True
        forwards = self._wanted(way)
        process = SshProcess(self._home.arguments, way.alias, forwards, self._host)
        try:
            if not self._ready(process, way):
                self._failed(process, way)
                return False
            self._events.put(Entered(way, self._through_server, was_there, False, forwards))
            while self._current(way) and not process.ended:
                self._sleep(way, LOOK_S, process)
        finally:
            process.close()
        if self._current(way):
            self._events.put(Lost(last_line(process.said)))
        return True

    def _ready(self, process: SshProcess, way: Way) -> bool:
        deadline = time.monotonic() + CONNECT_S
        while self._current(way) and not process.ended and time.monotonic() < deadline:
            if process.wait_ready(0.1):
                return True
        return process.wait_ready(0.0)

    def _wanted(self, way: Way, *, shared: bool = False) -> tuple[Forward, ...]:
        """Those of a connection that another command holds are its own."""
        if shared:
            return ()
        if self._through_server not in self._forwards:
            self._forwards[self._through_server] = tuple(self._plan(way, self._through_server))
        return self._forwards[self._through_server]

    def _failed(self, process: SshProcess, way: Way) -> None:
        """Raises DstackError for what another try would meet again."""
        process.close()
        if not self._current(way):
            return
        self._last_words = words = last_line(process.said) or "no answer"
        if "Permission denied" in words and (self._through_server or way.host is None):
            raise DstackError(
                f"The run {way.run} does not let you in with the key {self._identity}",
                hint="runs admit the keys of who submitted them; --ssh-identity names another key",
            )
        if "forwarding" in words or "Address already in use" in process.said:
            raise DstackError(
                "The ports of the run cannot be forwarded: one is in use on this machine",
                hint="-p LOCAL:REMOTE overrides a local port",
            )
        if not self._through_server:
            self._detour(words)

    def _detour(self, reason: str) -> None:
        self._through_server = True
        self._events.put(Detour(reason))

    def _wait_for_way(self) -> Way | None:
        with self._news:
            self._news.wait_for(lambda: self._closed or self._way is not None)
            return None if self._closed else self._way

    def _current(self, way: Way) -> bool:
        return not self._closed and self._way == way

    def _pause(self, way: Way, pause_s: float) -> None:
        self._sleep(way, pause_s)

    def _sleep(self, way: Way, longest_s: float, process: SshProcess | None = None) -> None:
        """Until the place changes, the process ends, or the time is over."""
        deadline = time.monotonic() + longest_s
        with self._news:
            while self._current(way) and not (process and process.ended) and time.monotonic() < deadline:
                self._news.wait(min(0.2, longest_s))


def last_line(text: str) -> str:
    """The last that says why; where a login node refuses, ssh ends with lines about the pipe to it."""
    lines = text.splitlines()
    telling = [line for line in lines if not line.startswith(("Connection closed by", "kex_exchange_identification"))]
    return (telling or lines or [""])[-1].removeprefix("error: ")  # of `dstack ssh-stdio`: it is said in an error
