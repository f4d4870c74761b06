"""Every command explains itself, and the reference page says what the commands say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from dstack.cli.documents import DOCUMENTS
from dstack.cli.group import root
from support.product import ROOT

ANSWERLESS = {"dstack server", "dstack server migrate", "dstack server reset-token", "dstack run"}
# They print no data of the project, are a document themselves, or a way into a run while they last.
NOT_DATA = {"dstack login", "dstack completion", "dstack schema", "dstack attach"}


def _walk(command: click.Command, path: str, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    if path != "dstack":
        yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _walk(inner, f"{path} {name}", context)


ALL = dict(_walk(root, "dstack", click.Context(root)))
EACH = pytest.mark.parametrize("path", ALL)


def _options(path: str) -> list[click.Option]:
    return [parameter for parameter in ALL[path].params if isinstance(parameter, click.Option)]


@EACH
def test_a_command_says_what_it_does_and_shows_an_example(path: str):
    command = ALL[path]
    assert command.help
    assert (command.epilog or "").startswith(f"Example: {path}")


@EACH
def test_each_option_of_a_command_has_a_description(path: str):
    assert [option.opts for option in _options(path) if not option.help and not option.hidden] == []


@EACH
def test_what_lists_shows_or_changes_can_print_json_and_says_which(path: str):
    has_json = any("--json" in option.opts for option in _options(path))
    assert has_json == (path in DOCUMENTS)
    assert has_json or path in ANSWERLESS | NOT_DATA


def test_the_reference_page_is_up_to_date():
    script = ROOT / "scripts" / "reference-cli"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"run {script.relative_to(ROOT)}: {done.stdout}{done.stderr}"
