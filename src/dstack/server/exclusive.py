"""One server per data folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dstack.errors import DstackError


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process; the kernel lets go of it when the process dies. Raises DstackError."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "server.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DstackError(
                f"Another dstack server already uses {data_dir}",
                hint="stop it first, or give this one its own folder with DSTACK_SERVER_DIR",
            ) from None
        yield
