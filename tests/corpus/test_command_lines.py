"""Every command line of the mission's documents is understood: the command is there, and so are its flags."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dstack.errors import UsageError
from support.command_lines import take_apart

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("commands.yml").read_text())
OURS = [case for case in CASES if not case.get("shell")]
# Lower it when an issue brings some; it never rises.
MOST_LATER = 22


def label(case: dict[str, Any]) -> str:
    return f"{case['doc']}: {case['line'][:70]}"


def arguments(case: dict[str, Any]) -> list[str]:
    """What the shell would pass to `dstack`."""
    line = case.get("try", case["line"])
    command = re.split(r"\s+[|>#&]", line[line.index("dstack ") :])[0]
    return shlex.split(command)[1:]


def accepted(case: dict[str, Any]) -> bool:
    try:
        take_apart(arguments(case))
    except (UsageError, click.UsageError):
        return False
    except click.exceptions.Exit as end:
        return end.exit_code == 0  # --help
    return True


@pytest.mark.parametrize("case", [case for case in OURS if not {"later", "refused"} & set(case)], ids=label)
def test_a_shown_command_line_is_understood(case: dict[str, Any]):
    assert accepted(case), label(case)


@pytest.mark.parametrize("case", [case for case in OURS if "refused" in case], ids=label)
def test_a_command_line_of_older_releases_tells_the_present_one(case: dict[str, Any]):
    with pytest.raises(UsageError) as refused:
        take_apart(arguments(case))
    assert case["refused"] in (refused.value.hint or "")


def test_what_is_left_for_later_only_shrinks(capsys: pytest.CaptureFixture[str]):
    later = [case for case in CASES if "later" in case]
    ready = [label(case) for case in later if not case.get("shell") and accepted(case)]
    by_issue = {name: sum(case["later"] == name for case in later) for name in sorted({c["later"] for c in later})}
    capsys.readouterr()  # the texts of --help
    sys.stdout.write(f"command lines: {len(CASES)} shown, {len(CASES) - len(later)} understood, later: {by_issue}\n")
    sys.stdout.write(f"understood by now, their `later` can go: {ready}\n")
    assert len(later) <= MOST_LATER
