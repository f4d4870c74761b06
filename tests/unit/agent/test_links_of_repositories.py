"""Links in repositories may lead anywhere; nothing of the archive is written through them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from dstack.agent.archives import put, unpack
from dstack.agent.machine import TaskFailed


def archive(path: Path, *members: tuple[str, str | None]) -> str:
    """Of (name, target of a link or None for a file)."""
    with tarfile.open(path, "w") as tar:
        for name, target in members:
            entry = tarfile.TarInfo(name)
            if target is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
            else:
                entry.size = 1
                tar.addfile(entry, io.BytesIO(b"x"))
    return str(path)


def test_a_repository_may_have_links_that_lead_out_and_files_may_not(tmp_path: Path):
    packed = archive(tmp_path / "a.tar", ("out", "/etc/hostname"), ("up", "../../x"))
    put(packed, str(tmp_path / "repo"), "error", str(tmp_path / "begun"))
    assert os.readlink(tmp_path / "repo/out") == "/etc/hostname"
    with pytest.raises(TaskFailed, match="leaves the folder"):
        unpack(packed, str(tmp_path / "files"))


@pytest.mark.parametrize("name", ["out/evil", "out"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str):
    outside = tmp_path / "outside"
    outside.mkdir()
    packed = archive(tmp_path / "a.tar", ("out", str(outside if "/" in name else outside / "evil")), (name, None))
    with pytest.raises(TaskFailed, match="link"):
        put(packed, str(tmp_path / "repo"), "error", str(tmp_path / "begun"))
    assert list(outside.iterdir()) == []


def test_a_folder_with_content_is_left_alone_or_an_error(tmp_path: Path):
    packed = archive(tmp_path / "a.tar", ("f", None))
    (tmp_path / "kept").write_text("mine")
    put(packed, str(tmp_path), "skip", str(tmp_path / "begun"))
    assert not (tmp_path / "f").exists()
    with pytest.raises(TaskFailed, match="is not empty"):
        put(packed, str(tmp_path), "error", str(tmp_path / "begun"))
