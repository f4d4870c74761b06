"""Hosts left: as they were found, and only those that are ours."""

from __future__ import annotations

import pytest

from dstack.ssh.errors import HostUnreachable
from e2e.ssh import jobs
from e2e.ssh.conftest import Reach
from support.hosts import Hosts

pytestmark = pytest.mark.root


async def test_a_host_that_is_left_is_as_it_was_found(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-a"]
    files, marks = host.files(), host.marks()
    id, _ = await reach.ready(host)
    client = await reach.client(id)
    await jobs.start(client, "sleep 600")
    await client.aclose()
    assert host.files() != files and host.marks()["packets"] != marks["packets"]
    await reach.offboard(id)
    reach.lost(id)
    assert host.files() == files
    assert host.marks() == marks
    assert not host.path("/opt/dstack").exists() and not host.path("/var/lib/dstack").exists()
    assert not host.path("/run/dstack").exists()
    assert not [line for line in host.processes() if "dstack/agent" in line or "sleep 600" in line]


async def test_what_somebody_mounted_below_our_folder_stays(hosts: Hosts, reach: Reach) -> None:
    host, kept = hosts["host-b"], "/var/lib/dstack/agent/volumes/shared"
    id, _ = await reach.ready(host)
    host.run("mkdir", "-p", kept)
    host.run("mount", "-t", "tmpfs", "tmpfs", kept)
    try:
        host.write(f"{kept}/theirs", "precious")
        await reach.offboard(id)
        reach.lost(id)
        assert host.path(f"{kept}/theirs").read_text() == "precious"
        assert not host.path("/opt/dstack").exists() and not host.path("/var/lib/dstack/host-id").exists()
    finally:
        host.run("umount", kept)
        host.run("rm", "-rf", "/var/lib/dstack")


async def test_a_host_whose_engine_is_down_is_not_called_clean(hosts: Hosts, reach: Reach) -> None:
    host = hosts["host-a"]
    id, _ = await reach.ready(host)
    host.kill_docker()
    try:
        with pytest.raises(HostUnreachable, match="Docker does not answer"):
            await reach.offboard(id)
    finally:
        host.start_docker()
    await reach.offboard(id)
    reach.lost(id)
    assert not host.path("/opt/dstack").exists()
