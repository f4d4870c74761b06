"""Local files as archives: the right ones, the same bytes each time, within the limit."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from dstack.cli.packing import pack
from dstack.errors import ConfigurationError


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_a_file_goes_into_the_folder_of_its_target_under_the_name_of_its_target(tmp_path: Path):
    tree(tmp_path, "train.py")
    archive = pack("train.py", "/app/main.py", tmp_path)
    assert archive.path == "/app"
    assert names(archive.data) == ["main.py"]


def test_a_directory_goes_with_its_contents_below_its_target(tmp_path: Path):
    tree(tmp_path, "data/a.txt", "data/deep/b.txt")
    archive = pack("./data", "/root/data", tmp_path)
    assert archive.path == "/root/data"
    assert names(archive.data) == ["a.txt", "deep", "deep/b.txt"]


def test_the_same_files_have_the_same_hash_whoever_touched_them(tmp_path: Path):
    tree(tmp_path, "a/x", "a/y", "b/y", "b/x")
    for name in "xy":
        (tmp_path / "b" / name).write_text(f"a/{name}")
        os.utime(tmp_path / "b" / name, (1, 1))
    first = pack("a", ".", tmp_path).sha256
    assert pack("b", ".", tmp_path).sha256 == first
    (tmp_path / "b" / "y").write_text("other")
    assert pack("b", ".", tmp_path).sha256 != first


def test_what_is_ignored_stays_at_home(tmp_path: Path):
    tree(tmp_path, "src/keep.py", "src/a.log", "src/deep/b.log", "src/deep/keep.log", "src/out/big", "src/.git/HEAD")
    (tmp_path / "src/.gitignore").write_text("*.log\nout/\n")
    (tmp_path / "src/deep/.dstackignore").write_text("!keep.log\n")
    kept = names(pack("src", ".", tmp_path).data)
    assert kept == [".gitignore", "deep", "deep/.dstackignore", "deep/keep.log", "keep.py"]


def test_ignore_files_above_a_directory_count_too(tmp_path: Path):
    tree(tmp_path, "data/a.txt", "data/b.log")
    (tmp_path / ".gitignore").write_text("/data/*.log\n")
    assert names(pack("data", "/d", tmp_path).data) == ["a.txt"]


@pytest.mark.parametrize(
    ("rule", "ignored"),
    [
        ("build", ["build/x", "a/build/x"]),
        ("/build", ["build/x"]),
        ("a/**/c", ["a/c", "a/b/c"]),
        ("**/c", ["a/c", "a/b/c"]),
        ("*.p[yc]", ["m.py"]),
        ("m.??", ["m.py"]),
        ("# m.py", []),
        ("", []),
    ],
)
def test_rules_are_read_as_git_reads_them(tmp_path: Path, rule: str, ignored: list[str]):
    tree(tmp_path, "build/x", "a/build/x", "a/c", "a/b/c", "m.py")
    files = {"build/x", "a/build/x", "a/c", "a/b/c", "m.py"}
    (tmp_path / ".gitignore").write_text(rule + "\n")
    assert files & set(names(pack(".", ".", tmp_path).data)) == files - set(ignored)


def test_a_rule_that_is_broken_ignores_nothing(tmp_path: Path):
    (tmp_path / ".gitignore").write_text("[z-a]\n")
    (tmp_path / "z-a").write_text("")
    assert "z-a" in names(pack(".", "x", tmp_path).data)


def test_links_stay_links(tmp_path: Path):
    tree(tmp_path, "d/a")
    (tmp_path / "d/link").symlink_to("a")
    with tarfile.open(fileobj=io.BytesIO(pack("d", ".", tmp_path).data)) as tar:
        assert tar.getmember("link").linkname == "a"


def test_too_much_is_refused_with_the_largest_files(tmp_path: Path):
    tree(tmp_path, "d/small")
    (tmp_path / "d/large.bin").write_bytes(b"x" * 3000)
    with pytest.raises(ConfigurationError, match="limit for uploaded files") as refused:
        pack("d", ".", tmp_path, limit_bytes=2000)
    assert "large.bin" in str(refused.value.hint)


def test_what_does_not_exist_is_refused_with_where_it_was_sought(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"files: nope does not exist") as refused:
        pack("nope", ".", tmp_path)
    assert str(tmp_path) in str(refused.value.hint)
