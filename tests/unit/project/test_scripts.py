"""Scripts run as they are typed, whatever Python is the first one of the system."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.product import ROOT

SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_takes_the_projects_python_before_it_imports_what_only_that_has(script: Path):
    imported = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported]
    before = {str(name).split(".")[0] for name in names[: names.index("own_python")]}

    assert before <= sys.stdlib_module_names


def test_script_runs_with_the_packages_of_the_project(tmp_path: Path):
    bare = getattr(sys, "_base_executable")  # noqa: B009  the one that the environment was made of: without its packages
    (tmp_path / "python3").symlink_to(bare)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "scripts" / "sim", "--help"], env=env, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", "sim"]), done.stderr
