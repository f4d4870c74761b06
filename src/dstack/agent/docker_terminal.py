"""A terminal of the agent's own for what a container prints: the engine's copying of each line is the slower way.

The job's shell moves its output onto it; where that is not possible, everything goes the engine's way, as what is
written to the container's own terminal always does. Both ways lead to the keeper (`docker_keeper`).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Dict, List
from urllib.parse import urlsplit

from dstack.agent.processes import LINUX

TERMINAL_IN_CONTAINER = "/.dstack/terminal"
# `true` and not `:` or a bare `exec`: a shell ends when it cannot open the target of a special command.
ONTO_TERMINAL = 'if true 2>/dev/null >%s; then exec "$@" >%s 2>&1; fi; exec "$@"' % ((TERMINAL_IN_CONTAINER,) * 2)
LOOK_S = 5.0


def onto_terminal(shell: str, argv: List[str]) -> List[str]:
    """`argv` with its output on the terminal; the one process becomes the other."""
    return [shell, "-c", ONTO_TERMINAL, shell, *argv]


def mount_of(name: str) -> Dict[str, Any]:
    """What to ask of the engine so that the terminal `name` is seen inside."""
    return {"Type": "bind", "Source": name, "Target": TERMINAL_IN_CONTAINER}


def seen_by_engine(url: str, slave: int) -> bool:
    """Whether the engine at `url` has the same terminal under its name: on another machine it may be a person's."""
    path = urlsplit(url)
    if not LINUX or os.geteuid() != 0 or path.scheme != "unix":
        return False
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(LOOK_S)
            probe.connect(path.path)
            size = struct.calcsize("3i")
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
        there = os.stat("/proc/%d/root%s" % (pid, os.ttyname(slave)))
    except OSError:
        return False  # of another process namespace, or behind something that only passes on
    here = os.fstat(slave)
    return (there.st_dev, there.st_ino, there.st_rdev) == (here.st_dev, here.st_ino, here.st_rdev)
