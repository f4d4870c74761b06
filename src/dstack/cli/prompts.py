"""Questions to the person: y or n and nothing else; no answer is a no."""

from __future__ import annotations

import sys

from dstack.cli.terminal import error, say


def confirm(question: str, *, hint: str = "pass -y to answer yes without being asked") -> bool:
    """Whether the person says yes. Asks again after any other word; the end of the input is a no, with `hint`.

    Ctrl-C is KeyboardInterrupt as everywhere.
    """
    while True:
        answer = ask(f"{question} [y/n]: ")
        if answer is None:
            say(f"hint: {hint}")
            return False
        if answer.strip().lower() in ("y", "yes"):
            return True
        if answer.strip().lower() in ("n", "no"):
            return False
        say("Please enter Y or N")


def ask(prompt: str) -> str | None:
    """One line from stdin, or None at its end. The prompt goes to stderr, so that stdout has data only."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        say()
        raise
    except UnicodeDecodeError:
        error("the answer is not text")
        return ""
    if not line:
        say()
        return None
    if not sys.stdin.isatty():
        say()  # nobody pressed Enter: end the line of the prompt
    return line.rstrip("\r\n")


def ask_secret(prompt: str) -> str | None:
    """As `ask`, without showing what is typed; from a pipe the whole input, one final line break taken away."""
    if sys.stdin.isatty():
        import getpass

        try:
            return getpass.getpass(prompt, stream=sys.stderr)
        except EOFError:
            return None
    text = sys.stdin.read()
    return text[:-1] if text.endswith("\n") else text or None
