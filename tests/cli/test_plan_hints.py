"""What `plan` remarks about the files beside a configuration, and about types that are not executed yet."""

from __future__ import annotations

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import WireServer


def test_a_local_file_that_a_command_names_and_nothing_uploads_is_told(cli: Cli, server: WireServer):
    cli.write("train.py", "")
    cli.write("t.dstack.yml", "type: task\ncommands: [python train.py, python other.py]\n")
    server.on("runs/get_plan", wire.run_plan())
    result = cli.run("plan", "-f", "t.dstack.yml")
    assert result.code == 0
    assert "nothing uploads the local file `train.py`" in result.err
    assert "other.py" not in result.err


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_type_that_is_not_executed_yet_is_refused_by_name_at_its_place(cli: Cli, command: str):
    cli.write("s.dstack.yml", "name: s\ntype: service\nport: 80\ncommands: [a]\n")
    result = cli.run(command, "-f", "s.dstack.yml")
    assert result.code == 1
    expected = (
        "s.dstack.yml:2:7: type: service is not supported yet by this server; supported: task, dev-environment, fleet"
    )
    assert expected in result.err


def test_what_is_wrong_with_it_is_said_first(cli: Cli):
    cli.write("s.dstack.yml", "type: service\nport: 80\ncommand: [a]\n")
    result = cli.run("apply", "-f", "s.dstack.yml")
    assert "s.dstack.yml:3:1: command: unknown key" in result.err
    assert "not supported yet" not in result.err
