"""A disk of a few megabytes that a test fills and empties: a tmpfs, mounted by root."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MIB = 1024 * 1024


class SmallDisk:
    """`folder` is where it is mounted."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Write until nothing more fits, really."""
        with self._filler.open("ab", buffering=0) as file:
            for piece in (b"x" * 65536, b"x" * 512, b"x"):
                try:
                    while True:
                        file.write(piece)
                except OSError as e:
                    assert e.errno == errno.ENOSPC, e

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: int = 16 * MIB) -> Iterator[SmallDisk]:
    """Mount one at `folder` for the block. Skips the test without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a disk")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield SmallDisk(folder)
    finally:
        with suppress(FileNotFoundError):
            subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)
