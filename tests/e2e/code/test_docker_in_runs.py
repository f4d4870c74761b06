"""`docker: true`: a real dockerd inside of the job."""

from __future__ import annotations

import pytest

from support.docker_inside import import_docker_inside, privileged_refused
from support.product import Product, product_in_temporary_folder

pytestmark = pytest.mark.docker


def test_a_job_builds_an_image_and_runs_it_with_an_engine_of_its_own(docker_engine: str):
    """Where the machine's engine may not run privileged containers, the job ends with the engine's own words."""
    image = import_docker_inside(docker_engine)
    env = {"DSTACK_SERVER_LOCAL_RUNTIME": "docker", "DOCKER_HOST": docker_engine}
    with product_in_temporary_folder(**env, DSTACK_SERVER_DOCKER_IMAGE=image) as product:
        product.start()
        product.fleet()
        made = "tar c /bin/busybox /bin/sh /bin/echo | docker import - tiny"
        seen = ("docker images --format '{{.Repository}}'", "docker run --rm --network none tiny echo from inside")
        file = product.task("inside", made, *seen, more="docker: true")
        ended = product.cli("apply", "-y", "-f", file, deadline_s=180)
        product.cli("fleet", "delete", "here", "-y")
    refusal = privileged_refused(docker_engine)
    if refusal is None:
        assert ended.code == 0, ended.text
        assert "\ntiny\nfrom inside\n" in ended.out
    else:
        assert ended.code == 1, ended.text
        assert refusal in ended.text


def test_an_engine_inside_is_refused_by_name_where_jobs_are_processes(dstack: Product):
    file = dstack.task("nowhere", "docker ps", more="docker: true")
    refused = dstack.cli("apply", "-y", "-f", file)
    assert refused.code == 1
    assert "docker: needs a container engine" in refused.err
