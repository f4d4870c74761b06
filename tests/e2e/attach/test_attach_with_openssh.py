"""Getting into runs as a person does it: `dstack attach`, the machine's own OpenSSH, ports, IDE links, and leaving."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ports import free_port
from support.product import Ended, Product, Started, eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("CI") != "true" and shutil.which("sshd", path=f"/usr/sbin:{os.environ['PATH']}") is None,
    reason="needs the OpenSSH server",
)
WAIT_S = 60.0
FOREIGN = b"# mine\nHost work\n    User me\n"


class Attached:
    """`dstack attach` of one run, which is in."""

    def __init__(self, dstack: Product, run: str, *arguments: str):
        self.dstack, self.run = dstack, run
        self.command: Started = dstack.begin("attach", run, *arguments)
        self.command.wait_for("To connect to the run via SSH", WAIT_S)

    def ssh(self, *words: str, stdin: str = "") -> Ended:
        return _tool("ssh", "-F", str(config(self.dstack)), self.run, *words, stdin=stdin)


def _tool(*words: str, stdin: str = "") -> Ended:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=WAIT_S)
    return Ended(done.returncode, done.stdout, done.stderr)


def config(dstack: Product) -> Path:
    return dstack.folder / ".ssh" / "config"


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def entries(dstack: Product) -> str:
    return (dstack.folder / ".dstack" / "ssh" / "config").read_text()


@pytest.fixture(scope="module")
def web(shared_product: Product) -> Iterator[tuple[Product, int]]:
    """A run that serves its folder at a port, which a person finds at another one."""
    dstack, port = shared_product, free_port()
    config(dstack).parent.mkdir(exist_ok=True)
    config(dstack).write_bytes(FOREIGN)
    file = dstack.task("web", f"python3 -m http.server {port} --bind 127.0.0.1", more=f"ports: ['*:{port}']")
    dstack.cli("apply", "-f", file, "-y", "-d").ok()
    eventually(lambda: listens(port), WAIT_S, lambda: dstack.cli("logs", "web").text)
    yield dstack, port
    dstack.cli("stop", "web", "-x", "-y").ok()


def test_the_name_of_a_run_is_all_that_ssh_needs(web: tuple[Product, int]):
    attached = Attached(web[0], "web")
    assert attached.ssh("echo in $DSTACK_RUN_NAME; echo aside >&2; exit 7") == Ended(7, "in web\n", "aside\n")
    assert attached.ssh("cat", stdin="x" * 100_000).out == "x" * 100_000
    assert "(replica=0 job=0)" in attached.command.out
    attached.command.interrupt()
    left = attached.command.ended()
    assert (left.code, left.err.splitlines()[-1]) == (0, "Detached")
    assert "Host web" not in entries(web[0])
    assert config(web[0]).read_bytes().endswith(FOREIGN)


def test_ports_of_a_run_are_found_on_this_machine_and_files_are_copied(web: tuple[Product, int], tmp_path: Path):
    dstack, remote = web
    local = free_port()
    attached = Attached(dstack, "web", "-p", f"{local}:{remote}")
    assert f"  - localhost:{local} -> {remote}\n" in attached.command.out
    (tmp_path / "up").write_text("carried")
    copied = _tool("scp", "-F", str(config(dstack)), str(tmp_path / "up"), "web:carried.txt")
    assert copied.code == 0, copied.err
    with urllib.request.urlopen(f"http://localhost:{local}/carried.txt", timeout=WAIT_S) as answer:
        assert answer.read() == b"carried"
    attached.command.interrupt()
    attached.command.ended()


def test_a_connection_that_breaks_is_made_again(web: tuple[Product, int]):
    attached = Attached(web[0], "web")
    for pid in tunnels(web[0]):
        with contextlib.suppress(ProcessLookupError):  # that of an attach before, which is just ending
            os.kill(pid, signal.SIGTERM)
    attached.command.wait_for("Connected to the run again", WAIT_S)
    assert attached.ssh("echo back").out == "back\n"
    attached.command.process.send_signal(signal.SIGTERM)
    assert "Detached" in attached.command.ended().err
    eventually(lambda: not tunnels(web[0]), WAIT_S, lambda: f"left behind: {tunnels(web[0])}")


def test_a_second_attach_shares_the_connection_and_takes_it_over(web: tuple[Product, int]):
    first, second = Attached(web[0], "web"), Attached(web[0], "web")
    first.command.interrupt()
    first.command.ended()
    second.command.wait_for("Connected to the run again", WAIT_S)
    assert second.ssh("echo still").out == "still\n"
    second.command.interrupt()
    second.command.ended()
    assert "Host web" not in entries(web[0])


def test_nothing_stays_of_an_attach_that_is_killed(web: tuple[Product, int]):
    attached = Attached(web[0], "web")
    attached.command.process.kill()
    eventually(lambda: not tunnels(web[0]), WAIT_S, lambda: f"left behind: {tunnels(web[0])}")


def test_through_the_server_one_gets_to_the_same_place(web: tuple[Product, int]):
    dstack = web[0]
    attached = Attached(dstack, "web")
    command = dstack.command_line("ssh-stdio", "--project", "main", "web")
    own = ["-F", str(config(dstack)), "-o", "ControlPath=none", "-o", f"ProxyCommand={command}"]
    done = subprocess.run(
        ["ssh", *own, "web", "echo around; exit 4"], env=dstack.env, capture_output=True, text=True, timeout=WAIT_S
    )
    assert (done.returncode, done.stdout) == (4, "around\n"), done.stderr
    attached.command.interrupt()
    attached.command.ended()


def test_strangers_get_nothing_through_the_server(web: tuple[Product, int]):
    refused = web[0].cli("ssh-stdio", "web", env={"DSTACK_TOKEN": "wrong"})
    assert (refused.code, refused.err) == (1, "error: Invalid token\n")
    unknown = web[0].cli("ssh-stdio", "nothing-of-that-name")
    assert unknown.err == "error: Run nothing-of-that-name not found\n"


def test_where_the_persons_configuration_cannot_be_written_the_command_with_its_own_is_told(web: tuple[Product, int]):
    dstack = web[0]
    before = config(dstack).read_bytes()
    config(dstack).unlink()
    config(dstack).mkdir()
    try:
        attached = Attached(dstack, "web")
        generated = dstack.folder / ".dstack" / "ssh" / "config"
        attached.command.wait_for(f"{config(dstack)} cannot be changed", WAIT_S)
        assert f"`ssh -F {generated} web`" in attached.command.out
        assert _tool("ssh", "-F", str(generated), "web", "echo in").out == "in\n"
        attached.command.interrupt()
        attached.command.ended()
    finally:
        config(dstack).rmdir()
        config(dstack).write_bytes(before)


def test_a_dev_environment_prepares_itself_and_is_opened_by_a_link(dstack: Product):
    file = dstack.write(
        "type: dev-environment\nname: dev\nide: cursor\ninactivity_duration: 1h\ninit: ['echo ready > note']\n",
        "dev.dstack.yml",
    )
    dstack.cli("apply", "-f", file, "-y", "-d").ok()
    alone = "running (inactive for"
    eventually(lambda: alone in dstack.cli("ps", "-v").out, WAIT_S, lambda: dstack.cli("ps", "-v").text)
    attached = Attached(dstack, "dev")
    assert attached.ssh("cat note").out == "ready\n"
    folder = attached.ssh("pwd").out.strip()
    assert f"\n  cursor://vscode-remote/ssh-remote+dev{folder}\n" in attached.command.out
    dstack.cli("stop", "dev", "-y").ok()
    assert attached.command.ended(WAIT_S).code == 1
    assert "Host dev" not in entries(dstack)


def test_a_dev_environment_that_nobody_is_in_says_so_in_its_log_before_it_ends(dstack: Product):
    file = dstack.write("type: dev-environment\nname: left\ninactivity_duration: 10s\n", "left.dstack.yml")
    dstack.cli("apply", "-f", file, "-y", "-d").ok()
    dstack.wait_status("left", "terminated")
    assert "\n[dstack] Nobody is connected to the run. It stops in " in dstack.cli("logs", "left").out
    assert "inactivity duration exceeded" in dstack.cli("ps", "-a", "-v").out


def test_who_is_in_stays_in_while_a_run_that_was_stopped_saves_its_work(dstack: Product):
    trap = "trap 'while [ ! -e go ]; do sleep 0.1; done; echo saved; exit 0' INT TERM"
    file = dstack.task("saver", trap, "echo up; while :; do sleep 0.1; done")
    dstack.cli("apply", "-f", file, "-y", "-d").ok()
    attached = Attached(dstack, "saver", "--logs")
    attached.command.wait_for("up\n", WAIT_S)
    dstack.cli("stop", "saver", "-y").ok()
    dstack.wait_status("saver", "terminating")
    assert attached.ssh("touch go; echo in").out == "in\n"
    left = attached.command.ended(WAIT_S)
    assert "saved\n" in left.out and "lost" not in left.err
    assert "Host saver" not in entries(dstack)


def test_with_its_log_an_attach_ends_as_the_run_does(dstack: Product):
    file = dstack.task("brief", "echo first", "while [ ! -e go ]; do sleep 0.1; done", "exit 5")
    dstack.cli("apply", "-f", file, "-y", "-d").ok()
    attached = Attached(dstack, "brief", "--logs")
    attached.command.wait_for("first", WAIT_S)
    assert attached.ssh("touch go").code == 0
    assert attached.command.ended(WAIT_S).code == 5
    over = dstack.cli("attach", "brief")
    assert (over.code, over.err.splitlines()[0]) == (1, "error: Run brief is finished (exited (5))")


def tunnels(dstack: Product) -> list[int]:
    """The `ssh` processes that hold a shared connection, not their watching shells."""
    known = dstack.processes().items()
    return [pid for pid, line in known if line.startswith("ssh ") and "ControlMaster=yes" in line]
