"""Getting into containers of this machine: empty images, other users, ports, broken files of one's own."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.docker_engine import BUSYBOX_IMAGE
from support.ports import free_port
from support.product import Ended, Product, Started, eventually

pytestmark = [pytest.mark.docker, pytest.mark.root]
WAIT_S = 60.0
SERVE = "mkdir -p /tmp/www && echo inside > /tmp/www/index.html && httpd -p 127.0.0.1:8000 -h /tmp/www && "
SERVE += "echo serves && sleep 1000"  # it goes into the background when it listens
BROKEN = b"\x00\xff broken\nlocalhost ssh-ed25519 AAAA\n@cert-authority\n"


@pytest.fixture(scope="module")
def boxed(docker_product: Product) -> Iterator[Product]:
    """A run in an image that has busybox alone, as a user whom the image does not know."""
    more = f"image: {BUSYBOX_IMAGE}\nuser: '1234'\nports: ['*:8000', '*:8001']"
    docker_product.cli("apply", "-y", "-d", "-f", docker_product.task("boxed", SERVE, more=more)).ok()
    logs = ("logs", "boxed")
    eventually(lambda: "serves" in docker_product.cli(*logs).out, WAIT_S, lambda: docker_product.cli(*logs).text)
    yield docker_product
    docker_product.cli("stop", "boxed", "-x", "-y").ok()


def attached(product: Product, *arguments: str) -> Started:
    command = product.begin("attach", "boxed", *arguments)
    command.wait_for("To connect to the run via SSH", WAIT_S)
    return command


def tool(product: Product, *words: str) -> Ended:
    config = ("-F", str(product.folder / ".ssh" / "config"))
    argv = [words[0], *config, *words[1:]]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S)
    return Ended(done.returncode, done.stdout, done.stderr)


def leave(command: Started) -> None:
    command.interrupt()
    assert command.ended(WAIT_S).code == 0


def page(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=WAIT_S) as answer:
            return answer.read()
    except (OSError, urllib.error.URLError):
        return b""


def test_an_image_without_anything_is_entered_as_its_user_and_its_ports_are_here(boxed: Product, tmp_path: Path):
    served, silent = free_port(), free_port()
    command = attached(boxed, "-p", f"{served}:8000", "-p", f"{silent}:8001")
    assert tool(boxed, "ssh", "boxed", "id -u; echo $DSTACK_RUN_NAME; exit 7") == Ended(7, "1234\nboxed\n", "")
    assert page(silent) == b""  # nobody listens there, and nothing else suffers by it
    assert page(served) == b"inside\n"
    (tmp_path / "up").write_text("carried\n")
    copied = tool(boxed, "scp", str(tmp_path / "up"), "boxed:/tmp/up")
    assert copied.code == 0, copied.err
    assert tool(boxed, "ssh", "boxed", "cat /tmp/up; stat -c %u /tmp/up").out == "carried\n1234\n"
    leave(command)


def test_files_of_known_hosts_that_make_no_sense_are_in_nobodys_way_and_stay(boxed: Product):
    own = boxed.folder / ".ssh" / "known_hosts"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(BROKEN)
    command = attached(boxed)
    assert tool(boxed, "ssh", "boxed", "echo in").out == "in\n"
    leave(command)
    assert own.read_bytes() == BROKEN
