"""The agent's zipapp, as a host is given it: its bytes, their hash, the version inside."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

_VERSION = re.compile(rb"^__version__ = [\"']([^\"']+)[\"']", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    data: bytes = field(repr=False)
    sha256: str
    version: str


def read(bundle: Path) -> Program:
    """Raises OSError."""
    data = bundle.read_bytes()
    return Program(data, hashlib.sha256(data).hexdigest(), version_in(bundle))


def version_in(bundle: Path) -> str:
    """The version that an agent of this zipapp tells; "" where it names none. Raises OSError."""
    with zipfile.ZipFile(bundle) as archive:
        found = _VERSION.search(archive.read("dstack/__init__.py"))
    return found.group(1).decode() if found else ""
