"""`~/.dstack/config.yml`: read, written as a whole, readable by its owner only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dstack.api import config
from dstack.api.config import ProjectEntry
from dstack.errors import DstackError

MAIN = ProjectEntry("main", "http://127.0.0.1:3000", "tok", True)
OTHER = ProjectEntry("other", "https://dstack.example.com/base", "tok2")


def test_what_is_saved_is_loaded(tmp_path: Path):
    path = tmp_path / "deep" / "config.yml"
    config.save([MAIN, OTHER], path)
    assert config.load(path) == [MAIN, OTHER]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["config.yml"]


def test_without_a_file_there_are_no_projects(tmp_path: Path):
    assert config.load(tmp_path / "config.yml") == []


@pytest.mark.parametrize(
    "text",
    [
        "projects:\n- name: main\n  url: http://127.0.0.1:3000\n  token: 'a: b'\n  default: true\n",
        'projects: [{name: main, url: "http://h", token: x}]\n',
        "projects:\n  - name: main\n    url: http://h:1\n    token: 12345678\n",
        "projects:\n- name: main\n  url: http://h\n  token: 0x1f\n",
        "projects:\n- name: main # the first\n  url: http://h\n  token: x\n",
        "projects:\n- name: main\n  url: http://h\n  token: 2026-11-21\n",
        "projects:\n- name: m\n  url: http://h\n  token: abc-def\n- name: b\n  url: c\n  token: e\n  default: true\n",
    ],
)
def test_the_quick_way_never_reads_anything_else_than_yaml_does(text: str):
    quick = config._quick(text)
    slow = config._entries(yaml.safe_load(text), Path("config.yml"))
    assert quick is None or quick == slow


def test_a_file_as_this_program_writes_it_needs_no_yaml(tmp_path: Path):
    path = tmp_path / "config.yml"
    config.save([MAIN, OTHER], path)
    assert config._quick(path.read_text()) == [MAIN, OTHER]


def test_an_entry_without_a_token_is_told_by_its_place(tmp_path: Path):
    path = tmp_path / "config.yml"
    path.write_text("projects:\n- name: main\n  url: http://h\n")
    with pytest.raises(DstackError, match=r"projects\[0\]\.token: is missing"):
        config.load(path)


def test_a_new_default_takes_the_place_of_the_old():
    entries = config.with_entry([MAIN], ProjectEntry("other", "u", "t", True))
    assert [(entry.name, entry.default) for entry in entries] == [("main", False), ("other", True)]


def test_a_known_project_is_replaced_in_its_place():
    entries = config.with_entry([MAIN, OTHER], ProjectEntry("main", "u", "t", True))
    assert [entry.url for entry in entries] == ["u", OTHER.url]


def test_tokens_do_not_show_where_entries_are_printed():
    assert "tok" not in repr(MAIN)


def test_a_file_that_cannot_be_written_is_named_with_what_does_without_it():
    with pytest.raises(DstackError, match=r"^/proc/nowhere/config.yml cannot be written: ") as told:
        config.save([MAIN], Path("/proc/nowhere/config.yml"))
    assert "DSTACK_SERVER_URL" in (told.value.hint or "")
