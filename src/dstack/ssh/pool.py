"""Connections to hosts: one each, shared by all who ask; login nodes' are shared by the hosts behind them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import asyncssh

from dstack.model.host import Hop, RemoteHost
from dstack.ssh.connection import Opened, open_connection
from dstack.ssh.host import Credentials, PinnedKeys

HANDSHAKES = 20  # at once: they are what costs, and sshd turns away more than its MaxStartups
CLOSE_S = 5.0


@dataclass
class Link:
    """A live connection. What is known of the agent at its other end belongs to whoever uses it."""

    connection: asyncssh.SSHClientConnection
    pinned: PinnedKeys
    way: tuple[Hop, Hop | None, Credentials]
    agent_seen: bool = False  # the host is ours and the agent ran, at some time of this connection
    relay: bool = False  # sockets cannot be forwarded: a command on the host carries the bytes
    spares: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def close(self) -> None:
        for connection in (self.connection, *self.spares):
            connection.close()


@dataclass
class _Proxy:
    opened: Opened
    users: set[str]


class Pool:
    """Every method may be called by many at once."""

    def __init__(self, handshakes: int = HANDSHAKES):
        self._handshakes = asyncio.Semaphore(handshakes)
        self._links: dict[str, Link] = {}
        self._proxies: dict[tuple[Hop, str], _Proxy] = {}
        self._locks: dict[object, asyncio.Lock] = {}

    async def link(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Link:
        """The live connection of host `id`, opened where there is none or the way to the host is another one now.

        Raises HostUnreachable, HostKeyChanged, AccessDenied.
        """
        way = (host.hop, host.proxy, credentials)
        async with self._lock(id):
            link = self._links.get(id)
            if link is not None and not link.connection.is_closed() and link.way == way:
                return link
            if link is not None:
                self._drop(id)
            link = await self._open(id, host, credentials, pinned)
            self._links[id] = link
            return link

    async def spare(self, link: Link) -> asyncssh.SSHClientConnection:
        """One more connection to the same host, for what a single one may not carry."""
        hop, proxy, credentials = link.way
        tunnel = self._proxies.get((proxy, credentials.proxy_private_key or "")) if proxy else None
        async with self._handshakes:
            opened = await open_connection(
                hop, credentials.private_key, link.pinned.host, tunnel.opened.connection if tunnel else None
            )
        link.spares.append(opened.connection)
        return opened.connection

    async def forget(self, id: str) -> None:
        """Close the connection of host `id`, and that of its login node when nobody else is behind it."""
        async with self._lock(id):
            self._drop(id)

    async def aclose(self) -> None:
        closing = [link.connection for link in self._links.values()]
        closing += [proxy.opened.connection for proxy in self._proxies.values()]
        for id in list(self._links):
            self._drop(id)
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(each.wait_closed() for each in closing), return_exceptions=True)
        except TimeoutError:
            pass  # the other end does not say good-bye; nothing of ours waits for it

    async def _open(self, id: str, host: RemoteHost, credentials: Credentials, pinned: PinnedKeys) -> Link:
        proxy = None
        if host.proxy is not None:
            proxy = await self._proxy(id, host.proxy, credentials.proxy_private_key or "", pinned.proxy)
        try:
            async with self._handshakes:
                opened = await open_connection(
                    host.hop, credentials.private_key, pinned.host, proxy.connection if proxy else None
                )
        except BaseException:
            self._leave_proxies(id)
            raise
        now = PinnedKeys(opened.host_key, proxy.host_key if proxy else None)
        return Link(opened.connection, now, (host.hop, host.proxy, credentials))

    async def _proxy(self, id: str, hop: Hop, private: str, pinned: str | None) -> Opened:
        key = (hop, private)
        async with self._lock(key):
            proxy = self._proxies.get(key)
            if proxy is None or proxy.opened.connection.is_closed() or pinned not in (None, proxy.opened.host_key):
                async with self._handshakes:
                    opened = await open_connection(hop, private, pinned)
                proxy = _Proxy(opened, proxy.users if proxy else set())
                self._proxies[key] = proxy
            proxy.users.add(id)
            return proxy.opened

    def _drop(self, id: str) -> None:
        link = self._links.pop(id, None)
        if link is not None:
            link.close()
        self._leave_proxies(id)

    def _leave_proxies(self, id: str) -> None:
        for key, proxy in list(self._proxies.items()):
            proxy.users.discard(id)
            if not proxy.users:
                proxy.opened.connection.close()
                del self._proxies[key]

    def _lock(self, key: object) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())
