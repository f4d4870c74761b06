"""Completion in shells: commands, options, and names that the server knows."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Hang, WireServer


def words(cli: Cli, *typed: str) -> list[str]:
    """What the shell is offered for the last word of a line."""
    line = ["dstack", *typed]
    env = {"_DSTACK_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(typed))}
    return [item.partition(",")[2] for item in cli.run(env=env).out.splitlines() if item]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_for_each_shell(bare: Cli, shell: str):
    result = bare.run("completion", shell)
    assert result.code == 0
    assert f"_DSTACK_COMPLETE={shell}_complete" in result.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_reads_its_script(bare: Cli):
    script = bare.run("completion", "bash").out
    read = subprocess.run(["bash", "--norc"], input=script, capture_output=True, text=True, timeout=60)
    assert (read.returncode, read.stderr) == (0, "")


def test_an_unknown_shell_is_a_usage_error(bare: Cli):
    assert bare.run("completion", "tcsh").code == 2


def test_commands_and_options_are_completed(cli: Cli):
    assert words(cli, "fl") == ["fleet"]
    assert words(cli, "fleet", "del") == ["delete", "delete-instance"]
    assert words(cli, "ps", "--wa") == ["--watch"]


def test_names_of_runs_and_fleets_are_completed(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("running", "train"), wire.run("done", "test")])
    server.on("fleets/list", [wire.fleet("f1")])
    assert words(cli, "logs", "tr") == ["train"]
    assert words(cli, "offer", "--fleet", "") == ["f1"]


def test_a_server_that_does_not_answer_completes_nothing(cli: Cli, server: WireServer):
    server.on("/api/runs/list", Hang())
    assert words(cli, "logs", "") == []


def test_the_help_of_a_type_lists_its_properties(bare: Cli):
    result = bare.run("apply", "-h", "task")
    assert result.code == 0
    rows = [line.split() for line in result.out.splitlines()]
    assert ["type", "task", "(required)"] in [row[:3] for row in rows]
    assert any(row and row[0] == "resources.gpu" for row in rows)


def test_the_help_of_an_unknown_type_names_those_that_there_are(bare: Cli):
    result = bare.run("apply", "--help", "tsk")
    assert result.code == 2
    assert "dev-environment, task, service, fleet" in result.err
