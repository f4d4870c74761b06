"""Who may enter which task, and what can be reached from there."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstack.agentapi.client import AgentRefused
from support.ports import free_port
from support.sessions import TOOLS_IMAGE, Door, Person, SessionAgent, Terminal, answers, run, until

pytestmark = [pytest.mark.docker, pytest.mark.root]
HTTPD = "mkdir -p /www && echo page > /www/index.html && httpd -p 127.0.0.1:8000 -h /www && sleep 100000"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def pages(engine_agent: SessionAgent) -> Door:
    """A task that serves pages on its own loopback."""
    return engine_agent.door(engine_agent.task(HTTPD))


@pytest.fixture
def host_service() -> Iterator[int]:
    """A service of this machine on all its addresses."""
    listening = socket.create_server(("0.0.0.0", 0))
    serving = threading.Thread(target=_serve, args=(listening,), daemon=True)
    serving.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    serving.join()


def _serve(listening: socket.socket) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(b"the machine")


def test_a_port_of_the_tasks_own_loopback_is_forwarded(pages: Door):
    port = free_port()
    with pages.going("-N", "-L", f"{port}:localhost:8000", "run"):
        until(lambda: b"page" in answers(port), "the page")


def test_forwarding_reaches_nothing_of_the_machines_loopback(pages: Door, host_service: int):
    port, inside = free_port(), free_port()
    with pages.going("-N", "-L", f"{port}:127.0.0.1:{host_service}", "-L", f"{inside}:localhost:8000", "run"):
        until(lambda: b"page" in answers(inside), "what the same connection does forward")
        assert answers(port) == b""
        assert answers(host_service).startswith(b"the machine")


def test_sockets_of_the_machines_files_are_not_forwarded(pages: Door, tmp_path: Path):
    port, inside = free_port(), free_port()
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pages.going("-N", "-L", f"{port}:{path}", "-L", f"{inside}:localhost:8000", "run"):
            until(lambda: b"page" in answers(inside), "what the same connection does forward")
            assert answers(port) == b""
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has connected to it
            listening.accept()


@pytest.mark.parametrize("place", ["tools", "worker", "plain", "in_machines_network", "beside"])
def test_an_editors_flow_over_a_dynamic_forward_survives_its_disconnect(request: pytest.FixtureRequest, place: str):
    """The shape of an editor's remote server: a script on standard input starts it, SOCKS leads to it."""
    door: Door = request.getfixturevalue(place)
    theirs = free_port()
    folder = f"/tmp/editor-{theirs}"
    start = (
        f"test -e {folder}/pid && kill -0 $(cat {folder}/pid) && echo found=1\n"
        f"mkdir -p {folder} && echo editor > {folder}/index.html\n"
        f"serve() {{ busybox httpd -f -p 127.0.0.1:{theirs} -h {folder} </dev/null >/dev/null 2>&1 & }}\n"
        f"test -e {folder}/pid || {{ serve; echo $! >{folder}/pid; }}\n"
        f"echo listeningOn=={theirs}==\n"
    )
    for expected in (f"listeningOn=={theirs}==\n".encode(), b"found=1\n"):
        port = free_port()
        with door.going("-T", "-D", str(port), "run", "sh") as client:
            assert client.stdin and client.stdout
            client.stdin.write(start.encode())
            client.stdin.flush()
            assert client.stdout.readline() == expected
            until(lambda port=port: b"editor" in socks(port, theirs), "the editor's server")
    done = door.ssh("-T", "run", "sh", input=f"kill $(cat {folder}/pid); rm -r {folder}; exit 5\n".encode())
    assert done.returncode == 5


def socks(proxy: int, port: int) -> bytes:
    """A page of 127.0.0.1:PORT as seen by a SOCKS5 proxy."""
    try:
        with socket.create_connection(("127.0.0.1", proxy), 10) as s:
            s.settimeout(10)
            s.sendall(b"\x05\x01\x00")
            s.recv(2)
            s.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
            if s.recv(10)[1:2] != b"\x00":
                return b""
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            found = b""
            while more := s.recv(65536):
                found += more
            return found
    except OSError:
        return b""


@pytest.fixture(scope="module")
def in_machines_network(engine_agent: SessionAgent) -> Door:
    return engine_agent.door(engine_agent.task(network="host", image=TOOLS_IMAGE, working_dir="/work"))


def test_in_the_machines_network_a_task_is_entered_the_same_way(
    in_machines_network: Door, host_service: int, tmp_path: Path
):
    door = in_machines_network
    assert door.says("id -u") == "0"
    (tmp_path / "f").write_text("carried")
    assert run(["scp", "-F", str(door.config), str(tmp_path / "f"), "run:f"]).returncode == 0
    assert door.says("cat /work/f; pwd") == "carried/work"
    terminal = Terminal(door)
    terminal.type("echo $((6*7)); exit 9\n")
    terminal.until("42\r")
    assert terminal.exit_code() == 9
    assert door.says(f"ls {door.agent.live.socket} 2>&1 | grep -c 'No such'") == "1"
    port = free_port()
    with door.going("-N", "-L", f"{port}:127.0.0.1:{host_service}", "run"):
        until(lambda: answers(port).startswith(b"the machine"), "what the job itself reaches too")


def test_a_key_of_one_task_does_not_open_another(engine_agent: SessionAgent, fresh, stranger: Person, plain: Door):
    theirs = fresh(authorized_keys=[stranger.public])
    assert engine_agent.door(theirs, stranger).ssh("run", "echo in").stdout == b"in\n"
    for door in (engine_agent.door(theirs), engine_agent.door(plain.task_id, stranger)):
        done = door.ssh("run", "true")
        assert done.returncode == 255 and b"Permission denied" in done.stderr


def test_keys_may_be_changed_while_a_task_runs_and_who_lost_theirs_is_put_out(
    engine_agent: SessionAgent, fresh, stranger: Person
):
    task = fresh()
    owners = engine_agent.door(task)
    strangers = engine_agent.door(task, stranger)
    assert strangers.ssh("run", "true").returncode == 255
    with owners.going("run", "echo in; sleep 600") as client:
        assert client.stdout and client.stdout.readline() == b"in\n"
        engine_agent.ask(lambda c: c.put_keys(task, [stranger.public]))
        assert client.wait(60) == 255
    assert strangers.ssh("run", "echo in").stdout == b"in\n"
    assert owners.ssh("run", "true").returncode == 255
    engine_agent.live.kill()
    engine_agent.ask(lambda _: engine_agent.live.start())
    until(lambda: engine_agent.door(task, stranger).ssh("run", "true").returncode == 0, "the same after a restart")


def test_what_is_no_key_is_refused(engine_agent: SessionAgent, plain: Door):
    for line in ('command="sh" ' + engine_agent.owner.public, "ssh-ed25519 AAAA", "hello"):
        with pytest.raises(AgentRefused) as refused:
            engine_agent.ask(lambda c, line=line: c.put_keys(plain.task_id, [line]))
        assert refused.value.code == "bad_key"
    assert plain.says("echo in") == "in"


def test_keys_given_later_open_a_task_that_had_none(engine_agent: SessionAgent, fresh):
    task = fresh(authorized_keys=[])
    engine_agent.until(task, lambda r: r.state == "running")
    assert "10022" not in engine_agent.report(task).ports
    engine_agent.ask(lambda c: c.put_keys(task, [engine_agent.owner.public]))
    assert engine_agent.door(task).says("echo in") == "in"


@pytest.fixture(scope="module")
def machine(engine_agent: SessionAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The machine's own sshd, with the account that the agent keeps; its port."""
    folder = tmp_path_factory.mktemp("machine")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True)
    port = free_port()
    (folder / "conf").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {engine_agent.folder}/jump/.ssh/authorized_keys\nPermitRootLogin yes\n"
    )
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", folder / "conf"], stderr=subprocess.DEVNULL)
    until(lambda: _listens(port), "the machine's sshd")
    yield port
    sshd.terminate()
    sshd.wait()


def _listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def _forwarded(config: Path, target: str) -> tuple[int, subprocess.Popen[bytes]]:
    """A port of this machine that ssh forwards, and ssh. A port that somebody else took meanwhile is not used."""
    options = ["ssh", "-F", str(config), "-o", "ExitOnForwardFailure=yes", "-N"]
    while True:
        port = free_port()
        argv = [*options, "-L", f"{port}:{target}", "machine"]
        client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda client=client, port=port: client.poll() is not None or _listens(port), "the forward")
        if client.poll() is None:
            return port, client


def through(door: Door, machine: int) -> Path:
    """A configuration that jumps over the machine with the person's own key, as clients of the wire API do."""
    jump = door.config.with_suffix(".jump")
    lines = [
        "Host machine",
        "HostName 127.0.0.1",
        f"Port {machine}",
        "User root",
        f"IdentityFile {door.agent.owner.key}",
    ]
    lines += ["IdentitiesOnly yes", "StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "LogLevel ERROR"]
    inner = door.config.read_text().replace("HostName 127.0.0.1", "HostName localhost\nProxyJump machine")
    jump.write_text(inner + "\n".join(lines) + "\n")
    return jump


def test_a_persons_key_leads_through_the_machine_to_the_task(tools: Door, machine: int):
    done = run(["ssh", "-F", str(through(tools, machine)), "run", "echo in; pwd"])
    assert done.stdout == b"in\n/work\n", done


def test_a_persons_key_gives_no_shell_on_the_machine_and_no_other_port(
    tools: Door, machine: int, host_service: int, tmp_path: Path
):
    config = str(through(tools, machine))
    for command in ([], ["id"], ["-tt", "-o", "RemoteCommand=id"]):
        done = run(["ssh", "-F", config, "machine", *command])
        assert done.returncode != 0 and b"uid" not in done.stdout
        assert b"not a shell" in done.stdout or b"PTY allocation request failed" in done.stderr
    refused = run(["ssh", "-F", config, "-W", f"127.0.0.1:{host_service}", "machine"])
    assert refused.returncode == 255 and b"the machine" not in refused.stdout
    listen = run(
        ["ssh", "-F", config, "-o", "ExitOnForwardFailure=yes", "-N", "-R", f"{free_port()}:localhost:1", "machine"]
    )
    assert listen.returncode == 255
    assert run(["sftp", "-b", "-", "-F", config, "machine"], input=b"ls\n").returncode != 0


def test_a_persons_key_opens_no_socket_of_the_machines_files(tools: Door, machine: int, tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(tmp_path / "socket"))
        service.listen()
        port, client = _forwarded(through(tools, machine), f"{tmp_path}/socket")
        assert answers(port) == b""
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()
        client.kill()
        client.wait()


def test_a_key_that_no_task_has_any_more_is_gone_from_the_machine(engine_agent: SessionAgent, fresh, stranger: Person):
    file = engine_agent.folder / "jump" / ".ssh" / "authorized_keys"
    task = fresh(authorized_keys=[stranger.public])
    port = engine_agent.door(task, stranger).report.ports["10022"]
    blob = stranger.public.split()[1]
    until(lambda: f'permitopen="127.0.0.1:{port}"' in file.read_text(), "the port")
    assert all(line.startswith("restrict,port-forwarding,") for line in file.read_text().splitlines())
    engine_agent.ask(lambda c: c.put_keys(task, [engine_agent.owner.public]))
    until(lambda: blob not in file.read_text(), "the key's line has gone")
    assert os.stat(file).st_uid == 0


def test_what_a_task_keeps_on_disk_is_for_the_agent_alone(engine_agent: SessionAgent, tools: Door):
    folder = engine_agent.live.state / "tasks" / tools.task_id
    assert (os.stat(engine_agent.live.state).st_mode & 0o077) == 0
    for name in ("session.json", "hostkey", "authorized_keys", "shadow"):
        assert (os.stat(folder / name).st_mode & 0o077) == 0, name


def test_the_agents_socket_is_not_in_reach_of_a_task(tools: Door):
    assert tools.says(f"ls {tools.agent.live.socket} 2>&1 | grep -c 'No such'") == "1"
    assert tools.ssh("run", "touch /.dstack/agent/x").returncode != 0
