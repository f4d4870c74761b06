"""Scripts run as they are typed, whatever Python is the first one of the system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.product import ROOT

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs_with_the_packages_of_the_project(name: str, tmp_path: Path):
    bare = getattr(sys, "_base_executable")  # noqa: B009  the one that the environment was made of: without its packages
    (tmp_path / "python3").symlink_to(bare)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "scripts" / name, "--help"], env=env, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", name]), done.stderr
