"""Help, versions, wrong commands and wrong options."""

from __future__ import annotations

import pytest

from dstack import __version__
from dstack.cli.registry import COMMANDS
from support.cli_process import Cli


def test_without_a_command_the_help_is_shown_and_nothing_failed(bare: Cli):
    result = bare.run()
    assert result.code == 0
    assert "Usage: dstack" in result.out


def test_the_help_names_every_command(bare: Cli):
    out = bare.run("--help").out
    assert all(f"  {entry.name} " in out for entry in COMMANDS)


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_printed(bare: Cli, flag: str):
    assert bare.run(flag).out == f"{__version__}\n"


@pytest.mark.parametrize("command", [entry.name for entry in COMMANDS])
def test_each_command_has_help_with_an_example(bare: Cli, command: str):
    result = bare.run(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Example: dstack {command}" in result.out


def test_an_unknown_command_is_a_usage_error_with_the_nearest_name(bare: Cli):
    result = bare.run("aply")
    assert result.code == 2
    assert "did you mean `dstack apply`?" in result.err


def test_the_old_pools_are_explained_as_fleets(bare: Cli):
    result = bare.run("pool", "add")
    assert result.code == 2
    assert "pools are fleets now" in result.err


@pytest.mark.parametrize("line", ["run . -f serve.dstack.yml", "run -f serve.dstack.yml", "run . serve.dstack.yml"])
def test_the_old_run_command_prints_the_apply_to_use(bare: Cli, line: str):
    result = bare.run(*line.split())
    assert result.code == 2
    assert "dstack apply -f serve.dstack.yml" in result.err


def test_an_unknown_subcommand_names_the_known_ones(bare: Cli):
    result = bare.run("fleet", "delet")
    assert result.code == 2
    assert "did you mean `dstack fleet delete`?" in result.err


def test_an_unknown_option_is_a_usage_error(bare: Cli):
    result = bare.run("ps", "--foo")
    assert result.code == 2
    assert "--foo" in result.err
    assert result.out == ""


def test_options_that_contradict_each_other_are_a_usage_error(cli: Cli):
    result = cli.run("apply", "-f", "task.dstack.yml", "--reuse", "--dont-destroy")
    assert result.code == 2
    assert "exclude each other" in result.err


def test_an_option_without_its_value_leads_to_the_help_of_its_command(bare: Cli):
    result = bare.run("apply", "-f")
    assert result.code == 2
    assert "hint: `dstack apply --help` shows all options" in result.err
