"""What the script of a job has before its own commands, so that its IDE finds a server."""

from __future__ import annotations

from pathlib import Path

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


def test_a_job_of_an_earlier_release_whose_ide_is_not_served_any_more_starts_without_a_server_put_in():
    assert COMMIT in (script_with("cursor") or "")
    assert script_with("windsurf") == "true"
