"""The generated SSH configuration: blocks come and go, and what others wrote is not touched."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from dstack.ssh.config import SshConfig, control_path, entry, included

FOREIGN = b"# mine, \xff not UTF-8\r\nHost work\n    User me\nInclude other\n"


def some(folder: Path, *runs: str) -> SshConfig:
    config = SshConfig(folder / "ssh")
    for run in runs:
        config.put(run, f"id-{run}", entry([run], [("HostName", "127.0.0.1")]), os.getpid())
    return config


def a_dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_each_run_has_its_entries_until_it_is_left(tmp_path: Path):
    config = some(tmp_path, "one", "two")
    assert config.runs() == ["one", "two"]
    assert config.leave("one", os.getpid()) is True
    assert config.runs() == ["two"]
    assert "one" not in config.path.read_text()


def test_entries_stay_while_another_command_is_attached(tmp_path: Path):
    config = some(tmp_path, "one")
    config.put("one", "id-one", entry(["one"], [("Port", 22)]), os.getppid())
    assert config.leave("one", os.getpid()) is False
    assert config.runs() == ["one"]


def test_entries_of_a_command_that_was_killed_go_with_the_next_change(tmp_path: Path):
    config = some(tmp_path)
    config.put("gone", "id", entry(["gone"], [("Port", 22)]), a_dead_pid())
    some(tmp_path, "one")
    assert "gone" not in config.path.read_text()


def test_another_attempt_of_a_run_takes_the_place_of_the_one_before(tmp_path: Path):
    config = some(tmp_path, "one")
    config.put("one", "id-2", entry(["one"], [("Port", 2222)]), os.getpid())
    assert config.path.read_text().count("Host one") == 1
    assert "Port 2222" in config.path.read_text()


def enter(folder: Path, number: int) -> None:
    SshConfig(folder / "ssh").put(f"run-{number}", "id", entry([f"run-{number}"], [("Port", 22)]), os.getppid())


def test_several_that_write_at_once_lose_nothing(tmp_path: Path):
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(enter, [tmp_path] * 20, range(20)))
    assert sorted(SshConfig(tmp_path / "ssh").runs()) == sorted(f"run-{n}" for n in range(20))


def test_the_file_is_the_owners_alone(tmp_path: Path):
    assert some(tmp_path, "one").path.stat().st_mode & 0o777 == 0o600


def test_openssh_reads_what_is_written_with_spaces_and_percents_in_paths(tmp_path: Path):
    config = some(tmp_path)
    key = tmp_path / "a 100% key"
    config.put("one", "id", entry(["one"], [("IdentityFile", key), ("Port", 2222)]), os.getpid())
    done = subprocess.run(["ssh", "-G", "-F", str(config.path), "one"], capture_output=True, text=True, check=True)
    assert "port 2222\n" in done.stdout
    assert f"identityfile {key}\n" in done.stdout.replace("%%", "%")


def test_it_is_included_at_the_top_once_and_all_else_stays_byte_for_byte(tmp_path: Path):
    own, ours = tmp_path / ".ssh" / "config", tmp_path / "ssh" / "config"
    own.parent.mkdir()
    own.write_bytes(FOREIGN)
    own.chmod(0o640)
    assert included(own, ours) is True
    assert included(own, ours) is False
    assert own.read_bytes() == f'Include "{ours}"\n\n'.encode() + FOREIGN
    assert own.stat().st_mode & 0o777 == 0o640


def test_a_config_that_is_a_link_stays_one(tmp_path: Path):
    own, real = tmp_path / "config", tmp_path / "dotfiles"
    real.write_bytes(FOREIGN)
    own.symlink_to(real)
    included(own, tmp_path / "ours")
    assert own.is_symlink()
    assert real.read_bytes().endswith(FOREIGN)


@pytest.mark.parametrize("line", ['Include "{}"', "Include {}", "include={}", "  INCLUDE  a {} b"])
def test_an_include_that_is_there_already_is_seen(tmp_path: Path, line: str):
    own, ours = tmp_path / "config", tmp_path / "ours"
    own.write_text(line.format(ours) + "\nHost x\n")
    assert included(own, ours) is False


def test_an_include_for_some_hosts_only_does_not_count(tmp_path: Path):
    own, ours = tmp_path / "config", tmp_path / "ours"
    own.write_text(f"Host x\n  Include {ours}\n")
    assert included(own, ours) is True


def test_what_is_no_file_is_said_by_its_name(tmp_path: Path):
    os.mkfifo(tmp_path / "config")
    with pytest.raises(OSError, match="is no file") as refused:
        included(tmp_path / "config", tmp_path / "ours")
    assert refused.value.filename == str(tmp_path / "config")


def test_the_socket_has_a_path_that_is_short_enough_for_one(tmp_path: Path):
    long = tmp_path / ("x" * 100)
    assert len(str(control_path(long, "run"))) < 90
    assert control_path(Path("/h"), "run") == Path("/h/run.control.sock")
