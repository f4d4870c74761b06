"""`dstack completion`: scripts that make shells complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from dstack.cli.command import Command
from dstack.cli.terminal import put

VARIABLE = "_DSTACK_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command, epilog="Example: dstack completion fish > ~/.config/fish/completions/dstack.fish")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script that makes a shell complete dstack commands, options, and names of runs and fleets.

    \b
    bash: eval "$(dstack completion bash)"     in ~/.bashrc
    zsh:  eval "$(dstack completion zsh)"      in ~/.zshrc, after compinit
    fish: dstack completion fish | source      in ~/.config/fish/config.fish
    """
    put(_script(shell).strip())


def answer(instruction: str) -> int:
    """What the script of a shell asks for while a person types; the exit code."""
    from click.shell_completion import shell_complete

    from dstack.cli.group import root

    return shell_complete(root, {}, "dstack", VARIABLE, instruction)


def _script(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    from dstack.cli.group import root

    # Not `kind.source`: that of bash first asks the bash of this machine for its version.
    return ShellComplete.source(kind(root, {}, "dstack", VARIABLE))
