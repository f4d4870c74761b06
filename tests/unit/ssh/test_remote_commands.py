"""Commands on a host, over a connection that stands."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from dstack.ssh.remote_call import run_command


class _Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False  # nothing is asked


@pytest.mark.parametrize("size", [1, 100_000, 5_000_000])
async def test_a_command_that_ends_without_reading_its_input_is_told_by_its_exit_status(size: int):
    async def ends_at_once(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stderr.write(b"no\n")
        process.exit(7)

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=_Anybody, server_host_keys=[key], process_factory=ends_at_once, encoding=None
    )
    async with server, asyncio.timeout(30):
        connection = await asyncssh.connect("127.0.0.1", server.get_port(), known_hosts=None, client_keys=None)
        async with connection:
            done = await run_command(connection, "anything", b"x" * size)
            assert (done.exit_status, done.stderr) == (7, b"no\n")
