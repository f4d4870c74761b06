"""Which image a container is made of when nobody wrote one."""

from __future__ import annotations

from typing import NamedTuple

from dstack.model.job import JobSpec

BASE_IMAGE = "dstackai/base:0.16-base-ubuntu24.04"
DEVEL_IMAGE = "dstackai/base:0.16-devel-ubuntu24.04"
DOCKER_IMAGE = "docker:28-dind"


class Images(NamedTuple):
    """The server's choice: for everything, for those who compile CUDA, for those who run Docker themselves."""

    default: str = BASE_IMAGE
    nvcc: str = DEVEL_IMAGE
    docker: str = DOCKER_IMAGE

    def of(self, spec: JobSpec) -> str:
        return spec.image or (self.docker if spec.docker else self.nvcc if spec.nvcc else self.default)
