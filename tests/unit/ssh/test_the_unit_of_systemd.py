"""What systemd itself says of the agent's unit; no systemd need run for that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dstack.ssh.remote import service

COMMAND = f"{sys.executable} -IS /opt/dstack/agent.pyz serve --socket /run/dstack/agent.sock"


def verified(folder: Path, unit: str) -> str:
    """What is wrong with the unit; "" when nothing is."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have systemd-analyze (package systemd)")
        pytest.skip("needs systemd-analyze (package systemd)")
    path = folder / service.UNIT_NAME
    path.write_text(unit)
    command = ["systemd-analyze", "verify", "--man=no", path]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stderr


def test_systemd_understands_every_line_of_the_agents_unit(tmp_path: Path) -> None:
    assert verified(tmp_path, service.UNIT_TEXT % (COMMAND, service.PATH)) == ""


@pytest.mark.parametrize("line", ["KillMode=process", "Restart=always", "RuntimeDirectoryPreserve=yes"])
def test_each_line_that_keeps_jobs_alive_is_there_and_a_misspelt_one_would_be_noticed(
    tmp_path: Path, line: str
) -> None:
    unit = service.UNIT_TEXT % (COMMAND, service.PATH)
    assert line in unit.splitlines()
    assert "Failed to parse" in verified(tmp_path, unit.replace(line, f"{line}x"))
