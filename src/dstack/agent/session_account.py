"""The machine's account through which people reach their tasks' doors, and nothing else."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import Dict, Iterable, List, Tuple

from dstack.agent.session_sshd import find_program
from dstack.agent.store import write_atomic

TOOL_S = 60.0
WORD = "This key opens runs of dstack, not a shell on the machine that they run on: use `ssh RUN`."


COMMENT = "dstack leads people to their tasks"  # tells an account that we made from a person's of the same name


class NoAccount(Exception):
    """The account cannot be made; the text says why."""


class JumpAccount:
    """`home` is made if missing. Its files belong to root: the account itself cannot widen what it may do."""

    def __init__(self, name: str, home: str):
        self.name = name
        self.home = home
        self._path = os.path.join(home, ".ssh", "authorized_keys")

    def make(self) -> None:
        """Make the account unless it is there. Raises NoAccount, also where a person has the name."""
        try:
            found = pwd.getpwnam(self.name)
        except KeyError:
            # `*`, not the `!` of a locked account, which sshd without PAM refuses.
            argv = ["useradd", "--system", "--no-create-home", "--home-dir", self.home, "--shell", "/bin/sh"]
            _run([*argv, "--comment", COMMENT, "--password", "*", self.name])
        else:
            if found.pw_gecos != COMMENT and os.path.realpath(found.pw_dir) == os.path.realpath(self.home):
                raise NoAccount("an account of this name is there and not ours")
        folder = os.path.dirname(self._path)
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            for path in (self.home, folder):
                os.chown(path, 0, 0)
                os.chmod(path, 0o755)
        except OSError as e:
            raise NoAccount("the folder %s cannot be made: %s" % (folder, e.strerror)) from None

    def write(self, doors: Iterable[Tuple[int, Iterable[str]]]) -> None:
        """Let each key reach the ports of its tasks. `doors` are (port on loopback, key lines). Raises OSError."""
        data = authorized_keys(doors).encode()
        try:
            with open(self._path, "rb") as f:
                if f.read() == data:
                    return
        except OSError:
            pass  # not there yet
        write_atomic(self._path, data)
        os.chmod(self._path, 0o644)

    def remove(self) -> None:
        """Take it off the machine; a person's account of the same name stays. Raises NoAccount when ours stays."""
        try:
            if pwd.getpwnam(self.name).pw_gecos != COMMENT:
                return
        except KeyError:
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        for folder in (os.path.dirname(self._path), self.home):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # somebody keeps other things there
        _run(["userdel", self.name])


def authorized_keys(doors: Iterable[Tuple[int, Iterable[str]]]) -> str:
    """One line a key, however many tasks it opens.

    A port below 1024 that no ordinary account can take is what `permitlisten` allows: `port-forwarding` alone would let
    people listen on the machine.
    """
    ports: Dict[str, List[int]] = {}
    for port, lines in doors:
        for line in lines:
            ports.setdefault(line, []).append(port)
    text = []
    for line, numbers in sorted(ports.items()):
        options = ["restrict", "port-forwarding", 'permitlisten="127.0.0.1:1"']
        for number in sorted(set(numbers)):
            options += ['permitopen="127.0.0.1:%d"' % number, 'permitopen="localhost:%d"' % number]
        word = WORD.replace("`", "'")
        options.append('command="echo \\"%s\\"; exit 1"' % word)
        text.append("%s %s\n" % (",".join(options), line))
    return "".join(text)


def _run(argv: List[str]) -> None:
    program = find_program(argv[0])
    if program is None:
        raise NoAccount("%s is not on this machine" % argv[0])
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TOOL_S,
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise NoAccount("%s: %s" % (argv[0], e)) from None
    if done.returncode:
        raise NoAccount("%s: %s" % (argv[0], done.stdout.decode("utf-8", "replace").strip()))
