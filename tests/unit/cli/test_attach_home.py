"""Where attaching keeps its files, and where it puts them when it must not write there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.cli.attach_home import AttachHome, public_key_of
from dstack.errors import DstackError
from dstack.server.auth.keys import new_key_pair

ME = {"ssh_private_key": "PRIVATE", "ssh_public_key": "ssh-ed25519 AAAA me"}


def test_the_key_of_the_server_is_kept_for_its_owner_alone(tmp_path: Path):
    home = AttachHome(tmp_path)
    key = home.identity(ME, "a-token", None)
    assert key == tmp_path / ".dstack" / "ssh" / "05d13c17"
    assert key.read_text() == "PRIVATE\n"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.with_suffix(".pub").read_text() == "ssh-ed25519 AAAA me\n"


def test_a_new_key_of_the_server_takes_the_place_of_the_old_one(tmp_path: Path):
    home = AttachHome(tmp_path)
    home.identity(ME, "a-token", None)
    key = home.identity(ME | {"ssh_private_key": "ANOTHER"}, "a-token", None)
    assert key.read_text() == "ANOTHER\n"


def test_without_a_key_of_the_server_the_flag_is_named(tmp_path: Path):
    with pytest.raises(DstackError) as refused:
        AttachHome(tmp_path).identity({"ssh_private_key": None}, "a-token", None)
    assert "--ssh-identity" in (refused.value.hint or "")


def test_where_the_own_folder_cannot_be_written_a_temporary_one_serves_and_goes(tmp_path: Path):
    (tmp_path / ".dstack").write_text("no folder")
    home = AttachHome(tmp_path)
    try:
        assert str(tmp_path / ".dstack" / "ssh") in home.notes[0] and "cannot be written" in home.notes[0]
        assert home.arguments == ["-F", str(home.config.path)]
        assert home.identity(ME, "a-token", None).exists()
        assert not (tmp_path / ".ssh").exists()
    finally:
        home.close()
    assert not home.config.folder.exists()


def test_where_the_persons_configuration_cannot_be_changed_that_is_said(tmp_path: Path):
    (tmp_path / ".ssh").write_text("no folder")
    home = AttachHome(tmp_path)
    assert home.arguments == ["-F", str(tmp_path / ".dstack" / "ssh" / "config")]
    assert f"{tmp_path / '.ssh' / 'config'} cannot be changed" in home.notes[0]


def test_the_public_half_of_a_key_is_read_beside_it_or_made_from_it(tmp_path: Path):
    pair, path = new_key_pair("me"), tmp_path / "key"
    path.write_text(pair.private)
    path.chmod(0o600)
    assert public_key_of(str(path)).split()[:2] == pair.public.split()[:2]
    (tmp_path / "key.pub").write_text("ssh-ed25519 BBBB beside\n")
    assert public_key_of(str(path)) == "ssh-ed25519 BBBB beside"


def test_what_is_no_key_is_named(tmp_path: Path):
    (tmp_path / "key").write_text("nothing")
    with pytest.raises(DstackError, match="not a private key"):
        public_key_of(str(tmp_path / "key"))
    with pytest.raises(DstackError, match="there is no such file"):
        public_key_of(str(tmp_path / "other"))
