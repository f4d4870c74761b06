"""A session beside a job that is a plain process: its shell or command, in its folder, with its environment."""

from __future__ import annotations

import os
import select
import signal
import sys

from dstack.agent import enter_hangup
from dstack.agent.enter_command import CannotEnter, command_line, passed_variables

PIPES_AGAIN_S = 0.5


def run(place: dict, command: str | None) -> int:
    env = {**place["env"], **passed_variables()}
    if "SSH_AUTH_SOCK" in os.environ:
        env["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
    if "SSH_TTY" in os.environ:
        env["SSH_TTY"] = os.environ["SSH_TTY"]
    try:
        os.chdir(place["cwd"])
    except OSError as e:
        raise CannotEnter("the working directory %s: %s" % (place["cwd"], e.strerror)) from None
    argv = command_line(place["shell"], command)
    if os.isatty(0):
        _become(argv, env)  # the kernel does what is due when the terminal goes
    return _supervise(argv, env)


def _become(argv: list[str], env: dict) -> None:
    try:
        os.execve(argv[0], argv, env)
    except OSError as e:
        raise CannotEnter("%s: %s" % (argv[0], e.strerror)) from None


def _supervise(argv: list[str], env: dict) -> int:
    """Run the command on our own descriptors, and watch them: without a terminal nobody else tells that the person
    has gone."""
    ended, child_ended = os.pipe()
    os.set_blocking(child_ended, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(child_ended)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.setpgid(0, 0)
        try:
            _become(argv, env)
        except CannotEnter as e:
            sys.stderr.write("dstack: %s\n" % e)
            sys.stderr.flush()
        os._exit(127)
    streams = enter_hangup.streams_of(os.getpid())
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(1, 0)  # tells only when the other side is closed altogether
    while True:
        ready = dict(poll.poll())
        if ended in ready:
            os.read(ended, 4096)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if 1 in ready:
            enter_hangup.end_holders(streams, group=pid)
            return 255
