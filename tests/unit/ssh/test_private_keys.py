"""Private keys: which can be used, and what is said of those that cannot."""

from __future__ import annotations

import asyncssh
import pytest

from dstack.ssh.errors import AccessDenied
from dstack.ssh.host import Credentials
from dstack.ssh.keys import private_key, public_line

KEY = asyncssh.generate_private_key("ssh-ed25519")


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem"])
def test_openssh_and_pem_forms_are_read(form: str) -> None:
    text = KEY.export_private_key(form).decode()
    assert public_line(private_key(text)) == public_line(KEY)


def test_a_key_with_a_passphrase_is_told() -> None:
    text = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_private_key(
        "pkcs1-pem", passphrase="secret", cipher_name="aes256-cbc"
    )
    with pytest.raises(AccessDenied, match="protected by a passphrase"):
        private_key(text.decode())


def test_a_public_key_in_its_place_is_told() -> None:
    with pytest.raises(AccessDenied, match="the private one is needed"):
        private_key(KEY.export_public_key().decode())


def test_anything_else_is_told_without_being_repeated() -> None:
    with pytest.raises(AccessDenied, match="cannot be read") as told:
        private_key("hunter2 hunter2")
    assert "hunter2" not in told.value.message + (told.value.hint or "")


def test_keys_stay_out_of_representations() -> None:
    assert "PRIVATE" not in repr(Credentials(KEY.export_private_key().decode(), "PRIVATE"))
