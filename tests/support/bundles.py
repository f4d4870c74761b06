"""Agents that are not of this source tree: in other bytes, of another version, broken."""

from __future__ import annotations

import zipfile
from pathlib import Path

import dstack


def changed(bundle: Path, folder: Path, main: str = "", version: str = "") -> Path:
    """The same agent in other bytes; `main` comes first in what it runs, `version` is what it calls itself."""
    path = folder / f"agent-{version or 'changed'}.pyz"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "__main__.py":
                data = main.encode() + data
            if entry.filename == "dstack/__init__.py" and version:
                data = data.replace(dstack.__version__.encode(), version.encode())
            new.writestr(entry.filename, data)
        new.writestr("changed.txt", "changed")
    return path
