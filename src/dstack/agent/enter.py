"""What a person gets who was let in: a shell, a command or files of one task. Runs as sshd's forced command.

`session.json` in the task's folder says where to. Imports are few here: this is on the way to every prompt.
"""

from __future__ import annotations

import json
import os
import sys

from dstack.agent.enter_command import FAILED, CannotEnter

SFTP = "internal-sftp"


def main(argv: list[str]) -> int:
    """`argv` is the task's folder. Returns the exit code of the session."""
    try:
        return enter(argv[0], os.environ.get("SSH_ORIGINAL_COMMAND"))
    except CannotEnter as e:
        sys.stderr.write("dstack: %s\n" % e)
        return FAILED


def enter(directory: str, command: str | None) -> int:
    try:
        with open(os.path.join(directory, "session.json")) as f:
            place = json.load(f)
    except (OSError, ValueError):
        raise CannotEnter("the job does not run here any more") from None
    if command == SFTP:
        from dstack.agent import sftp_jail

        return sftp_jail.serve(place)
    if place["kind"] == "process":
        from dstack.agent import enter_process

        return enter_process.run(place, command)
    from dstack.agent import enter_exec

    return enter_exec.run(place, command)
