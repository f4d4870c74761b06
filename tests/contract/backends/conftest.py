"""The backends under the contract: each entry starts one for real and says what to order from it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dstack.agent.bundle import build
from dstack.backends.base import Backend
from dstack.backends.local.backend import LocalBackend


@pytest.fixture(params=["local"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = LocalBackend(
        tmp_path / "local", lambda: build(tmp_path / "agent"), python=sys.executable, runtime="process"
    )
    yield made
    for listed in await made.list_instances():
        await made.terminate_instance(listed.token, None)
