"""Folders of the host in a job: by path and by name, on every runtime."""

from __future__ import annotations

import os

import pytest

from dstack.agentapi.wire import CREATE_FAILED, FAILED, Mount


@pytest.fixture
def target(agent, tmp_path):
    """A path for a mount in the job: with containers anywhere, with processes where a link can be made."""
    return "/mounted/data" if agent.runtime == "docker" else str(tmp_path / "mounted" / "data")


async def test_a_named_folder_keeps_what_one_job_wrote_for_the_next(agent, target):
    mounts = [Mount(target=target, name="cache")]
    first, log = await agent.run(f"echo kept > {target}/note && echo written", mounts=mounts)
    assert log == b"written\n", first
    await agent.client.delete(first.id, first.log_size)
    _, log = await agent.run(f"cat {target}/note", mounts=mounts)
    assert log == b"kept\n"
    assert (agent.state / "volumes" / "cache" / "note").read_text() == "kept\n"


async def test_a_folder_of_the_host_is_made_where_it_is_missing(agent, target, tmp_path):
    folder = tmp_path / "host" / "data"
    report, log = await agent.run(f"echo here > {target}/f && cat {target}/f", mounts=[Mount(target, str(folder))])
    assert log == b"here\n", report
    assert (folder / "f").read_text() == "here\n"


async def test_a_folder_that_cannot_be_had_fails_the_job_unless_it_is_optional(agent, target, tmp_path):
    (tmp_path / "file").touch()
    impossible = str(tmp_path / "file" / "below")
    report, _ = await agent.run("true", mounts=[Mount(target, impossible)])
    assert (report.state, report.reason) == (FAILED, CREATE_FAILED)
    assert report.message.startswith("`volumes`: the folder ") and "Not a directory" in report.message
    report, log = await agent.run(f"ls {target} 2>/dev/null || echo none", mounts=[Mount(target, impossible, "", True)])
    assert (report.exit_code, log) == (0, b"none\n")


@pytest.mark.parametrize("path", ["/", "/etc", "/etc/ssh", "/proc/1/root", "/var/run/docker.sock", "STATE", "LINK"])
async def test_what_is_the_hosts_own_is_mounted_into_no_job(agent, target, tmp_path, path):
    (tmp_path / "link").symlink_to("/etc")
    path = {"STATE": str(agent.state / "tasks"), "LINK": str(tmp_path / "link" / "ssh")}.get(path, path)
    report, _ = await agent.run("true", mounts=[Mount(target, path)])
    assert report.message == f"`volumes`: {path} is the host's own: who has it has the host"


async def test_names_are_no_paths(agent, target):
    report, _ = await agent.run("true", mounts=[Mount(target, name="../tasks")])
    assert report.message == "`volumes`: '../tasks' is no legal name of a folder"


async def test_nothing_of_a_mount_stays_but_its_folder(agent, target):
    report, _ = await agent.run("true", mounts=[Mount(target, name="cache")])
    await agent.client.delete(report.id, report.log_size)
    assert not os.path.lexists(target) and (agent.state / "volumes" / "cache").is_dir()
