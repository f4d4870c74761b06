"""Where secrets are put into a task: env and registry credentials, nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.model.instance import InstanceStatus
from dstack.model.job import Job
from dstack.server.effects.spec import secret_names, task_spec
from dstack.server.settings import Settings
from support import builders


def job_with(**fields: object) -> Job:
    job = builders.job()
    return job.model_copy(update={"spec": job.spec.model_copy(update=fields)})


def task(job: Job, **secrets: str):
    instance = builders.instance(status=InstanceStatus.BUSY)
    return task_spec(job, instance, secrets, {}, Settings(Path("/nowhere")))


def test_secrets_are_named_in_env_and_registry_credentials_once_each() -> None:
    env = {"A": "${{ secrets.one }} and ${{ secrets.two }}", "B": "${{ secrets.one }}", "C": "$HOME"}
    job = job_with(env=env, registry_username="me", registry_password="${{ secrets.three }}")
    assert secret_names(job) == {"one", "two", "three"}


def test_a_secret_stands_in_the_middle_of_a_value_and_an_escape_stays() -> None:
    env = {"A": "a-${{ secrets.s }}-z", "B": "$${{ secrets.s }}"}
    filled = task(job_with(env=env), s="hush").env
    assert (filled["A"], filled["B"]) == ("a-hush-z", "${{ secrets.s }}")


def test_a_value_that_looks_like_a_reference_is_not_filled_again() -> None:
    filled = task(job_with(env={"A": "${{ secrets.s }}"}), s="${{ secrets.other }}", other="no").env
    assert filled["A"] == "${{ secrets.other }}"


def test_what_commands_escape_is_there_without_the_escape() -> None:
    assert task(job_with(script="echo '$${{ matrix.os }}' $$ $${x}")).script == "echo '${{ matrix.os }}' $$ $${x}"


def test_the_script_is_left_as_it_is() -> None:
    script = "echo '${{ secrets.s }}'"
    assert task(job_with(script=script), s="hush").script == script


def test_a_missing_secret_is_named_without_the_others() -> None:
    with pytest.raises(ValueError, match=r"secrets\.absent") as caught:
        task(job_with(env={"A": "${{ secrets.s }}${{ secrets.absent }}"}), s="hush")
    assert "hush" not in str(caught.value)
