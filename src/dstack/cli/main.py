"""The entry point: quick answers first, then the command, and one place where failures become words and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dstack import __version__
from dstack.cli.registry import root_help


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line and exit: 0 done, 1 failed, 2 usage, 130 interrupted, or the exit code of the job."""
    _open_missing_streams()
    try:
        code = run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # before the command began, while modules were imported
        code = 130
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command line."""
    if instruction := os.environ.get("_DSTACK_COMPLETE"):
        from dstack.cli.commands.completion import answer

        return answer(instruction)
    if not arguments or arguments in (["-h"], ["--help"]):
        return _print(root_help())
    if arguments in (["-v"], ["--version"]):
        return _print(__version__)
    from dstack.cli.failures import guarded  # click is imported from here on
    from dstack.cli.signals import Terminated, listen

    listen()
    return guarded(arguments, Terminated)


def _open_missing_streams() -> None:
    """A process may be started with closed streams (`>&-`); Python then has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _print(text: str) -> int:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    main()
