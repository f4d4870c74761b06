"""One agent on an engine and one on processes, which all tests of sessions share; tasks are each test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dstack.agent.bundle import build
from support.docker_engine import docker_engine
from support.sessions import TOOLS_IMAGE, Door, SessionAgent, import_tools

__all__ = ["docker_engine"]


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("zipapp"))


@pytest.fixture(scope="session")
def engine_agent(tmp_path_factory: pytest.TempPathFactory, zipapp: Path, docker_engine: str) -> Iterator[SessionAgent]:
    """Its containers are entered as on a host: by root."""
    if os.geteuid() != 0:
        pytest.skip("entering a container's network needs root")
    folder = tmp_path_factory.mktemp("sessions")
    jump = ["--jump-account", "root", "--jump-home", str(folder / "jump")]
    agent = SessionAgent(folder, zipapp, "docker", docker_engine, *jump)
    try:
        import_tools(docker_engine)
        yield agent
    finally:
        agent.close()


@pytest.fixture(scope="session")
def process_agent(tmp_path_factory: pytest.TempPathFactory, zipapp: Path) -> Iterator[SessionAgent]:
    agent = SessionAgent(tmp_path_factory.mktemp("sessions"), zipapp, "process")
    try:
        yield agent
    finally:
        agent.close()


@pytest.fixture
def fresh(engine_agent: SessionAgent) -> Iterator[Callable[..., str]]:
    """Starts tasks that end with the test."""
    started: list[str] = []

    def start(*arguments: Any, **fields: Any) -> str:
        started.append(engine_agent.task(*arguments, **fields))
        return started[-1]

    yield start
    for task_id in started:
        engine_agent.end(task_id)


@pytest.fixture(scope="session")
def tools(engine_agent: SessionAgent) -> Door:
    """The door of a task whose image has a shell and tools; its own user is root."""
    return engine_agent.door(engine_agent.task(image=TOOLS_IMAGE, working_dir="/work", env={"MINE": "a b"}))


@pytest.fixture(scope="session")
def worker(engine_agent: SessionAgent) -> Door:
    """The same, where the job's user is not root."""
    return engine_agent.door(engine_agent.task(image=TOOLS_IMAGE, working_dir="/work", user="worker"))


@pytest.fixture(scope="session")
def plain(engine_agent: SessionAgent) -> Door:
    """The door of a task whose image has only busybox."""
    return engine_agent.door(engine_agent.task())


@pytest.fixture(scope="session")
def beside(process_agent: SessionAgent) -> Door:
    """The door of a job that is a plain process."""
    return process_agent.door(process_agent.task(env={"MINE": "a b"}))
