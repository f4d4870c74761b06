"""A task's log at port 10999 of the loopback that its sshd forwards to, as clients of the public API read it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dstack.agentapi.wire import StopRequest
from support.ports import free_port
from support.sessions import PATIENCE_S, TOOLS_IMAGE, Door, SessionAgent, until
from support.websocket import Closed, Reader, Refused

pytestmark = [pytest.mark.docker, pytest.mark.root]
OWN_PORT = 10999
WAITS = "while [ ! -e /tmp/{} ]; do sleep 0.05; done"
SPEAKS = f"echo first; {WAITS.format('go')}; echo second; {WAITS.format('end')}; echo last"


@contextlib.contextmanager
def forwarded(door: Door, remote: int) -> Iterator[int]:
    port = free_port()
    with door.going("-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{port}:localhost:{remote}", "run"):
        until(lambda: listens(port), "the forward")
        yield port


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def read(port: int, query: str = "") -> Reader:
    """Again while the listener is being made: a forward to it is closed at once until then."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Reader(port, "/logs_ws" + query)
        except (Closed, OSError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_container_has_its_own_log_on_its_loopback_until_its_last_line(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh(SPEAKS))
    with forwarded(door, OWN_PORT) as port, read(port) as reader:
        assert reader.until(b"first") == b"first"
        assert door.ssh("run", "touch /tmp/go /tmp/end").returncode == 0
        assert reader.rest().split() == [b"second", b"last"]


def test_a_log_is_read_from_an_instant_on(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh(SPEAKS))
    with forwarded(door, OWN_PORT) as port, read(port) as whole:
        whole.until(b"first\n")
        since = datetime.now(UTC).isoformat().replace("+", "%2B").replace(":", "%3A")
        assert door.ssh("run", "touch /tmp/go").returncode == 0
        whole.until(b"second")
        with read(port, f"?start_time={since}") as later:
            assert door.ssh("run", "touch /tmp/end").returncode == 0
            assert later.rest().split() == [b"second", b"last"]


def test_what_is_no_reader_of_the_log_is_refused(engine_agent: SessionAgent, plain: Door):
    with forwarded(plain, OWN_PORT) as port:
        read(port).close()
        for path, upgrade, status in (("/elsewhere", True, 404), ("/logs_ws", False, 400)):
            with pytest.raises(Refused) as refused:
                Reader(port, path, upgrade=upgrade)
            assert refused.value.status == status


def test_in_the_machines_network_each_reads_the_log_of_the_task_that_they_are_in(engine_agent: SessionAgent, fresh):
    one, two = (
        engine_agent.door(fresh(f"echo {name}; sleep 1000", network="host", image=TOOLS_IMAGE))
        for name in ("one", "two")
    )
    shared = engine_agent.log_port
    with forwarded(one, shared) as first, forwarded(two, shared) as second:
        for port, said in ((second, b"two"), (first, b"one")):
            with read(port) as reader:
                reader.until(said)
        with pytest.raises((Closed, OSError)):
            Reader(shared, "/logs_ws")  # without a session: nobody's


def test_beside_a_job_that_is_a_process_its_log_is_read_the_same_way(process_agent: SessionAgent):
    task = process_agent.task("echo beside; sleep 1000")
    door = process_agent.door(task)
    with forwarded(door, process_agent.log_port) as port, read(port) as reader:
        reader.until(b"beside")
        process_agent.ask(lambda client: client.stop(task, StopRequest(grace_s=0)))
        reader.rest()
    process_agent.end(task)
