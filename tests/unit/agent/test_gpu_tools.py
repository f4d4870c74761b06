"""A vendor's tool that is missing, fails or hangs: told in words, never waited for longer than the patience."""

from __future__ import annotations

import pytest

from dstack.agent import gpu_tools
from dstack.agent.gpu_tools import ToolFailed, ask


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts an executable `some-smi` with this body on PATH."""

    def make(body: str) -> None:
        path = tmp_path / "some-smi"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return make


async def test_a_tool_that_is_not_installed_is_no_fault():
    assert await ask("no-such-smi") is None


async def test_the_first_line_of_a_failing_tools_words_is_told(tool):
    tool("echo 'Unable to determine the device handle for GPU0: GPU is lost.' >&2; echo more >&2; exit 15")
    with pytest.raises(ToolFailed, match=r"some-smi fails: Unable to determine the device handle .* lost\.$"):
        await ask("some-smi")


async def test_a_tool_that_says_nothing_is_told_by_its_exit_code(tool):
    tool("exit 9")
    with pytest.raises(ToolFailed, match="some-smi fails: exit code 9"):
        await ask("some-smi")


async def test_a_hanging_tool_is_given_up_and_killed(tool):
    tool("exec sleep 600")
    with pytest.raises(ToolFailed, match=r"some-smi does not answer within 0\.2 s"):
        await ask("some-smi", patience_s=0.2)
    assert await gpu_tools._stuck["some-smi"].wait() == -9


async def test_a_tool_that_hung_is_asked_again_once_it_is_gone(tool):
    tool("exec sleep 600")
    with pytest.raises(ToolFailed):
        await ask("some-smi", patience_s=0.2)
    await gpu_tools._stuck["some-smi"].wait()
    tool("echo fine")
    assert await ask("some-smi") == "fine\n"
