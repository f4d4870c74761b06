"""The program that sshd starts for each session, unpacked beside the tasks: it begins faster there than in a zip."""

from __future__ import annotations

import hashlib
import os
import pkgutil
import sys
from typing import Dict, List

from dstack.agent.store import remove_tree, write_atomic

MODULES = (
    "dstack/__init__.py",
    "dstack/agent/__init__.py",
    "dstack/agent/processes.py",
    "dstack/agent/enter.py",
    "dstack/agent/enter_command.py",
    "dstack/agent/enter_engine.py",
    "dstack/agent/enter_exec.py",
    "dstack/agent/enter_hangup.py",
    "dstack/agent/enter_inside.py",
    "dstack/agent/enter_keyagent.py",
    "dstack/agent/enter_process.py",
    "dstack/agent/enter_streams.py",
    "dstack/agent/sftp.py",
    "dstack/agent/sftp_jail.py",
    "dstack/agent/sftp_packets.py",
)
MAIN = b"""import sys

sys.path.insert(0, __file__.rpartition("/")[0])
from dstack.agent.enter import main

sys.exit(main(sys.argv[1:]))
"""
KEPT = 8  # programs, the present one among them


def unpack(state: str) -> List[str]:
    """Write the program below the state folder, unless it is there; the command to which a task's folder is added."""
    files = {name: _source(name) for name in MODULES}
    files["enter.py"] = MAIN
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]
    folder = os.path.join(state, "enter", digest)
    if not os.path.exists(os.path.join(folder, "enter.py")):
        _write(folder, files)
    os.utime(folder)  # it serves from now on
    _remove_old(os.path.join(state, "enter"), digest)
    return [sys.executable, "-IS", os.path.join(folder, "enter.py")]


def _source(name: str) -> bytes:
    package, _, file = name[: -len(".py")].replace("/", ".").rpartition(".")
    data = pkgutil.get_data(package, file + ".py")
    if data is None:
        raise OSError("the agent lacks its own part %s" % name)
    return data


def _write(folder: str, files: Dict[str, bytes]) -> None:
    for name, data in sorted(files.items(), key=lambda item: item[0] == "enter.py"):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, data)


def _remove_old(folder: str, current: str) -> None:
    """Those that served last stay, for as long as it may be: who came in before an upgrade is still served by them."""
    others = [os.path.join(folder, name) for name in os.listdir(folder) if name != current]
    for path in sorted(others, key=lambda path: os.stat(path).st_mtime, reverse=True)[KEPT - 1 :]:
        remove_tree(path)
