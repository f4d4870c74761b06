"""What a node's container is told about the others."""

from __future__ import annotations

import subprocess

from dstack.agent.nodes_files import configuration, known_hosts
from dstack.agentapi.wire import NodeSsh

SSH = NodeSsh("private", "ssh-ed25519 AAAA", "host", "ssh-ed25519 BBBB", "10.0.0.1", ["10.0.0.1", "10.0.0.2"])


def settings(folder, address: str, before: str = "") -> dict[str, str]:
    """What OpenSSH makes of the file, before the lines that the image has."""
    (folder / "config").write_text(configuration(SSH) + before)
    said = subprocess.run(["ssh", "-G", "-F", folder / "config", address], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in said.stdout.splitlines() if " " in line)


def test_plain_ssh_to_a_node_takes_the_port_and_key_of_the_job(tmp_path):
    found = settings(tmp_path, "10.0.0.2")
    assert (found["port"], found["user"], found["identityfile"]) == ("10022", "root", "~/.ssh/dstack_job")
    assert found["stricthostkeychecking"] in ("yes", "true")


def test_other_hosts_are_reached_as_the_image_says(tmp_path):
    found = settings(tmp_path, "10.0.0.3", "Port 2200\nHost 10.0.0.3\n  User ann\n")
    assert (found["port"], found["user"]) == ("2200", "ann")
    assert settings(tmp_path, "10.0.0.2", "Port 2200\n")["port"] == "10022"


def test_every_node_is_known_by_the_same_key(tmp_path):
    assert known_hosts(SSH) == "[10.0.0.1]:10022 ssh-ed25519 BBBB\n[10.0.0.2]:10022 ssh-ed25519 BBBB\n"
