"""A Python of a given version for a job of the process runtime: made by uv, else from what is on PATH."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Dict, List, Tuple

from dstack.agent.machine import TaskFailed
from dstack.agentapi.wire import START_FAILED

PATIENCE_S = 300.0  # uv may download an interpreter


async def python_environment(version: str, directory: str, env: Dict[str, str]) -> Dict[str, str]:
    """`env` with a fresh virtual environment of Python `version` in `directory` activated. Raises TaskFailed."""
    looked_for = []
    for what, commands in _ways(version, directory, env):
        looked_for.append(what)
        for argv in commands:
            shutil.rmtree(directory, ignore_errors=True)
            if argv and await _succeeds(argv, env):
                return _activated(directory, env)
    message = "Python %s was not found on this machine; looked for: %s" % (version, ", ".join(looked_for))
    raise TaskFailed(START_FAILED, message)


def _ways(version: str, directory: str, env: Dict[str, str]) -> List[Tuple[str, List[List[str]]]]:
    path = env.get("PATH")
    uv = shutil.which("uv", path=path)
    name = "python" + version
    found = shutil.which(name, path=path)
    make = [uv or "", "venv", "--quiet", "--python", version]
    return [
        ("uv", [[*make, "--seed", directory], [*make, directory]] if uv else []),
        (
            "%s on PATH" % name,
            [[found, "-m", "venv", directory], [found, "-m", "venv", "--without-pip", directory]] if found else [],
        ),
    ]


async def _succeeds(argv: List[str], env: Dict[str, str]) -> bool:
    null = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*argv, env=env, stdin=null, stdout=null, stderr=null)
    except OSError:
        return False
    try:
        return await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    except asyncio.TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _activated(directory: str, env: Dict[str, str]) -> Dict[str, str]:
    active = dict(env, VIRTUAL_ENV=directory, DSTACK_VENV_DIR=directory)
    active["PATH"] = os.path.join(directory, "bin") + os.pathsep + env.get("PATH", "")
    return active
