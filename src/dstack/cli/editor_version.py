"""The version of the IDE of this machine, by which a dev environment gets the right server beforehand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from dstack.cli.overrides import Configuration
from dstack.cli.terminal import warn
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.values.ide import ide_name

_COMMANDS = {"vscode": "code", "cursor": "cursor"}
ANSWER_S = 5.0
_VERSION = re.compile(r"^([0-9][\w.+-]*)\n([0-9a-f]{40})$", re.ASCII | re.MULTILINE)


def completed(configuration: Configuration) -> Configuration:
    """With the version of this machine's IDE, where the file names the IDE alone; else a note tells why not."""
    if not isinstance(configuration, DevEnvironmentConfiguration) or configuration.version is not None:
        return configuration
    command = _COMMANDS.get(configuration.ide or "")
    if configuration.ide is None or command is None:
        return configuration
    version = installed(command)
    if version is not None:
        return configuration.model_copy(update={"version": version})
    warn(
        f"`{command} --version` tells nothing here, so the server of {ide_name(configuration.ide)} is fetched when it "
        "connects; `version` in the file names one that is put in beforehand"
    )
    return configuration


def installed(command: str, answer_s: float = ANSWER_S) -> str | None:
    """`VERSION@COMMIT` as the IDE tells it within seconds; None when it is not there or tells nothing of the kind."""
    path = shutil.which(command)
    if path is None:
        return None
    try:
        # In a group of its own: what a wrapper has started does not outlive the wait.
        process = subprocess.Popen(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        said = process.communicate(timeout=answer_s)[0]
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    match = _VERSION.search(said.decode(errors="replace").replace("\r", ""))
    return f"{match[1]}@{match[2]}" if match else None


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()
