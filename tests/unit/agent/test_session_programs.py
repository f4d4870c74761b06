"""The programs that serve people's sessions, unpacked beside the tasks of an agent."""

from __future__ import annotations

import os
from pathlib import Path

from dstack.agent.session_program import KEPT, unpack


def served(state: Path, name: str, at: float) -> Path:
    """The program of an earlier agent, which was started last at this instant."""
    folder = state / "enter" / name
    folder.mkdir(parents=True)
    (folder / "enter.py").write_text("")
    os.utime(folder, (at, at))
    return folder


def test_who_came_in_before_an_upgrade_keeps_the_program_however_long_ago_the_agent_was_started(tmp_path: Path):
    before = served(tmp_path, "before", at=1.0)
    present = Path(unpack(str(tmp_path))[-1]).parent
    assert (before / "enter.py").exists() and (present / "enter.py").exists()


def test_of_many_upgrades_the_programs_that_served_last_stay(tmp_path: Path):
    for number in range(20):
        served(tmp_path, f"p{number}", at=1000.0 + number)
    present = Path(unpack(str(tmp_path))[-1]).parent
    kept = {path.name for path in (tmp_path / "enter").iterdir()}
    assert kept == {present.name, *(f"p{number}" for number in range(20 - (KEPT - 1), 20))}


def test_a_program_that_serves_again_counts_from_then_on(tmp_path: Path):
    present = Path(unpack(str(tmp_path))[-1]).parent
    os.utime(present, (1.0, 1.0))
    unpack(str(tmp_path))
    assert present.stat().st_mtime > 1.0
