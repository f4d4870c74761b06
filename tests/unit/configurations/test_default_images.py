"""Which image a job without one gets, and where a person must name one."""

from __future__ import annotations

import pytest

from dstack.control.run.submission import job_spec
from dstack.model.configurations.images import image_missing
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.images import Images
from dstack.model.run import RunSpec

IMAGES = Images("base", "devel", "dind")


def task(**fields) -> TaskConfiguration:
    return TaskConfiguration.model_validate({"commands": ["true"], **fields})


@pytest.mark.parametrize(
    ("fields", "image"),
    [({}, "base"), ({"nvcc": True}, "devel"), ({"docker": True}, "dind"), ({"image": "mine"}, "mine")],
)
def test_the_servers_images_are_for_those_who_wrote_none(fields: dict, image: str):
    assert IMAGES.of(job_spec(RunSpec(configuration=task(**fields)), "t")) == image


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resources": {"cpu": "arm:8"}}, ["image: must be set when ARM CPU requested"]),
        ({"resources": {"cpu": "arm:8"}, "docker": True}, ["docker: is not supported on ARM CPU"]),
        ({"resources": {"gpu": "amd:1"}}, ["image: must be set when the requested accelerator"]),
        ({"resources": {"gpu": "MI300X"}}, ["image: must be set when the requested accelerator"]),
        ({"resources": {"gpu": "MI300X"}, "image": "rocm"}, []),
        ({"resources": {"gpu": "H100", "cpu": "x86:8"}}, []),
        ({"resources": {"gpu": "amd:0"}}, []),
    ],
)
def test_what_the_servers_images_do_not_serve_needs_one_that_is_named(fields: dict, said: list[str]):
    found = image_missing(task(**fields))
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True)), found
