"""The log on disk: bytes, index, quota; and the engine's json-file on the way into it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from dstack.agent import logfile
from dstack.agent.docker_logs import POSITION, JsonFileTail, LogSink, instant
from dstack.agent.logfile import LogWriter, Quota


def test_a_quota_gives_what_is_left_within_any_hour():
    quota = Quota(100)
    assert quota.take(70, 0.0) == 70
    assert quota.take(70, 1800.0) == 30
    assert quota.take(1, 3599.0) == 0
    assert quota.take(100, 3660.0) == 70


def test_a_clock_that_is_set_back_does_not_keep_what_was_written_in_the_quota_for_longer_than_an_hour():
    quota = Quota(100)
    day = 24 * 3600.0
    assert quota.take(90, 10 * day) == 90
    assert quota.take(90, 9 * day) == 10  # no time has passed
    assert quota.take(90, 9 * day + 1800.0) == 0
    assert quota.take(90, 9 * day + 3660.0) == 90


def test_output_that_comes_a_little_late_counts_with_what_came_before_it():
    quota = Quota(100)
    assert [quota.take(40, 600.0), quota.take(40, 540.0), quota.take(40, 600.0)] == [40, 40, 20]
    assert quota.take(40, 540.0 + 3600.0) == 0
    assert quota.take(40, 600.0 + 3600.0) == 40


def test_no_quota_allows_everything():
    assert Quota(0).take(10**12, 0.0) == 10**12


def test_marks_are_relative_and_begin_with_the_record_that_covers_the_offset(tmp_path):
    writer = LogWriter(str(tmp_path))
    for n in range(3):
        writer.write(b"12345", 100.0 + n)
    assert logfile.marks(str(tmp_path), 0, 15, 256) == [(0, 100.0), (5, 101.0), (10, 102.0)]
    assert logfile.marks(str(tmp_path), 7, 15, 256) == [(0, 101.0), (3, 102.0)]
    assert logfile.marks(str(tmp_path), 0, 5, 256) == [(0, 100.0)]


def test_more_marks_than_fit_are_thinned(tmp_path):
    writer = LogWriter(str(tmp_path))
    for n in range(1000):
        writer.write(b"x", float(n))
    marks = logfile.marks(str(tmp_path), 0, 1000, 256)
    assert marks == [(n, float(n)) for n in range(0, 1000, 4)]  # of the whole piece, not of its beginning


def test_pieces_of_one_moment_share_a_record(tmp_path):
    writer = LogWriter(str(tmp_path))
    for n in range(100):
        writer.write(b"x", 100.0 + n / 10000)
    assert writer.index_size == logfile.RECORD.size


def test_what_was_written_since_an_instant_is_counted(tmp_path):
    writer = LogWriter(str(tmp_path))
    writer.write(b"old", 100.0)
    writer.write(b"newer", 200.0)
    assert logfile.written_since(str(tmp_path), 150.0) == 5
    assert logfile.written_since(str(tmp_path), 250.0) == 0


def line(text: str, second: int = 0) -> bytes:
    entry = {"log": text, "stream": "stdout", "time": f"2026-01-01T00:00:{second:02}.5Z"}
    return json.dumps(entry).encode() + b"\n"


def drain(tail: JsonFileTail) -> None:
    while tail.step():
        pass


def read(folder: Path) -> bytes:
    return (folder / "log").read_bytes()


def test_a_tail_follows_the_engines_file_over_rotations(tmp_path):
    source = tmp_path / "c-json.log"
    tail = JsonFileTail(str(source), LogSink(str(tmp_path), 0))
    for n in range(4):
        with source.open("ab") as f:
            f.write(line(f"first {n}\r\n"))
        drain(tail)
        with source.open("ab") as f:
            f.write(line(f"second {n}\r\n"))  # written after the last look, then rotated away
        for older in (2, 1):
            if (rotated := tmp_path / f"c-json.log.{older}").exists():
                rotated.rename(tmp_path / f"c-json.log.{older + 1}")
        source.rename(tmp_path / "c-json.log.1")
    source.write_bytes(line("end\r\n"))
    drain(tail)
    assert read(tmp_path) == b"".join(b"first %d\nsecond %d\n" % (n, n) for n in range(4)) + b"end\n"


def test_a_tail_that_died_goes_on_where_it_committed_also_in_a_rotated_file(tmp_path):
    source = tmp_path / "c-json.log"
    source.write_bytes(line("one\r\n") + line("two\r\n")[:-20])
    tail = JsonFileTail(str(source), LogSink(str(tmp_path), 0))
    drain(tail)
    source.write_bytes(line("one\r\n") + line("two\r\n") + line("three\r\n"))
    source.rename(tmp_path / "c-json.log.1")
    source.write_bytes(line("four\r\n"))
    with (tmp_path / "log").open("ab") as f:
        f.write(b"written, but not committed")
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    assert read(tmp_path) == b"one\ntwo\nthree\nfour\n"


def test_a_tail_that_was_away_for_too_long_says_in_the_log_that_something_is_missing(tmp_path):
    source = tmp_path / "c-json.log"
    source.write_bytes(line("seen\r\n"))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    keep_the_inode = source.open("rb")  # as the engine's other files would
    source.unlink()
    source.write_bytes(line("after the gap\r\n"))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    keep_the_inode.close()
    first, note, last = [part for part in read(tmp_path).split(b"\n") if part]
    assert (first, last) == (b"seen", b"after the gap")
    assert note.startswith(b"[dstack] An unknown number of bytes of log were lost")


def test_another_file_with_the_number_of_the_one_that_was_read_is_not_taken_for_it(tmp_path):
    source = tmp_path / "c-json.log"
    source.write_bytes(line("seen\r\n", 1))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    source.write_bytes(line("news\r\n", 2) + line("more\r\n", 3))  # as long, in the same inode
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    first, note, *rest = [part for part in read(tmp_path).split(b"\n") if part]
    assert note.startswith(b"[dstack] An unknown number of bytes of log were lost")
    assert (first, rest) == (b"seen", [b"news", b"more"])


def test_a_position_that_an_older_agent_left_is_gone_on_from(tmp_path):
    source = tmp_path / "c-json.log"
    source.write_bytes(line("one\r\n", 1))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    position = tmp_path / "log.pos"
    position.write_bytes(position.read_bytes()[: POSITION.size])
    with source.open("ab") as f:
        f.write(line("two\r\n", 2))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    assert read(tmp_path) == b"one\ntwo\n"


def test_a_tail_that_comes_when_the_engine_has_begun_to_drop_files_says_so(tmp_path):
    source = tmp_path / "c-json.log"
    for name in ("c-json.log.4", "c-json.log.3", "c-json.log.2", "c-json.log.1", "c-json.log"):
        (tmp_path / name).write_bytes(line(f"of {name}\r\n"))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    note, *rest = [part for part in read(tmp_path).split(b"\n") if part]
    assert note.startswith(b"[dstack] An unknown number of bytes of log were lost")
    assert (len(rest), rest[-1]) == (5, b"of c-json.log")


def test_a_torn_line_of_a_killed_engine_is_skipped(tmp_path):
    source = tmp_path / "c-json.log"
    source.write_bytes(line("a\r\n") + b'{"log":"tor\n' + line("b\r\n"))
    drain(JsonFileTail(str(source), LogSink(str(tmp_path), 0)))
    assert read(tmp_path) == b"a\nb\n"


def test_the_terminals_crlf_is_undone_exactly_also_across_pieces(tmp_path):
    sink = LogSink(str(tmp_path), 0)
    for piece in (b"a\r", b"\nb\r\r\n", b"50%\r", b"100%\r\n", b"end\r"):
        sink.write(piece, 1.0)
        sink.commit(1, 0)
    assert read(tmp_path) == b"a\nb\r\n50%\r100%\nend"
    sink.close()
    again = LogSink(str(tmp_path), 0)
    again.finish()
    assert read(tmp_path) == b"a\nb\r\n50%\r100%\nend\r"


def test_the_quota_counts_what_was_written_before_the_agent_was_started_again(tmp_path):

    sink = LogSink(str(tmp_path), 10)
    sink.write(b"12345678", time.time())
    sink.commit(1, 0)
    sink.close()
    again = LogSink(str(tmp_path), 10)
    again.write(b"abcdef", time.time())
    assert again.over_quota and os.stat(tmp_path / "log").st_size == 10


def test_an_engines_time_is_read_with_its_fraction_and_never_is_none():
    assert instant("1970-01-01T00:01:00.25Z") == 60.25
    assert instant("0001-01-01T00:00:00Z") is None
    assert instant("") is None
