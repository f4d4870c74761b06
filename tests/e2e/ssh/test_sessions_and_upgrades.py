"""People who are in a job while a newer server replaces the agent of its host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import dstack
from dstack.agentapi.client import AgentClient
from dstack.agentapi.wire import TaskReport, TaskSpec
from e2e.ssh import jobs
from e2e.ssh.conftest import Reach
from support.bundles import changed
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts import Hosts
from support.hosts_one import TestHost
from support.sessions import PATIENCE_S, Terminal, run, until

pytestmark = pytest.mark.root
LONG_AGO = 1_600_000_000.0


class Way:
    """OpenSSH's way to a job under the name `run`: through the host, over one connection for all."""

    def __init__(self, folder: Path, host: TestHost, key: Path, report: TaskReport):
        self.config = folder / "ssh_config"
        known = folder / "known"
        known.write_text(f"run {report.session_host_key}\n")
        common = ["IdentitiesOnly yes", "BatchMode yes", "LogLevel ERROR", f"IdentityFile {key}"]
        hop = ["Host hop", f"HostName {host.address}", "User dstack", "StrictHostKeyChecking no"]
        end = ["Host run", "HostName 127.0.0.1", f"Port {report.ports['10022']}", f"User {report.session_user}"]
        end += [f"ProxyCommand ssh -F {self.config} -W %h:%p hop", "HostKeyAlias run", "StrictHostKeyChecking yes"]
        self.shared = f"/tmp/dstack-test-{uuid.uuid4().hex[:8]}"
        end += [f"UserKnownHostsFile {known}", "ControlMaster auto", f"ControlPath {self.shared}", "ControlPersist yes"]
        lines = [*hop, "UserKnownHostsFile /dev/null", *common, *end, *common]
        self.config.write_text("\n".join(lines) + "\n")

    def argv(self, *arguments: str) -> list[str]:
        return ["ssh", "-F", str(self.config), *arguments]

    def says(self, command: str, *options: str) -> str:
        done = run(self.argv(*options, "run", command))
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    @contextlib.contextmanager
    def copying(self, source: Path, target: str) -> Iterator[subprocess.Popen[bytes]]:
        """An scp at two megabytes a second, in a process group of its own."""
        argv = ["scp", "-F", str(self.config), "-q", "-l", "16000", str(source), f"run:{target}"]
        copy = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            yield copy
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(copy.pid, signal.SIGKILL)
            copy.wait()

    def close(self) -> None:
        run(self.argv("-O", "exit", "run"))


@pytest.fixture
async def entered(hosts: Hosts, reach: Reach, tmp_path: Path) -> AsyncIterator[tuple[str, AgentClient, str, Way]]:
    """A host with an older agent that was started long ago, a job on it, and a way in: (host, client, job, way)."""
    host = hosts["host-b"]
    id, _ = await reach.ready(host, bundle=changed(reach.bundle, tmp_path, version="0.1.2"))
    for program in host.path("/var/lib/dstack/agent/enter").iterdir():
        os.utime(program, (LONG_AGO, LONG_AGO))
    client = await reach.client(id)
    key = hosts.key.with_name(hosts.key.name + ".pub").read_text().strip()
    fields = {"image": BUSYBOX_IMAGE, "shell": "/bin/sh", "script": "sleep 1000", "authorized_keys": [key]}
    spec = TaskSpec(id=str(uuid.uuid4()), name="job", **fields)
    await client.put_task(spec)
    report = await jobs.until_it(client, spec.id, lambda r: "10022" in r.ports or bool(r.session_message))
    assert "10022" in report.ports, report.session_message
    way = Way(tmp_path, host, hosts.key, report)
    yield id, client, spec.id, way
    way.close()
    await client.aclose()


async def test_a_terminal_and_a_copy_go_on_while_a_newer_server_replaces_the_agent(
    reach: Reach, entered: tuple[str, AgentClient, str, Way], tmp_path: Path
) -> None:
    id, _, _, way = entered
    terminal = Terminal(way)
    terminal.type("echo here-$((40 + 2)); kept=dear\n")
    terminal.until("here-42")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(4_000_000))
    with way.copying(big, "/tmp/copy") as copy:
        until(lambda: _a_little(copy.pid) and int(way.says("cat /tmp/copy | wc -c")) > 0, "the copy has begun")
        assert int(way.says("cat /tmp/copy | wc -c")) < 4_000_000
        done = await reach.ssh.upgrade(*reach.way(id), reach.bundle)
        assert (done.before, done.now, done.problem) == ("0.1.2", dstack.__version__, "")
        os.killpg(copy.pid, signal.SIGCONT)
        assert copy.wait(PATIENCE_S) == 0
    assert way.says("md5sum </tmp/copy").split()[0] == hashlib.md5(big.read_bytes()).hexdigest()
    terminal.type("echo still-$kept\n")
    terminal.until("still-dear")
    terminal.type("exit 7\n")
    assert terminal.exit_code() == 7


def _a_little(group: int) -> bool:
    """Let it go on for a moment: it must not be over before the upgrade is, however long a look at it takes."""
    os.killpg(group, signal.SIGCONT)
    time.sleep(0.2)
    os.killpg(group, signal.SIGSTOP)
    return True


async def test_after_an_upgrade_one_gets_in_over_the_old_connection_and_over_a_new_one_and_is_counted(
    reach: Reach, entered: tuple[str, AgentClient, str, Way]
) -> None:
    id, client, job, way = entered
    assert way.says("echo before") == "before"
    assert (await reach.ssh.upgrade(*reach.way(id), reach.bundle)).now == dstack.__version__
    report = await jobs.until_it(client, job, lambda r: "10022" in r.ports and r.sessions == 1)
    assert report.inactive_since is None
    assert way.says("echo over the old one") == "over the old one"
    assert way.says("echo over a new one", "-o", "ControlPath=none") == "over a new one"
