"""A data folder and a SQLite file have one server."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.errors import DstackError
from dstack.server.exclusive import exclusive


def test_a_second_server_in_one_folder_is_refused(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'a' / 'data' / 'sqlite.db'}"
    with exclusive(tmp_path / "a", url):
        with pytest.raises(DstackError, match=r"already uses .*/a$") as caught, exclusive(tmp_path / "a", url):
            pass
        assert "DSTACK_SERVER_DIR" in (caught.value.hint or "")


def test_a_second_server_on_one_sqlite_file_is_refused_whatever_its_folder_and_the_files_name(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    with exclusive(tmp_path / "a", f"sqlite:///{tmp_path / 'a' / 'db'}"):
        for name in ("a", "link"):
            other = exclusive(tmp_path / "b", f"sqlite:///{tmp_path / name / 'db'}")
            with pytest.raises(DstackError, match="already uses the database") as caught, other:
                pass
            assert "PostgreSQL" in (caught.value.hint or "")


def test_both_are_free_after_the_end(tmp_path: Path):
    for _ in range(2):
        with exclusive(tmp_path / "a", f"sqlite:///{tmp_path / 'db'}"):
            pass


def test_servers_on_postgresql_only_hold_their_folders(tmp_path: Path):
    url = "postgresql+asyncpg://db.example/dstack"
    with exclusive(tmp_path / "a", url), exclusive(tmp_path / "b", url):
        pass
