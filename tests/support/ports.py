"""Ports of this machine for what a test starts, and starts again, at an address of its own."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to whoever connects or asks for any port: such a one is taken when a server is away.
PORTS = range(20000, 32000)
_claims: list[socket.socket] = []
_random = random.SystemRandom()  # stories seed the global source


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens, and that no other test gets until this process ends."""
    for port in _random.sample(PORTS, len(PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0dstack-test-port-{port}")
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
    raise RuntimeError("no port is free")
