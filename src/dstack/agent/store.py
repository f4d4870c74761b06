"""The agent's folder on disk: tasks and blobs, written so that no crash and no full disk leaves half a file.

tasks/ID/spec.json (0600)  state.json  log  log.idx  and what the task's runtime keeps there
blobs/SHA256
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from typing import Any, Dict, Iterator, Optional, Tuple

from dstack.agent.logfile import NO_SPACE

LEGAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
LEGAL_HASH = re.compile(r"[0-9a-f]{64}\Z")
BLOB_KEPT_S = 7 * 24 * 3600.0


class DiskFull(Exception):
    """No room for what must be written."""


class WrongHash(Exception):
    """A blob's bytes are not those that its name says."""


class Store:
    def __init__(self, root: str):
        self.root = root
        self.tasks = os.path.join(root, "tasks")
        self.blobs = os.path.join(root, "blobs")
        for path in (root, self.tasks, self.blobs):
            os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(root, 0o700)

    def directory(self, task_id: str) -> str:
        return os.path.join(self.tasks, task_id)

    def load(self) -> Iterator[Tuple[str, Optional[Dict[str, Any]], Optional[Dict[str, Any]]]]:
        """(folder, spec, state) of each task; drops what was being created or removed when the agent died."""
        for name in sorted(os.listdir(self.tasks)):
            path = os.path.join(self.tasks, name)
            if not LEGAL_ID.match(name):
                remove_tree(path)
                continue
            yield path, _read_json(os.path.join(path, "spec.json")), _read_json(os.path.join(path, "state.json"))

    def create(self, task_id: str, spec: Optional[Dict[str, Any]], state: Dict[str, Any]) -> None:
        """Make a task's folder in one step: it is there with all its files, or not at all. Raises DiskFull."""
        fresh = os.path.join(self.tasks, ".new-" + task_id)
        remove_tree(fresh)
        try:
            os.mkdir(fresh, 0o700)
            if spec is not None:
                write_atomic(os.path.join(fresh, "spec.json"), json.dumps(spec).encode())
            write_atomic(os.path.join(fresh, "state.json"), json.dumps(state).encode())
            os.rename(fresh, self.directory(task_id))
            sync_folder(self.tasks)  # who was told that it is taken sends it no more
        except OSError as e:
            remove_tree(fresh)
            raise _full(e) from None

    def save(self, task_id: str, state: Dict[str, Any]) -> None:
        """Replace a task's state. Raises DiskFull; the state that was there before then stays whole."""
        try:
            write_atomic(os.path.join(self.directory(task_id), "state.json"), json.dumps(state).encode())
        except OSError as e:
            raise _full(e) from None

    def save_spec(self, task_id: str, spec: Dict[str, Any]) -> None:
        """Replace a task's description. Raises DiskFull."""
        try:
            write_atomic(os.path.join(self.directory(task_id), "spec.json"), json.dumps(spec).encode())
        except OSError as e:
            raise _full(e) from None

    def discard(self, task_id: str) -> str:
        """Take a task's folder out of sight; the caller removes the returned path at leisure (`remove_tree`)."""
        trash = os.path.join(self.tasks, ".trash-%s-%d" % (task_id, time.monotonic_ns()))
        try:
            os.rename(self.directory(task_id), trash)
        except FileNotFoundError:
            pass
        return trash

    def set_aside(self, directory: str) -> None:
        """Move a folder that makes no sense out of the way, for a person to look at. Raises OSError."""
        os.rename(directory, "%s/broken-%s-%d" % (self.root, os.path.basename(directory), time.time_ns()))

    def blob(self, sha256: str) -> str:
        return os.path.join(self.blobs, sha256)

    def has_blob(self, sha256: str) -> bool:
        return os.path.exists(self.blob(sha256))

    def touch_blob(self, sha256: str) -> None:
        os.utime(self.blob(sha256))

    def drop_old_blobs(self) -> None:
        """Remove uploads that were cut off, and blobs that no task has used for a week."""
        for name in os.listdir(self.blobs):
            path = os.path.join(self.blobs, name)
            try:
                if not LEGAL_HASH.match(name) or time.time() - os.stat(path).st_mtime > BLOB_KEPT_S:
                    os.unlink(path)
            except OSError:
                continue

    def used_bytes(self) -> int:
        """What logs, specs and blobs take (the jobs' own files are not counted)."""
        total = 0
        folders = [self.blobs] + [os.path.join(self.tasks, name) for name in os.listdir(self.tasks)]
        for folder in folders:
            try:
                with os.scandir(folder) as entries:
                    total += sum(
                        e.stat(follow_symlinks=False).st_size for e in entries if e.is_file(follow_symlinks=False)
                    )
            except OSError:
                continue
        return total


class BlobWriter:
    """Takes a blob in pieces; `commit` puts it in place when its hash is the one that was announced."""

    def __init__(self, store: Store, sha256: str):
        self._store = store
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._path = os.path.join(store.blobs, ".new-%s-%d" % (sha256, time.monotonic_ns()))
        self._file = open(self._path, "xb")  # noqa: SIM115 - closed by commit or discard

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as e:
            raise _full(e) from None

    def commit(self) -> None:
        if self._hash.hexdigest() != self._sha256:
            raise WrongHash("the bytes have the SHA-256 %s" % self._hash.hexdigest())
        try:
            self._file.flush()
            os.fsync(self._file.fileno())  # after a power cut its name must not stand over other bytes
            self._file.close()
            os.rename(self._path, self._store.blob(self._sha256))
            sync_folder(self._store.blobs)
        except OSError as e:
            raise _full(e) from None

    def discard(self) -> None:
        """Forget what was not committed; harmless after `commit`."""
        try:
            self._file.close()
        except OSError:
            pass  # flushing to a full disk; the file goes away anyway
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def write_atomic(path: str, data: bytes) -> None:
    """Replace the file: afterwards, also after a power cut, it holds the new bytes; before, the old ones. Mode 0600."""
    new = path + ".new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, path)
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """What was renamed in it stays so after a power cut."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a folder, also when a job left folders in it without the right to write. Missing is fine."""

    def allow_and_retry(function, name, _):
        try:
            os.chmod(os.path.dirname(name), stat.S_IRWXU)
            if os.path.isdir(name) and not os.path.islink(name):
                os.chmod(name, stat.S_IRWXU)
                shutil.rmtree(name, ignore_errors=True)
            else:
                os.unlink(name)
        except OSError:
            pass  # the next start of the agent tries again

    shutil.rmtree(path, onerror=allow_and_retry)


def _full(e: OSError) -> Exception:
    return DiskFull("no space left on the disk of the agent's state") if e.errno in NO_SPACE else e


def _read_json(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path, "rb") as f:
            data = json.loads(f.read().decode())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
