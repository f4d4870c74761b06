"""`dstack schema`: for editors, without a server."""

from __future__ import annotations

import json

from support.cli_process import Cli


def test_the_schema_of_a_type_is_one_json_document(bare: Cli):
    result = bare.run("schema", "fleet")
    assert (result.code, result.err) == (0, "")
    assert "ssh_config" in json.loads(result.out)["properties"]


def test_without_a_type_it_is_the_schema_of_any_file(bare: Cli):
    assert json.loads(bare.run("schema").out)["properties"]["type"]["enum"] == [
        "dev-environment", "task", "service", "fleet", "volume", "gateway",
    ]  # fmt: skip


def test_an_unknown_type_is_answered_with_the_nearest(bare: Cli):
    result = bare.run("schema", "fleets")
    assert result.code == 2
    assert "did you mean `fleet`?" in result.err
