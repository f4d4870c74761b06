"""Uploaded archives by the hash of their bytes, as files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from dstack.errors import DstackError

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, hash_: str) -> Path:
        """Where the blob lies, present or not. Raises DstackError when `hash_` is not a SHA-256 in hex."""
        if not _SHA256.fullmatch(hash_):
            raise DstackError("The archive's hash is not a SHA-256 in lower-case hex")
        return self._directory / hash_

    def has(self, hash_: str) -> bool:
        return self.path(hash_).exists()

    def set_aside(self, hash_: str) -> None:
        """Its bytes are not what its name says: keep them for a person to look at, under another name."""
        path = self.path(hash_)
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(f"damaged-{hash_}"))

    def older_than(self, before: float) -> list[str]:
        """Names of files that were last written before this instant, those of broken uploads among them."""
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    found.append(entry.name)
        return sorted(found)

    def remove(self, name: str, before: float) -> None:
        """Delete a file that `older_than` told, unless it was written anew meanwhile."""
        path = self._directory / Path(name).name
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()

    async def put(self, hash_: str, stream: AsyncIterator[bytes], limit: int) -> int:
        """Store the stream under its hash; answers its size.

        Raises DstackError when it is larger than `limit` bytes or its hash differs; nothing is kept then.
        """
        target = self.path(hash_)
        digest, size = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(dir=self._directory, prefix=".upload-")
        try:
            with os.fdopen(handle, "wb") as file:
                async for piece in stream:
                    size += len(piece)
                    if size > limit:
                        raise DstackError(
                            f"The archive is larger than the limit of {limit} bytes",
                            hint="leave large files out with .dstackignore, or use a volume",
                        )
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != hash_:
                raise DstackError("The archive does not have the hash that was announced")
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
        return size
