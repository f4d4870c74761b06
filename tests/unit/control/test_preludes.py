"""What runs before a person's commands, in a real shell with stand-ins for the image's programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dstack.control.run.preludes import DOCKERD
from dstack.control.run.preludes import python as python_prelude
from dstack.control.run.submission import script


def run(folder: Path, text: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    # The shell's own programs, and those of the folder before them.
    env = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run([shell, "-c", text], env=env, capture_output=True, text=True, timeout=60)


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def in_folder(prelude: str, folder: Path) -> str:
    return prelude.replace("/var/log", str(folder)).replace("/dstack/venv", f"{folder}/venv")


def test_an_engine_is_started_and_awaited_before_the_commands(tmp_path: Path):
    program(tmp_path, "docker", f"test -e {tmp_path}/up")
    program(tmp_path, "dockerd", f"echo starting; touch {tmp_path}/up")
    ended = run(tmp_path, in_folder(script((DOCKERD, "test -e $HOME/up", "echo ready")) or "", tmp_path))
    assert (ended.returncode, ended.stdout) == (0, "ready\n"), ended.stderr
    assert (tmp_path / "dockerd.log").read_text() == "starting\n"


def test_an_image_without_an_engine_ends_the_job_and_says_so(tmp_path: Path):
    # Nothing but `[` is on PATH: the image has no engine, whatever this machine has.
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    text = in_folder(script((DOCKERD, "echo never")) or "", tmp_path)
    ended = subprocess.run(["/bin/sh", "-c", text], env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "the image has no dockerd" in ended.stderr and "never" not in ended.stdout


def test_the_chosen_python_is_made_by_uv_once_and_activated(tmp_path: Path):
    make = 'echo "$@" >> $HOME/asked; mkdir -p $HOME/venv/bin; echo "export MADE=yes" > $HOME/venv/bin/activate'
    program(
        tmp_path,
        "uv",
        make + '; printf "#!/bin/sh\\necho 3.12" > $HOME/venv/bin/python; chmod +x $HOME/venv/bin/python',
    )
    text = in_folder(python_prelude("3.12"), tmp_path) + "\necho made=$MADE"
    for _ in range(2):
        ended = run(tmp_path, text)
        assert (ended.returncode, ended.stdout) == (0, "made=yes\n"), ended.stderr
    assert (tmp_path / "asked").read_text().count("--python 3.12") == 1
