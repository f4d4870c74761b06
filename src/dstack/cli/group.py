"""The root of the command line: it imports a command when it is called, and knows what was meant by a wrong one."""

from __future__ import annotations

import importlib
from typing import Any

import click

from dstack import __version__
from dstack.cli.command import Command, summary, write_example, write_options
from dstack.cli.registry import ALIASES, COMMANDS, FORMER, find, root_help
from dstack.cli.terminal import put
from dstack.errors import UsageError
from dstack.values.suggest import nearest

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Root(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = find(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.target.split(":")
        return getattr(importlib.import_module(f"dstack.cli.commands.{module}"), attribute)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and find(args[0]) is None and not args[0].startswith("-"):
            raise UsageError(f"`dstack {args[0]}` is not a command", hint=_hint(args[0]))
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        return root_help()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Without importing every command for its summary."""
        from click.shell_completion import CompletionItem

        found = [entry for entry in COMMANDS if entry.name.startswith(incomplete)]
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(entry.name, help=entry.summary) for entry in found]


def _hint(word: str) -> str:
    if word in FORMER:
        return FORMER[word]
    meant = nearest(word, [*(entry.name for entry in COMMANDS), *ALIASES], cutoff=0.5)
    return f"did you mean `dstack {meant}`?" if meant else "`dstack --help` lists the commands"


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        put(__version__)
        ctx.exit()


@click.group(cls=Root, context_settings=CONTEXT)
@click.option("-v", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version)
def root() -> None:
    """Provision machines and run containers on them."""


class Group(click.Group):
    """A command with subcommands; without one it does what `default` does. Wrong names get a hint."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter, {})
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """With whole sentences: click would cut them in the middle."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(command)) for name, command in sorted(self.commands.items())])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_example(self, formatter)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            meant = nearest(args[0], self.commands, cutoff=0.5)
            known = ", ".join(self.commands)
            hint = f"did you mean `{ctx.command_path} {meant}`?" if meant else f"expected one of: {known}"
            raise UsageError(f"`{ctx.command_path} {args[0]}` is not a command", hint=hint)
        return super().resolve_command(ctx, args)
