"""Keys of hosts, read on the person's machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.cli.host_keys import with_keys
from dstack.errors import ConfigurationError
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.reading import read
from dstack.server.auth.keys import new_key_pair

PAIR = new_key_pair("me")


def configuration(folder: Path, text: str) -> FleetConfiguration:
    """The fleet of a file, with its keys."""
    whole = f"type: fleet\nname: lab\nssh_config:\n  user: u\n{text}"
    reading = read(whole, "fleet.yml")
    assert isinstance(reading.configuration, FleetConfiguration)
    return with_keys(reading.configuration, folder, lambda *path: reading.at("fleet.yml", *path))


def test_a_key_file_becomes_a_key_pair(tmp_path: Path) -> None:
    (tmp_path / "id").write_text(PAIR.private)
    ssh = configuration(tmp_path, "  identity_file: id\n  hosts: [a]\n").ssh_config
    assert ssh is not None and ssh.ssh_key is not None
    assert ssh.ssh_key.private == PAIR.private
    assert ssh.ssh_key.public.split() == PAIR.public.split()[:2]


def test_hosts_and_login_nodes_have_keys_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "id").write_text(PAIR.private)
    hosts = "  hosts:\n    - hostname: a\n      identity_file: id\n"
    proxy = "  proxy_jump: {hostname: login, user: u, identity_file: id}\n"
    ssh = configuration(tmp_path, proxy + hosts).ssh_config
    assert ssh is not None and ssh.proxy_jump is not None
    assert ssh.hosts[0].ssh_key is not None and ssh.proxy_jump.ssh_key is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "Unable to read the SSH key at id: No such file or directory"),
        (PAIR.public, "Unable to use the SSH key at id: This is a public key; the private one is needed"),
        (b"\xff\xfe\x00", "Unable to read the SSH key at id: it is not text"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_file_line_and_field(
    tmp_path: Path, content: str | bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "id").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as refused:
        configuration(tmp_path, "  identity_file: id\n  hosts: [a]\n")
    assert refused.value.message == f"fleet.yml:5:18: ssh_config.identity_file: {said}"


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "id").write_bytes(locked)
    with pytest.raises(ConfigurationError, match="The private key is protected by a passphrase"):
        configuration(tmp_path, "  identity_file: id\n  hosts: [a]\n")


def test_the_same_host_twice_is_refused_by_name() -> None:
    text = "type: fleet\nssh_config:\n  user: u\n  identity_file: k\n  hosts: [a, b, A]\n"
    with pytest.raises(ConfigurationError, match=r"hosts\[2\]: a is the same host as `hosts\[0\]`"):
        read(text, "fleet.yml")


def test_an_internal_address_must_be_private() -> None:
    text = "type: fleet\nssh_config:\n  user: u\n  identity_file: k\n  hosts: [{hostname: a, internal_ip: 8.8.8.8}]\n"
    with pytest.raises(ConfigurationError, match=r"`8\.8\.8\.8` is a public address"):
        read(text, "fleet.yml")
