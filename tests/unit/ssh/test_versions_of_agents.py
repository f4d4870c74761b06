"""Which of two agents is the newer one."""

from __future__ import annotations

from pathlib import Path

import pytest

import dstack
from dstack.agent.bundle import build
from dstack.ssh.program import read
from dstack.ssh.remote.service import newer
from support.bundles import changed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.22.6", "0.22.5"),
        ("0.22.10", "0.22.9"),
        ("1.0", "0.99.99"),
        ("0.22.5", "0.22.5rc2"),
        ("0.22.5rc10", "0.22.5rc2"),
        ("0.22.5.post1", "0.22.5"),
        ("0.1", ""),
        ("0.1", "pretends"),
    ],
)
def test_the_later_version_is_the_newer_one(one: str, other: str):
    assert newer(one, other) and not newer(other, one)


@pytest.mark.parametrize(("one", "other"), [("0.22", "0.22.0"), ("0.22.5+build7", "0.22.5"), ("", "unknown")])
def test_neither_is_newer_where_only_the_spelling_differs(one: str, other: str):
    assert not newer(one, other) and not newer(other, one)


def test_the_version_of_a_zipapp_is_the_one_that_its_agent_tells(tmp_path: Path):
    bundle = build(tmp_path)
    assert read(bundle).version == dstack.__version__
    assert read(changed(bundle, tmp_path, version="7.8.9")).version == "7.8.9"
