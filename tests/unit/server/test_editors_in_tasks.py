"""What the script of a job has before its own commands, so that its IDE finds a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.model.job import JobIde
from dstack.server.effects.spec import task_spec
from dstack.server.settings import Settings
from support.builders import instance, job

COMMIT = "a" * 40


def script_with(ide: str) -> str | None:
    i = instance()
    j = job(on=i)
    spec = j.spec.model_copy(update={"ide": JobIde(name=ide, number="1.3.11", commit=COMMIT), "script": "true"})
    return task_spec(j.model_copy(update={"spec": spec}), i, {}, {}, Settings(Path("/nowhere"))).script


@pytest.mark.parametrize("ide", ["vscode", "cursor", "windsurf", "zed"])
def test_a_job_with_an_ide_that_any_release_knew_has_its_server_put_in_before_its_own_commands(ide: str):
    script = script_with(ide) or ""
    assert COMMIT in script and script.endswith("\ntrue")
