"""A command line with a home of its own, and a server that answers what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_process import Cli
from support.wire_server import WireServer

TASK = "type: task\nname: t1\ncommands:\n  - echo hi\n"
FLEET = "type: fleet\nname: f1\nnodes: 0..2\n"


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path, server: WireServer) -> Cli:
    """Configured by the environment; the file `task.dstack.yml` is there."""
    cli = Cli(tmp_path, {"DSTACK_SERVER_URL": server.url, "DSTACK_TOKEN": "a-token", "DSTACK_PROJECT": "main"})
    cli.write("task.dstack.yml", TASK)
    cli.write("fleet.dstack.yml", FLEET)
    return cli


@pytest.fixture
def bare(tmp_path: Path) -> Cli:
    """Configured by nothing."""
    return Cli(tmp_path)
