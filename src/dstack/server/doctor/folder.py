"""Checks of the server's folders: room on the disk, and logs that are as long as the database says."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dstack.errors import DstackError
from dstack.server.doctor.finding import Finding, counted, some
from dstack.server.logs.storage import elsewhere
from dstack.server.settings import Settings
from dstack.server.store.tables import TABLES, log_offset

MIB, GIB = 1024**2, 1024**3
LEAST_BYTES = GIB
LEAST_SHARE = 0.05


def disks(settings: Settings) -> list[Finding]:
    """Room in the server's folder, and in the one that it shares with others."""
    found = [_disk("disk", settings.data_dir)]
    return found if settings.shared_dir is None else [*found, _disk("shared", settings.shared_dir)]


def _disk(name: str, folder: Path) -> Finding:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as e:
        return Finding(name, False, f"{folder}: {e.strerror}")
    share = usage.free / usage.total
    enough = usage.free >= LEAST_BYTES and share >= LEAST_SHARE
    message = f"{_size_in_words(usage.free)} of {_size_in_words(usage.total)} are free at {folder}"
    return Finding(name, enough, message, (), {"free_bytes": usage.free, "total_bytes": usage.total})


async def logs(connection: AsyncConnection, settings: Settings) -> Finding:
    """Each log has at least the bytes that were acknowledged to its host: those are nowhere else any more."""
    try:
        wrong = await elsewhere(connection, settings.shared_dir)
    except DstackError as e:
        wrong = e.message
    if wrong:
        return Finding("logs", False, wrong)
    folder = settings.storage_dir / "logs"
    job = TABLES["job"]
    stored = select(log_offset.c.job_id, log_offset.c.size, log_offset.c.index_size, job.c.project_id, job.c.run_name)
    stored = stored.join(job, job.c.id == log_offset.c.job_id).where(log_offset.c.size > 0)
    count, lines = 0, []
    for one in await connection.execute(stored):
        count += 1
        for suffix, size in ((".log", one.size), (".idx", one.index_size)):
            path = folder / one.project_id / f"{one.job_id}{suffix}"
            have = _size(path)
            if have < size:
                lines.append(f"{path} of run {one.run_name} has {have} of {size} bytes")
    data = {"logs": count, "damaged": len(lines)}
    if not lines:
        return Finding("logs", True, f"{counted(count, 'log is', 'logs are')} whole", (), data)
    return Finding("logs", False, f"{len(lines)} files of {count} logs are damaged or missing", some(lines), data)


def _size_in_words(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
