"""The backends under the contract: each entry starts one for real and says what to order from it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dstack.agent.bundle import build
from dstack.backends.base import Backend, BackendContext, Closes, Terminated
from dstack.backends.registry import Registry
from dstack.clock import WallClock

CONFIGS: dict[str, dict[str, Any]] = {
    "local": {"type": "local", "runtime": "process"},
    "sim": {"type": "sim", "delays": {"create": 0.05, "terminate": 0.05}},
    "sim-pretend": {
        "type": "sim",
        "run": "pretend",
        "pretend": {"duration": 600},
        "delays": {"create": 0.05, "terminate": 0.05},
    },
}
Make = Callable[..., Backend]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes backends over one folder, one after another, as a server does that is restarted."""
    made: list[Backend] = []

    def make(config: dict[str, Any]) -> Backend:
        context = BackendContext(tmp_path / "b", lambda: build(tmp_path / "agent"), sys.executable, WallClock())
        made.append(Registry.installed().make(config, context))
        return made[-1]

    yield make
    for listed in await made[-1].list_instances() if made else ():
        while not isinstance(await made[-1].terminate_instance(listed.token, None), Terminated):
            pass
    for one in made:
        if isinstance(one, Closes):
            await one.aclose()


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CONFIGS[request.param]


@pytest.fixture
async def backend(config: dict[str, Any], make: Make) -> Backend:
    return make(config)


@pytest.fixture(params=[name for name in CONFIGS if name != "sim-pretend"])
async def running_backend(request: pytest.FixtureRequest, make: Make) -> Backend:
    """One that runs what it is given, with agents on this machine."""
    return make(CONFIGS[request.param])


@pytest.fixture
def agents(tmp_path: Path, running_backend: Backend) -> Path:
    """Where the agents of `running_backend` have their folders."""
    return tmp_path / "b" if running_backend.name == "local" else tmp_path / "b" / "agents"
