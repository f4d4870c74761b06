"""A log of which something is missing says so: at its end, or where the disk has no room for that, in the report."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstack.agent import docker_logs, logfile
from dstack.agent.docker_logs import CUT, WHOLE, LogSink
from dstack.agent.logfile import LogWriter
from dstack.agent.machine import Ending, Task, new_task
from dstack.agentapi.wire import TaskSpec

LOST = b"\n[dstack] 6 bytes of log were lost: the disk was full\n"


def task(folder: Path) -> Task:
    return new_task(TaskSpec(id="t"), str(folder), "boot")


def log_of(folder: Path) -> bytes:
    return (folder / "log").read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True, check=False).returncode:
        pytest.skip("needs root to make a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # writers of tests have it open until they are collected


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as f, pytest.raises(OSError, match="No space"):
        while True:
            f.write(b"x" * resource.getpagesize())
    return path


def test_a_log_whose_end_may_be_missing_says_so_once_and_on_a_line_of_its_own(tmp_path):
    (tmp_path / "log").write_bytes(b"half a line")
    first, second = task(tmp_path), task(tmp_path)  # of an agent that died before it had stored the end, and the next
    for t in (first, second):
        t.log_cut = "somebody was killed"
        t.end(Ending(0))
    assert log_of(tmp_path) == b"half a line\n[dstack] The end of this log may be missing: somebody was killed\n"
    assert second.report.log_size == len(log_of(tmp_path))


@pytest.mark.root
def test_what_was_lost_on_a_full_disk_is_told_also_when_the_job_prints_nothing_more(small_disk):
    writer = LogWriter(str(small_disk))
    writer.write(b"kept", 1.0)
    writer.write(b"." * (resource.getpagesize() - len(b"kept")), 1.0)  # the rest of the page
    filler = fill(small_disk)
    writer.write(b"lost..", 2.0)
    filler.unlink()
    writer.finish(3.0)
    assert log_of(small_disk).startswith(b"kept") and log_of(small_disk).endswith(LOST)


@pytest.mark.root
def test_what_was_lost_is_known_to_the_writer_after_one_that_died(small_disk):
    sink = LogSink(str(small_disk), 0)
    sink.take(b"." * resource.getpagesize(), 1.0)
    filler = fill(small_disk)
    sink.take(b"lost..", 2.0)
    sink.close()
    filler.unlink()
    LogSink(str(small_disk), 0).finish()
    assert log_of(small_disk).endswith(LOST)


@pytest.mark.root
def test_a_job_that_ends_while_its_disk_is_full_tells_in_its_message_what_was_lost(small_disk):
    sink = LogSink(str(small_disk), 0)
    sink.take(b"." * resource.getpagesize(), 1.0)
    fill(small_disk)
    sink.take(b"lost..", 2.0)
    sink.finish()
    t = task(small_disk)
    t.log_lost, flags = docker_logs.end_of(str(small_disk)) or (0, 0)
    t.end(Ending(0, message="It ended"))
    assert (t.log_lost, flags) == (6, WHOLE)
    assert t.report.message == "It ended. 6 bytes of log were lost: the disk was full"
    assert t.report.log_size == resource.getpagesize()


@pytest.mark.root
def test_a_word_of_what_was_lost_is_in_the_log_as_a_whole_or_not_at_all(small_disk):
    writer = LogWriter(str(small_disk))
    writer.write(b"." * (resource.getpagesize() - 10), 1.0)
    fill(small_disk)
    writer.write(b"." * 12, 2.0)
    assert (writer.lost, writer.size) == (2, resource.getpagesize())
    os.truncate(small_disk / "log", writer.size - 5)
    writer.size -= 5
    writer.write(b"more", 3.0)  # there is room for the beginning of the word
    assert writer.lost == 6 and logfile.size(str(small_disk)) == resource.getpagesize() - 5


def test_that_something_may_be_missing_stays_known_over_the_next_writer_and_that_all_was_taken_does_not(tmp_path):
    first = LogSink(str(tmp_path), 0)
    first.take(b"one\n", 1.0)
    first.close()
    docker_logs.set_flags(str(tmp_path), CUT | WHOLE)
    second = LogSink(str(tmp_path), 0)
    assert docker_logs.end_of(str(tmp_path)) == (0, CUT)
    second.finish()
    assert docker_logs.end_of(str(tmp_path)) == (0, CUT | WHOLE)
    assert log_of(tmp_path) == b"one\n"


def test_the_position_of_an_agent_of_before_tells_nothing_of_the_end(tmp_path):
    LogSink(str(tmp_path), 0).close()
    os.truncate(tmp_path / "log.pos", docker_logs.END_AT)
    assert docker_logs.end_of(str(tmp_path)) is None
