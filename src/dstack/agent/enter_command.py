"""What all ways into a task have in common: the command, what it gets of sshd's environment, and refusals."""

from __future__ import annotations

import os

FAILED = 255  # as ssh itself: it was not the command that failed


class CannotEnter(Exception):
    """The text is for the person."""


def passed_variables() -> dict[str, str]:
    """What of sshd's environment goes on into the session."""
    wanted = ("TERM", "COLORTERM", "LANG", "SSH_CLIENT", "SSH_CONNECTION")
    found = {name: os.environ[name] for name in wanted if name in os.environ}
    found.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    if found.get("LC_CTYPE") == "C.UTF-8":
        del found["LC_CTYPE"]  # Python's own doing in a machine without a locale
    return found


def command_line(shell: str, command: str | None) -> list[str]:
    """As sshd does it, but no login shell: profiles set PATH anew, and the job's own would be lost."""
    return [shell] if command is None else [shell, "-c", command]
