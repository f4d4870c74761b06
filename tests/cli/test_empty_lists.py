"""A list of nothing says that it is empty, beside the data, and what makes a first one."""

import pytest

from support.cli_process import Cli
from support.wire_server import WireServer

LISTS = {
    "ps": ("/api/runs/list", "The project has no runs yet. `dstack apply -f FILE` submits one."),
    "volume": ("volumes/list", "The project has no volumes."),
    "gateway": ("gateways/list", "The project has no gateways."),
    "secret": ("secrets/list", "The project has no secrets. `dstack secret set NAME` makes one."),
    "server orphans": ("/api/server/orphans/list", "No machine is without an instance."),
}


@pytest.mark.parametrize("command", LISTS)
def test_an_empty_list_says_so_on_stderr(cli: Cli, server: WireServer, command: str):
    path, words = LISTS[command]
    server.on(path, [])
    result = cli.run(*command.split())
    assert (result.code, len(result.out.splitlines())) == (0, 1)
    assert words in result.err


@pytest.mark.parametrize("command", [each for each in LISTS if each != "secret"])
def test_as_json_an_empty_list_is_nothing_but_json(cli: Cli, server: WireServer, command: str):
    server.on(LISTS[command][0], [])
    result = cli.run(*command.split(), "--json")
    assert result.err == ""
    assert "[]" in result.out
