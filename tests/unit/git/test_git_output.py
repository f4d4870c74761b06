"""What git says is kept as far as it is of use: the other end may never stop talking."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dstack.git.access import isolated
from dstack.git.failures import GitFailed
from dstack.git.running import KEPT_BYTES, git

LOUD = "head -c 3000000 /dev/zero | tr '\\0' x"


async def say(home: Path, script: str) -> str:
    return await git("-c", f"alias.say=!{script}", "say", env=isolated(home), deadline=time.monotonic() + 60, url="u")


async def test_of_an_output_without_end_the_beginning_is_kept(tmp_path: Path):
    assert await say(tmp_path, f"printf begin; {LOUD}") == "begin" + "x" * (KEPT_BYTES - 5)


async def test_of_complaints_without_end_the_last_ones_are_told(tmp_path: Path):
    with pytest.raises(GitFailed, match="it broke"):
        await say(tmp_path, f"{LOUD} >&2; printf '\\nfatal: it broke\\n' >&2; exit 1")
