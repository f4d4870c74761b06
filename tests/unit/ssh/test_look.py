"""What one look at a host says, and how its lines are read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dstack.ssh.look import SCRIPT, Look, parse, version_of

SHELLS = ["sh", "bash", "busybox sh"]


def look(*lines: str) -> Look:
    """From lines as `key value`."""
    return parse("\n".join(line.replace(" ", "\t", 1) for line in lines))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_runs_in_every_shell_and_tells_this_machine(shell: str) -> None:
    command = shell.split()
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    done = subprocess.run([*command, "-s"], input=SCRIPT, capture_output=True, text=True, timeout=60)
    seen = parse(done.stdout)
    assert seen.has("uid") and seen.has("user") and seen.has("arch")
    assert seen.python is not None
    assert seen.disk_free_bytes
    assert done.returncode == 0 and "syntax" not in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tool_that_hangs_in_its_driver_is_given_up_and_told(shell: str, tmp_path: Path) -> None:
    command = shell.split()
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 600\n")
    tool.chmod(0o755)
    script = SCRIPT.replace('PATH="/usr/local/sbin', f'PATH="{tmp_path}:/usr/local/sbin')
    env = {**os.environ, "DSTACK_LOOK_PATIENCE_S": "1"}
    done = subprocess.run([*command, "-s"], input=script, capture_output=True, text=True, timeout=60, env=env)
    seen = parse(done.stdout)
    assert seen.get("nvidia_error") == "no answer within 1 s" and seen.has("arch")


def test_greetings_and_warnings_of_the_account_are_passed_over() -> None:
    seen = parse("Welcome to Ubuntu\tLTS!\nbash: warning: setlocale\nuid\t0\nuser\troot\n")
    assert seen.root and seen.get("user") == "root"
    assert set(seen.values) == {"uid", "user"}


def test_the_first_python_that_is_new_enough_is_taken() -> None:
    seen = look("python 3.6.8 /usr/bin/python3", "python 3.11.2 /usr/bin/python3.11")
    assert seen.python is not None and seen.python.path == "/usr/bin/python3.11"
    assert look("python 3.6.8 /usr/bin/python3").python is None


def test_what_is_no_address_is_passed_over() -> None:
    seen = look("address eth0 10.0.0.5/24", "address tun0 peer", "address eth1 10.0.0.300/24")
    assert seen.addresses == ("10.0.0.5/24",)


def test_networks_of_containers_are_no_addresses_of_the_host() -> None:
    seen = look("address eth0 10.0.0.5/24", "address docker0 172.17.0.1/16", "address br-12ab 172.18.0.1/16")
    assert seen.addresses == ("10.0.0.5/24",)


def test_a_mark_that_cannot_be_read_counts_as_none() -> None:
    assert look("host_id {broken").owner is None
    assert look('host_id {"instance": "a", "label": "fleet x"}').owner == {"instance": "a", "label": "fleet x"}


def test_versions_are_found_within_a_sentence() -> None:
    assert version_of("NVIDIA Container Toolkit CLI version 1.17.8") == (1, 17, 8)
    assert version_of("none") == ()


def test_only_accelerators_count_among_pci_devices() -> None:
    seen = look("pci 0x10de 0x030200", "pci 0x10de 0x068000", "pci 0x1da3 0x120000", "pci 0x1002 0x030000")
    assert seen.vendors() == {"nvidia", "intel"}  # AMD's is a screen's: there is no /dev/kfd
    assert "amd" in look("pci 0x1002 0x030000", "amd_kfd yes").vendors()
