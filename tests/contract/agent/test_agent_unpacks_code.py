"""Code that comes with a task: sent as a blob, unpacked before the job starts, never outside of its folder."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from dstack.agentapi.client import AgentRefused, hash_of
from dstack.agentapi.wire import CREATE_FAILED, FAILED, CodeArchive


def archive(*entries: tuple[str, bytes | str, str]) -> bytes:
    """A gzipped tar of (name, content or link target, kind) entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            if kind == "file":
                data = content.encode() if isinstance(content, str) else content
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, io.BytesIO(data))
            else:
                entry.type = {"symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}[kind]
                entry.linkname = str(content)
                tar.addfile(entry)
    return out.getvalue()


async def send(agent, data: bytes) -> str:
    await agent.client.put_blob(hash_of(data), data)
    return hash_of(data)


async def test_an_archive_is_unpacked_below_the_working_directory_with_modes_and_links(agent):
    data = archive(("dir/run.sh", "#!/bin/sh\necho hello", "file"), ("link", "dir/run.sh", "symlink"))
    sha = await send(agent, data)
    report, log = await agent.run("./code/link", archives=[CodeArchive(sha, "code")])
    assert log == b"hello\n", report


async def test_an_absolute_target_is_taken_as_it_is(agent, tmp_path):
    target = str(tmp_path / "abs") if agent.runtime == "process" else "/deep/abs"
    sha = await send(agent, archive(("f", "content", "file")))
    _, log = await agent.run(f"cat {target}/f", archives=[CodeArchive(sha, target)])
    assert log == b"content"


@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", "x", "file")],
        [("/evil", "x", "file")],
        [("a/../../evil", "x", "file")],
        [("out", "/etc", "symlink")],
        [("a/out", "../../etc", "symlink")],
        [("here", "sub", "symlink"), ("here/evil", "x", "file")],
        [("out", "../evil", "link")],
        [("pipe", "", "fifo")],
    ],
    ids=["parent", "absolute", "hidden-parent", "link-absolute", "link-parent", "through-link", "hard-link", "fifo"],
)
async def test_an_archive_that_would_leave_its_folder_is_refused_and_nothing_runs(agent, entries):
    sha = await send(agent, archive(*entries))
    report, log = await agent.run("echo never", archives=[CodeArchive(sha, "code")])
    assert (report.state, report.reason, log) == (FAILED, CREATE_FAILED, b"")
    assert "refused" in report.message


async def test_an_archive_that_is_none_is_refused(agent):
    sha = await send(agent, b"this is no tar")
    report, _ = await agent.run("echo never", archives=[CodeArchive(sha, "code")])
    assert (report.state, report.reason) == (FAILED, CREATE_FAILED)


async def test_an_archive_that_was_never_sent_fails_the_start_and_says_so(agent):
    report, _ = await agent.run("echo never", archives=[CodeArchive("0" * 64, "code")])
    assert report.reason == CREATE_FAILED and "not sent" in report.message


async def test_a_blob_is_kept_only_under_its_own_hash(agent):
    data = b"some bytes" * 100_000
    sha = hashlib.sha256(data).hexdigest()
    assert not await agent.client.has_blob(sha)
    with pytest.raises(AgentRefused) as e:
        await agent.client.put_blob("0" * 64, data)
    assert (e.value.status, e.value.code) == (400, "wrong_hash")
    await agent.client.put_blob(sha, data)
    assert await agent.client.has_blob(sha) and not await agent.client.has_blob("0" * 64)


async def test_a_blob_may_be_sent_from_a_file(agent, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    await agent.client.put_blob(sha, path)
    assert (agent.state / "blobs" / sha).read_bytes() == path.read_bytes()
