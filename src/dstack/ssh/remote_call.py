"""Runs a module of `dstack.ssh.remote` on a host: its source goes over the connection, nothing is left behind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib import resources
from typing import Any

import asyncssh

from dstack.ssh.errors import AccessDenied, AgentMissing, HostUnreachable

# Reads its own modules from standard input; what follows them there is the payload.
BOOT = """\
import json, sys, types
n = int(sys.argv[1])
sent = json.loads(sys.stdin.buffer.read(n).decode())
for name in ("dstack", "dstack.ssh", "dstack.ssh.remote"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, source in sent["modules"]:
    module = types.ModuleType("dstack.ssh.remote." + name)
    sys.modules[module.__name__] = module
    setattr(sys.modules["dstack.ssh.remote"], name, module)
    exec(compile(source, name + ".py", "exec"), module.__dict__)
print(json.dumps(module.main(sent["request"], sys.stdin.buffer.read())))
"""
NO_AGENT = 66  # exit code: the file with the interpreter's path is not there
PYTHON_PATH = "/opt/dstack/python"
TAIL_CHARS = 1000


async def call(
    connection: asyncssh.SSHClientConnection,
    module: str,
    request: Mapping[str, Any],
    payload: bytes = b"",
    *,
    python: str | None = None,
) -> dict[str, Any]:
    """The answer of `module.main(request, payload)`, run as root; `python` None: that of the installed agent.

    Raises AgentMissing when there is no installed agent to tell the interpreter, AccessDenied when sudo refuses,
    HostUnreachable when the connection breaks.
    """
    modules = [[name, _source(name)] for name in ("service", module)]
    head = json.dumps({"modules": modules, "request": request}).encode()
    run = f's=; [ "$(id -u)" = 0 ] || s="sudo -n"; exec $s "$p" -IS -c {shlex.quote(BOOT)} {len(head)}'
    find = f"p={shlex.quote(python)}" if python else f"p=$(cat {PYTHON_PATH} 2>/dev/null) || exit {NO_AGENT}"
    done = await run_command(connection, f"/bin/sh -c {shlex.quote(f'{find}; {run}')}", head + payload)
    return _answer(done)


async def run_command(
    connection: asyncssh.SSHClientConnection, command: str, input: bytes = b""
) -> asyncssh.SSHCompletedProcess:
    """Run to the end. Raises HostUnreachable when the connection breaks or no session can be opened."""
    try:
        process = await connection.create_process(command, encoding=None)
        try:
            try:
                process.stdin.write(input)
                process.stdin.write_eof()
            except BrokenPipeError:
                pass  # it ended without reading: its exit status tells why
            return await process.wait()
        finally:
            process.close()  # also when the caller gives up: a connection carries ten sessions only
    except (asyncssh.Error, OSError) as e:
        reason = e.reason if isinstance(e, asyncssh.Error) else str(e)
        raise HostUnreachable(f"The connection broke: {reason}") from e


def _answer(done: asyncssh.SSHCompletedProcess) -> dict[str, Any]:
    out, err = _text(done.stdout), _text(done.stderr)
    if done.exit_status == 0:
        try:
            return json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError):
            pass  # told below, with what was said instead
    if "sudo:" in err:
        raise AccessDenied(f"sudo is refused: {err.strip().splitlines()[-1]}")
    if done.exit_status in (NO_AGENT, 127):
        raise AgentMissing("There is no agent on the host")
    if done.exit_status is None:
        raise HostUnreachable("The connection broke")
    raise HostUnreachable(f"The host's answer cannot be understood: {(err or out).strip()[-TAIL_CHARS:]}")


def _source(name: str) -> str:
    return resources.files("dstack.ssh.remote").joinpath(f"{name}.py").read_text()


def _text(data: Any) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data or "")
