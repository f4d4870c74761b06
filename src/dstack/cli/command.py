"""How every command tells its help: whole sentences, options under headings, an example that can be pasted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

OPTIONS = "Options"


class Command(click.Command):
    """`sections`: for an option that has one, the heading under which it is listed."""

    def __init__(self, *arguments: Any, sections: Mapping[str, str] | None = None, **settings: Any):
        super().__init__(*arguments, **settings)
        self.sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter, self.sections)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_example(self, formatter)


def write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter, sections: Mapping[str, str]
) -> None:
    """The options that have no heading of their own come first."""
    rows: dict[str, list[tuple[str, str]]] = {OPTIONS: []}
    for parameter in command.get_params(ctx):
        if row := help_row(parameter, ctx):
            rows.setdefault(sections.get(parameter.name or "", OPTIONS), []).append(row)
    for heading, records in rows.items():
        if records:
            with formatter.section(heading):
                formatter.write_dl(records)


def write_example(command: click.Command, formatter: click.HelpFormatter) -> None:
    """As it stands: an example that is broken into two lines cannot be pasted."""
    if command.epilog:
        formatter.write(f"\n{command.epilog}\n")


def help_row(parameter: click.Parameter, ctx: click.Context) -> tuple[str, str] | None:
    """The names of an option and its meaning, without what only programmers read; None for what is not listed."""
    record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
    if record is None:
        return None
    names, text = record
    if text.startswith("Show this message"):
        text = "Show this text"
    text = re.sub(r"; x>=\d+\]$", "]", re.sub(r"\s*\[x>=\d+\]$", "", text))
    return names, re.sub(r"(\d+)<=x<=(\d+)", r"\1 to \2", text)


def summary(command: click.Command) -> str:
    """The first sentence of the help text, whole and without its stop."""
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"(?<=\w)[.;] ", text + " ", maxsplit=1)[0].rstrip(". ")
