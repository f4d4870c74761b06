"""Logs as files: the raw bytes of each job beside an index of when pieces of them were written.

`<job id>.log` holds the bytes exactly as the job printed them, `<job id>.idx` records of (offset, instant), 16 bytes
each. The committed sizes stand in the table `log_offset`; readers look no further. What lies beyond them after a crash
is written over when it is pulled again. Nothing is ever cut off: a server that lost the host while it wrote (it was
frozen, say) writes the same bytes to the same place as its successor, as both begin at the committed sizes.

Files that somebody else shortened are pulled again from there while the host still has them; of what is nowhere any
more readers are told how much it was.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.server.logs.shared import Shared
from dstack.server.store.changes import Changes
from dstack.server.store.database import Database
from dstack.server.store.host_links import Hold, StaleHold, proven
from dstack.server.store.tables import log_offset
from dstack.server.store.together import Together
from dstack.server.store.unbroken import unbroken

log = logging.getLogger(__name__)
_RECORD = struct.Struct(">Qd")
_SIZE = select(log_offset).where(log_offset.c.job_id == bindparam("job"))
_LATEST = 253402300799.0  # the last second that a date can say; what is beyond it in an index is damage


class _Shortened(Exception):
    """The files hold less than was committed: `size` and `index_size` bytes."""

    def __init__(self, size: int, index_size: int):
        super().__init__(size, index_size)
        self.size = size
        self.index_size = index_size


@dataclass(frozen=True)
class LogSize:
    """`size` bytes are stored; `final`: nothing will follow."""

    size: int
    final: bool
    index_size: int = 0


@dataclass(frozen=True)
class LogSlice:
    """`data` begins at `offset`; `marks` are (offset in the whole log, instant), ascending.

    `lost` bytes from `offset` on were stored, and are not there any more; `data` is empty then.
    """

    data: bytes
    offset: int
    next: int
    final: bool
    marks: tuple[tuple[int, float], ...]
    lost: int = 0

    def at(self, offset: int) -> float | None:
        """When the byte at `offset` of the whole log was written."""
        n = bisect.bisect_right(self.marks, (offset, float("inf")))
        return self.marks[n - 1][1] if n else None


class _Stored(NamedTuple):
    """How much of a job's log is stored, by the word of its host's holder."""

    job_id: str
    size: LogSize
    hold: Hold | None


class LogStore:
    """Appending is done by the one holder of the host's link; reading by anybody."""

    def __init__(self, directory: Path, database: Database, changes: Changes):
        self._directory = directory
        self._database = database
        self._changes = changes
        self._sizes: dict[str, LogSize] = {}
        self._sizes_to_store = Together[_Stored, None](database, _store_sizes)
        self._asked_sizes: Shared[LogSize] = Shared()
        self._asked_pieces: Shared[tuple[bytes, tuple[tuple[int, float], ...]]] = Shared()

    async def size(self, job_id: str, *, aside: bool = False) -> LogSize:
        """`aside`: there may be thousands who ask at once."""
        if not self._database.sqlite:  # another server may write it
            return await self._asked_sizes.ask(job_id, lambda: self._committed(job_id, aside))
        if job_id not in self._sizes:
            found = await self._committed(job_id, aside)
            # Another task may have stored more while this one was reading.
            self._sizes.setdefault(job_id, found)
        return self._sizes[job_id]

    async def _committed(self, job_id: str, aside: bool) -> LogSize:
        async with self._database.read_aside() if aside else self._database.read() as connection:
            row = (await connection.execute(_SIZE, {"job": job_id})).first()
        return LogSize(row.size, row.final, row.index_size) if row else LogSize(0, False)

    async def append(
        self,
        project_id: str,
        job_id: str,
        offset: int,
        data: bytes,
        marks: Sequence[tuple[int, float]],
        final: bool,
        hold: Hold | None = None,
    ) -> LogSize:
        """Store `data`, which begins at `offset`, durably; only then the size is committed and readers see it.

        Bytes that are stored already are skipped. The answer is less than `offset`, and nothing was appended, when less
        is stored: the files had been shortened, by this server's word or by another's. Append again from there.
        Raises OSError when the disk is full, StaleHold when `hold` is given and another server holds the host by now:
        nothing is committed then. What was begun is ended before a cancellation takes effect: the thread that writes
        cannot be called back, and would cut off what somebody else had appended meanwhile.
        """
        appending = self._append(project_id, job_id, offset, data, marks, final, hold)
        return await unbroken(asyncio.ensure_future(appending))

    async def _append(
        self,
        project_id: str,
        job_id: str,
        offset: int,
        data: bytes,
        marks: Sequence[tuple[int, float]],
        final: bool,
        hold: Hold | None,
    ) -> LogSize:
        have = await self.size(job_id)
        skip = have.size - offset
        if skip < 0:
            return have
        fresh = data[skip:]
        records = [(offset + at, instant) for at, instant in marks if offset + at >= have.size]
        index_size = have.index_size
        if fresh or (final and have.size):
            try:
                index_size = await asyncio.to_thread(self._write, project_id, job_id, have, fresh, records)
            except _Shortened as e:
                return await self._shrink(job_id, have, LogSize(e.size, False, e.index_size), hold)
        new = LogSize(have.size + len(fresh), final or have.final, index_size)
        if new != have:
            await self._commit(job_id, new, hold)
            self._sizes[job_id] = new
            self._changes.publish([f"log:{job_id}"])
        return new

    async def _shrink(self, job_id: str, have: LogSize, found: LogSize, hold: Hold | None) -> LogSize:
        log.error(
            "the log of job %s has %d of %d bytes: somebody shortened it; going on from there",
            job_id,
            found.size,
            have.size,
        )
        await self._commit(job_id, found, hold)
        self._sizes[job_id] = found
        return found

    async def read(
        self, project_id: str, job_id: str, offset: int, limit: int, size: LogSize | None = None
    ) -> LogSlice:
        """Up to `limit` bytes from `offset` on; empty at the end, which is that of `size` for who has just asked."""
        size = await self.size(job_id) if size is None else size
        count = max(0, min(limit, size.size - offset))
        if not count:
            return LogSlice(b"", offset, offset, size.final and offset >= size.size, ())
        key = project_id, job_id, offset, count, size.index_size
        data, marks = await self._asked_pieces.ask(key, lambda: asyncio.to_thread(self._read, *key))
        lost = 0 if data else count
        after = offset + (len(data) or lost)
        return LogSlice(data, offset, after, size.final and after >= size.size, marks, lost)

    async def wait(self, job_id: str, after: int, timeout_s: float) -> LogSize:
        """Return when more than `after` bytes are stored or the log is final, at the latest after `timeout_s`."""
        key = f"log:{job_id}"
        seq = self._changes.seq([key])
        size = await self.size(job_id)
        if size.size > after or size.final:
            return size
        await self._changes.wait(seq, [key], timeout_s)
        return await self.size(job_id)

    async def delete(self, project_id: str, job_ids: Sequence[str]) -> None:
        """Remove the logs for good."""
        for job_id in job_ids:
            for path in self._paths(project_id, job_id):
                path.unlink(missing_ok=True)
            self._sizes.pop(job_id, None)
        async with self._database.write() as connection:
            await connection.execute(log_offset.delete().where(log_offset.c.job_id.in_(job_ids)))

    def _paths(self, project_id: str, job_id: str) -> tuple[Path, Path]:
        folder = self._directory / project_id
        return folder / f"{job_id}.log", folder / f"{job_id}.idx"

    def _write(
        self, project_id: str, job_id: str, have: LogSize, data: bytes, records: Sequence[tuple[int, float]]
    ) -> int:
        log_path, index_path = self._paths(project_id, job_id)
        log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _open(log_path) as file, _open(index_path) as index:
            if _length(file) < have.size:
                raise _Shortened(_length(file), _index_of(index, min(have.index_size, _length(index)), _length(file)))
            if not data:
                return have.index_size
            _put(file, have.size, data)
        with _open(index_path) as file:
            packed = b"".join(_RECORD.pack(*one) for one in _news(records, _last(file, have.index_size)))
            _put(file, have.index_size, packed)
        return have.index_size + len(packed)

    def _read(
        self, project_id: str, job_id: str, offset: int, count: int, index_size: int
    ) -> tuple[bytes, tuple[tuple[int, float], ...]]:
        log_path, index_path = self._paths(project_id, job_id)
        try:
            with log_path.open("rb") as file:
                file.seek(offset)
                data = file.read(count)
        except FileNotFoundError:
            return b"", ()
        try:
            with index_path.open("rb") as file:
                records = min(index_size, _length(file)) // _RECORD.size
                return data, _marks_between(file, records, offset, offset + len(data))
        except FileNotFoundError:
            return data, ()

    async def _commit(self, job_id: str, size: LogSize, hold: Hold | None) -> None:
        await self._sizes_to_store.put(_Stored(job_id, size, hold))


async def _store_sizes(connection: AsyncConnection, some: Sequence[_Stored]) -> list[Exception | None]:
    held = await proven(connection, {one.hold for one in some if one.hold is not None})
    stale = [one.hold is not None and one.hold not in held for one in some]
    # The last word about a job counts: a statement cannot meet one row twice.
    newest = {one.job_id: one.size for one, late in zip(some, stale, strict=True) if not late}
    rows = [
        {"job_id": job_id, "size": size.size, "index_size": size.index_size, "final": size.final}
        for job_id, size in sorted(newest.items())
    ]
    if rows:
        await connection.execute(_STORE[connection.dialect.name], rows)
    return [StaleHold("another server holds the host") if late else None for late in stale]


def _store_by(insert: Any) -> Any:
    statement = insert(log_offset)
    values = {name: statement.excluded[name] for name in ("size", "index_size", "final")}
    return statement.on_conflict_do_update(index_elements=["job_id"], set_=values)


_STORE = {"sqlite": _store_by(sqlite_insert), "postgresql": _store_by(pg_insert)}


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def _put(file: BinaryIO, start: int, data: bytes) -> None:
    file.seek(start)
    file.write(data)
    file.flush()
    os.fdatasync(file.fileno())


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _index_of(file: BinaryIO, index_size: int, size: int) -> int:
    """How many bytes of the index are about the first `size` bytes of the log."""
    file.seek(0)
    raw = file.read(index_size // _RECORD.size * _RECORD.size)
    return sum(_RECORD.size for at, _ in _RECORD.iter_unpack(raw) if at < size)


def _last(file: BinaryIO, index_size: int) -> float | None:
    """The instant of the last committed record."""
    if index_size < _RECORD.size:
        return None
    file.seek(index_size - _RECORD.size)
    raw = file.read(_RECORD.size)
    return _RECORD.unpack(raw)[1] if len(raw) == _RECORD.size else None


def _news(records: Sequence[tuple[int, float]], last: float | None) -> list[tuple[int, float]]:
    """Without those that only repeat the instant before: where pieces are cut must not decide what the index holds."""
    kept = []
    for at, instant in records:
        if instant != last:
            kept.append((at, instant))
            last = instant
    return kept


def _marks_between(file: BinaryIO, count: int, start: int, end: int) -> tuple[tuple[int, float], ...]:
    """The marks of [start, end) and the last one before it, found by bisection."""

    def offset_of(n: int) -> int:
        file.seek(n * _RECORD.size)
        return _RECORD.unpack(file.read(_RECORD.size))[0]

    first = max(0, bisect.bisect_right(range(count), start, key=offset_of) - 1)
    last = bisect.bisect_left(range(count), end, key=offset_of)
    file.seek(first * _RECORD.size)
    raw = file.read(max(0, last - first) * _RECORD.size)
    return tuple((at, instant) for at, instant in _RECORD.iter_unpack(raw) if 0.0 <= instant <= _LATEST)
