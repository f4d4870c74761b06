"""The version of this machine's IDE, which the command line finds out for dev environments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dstack.cli.editor_version import installed
from support import wire_json as wire
from support.cli_process import Cli
from support.ide_hosts import COMMIT
from support.wire_server import WireServer

TELLS = f"printf '1.95.3\\n{COMMIT}\\nx64\\n'"
NOTE = "tells nothing here, so the server of"


def program(folder: Path, name: str, text: str) -> str:
    """A PATH that has the program before those of this machine."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def planned(cli: Cli, server: WireServer, path: str, **fields: str) -> tuple[Any, str]:
    """The version that was sent, and what was said."""
    server.on("runs/get_plan", wire.run_plan())
    lines = "".join(f"{name}: {value}\n" for name, value in fields.items())
    cli.write("dev.dstack.yml", f"type: dev-environment\nname: dev\n{lines}")
    said = cli.run("plan", "-f", "dev.dstack.yml", env={"PATH": path})
    (body,) = server.bodies("runs/get_plan")
    return body["run_spec"]["configuration"].get("version"), said.err


@pytest.mark.parametrize(("ide", "command"), [("vscode", "code"), ("cursor", "cursor")])
def test_the_version_of_the_ide_on_this_machine_is_sent(cli: Cli, server: WireServer, ide: str, command: str):
    version, said = planned(cli, server, program(cli.home / "bin", command, TELLS), ide=ide)
    assert version == f"1.95.3@{COMMIT}"
    assert NOTE not in said


def test_a_version_in_the_file_is_sent_as_it_is_and_nothing_is_asked(cli: Cli, server: WireServer):
    path = program(cli.home / "bin", "code", f"touch {cli.home}/asked")
    assert planned(cli, server, path, ide="vscode", version="1.90.0")[0] == "1.90.0"
    assert not (cli.home / "asked").exists()


@pytest.mark.parametrize("text", ["exit 1", "echo 'Try --no-sandbox'", "echo 1.95.3"])
def test_an_ide_that_tells_nothing_is_noted_and_the_plan_goes_on(cli: Cli, server: WireServer, text: str):
    version, said = planned(cli, server, program(cli.home / "bin", "code", text), ide="vscode")
    assert version is None
    assert f"note: `code --version` {NOTE} VS Code is fetched when it connects" in said


@pytest.mark.parametrize("fields", [{}, {"ide": "zed"}, {"ide": "windsurf"}])
def test_where_nothing_can_be_found_out_nothing_is_said(cli: Cli, server: WireServer, fields: dict[str, str]):
    assert planned(cli, server, os.environ["PATH"], **fields) == (None, "")


def test_an_ide_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", program(tmp_path / "bin", "code", "sleep 600 & sleep 600"))
    assert installed("code", answer_s=0.2) is None
