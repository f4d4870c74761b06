"""Help is read by people: whole sentences, no words of programmers, examples that can be pasted."""

from __future__ import annotations

import re

import click
import pytest

from dstack.cli.group import root
from dstack.cli.registry import COMMANDS
from support.cli_process import Cli

CONTEXT = click.Context(root, info_name="dstack", **root.context_settings)


def every_command() -> list[tuple[str, ...]]:
    """The words of each command, subcommands included."""
    found: list[tuple[str, ...]] = []
    for entry in COMMANDS:
        command = root.get_command(CONTEXT, entry.name)
        found.append((entry.name,))
        if isinstance(command, click.Group):
            found += [(entry.name, inner) for inner in sorted(command.commands)]
    return found


def help_of(words: tuple[str, ...]) -> str:
    command: click.Command | None = root
    context = CONTEXT
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(context, word)
        assert command is not None
        context = click.Context(command, info_name=word, parent=context, **command.context_settings)
    assert command is not None
    return command.get_help(context)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_help_has_no_words_of_programmers_and_cuts_no_sentence(words: tuple[str, ...]):
    text = help_of(words)
    for jargon in ("INTEGER", "TEXT", "x>=", "<=x<=", "and exit", "RANGE"):
        assert jargon not in text
    assert not re.search(r"\w\.\.\.$", text.replace("ARGS]...", "").replace("[RUN_ARGS]...", ""), re.MULTILINE)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_the_example_of_a_command_is_one_line_that_can_be_pasted(words: tuple[str, ...]):
    assert help_of(words).rstrip().splitlines()[-1].startswith("Example: dstack ")


def test_the_many_flags_of_apply_stand_under_headings(bare: Cli):
    out = bare.run("apply", "--help").out
    headings = re.findall(r"^(\S.*):$", out, re.MULTILINE)
    assert headings[0] == "Options"
    assert {"Resources", "Where and at what price", "Code", "Ports and SSH"} <= set(headings)
    assert out.index("Where and at what price:") < out.index("--max-price")


def test_a_number_that_is_none_is_refused_in_plain_words(bare: Cli):
    assert "'x' is not a whole number" in bare.run("ps", "-n", "x").err
    assert "-3 is not between 1 and 10000" in bare.run("ps", "-n", "-3").err
