"""One agent for each test, with its runtime chosen by the test's module."""

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


@pytest.fixture
async def process_agent(tmp_path: Path, zipapp: Path) -> AsyncIterator[LiveAgent]:
    live = LiveAgent(zipapp, tmp_path / "state", "process")
    await live.start()
    try:
        yield live
    finally:
        await live.clean_up()


@pytest.fixture
async def docker_agent(tmp_path: Path, zipapp: Path, docker_engine: str) -> AsyncIterator[LiveAgent]:
    live = LiveAgent(zipapp, tmp_path / "state", "docker", docker_engine)
    await live.start()
    try:
        yield live
    finally:
        await live.clean_up()
