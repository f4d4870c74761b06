"""The image that jobs get without one: read as Docker reads it, for nobody can pull its parts here to build it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "docker" / "base" / "Dockerfile"
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENV", "FROM", "RUN", "WORKDIR"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments; lines that go on are joined, comments are gone."""
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, arguments) for name, _, arguments in (line.partition(" ") for line in lines)]


def of(name: str) -> list[str]:
    return [arguments for found, arguments in instructions() if found == name]


def test_every_line_is_an_instruction_that_docker_knows():
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert instructions()[0][0] == "ARG" or instructions()[0][0] == "FROM"


@pytest.mark.parametrize("command", of("RUN"))
def test_a_command_is_one_that_a_shell_can_read(command: str):
    read = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, timeout=30)
    assert read.returncode == 0, read.stderr
    assert not re.search(r"apt-get install(?!.*--no-install-recommends)", command)
    assert "apt-get install" not in command or "rm -rf /var/lib/apt/lists/*" in command


def test_stages_that_are_copied_from_are_there_and_variables_are_declared():
    text = FILE.read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE)
    copied = re.findall(r"^COPY --from=(\S+)", text, re.MULTILINE)
    assert set(copied) <= set(stages) and set(stages) >= {"base", "devel"}
    assert of("FROM")[-1] == "base", "a build without --target makes the base image"
    declared = {argument.partition("=")[0] for argument in of("ARG")}
    assert set(re.findall(r"\$\{([A-Z]+)\}", " ".join(of("FROM")))) <= declared


def test_it_has_what_jobs_count_on():
    runs, variables = (
        " ".join(of("RUN")),
        dict(part.split("=", 1) for arguments in of("ENV") for part in shlex.split(arguments)),
    )
    for package in ("git", "curl", "openmpi-bin", "libnccl2", "openssh-client", "rsync", "tmux"):
        assert re.search(rf"\s{package}\s", runs), package
    assert "openssh-server" not in runs
    assert "uv venv --seed" in runs and "/dstack/venv" in runs
    assert variables["DSTACK_VENV_DIR"] == "/dstack/venv"
    assert any(part == "/uv" for arguments in of("COPY") for part in arguments.split())
    assert of("WORKDIR") == ["/dstack/run"]
