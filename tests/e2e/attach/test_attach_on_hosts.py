"""Getting into runs on hosts of one's own: through the host to the run and nowhere else, around it, by a login node."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from e2e.ssh_fleets.conftest import Lab, lab
from support.docker_engine import BUSYBOX_IMAGE
from support.hosts_one import SUDOER
from support.ports import free_port
from support.product import Ended, Started, eventually

__all__ = ["lab"]
pytestmark = [pytest.mark.root, pytest.mark.docker]
WAIT_S = 90.0
# It goes into the background when it listens.
SERVE = "mkdir -p /www && echo inside > /www/index.html && httpd -p 8000 -h /www && echo serves && sleep 1000"


@pytest.fixture(scope="module")
def web(lab: Lab) -> Iterator[Lab]:
    """A run in an image that has busybox alone, on `host-a`."""
    lab.apply("open", ["host-a"]).ok()
    start(lab, "web", "host-a")
    yield lab


def start(lab: Lab, name: str, on: str) -> None:
    more = f"image: {BUSYBOX_IMAGE}\nports: ['*:8000']\ninstances:\n  - hostname: {lab.hosts[on].address}"
    lab.product.cli("apply", "-y", "-d", "-f", lab.product.task(name, SERVE, more=more)).ok()
    eventually(lambda: "serves" in lab.product.cli("logs", name).out, WAIT_S, lambda: lab.product.cli("ps").text)


def attached(lab: Lab, run: str, *arguments: str) -> Started:
    command = lab.product.begin("attach", run, *arguments)
    command.wait_for("To connect to the run via SSH", WAIT_S)
    return command


def ssh(lab: Lab, name: str, *words: str) -> Ended:
    command = ["ssh", "-F", str(lab.product.folder / ".ssh" / "config"), name, *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S)
    return Ended(done.returncode, done.stdout, done.stderr)


def leave(command: Started) -> None:
    command.interrupt()
    assert command.ended(WAIT_S).code == 0


def test_one_gets_into_the_container_and_to_its_ports_and_to_no_shell_of_the_host(web: Lab):
    local = free_port()
    command = attached(web, "web", "-p", f"{local}:8000")
    inside = ssh(web, "web", "cat /www/index.html; hostname; exit 7")
    assert (inside.code, inside.out.splitlines()[0]) == (7, "inside")
    with urllib.request.urlopen(f"http://localhost:{local}/", timeout=WAIT_S) as answer:
        assert answer.read() == b"inside\n"
    refused = ssh(web, "web-host", "id")
    assert refused.code == 1 and "not a shell" in refused.out
    leave(command)


def test_where_there_is_no_route_to_the_host_the_way_goes_through_the_server(web: Lab):
    host = web.hosts["host-a"]
    listener = host.path("/run/sshd.pid")
    host.run("kill", "-KILL", listener.read_text().strip())  # the connection that the server has stays
    try:
        command = attached(web, "web")
        command.wait_for("The connection goes through the server: there is no route to it from here", WAIT_S)
        assert ssh(web, "web", "cat /www/index.html; exit 3") == Ended(3, "inside\n", "")
        leave(command)
    finally:
        listener.unlink(missing_ok=True)
        host.start_sshd()


def test_a_login_node_is_passed_with_the_key_of_the_persons_own_configuration(lab: Lab):
    login, hidden = lab.hosts["login"].address, lab.hosts["host-b"]
    own = lab.product.folder / ".ssh" / "config"
    own.parent.mkdir(exist_ok=True)
    key = f"Host {login}\n    IdentityFile {lab.hosts.key}\n    StrictHostKeyChecking no\n"
    own.write_text(key + "    UserKnownHostsFile /dev/null\n" + (own.read_text() if own.exists() else ""))
    jump = {"hostname": login, "user": SUDOER, "identity_file": str(lab.hosts.key)}
    unreachable = ("blackhole", f"{lab.hosts.subnet}.1/32")
    hidden.run("ip", "route", "add", *unreachable)
    try:
        lab.apply("inner", [{"hostname": hidden.address, "proxy_jump": jump}]).ok()
        start(lab, "deep", "host-b")
        command = attached(lab, "deep")
        assert "through the server" not in command.err
        assert ssh(lab, "deep", "cat /www/index.html; exit 5") == Ended(5, "inside\n", "")
        leave(command)
        lab.product.cli("stop", "deep", "-x", "-y").ok()
        lab.product.wait_status("deep", "terminated", deadline_s=WAIT_S)
        lab.product.cli("fleet", "delete", "inner", "-y", deadline_s=WAIT_S).ok()
    finally:
        hidden.run("ip", "route", "del", *unreachable)
