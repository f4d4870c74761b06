"""Builds the agent's zipapp from the installed package: one file, standard library only."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

MAIN = b"import sys\n\nfrom dstack.agent.__main__ import main\n\nsys.exit(main())\n"
SINGLE_FILES = ("__init__.py", "agentapi/__init__.py", "agentapi/wire.py")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same sources give the same bytes


def build(directory: Path) -> Path:
    """The zipapp of this package's agent in `directory` (made if missing); written only when it is not there yet.

    Its name tells its content, `dstack-agent-<12 hex digits>.pyz`; it appears whole or not at all. Raises OSError.
    """
    sources = _sources()
    digest = hashlib.sha256()
    for name, data in sources:
        digest.update(b"%s\0%d\0" % (name.encode(), len(data)))
        digest.update(data)
    target = Path(directory) / ("dstack-agent-%s.pyz" % digest.hexdigest()[:12])
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(".%s.%d" % (target.name, os.getpid()))
    new.write_bytes(_zip(sources))
    new.chmod(0o755)
    new.replace(target)
    return target


def _sources() -> list[tuple[str, bytes]]:
    package = Path(__file__).resolve().parent.parent
    names = [*SINGLE_FILES, *sorted("agent/" + path.name for path in (package / "agent").glob("*.py"))]
    return [("__main__.py", MAIN), *(("dstack/" + name, (package / name).read_bytes()) for name in names)]


def _zip(sources: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    out.write(b"#!/usr/bin/env python3\n")
    # Stored, not deflated: a holder starts faster without unpacking, and needs no zlib.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sources:
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    return out.getvalue()
