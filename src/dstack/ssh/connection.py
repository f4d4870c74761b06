"""One SSH connection: opened with our key, the host's key checked, and failures told in words."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import asyncssh

from dstack.model.host import Hop
from dstack.ssh.errors import HostKeyChanged, HostUnreachable, SshError
from dstack.ssh.keys import fingerprint, private_key, public_line, refused

CONNECT_S = 15.0
LOGIN_S = 30.0  # 200 at once on a small login node take their time
KEEPALIVE_S = 15
KEEPALIVE_COUNT = 3
# No certificates: a host that has one has its plain key, too, and that is what is pinned.
KEY_KINDS = ["ssh-ed25519", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)), "rsa-sha2-512", "rsa-sha2-256"]


@dataclass(frozen=True)
class Opened:
    """A live connection and the key that the host proved to have."""

    connection: asyncssh.SSHClientConnection
    host_key: str


async def open_connection(
    hop: Hop, private: str, pinned: str | None, tunnel: asyncssh.SSHClientConnection | None = None
) -> Opened:
    """Connect and log in. Raises HostUnreachable, HostKeyChanged or AccessDenied."""
    key = private_key(private)
    client = _Client(accept_any=pinned is None)
    try:
        # No file of this machine is read: neither its ssh configuration, nor its agent, nor its known hosts.
        connection = await asyncssh.connect(
            hop.hostname,
            hop.port,
            username=hop.user,
            client_keys=[key],
            known_hosts=([asyncssh.import_public_key(pinned)] if pinned else [], [], []),
            server_host_key_algs=() if pinned else KEY_KINDS,
            client_factory=lambda: client,
            tunnel=tunnel or (),
            config=None,
            agent_path=None,
            gss_host=None,
            x509_trusted_certs=None,
            preferred_auth="publickey",
            connect_timeout=CONNECT_S,
            login_timeout=LOGIN_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVE_COUNT,
        )
    except (OSError, TimeoutError, asyncssh.Error) as e:
        hung_up = isinstance(e, asyncssh.DisconnectError | ConnectionResetError | BrokenPipeError)
        if pinned and client.offered is None and hung_up:
            # Either side hangs up when the host has no key of the pinned kind any more, and neither says why.
            client.offered = await _present_key(hop, tunnel)
            if client.offered not in (None, pinned):
                raise _changed(hop, pinned, client.offered) from e
        raise in_words(e, hop, key, client.offered, pinned, tunnel is not None) from e
    proven = connection.get_server_host_key()
    assert proven is not None
    return Opened(connection, public_line(proven))


async def _present_key(hop: Hop, tunnel: asyncssh.SSHClientConnection | None) -> str | None:
    """The key that the host shows to somebody who knows none; None when it shows none."""
    try:
        async with asyncio.timeout(CONNECT_S):
            key = await asyncssh.get_server_host_key(
                hop.hostname, hop.port, tunnel=tunnel or (), server_host_key_algs=KEY_KINDS, config=None
            )
    except (OSError, TimeoutError, asyncssh.Error):
        return None
    return public_line(key) if key is not None else None


class _Client(asyncssh.SSHClient):
    """Takes the first key that a new host shows, and remembers what was shown for the error's sake."""

    def __init__(self, accept_any: bool):
        self.offered: str | None = None
        self._accept_any = accept_any

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = public_line(key)
        return self._accept_any


def in_words(
    e: Exception, hop: Hop, key: asyncssh.SSHKey, offered: str | None, pinned: str | None, through: bool
) -> SshError:
    """What went wrong on the way to `hop`. `offered`, `pinned`: the host's key that was shown, and that is known."""
    where = f"{hop.hostname}:{hop.port}"
    if isinstance(e, asyncssh.PermissionDenied):
        return refused(hop, key)
    if isinstance(e, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed) and pinned:
        return _changed(hop, pinned, offered)
    if isinstance(e, asyncssh.ChannelOpenError):
        return HostUnreachable(
            f"The login node cannot reach {where}: {e.reason}",
            hint="The login node's sshd needs `AllowTcpForwarding yes` and a route to the host",
        )
    if isinstance(e, ConnectionRefusedError):
        return HostUnreachable(f"Nothing listens on {where}", hint="Is sshd running, and is this its port?")
    if isinstance(e, TimeoutError):
        return HostUnreachable(f"{where} does not answer", hint="Is the host on, and does its firewall let SSH in?")
    if isinstance(e, OSError):
        return HostUnreachable(f"{where} cannot be reached: {_system_words(e)}", hint="Is the address right?")
    how = "through the login node " if through else ""
    reason = e.reason if isinstance(e, asyncssh.Error) else str(e)
    return HostUnreachable(f"The connection {how}to {where} broke: {reason}")


def _system_words(e: OSError) -> str:
    """`No route to host`; asyncio's own text is `Connect call failed ('10.0.0.5', 22)`, whatever the system said."""
    if e.errno is not None and e.errno > 0:
        return os.strerror(e.errno)
    return e.strerror or str(e)


def _changed(hop: Hop, pinned: str, offered: str | None) -> HostKeyChanged:
    now = f"now {fingerprint(offered)}" if offered else "a key of another kind"
    return HostKeyChanged(
        f"The host key of {hop.hostname} has changed: it was {fingerprint(pinned)}, {now}",
        hint="If the host was set up anew, remove it from the fleet and add it again. If not, "
        "another machine answers at its address: find out which before you go on",
    )
