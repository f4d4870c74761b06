"""A server that is started where nothing can be written any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.small_disk import small_disk


@pytest.mark.root
def test_a_full_disk_at_the_first_start_is_told_without_a_traceback(tmp_path: Path):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        folder = disk.folder / "server"
        folder.mkdir()
        disk.fill()
        env = {**os.environ, "DSTACK_SERVER_DIR": str(folder), "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "dstack.server", "-n", "--port", "1"]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: The server's state cannot be written: No space left on device\nhint: ")
