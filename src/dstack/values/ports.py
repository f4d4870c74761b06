"""Ports of an application: `8080`, `80:8080` (local:container), `*:8080` (any free local port)."""

from __future__ import annotations

from typing import Any, NamedTuple

from dstack.values.grammar import Invalid, show

EXPECTED = "a port such as `8080`, `80:8080` (local:container) or `*:8080`"
MAX_PORT = 65535


class Port(NamedTuple):
    """`local` None means any free port of the person's machine."""

    local: int | None
    container: int


def parse_port(value: Any) -> Port:
    """One number forwards to the same local number."""
    if isinstance(value, str) and ":" in value:
        local, _, container = (part.strip() for part in value.partition(":"))
        return Port(None if local == "*" else parse_port_number(local, value), parse_port_number(container, value))
    number = parse_port_number(value)
    return Port(number, number)


def parse_port_number(value: Any, written: Any = None) -> int:
    """A port from 1 to 65535; `written` is the text around it, for the message."""
    shown = show(value if written is None else written)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 8:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid(f"{shown} is not a port, expected {EXPECTED}")
    if not 1 <= value <= MAX_PORT:
        raise Invalid(f"{shown} is not a port, expected 1 to {MAX_PORT}")
    return value


def format_port(port: Port) -> str:
    """The canonical text."""
    if port.local == port.container:
        return str(port.container)
    return f"{'*' if port.local is None else port.local}:{port.container}"
