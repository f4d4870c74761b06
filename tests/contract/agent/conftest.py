"""One agent for each test, on each runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dstack.agent.bundle import build
from support.docker_engine import docker_engine
from support.live_agent import LiveAgent

__all__ = ["docker_engine"]


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("zipapp"))


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def docker_host(request: pytest.FixtureRequest, runtime: str) -> str:
    return request.getfixturevalue("docker_engine") if runtime == "docker" else ""


@pytest.fixture
async def agent(tmp_path: Path, zipapp: Path, runtime: str, docker_host: str) -> AsyncIterator[LiveAgent]:
    live = LiveAgent(zipapp, tmp_path / "state", runtime, docker_host)
    await live.start()
    try:
        yield live
    finally:
        await live.clean_up()
