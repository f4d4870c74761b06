"""Three servers on one PostgreSQL: whatever becomes of one of them, no run notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from support import postgres
from support.product import eventually
from support.several import PATIENCE_S, Servers, counted, several

HOSTS = 3
TAKEOVER_S = 30.0  # 15 on a machine with nothing else to do: `bench/several_servers.py`
RUNS = [f"count-{n}" for n in range(HOSTS)]


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def servers(postgres_server: str) -> Iterator[Servers]:
    with several(postgres_server, "abcd") as servers:
        yield servers


@pytest.mark.timeout(300)
def test_no_run_notices_a_server_that_is_killed_one_that_is_frozen_and_one_that_restarts(servers: Servers):
    a, b, c = (servers.of[name] for name in "abc")
    servers.start("abc")
    a.fleet(nodes=f"0..{HOSTS + 1}")
    for n, run in enumerate(RUNS):
        servers.counting(run, through="abc"[n % 3])
    for run in RUNS:
        b.wait_status(run, "running", deadline_s=PATIENCE_S)
    eventually(
        lambda: sorted(servers.held().values()) == [1, 1, 1], PATIENCE_S, lambda: f"not shared: {servers.held()}"
    )
    following = {run: servers.of["abc"[n % 3]].begin("logs", "-f", run) for n, run in enumerate(RUNS)}
    for started in following.values():
        started.wait_for("line 1\n")

    a.stop(signal.SIGKILL)
    servers.taken_over(HOSTS, "bc", TAKEOVER_S)
    a.start()  # under load; its followers go on
    eventually(lambda: servers.held().get("a", 0) > 0, PATIENCE_S, lambda: f"a has no share: {servers.held()}")

    os.kill(b.server_pid, signal.SIGSTOP)
    servers.taken_over(HOSTS, "ac", TAKEOVER_S)
    servers.counting("meanwhile", through="c")
    c.wait_status("meanwhile", "running", deadline_s=PATIENCE_S)
    os.kill(b.server_pid, signal.SIGCONT)
    eventually(lambda: "silent for too long" in b.server_log, PATIENCE_S, lambda: b.server_log[-2000:])

    assert c.stop() == 0
    servers.taken_over(HOSTS + 1, "ab", TAKEOVER_S)
    c.start()

    servers.stop_file.touch()
    for run in [*RUNS, "meanwhile"]:
        ended = b.wait_status(run, "done", "failed", "terminated", deadline_s=PATIENCE_S)
        assert ended["status"] == "done", ended
        assert [len(job["job_submissions"]) for job in ended["jobs"]] == [1], f"{run} was begun again"
        logs = {name: servers.of[name].cli("logs", run).ok().out for name in "abc"}
        assert counted(logs["a"]) and logs["a"] == logs["b"] == logs["c"]
        if run in following:
            assert following[run].ended(PATIENCE_S).ok().out == logs["a"]
    assert "unreachable" not in a.cli("event").ok().out
    a.cli("fleet", "delete", "here", "-y").ok()
    assert not list((servers.folder / "cloud" / "machines").glob("[!.]*.json"))


def test_a_server_that_does_not_share_the_folder_of_the_others_is_refused_with_what_to_do(servers: Servers):
    servers.start("a")
    without = servers.of["d"]
    del without.env["DSTACK_SERVER_SHARED_DIR"]
    refused = without.cli("server", "--port", str(without.port), "-n")
    assert refused.code == 1
    assert "hint: set DSTACK_SERVER_SHARED_DIR to it" in refused.err
    without.env["DSTACK_SERVER_SHARED_DIR"] = str(servers.folder / "another")
    refused = without.cli("server", "--port", str(without.port), "-n")
    assert refused.code == 1
    assert "is not the folder that the servers of this database share" in refused.err
