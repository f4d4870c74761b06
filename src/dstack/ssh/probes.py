"""Questions to a host that is connected to: what it is, what its sshd allows, whom it reaches."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence

import asyncssh
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_CONNECT_FAILED

from dstack.ssh import checks
from dstack.ssh.look import SCRIPT, Look, parse
from dstack.ssh.remote_call import run_command

RENDEZVOUS_PORT = 29400  # where torchrun meets
REACH_S = 5.0


async def look_at(connection: asyncssh.SSHClientConnection) -> Look:
    """All facts of the host at once. Raises HostUnreachable."""
    done = await run_command(connection, "sh -s", SCRIPT.encode())
    output = done.stdout.decode("utf-8", "replace") if isinstance(done.stdout, bytes) else ""
    return parse(output)


async def unreached_from(
    connection: asyncssh.SSHClientConnection, others: Sequence[tuple[str, int]]
) -> tuple[str, ...]:
    """Each of `others` that the host cannot connect to, as `10.0.0.6: Connection timed out`.

    Tried are sshd, which must answer, and a port as distributed jobs use them, where a plain refusal is an answer too:
    a firewall that lets SSH alone through is what this is for.
    """
    ports = [(address, port) for address, ssh_port in others for port in (ssh_port, RENDEZVOUS_PORT)]
    tried = await asyncio.gather(*(_try(connection, address, port) for address, port in ports))
    problems: dict[str, str] = {}
    for (address, port), problem in zip(ports, tried, strict=True):
        if problem and not (port == RENDEZVOUS_PORT and "refused" in problem):
            problems.setdefault(address, f"{address}: port {port}: {problem}")
    return tuple(problems.values())


async def _try(connection: asyncssh.SSHClientConnection, address: str, port: int) -> str:
    """Why no connection can be made from the host; "" when it can."""
    try:
        async with asyncio.timeout(REACH_S):
            _, writer = await connection.open_connection(address, port)
    except TimeoutError:
        return "no answer"
    except (asyncssh.Error, OSError) as e:
        return e.reason if isinstance(e, asyncssh.Error) else str(e)
    writer.close()
    return ""


async def with_python(connection: asyncssh.SSHClientConnection, look: Look) -> Look:
    """Install Python by the host's package manager, and look again; where that fails, the report says what to type."""
    command = checks.PYTHON_PACKAGES.get(look.get("package_manager"))
    if command is None:
        return look
    sudo = "" if look.root else "sudo -n "
    await run_command(connection, f"{sudo}sh -c {shlex.quote(command)} </dev/null >/dev/null 2>&1")
    return await look_at(connection)


async def forwarding_allowed(connection: asyncssh.SSHClientConnection, port: int) -> bool | None:
    """Whether sshd opens connections to the host's own ports; whether something listens there does not matter."""
    try:
        _, writer = await connection.open_connection("127.0.0.1", port)
        writer.close()
    except asyncssh.ChannelOpenError as e:
        return {OPEN_ADMINISTRATIVELY_PROHIBITED: False, OPEN_CONNECT_FAILED: True}.get(e.code)
    except (asyncssh.Error, OSError):
        return None
    return True
