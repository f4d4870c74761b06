"""git as a child process, bounded in time and in what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from dstack.git.failures import GitFailed, explain

LOOK_S = 0.5  # between looks at how much was written
KEPT_BYTES = 64 * 1024


async def git(
    *arguments: str | Path,
    env: Mapping[str, str],
    deadline: float,
    url: str = "",
    folder: Path | None = None,
    limit_bytes: int = 0,
) -> str:
    """What git printed, the first KEPT_BYTES of it. Ended at `deadline` (monotonic), and once `folder` holds more than
    `limit_bytes`.

    Raises GitFailed in words for people, who know the repository as `url`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *map(str, arguments),
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # its helpers for SSH and HTTP end with it
        )
    except FileNotFoundError:
        raise GitFailed("git is not installed on the server", hint="install git there, then submit again") from None
    talking = asyncio.ensure_future(_heard(process))
    try:
        while not (await asyncio.wait([talking], timeout=LOOK_S))[0]:
            if time.monotonic() > deadline:
                raise GitFailed(f"{url}: it took too long")
            if folder is not None and await asyncio.to_thread(size_of, folder) > limit_bytes:
                raise too_large(url, limit_bytes)
        out, error = talking.result()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await process.wait()
    if process.returncode:
        raise explain(error.decode(errors="replace"), url)
    return out.decode(errors="replace")


async def _heard(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """Its output and its complaints, as far as they are kept: a remote may say as much as it likes."""
    assert process.stdout is not None and process.stderr is not None
    heard = await asyncio.gather(_first(process.stdout), _last(process.stderr))
    await process.wait()
    return heard[0], heard[1]


async def _first(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while piece := await stream.read(KEPT_BYTES):
        kept += piece[: KEPT_BYTES - len(kept)]
    return kept


async def _last(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while piece := await stream.read(KEPT_BYTES):
        kept = (kept + piece)[-KEPT_BYTES:]
    return kept


def too_large(url: str, limit_bytes: int) -> GitFailed:
    return GitFailed(
        f"{url} is larger than {limit_bytes / 1024**2:g}MB, the limit for repositories",
        hint="`single_branch: true` fetches one branch; DSTACK_SERVER_REPO_SIZE_LIMIT on the server raises the limit",
    )


def size_of(folder: Path) -> int:
    """Bytes of the files below `folder`, as far as they can be looked at."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # git moves its files while we look
    return total
