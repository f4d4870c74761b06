"""Mounts: `volume:/path` (a network volume) and `/host/path:/path` (a directory of the host)."""

from __future__ import annotations

import posixpath
from typing import Any, NamedTuple

from dstack.values.grammar import Invalid, show

EXPECTED = "a mount such as `my-volume:/data` or `/host/path:/data`"


class Mount(NamedTuple):
    """Where `from_host`, `source` is a directory of the host, else the name of a volume."""

    source: str
    path: str
    from_host: bool


def parse_mount(value: Any) -> Mount:
    """Both sides of the text, checked."""
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a mount, expected {EXPECTED}")
    parts = [part.strip() for part in value.split(":")]
    if len(parts) != 2 or not all(parts):
        raise Invalid(f"{show(value)} is not a mount, expected {EXPECTED}")
    source, path = parts
    from_host = "/" in source
    if from_host:
        source = parse_mount_path(source)
    return Mount(source, parse_mount_path(path), from_host)


def parse_mount_path(value: Any) -> str:
    """An absolute path without `..`, without a slash at its end."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise Invalid(f"{show(value)} is not an absolute path, expected for instance `/data`")
    if ".." in value.split("/"):
        raise Invalid(f"{show(value)} has `..` in it, expected a plain absolute path")
    normal = "/" + posixpath.normpath(value).strip("/")
    if normal == "/":
        raise Invalid(f"{show(value)} is the root of the container, expected a directory below it")
    return normal


def format_mount(mount: Mount) -> str:
    """The canonical text."""
    return f"{mount.source}:{mount.path}"
