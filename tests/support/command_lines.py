"""Command lines of documents, taken apart as the command line itself does, without running anything."""

from __future__ import annotations

import re
import shlex

import click

from dstack.cli.group import root


def shown(block: str) -> list[str]:
    """The lines of a shell block that call dstack, from `dstack` on: after a prompt, in a pipe, on several lines.

    `dstack 0.1 is running` is what one of them printed.
    """
    lines = block.replace("\\\n", " ").splitlines()
    return [match[1] for line in lines if (match := re.match(r"\s*(?:\$ |.*\| )?(dstack [^\s\d].*)", line))]


def parse(line: str) -> None:
    """Raises UsageError or click's when the line is not understood."""
    take_apart(shlex.split(re.split(r"\s+(?:[|>#&<]|-h$|--help$)", line)[0])[1:])


def take_apart(arguments: list[str]) -> None:
    """What the shell passes to `dstack`, as the command line does, down to the last subcommand; nothing is run."""
    command: click.Command = root
    context = root.make_context("dstack", arguments)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)
