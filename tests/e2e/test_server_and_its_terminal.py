"""What the server does with the terminal and the options that a person gives it."""

import os
import pty
import signal
import subprocess

import pytest

from support.product import START_S, STOP_S, Product, _command, eventually

OTHER = "projects:\n- name: main\n  url: http://127.0.0.1:1\n  token: t\n  default: true\n"


def test_server_that_asks_at_its_first_start_can_be_stopped(product: Product):
    config = product.folder / ".dstack" / "config.yml"
    config.parent.mkdir()
    config.write_text(OTHER)
    ours, terminal = pty.openpty()
    command = _command(["server", "--port", str(product.port)])
    server = subprocess.Popen(
        command, cwd=product.folder, env=product.env, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    said: list[str] = []
    try:
        eventually(lambda: "[y/n]" in _read(ours, said), START_S, lambda: "".join(said))
        server.send_signal(signal.SIGTERM)
        assert server.wait(STOP_S) == 0
    finally:
        server.kill()
        os.close(ours)
    assert config.read_text() == OTHER


def test_server_whose_output_nobody_reads_runs(product: Product):
    reading, writing = os.pipe()
    command = _command(["server", "--port", str(product.port), "-n"])
    env = {**product.env, "DSTACK_SERVER_ADMIN_TOKEN": "a-token"}
    os.close(reading)
    server = subprocess.Popen(command, cwd=product.folder, env=env, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    try:
        project = ["project", "add", "--name", "main", "--url", product.url, "--token", "a-token", "-y"]
        eventually(lambda: product.cli(*project).code == 0, START_S, lambda: "the server does not answer")
        assert server.poll() is None
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "expected a number from 1 to 65535"),
        (["--host", "192.0.2.1"], "--host is an address of this machine"),
    ],
)
def test_address_that_cannot_be_listened_on_is_told_with_what_to_do(product: Product, options, words):
    argv = [_command(())[0], "-m", "dstack.server", *options]
    done = subprocess.run(argv, cwd=product.folder, env=product.env, capture_output=True, text=True, timeout=START_S)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def _read(terminal: int, into: list[str]) -> str:
    into.append(os.read(terminal, 4096).decode(errors="replace"))
    return "".join(into)
