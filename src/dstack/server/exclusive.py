"""One server per data folder, and per SQLite file."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from dstack.errors import DstackError

LOCK = "server.lock"


@contextmanager
def exclusive(data_dir: Path, database_url: str, listens_at: str = "") -> Iterator[None]:
    """Hold the data folder, and the database where it is a SQLite file, for this process.

    `listens_at`: where this server answers, for those who find the folder held. The kernel lets go of both when the
    process dies. Raises DstackError.
    """
    folder_hint = "stop it first, or give this one its own folder with DSTACK_SERVER_DIR"
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _held(data_dir / LOCK, f"Another dstack server already uses {data_dir}", folder_hint, listens_at):
        file = _sqlite_file(database_url)
        if file is None:
            yield
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise DstackError(f"The database {file} cannot be opened: {e.strerror}") from None
        file_hint = "stop it first; several servers share a database on PostgreSQL, not on SQLite"
        lock = file.with_name(f"{file.name}.lock")
        with _held(lock, f"Another dstack server already uses the database {file}", file_hint):
            yield


def holder(data_dir: Path) -> str | None:
    """Where the server listens that holds the data folder just now, whether it answers or not; empty: it does not say.

    None: no server holds it.
    """
    try:
        with (data_dir / LOCK).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip()
    except OSError:
        pass  # no server was ever there
    return None


@contextmanager
def _held(lock: Path, message: str, hint: str, says: str = "") -> Iterator[None]:
    try:
        file = lock.open("a")
    except OSError as e:
        raise DstackError(f"{lock} cannot be opened: {e.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DstackError(message, hint=hint) from None
        with contextlib.suppress(OSError):  # a full disk is told by whoever needs one
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), says.encode())  # not buffered: closing the file would try it again
        yield


def _sqlite_file(url: str) -> Path | None:
    """The real path: the same file under two names is one."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database).resolve()
