"""What puts the server of an IDE into a container, in real shells, against hosts of our own on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstack.control.run.editors import HOSTS, put_in
from dstack.control.run.submission import job_spec
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.run import RunSpec
from dstack.values.ide import ServerVersion, server_version
from support.ide_hosts import COMMIT, NUMBER, IdeHosts, archive, ide_hosts

ARCH = {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, "")
SHORT = COMMIT[:10]
SAVES = "the first connection need not fetch it"
TAKEN = "where Windsurf is taken to look for it"
TOOLS = ("sh", "uname", "mkdir", "rm", "mv", "ln", "sed", "head", "tail", "tar", "gzip", "chmod")
pytestmark = pytest.mark.skipif(not ARCH, reason="vendors have servers for x86_64 and aarch64 alone")


@pytest.fixture
def hosts() -> Iterator[IdeHosts]:
    with ide_hosts(ARCH) as found:
        yield found


def image(folder: Path, *programs: str) -> str:
    """A PATH with these programs of this machine, or of busybox where it is written `busybox:NAME`."""
    binaries = folder / "bin"
    binaries.mkdir(exist_ok=True)
    for program in programs:
        box, _, name = program.rpartition(":")
        # python3 on PATH may be a script that looks for one with programs that are not there then.
        found = "/bin/busybox" if box else sys.executable if name == "python3" else shutil.which(name)
        assert found, f"this machine has no {name}"
        (binaries / name).symlink_to(Path(found).resolve() if not box else found)
    return str(binaries)


def put(folder: Path, ide: str, written: str, mirror: str, path: str, shell: str = "/bin/sh") -> str:
    """What the log has in the end: the commands come first, whatever is fetched beside them."""
    version = server_version(ide, written)
    assert version is not None
    text = f"{put_in(ide, version, mirror)}\nprintf 'commands\\n'"
    env = {"PATH": path, "HOME": str(folder)}
    # The output ends when the last one that has it is through, which is what fetches.
    ended = subprocess.run([shell, "-c", text], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert ended.returncode == 0
    return ended.stdout.decode()


def said(output: str) -> str:
    return "".join(line for line in output.splitlines(keepends=True) if line != "commands\n")


PLACES = {
    "vscode": (COMMIT, ".vscode-server/cli/servers/Stable-{}/server/node", "VS Code server 0123456789"),
    "cursor": (f"{NUMBER}@{COMMIT}", ".cursor-server/bin/linux-" + ARCH + "/{}/node", "Cursor server 1.95.3"),
    "windsurf": (f"{NUMBER}@{COMMIT}", ".windsurf-server/bin/{}/node", "Windsurf server 1.95.3"),
    "zed": (f"{NUMBER}+stable.7", ".zed_server/zed-remote-server-stable-1.95.3+stable.7", "Zed server 1.95.3+stable.7"),
}


@pytest.mark.parametrize("ide", PLACES)
def test_the_server_of_each_ide_is_put_where_the_ide_looks_for_it(hosts: IdeHosts, tmp_path: Path, ide: str):
    written, place, name = PLACES[ide]
    log = put(tmp_path, ide, written, hosts.address, image(tmp_path, *TOOLS, "curl"))
    assert said(log) == f"{name}: is in place, {TAKEN if ide == 'windsurf' else SAVES}\n"
    assert os.access(tmp_path / place.format(COMMIT), os.X_OK)
    left = [found.name for found in tmp_path.rglob(".dstack-*")]
    assert left == []


@pytest.mark.parametrize("fetching", ["curl", "wget", "python3"])
def test_whatever_the_image_has_for_it_fetches(hosts: IdeHosts, tmp_path: Path, fetching: str):
    log = put(tmp_path, "vscode", NUMBER, hosts.address, image(tmp_path, *TOOLS, fetching))
    assert said(log) == "VS Code server 1.95.3: is in place, the first connection need not fetch it\n"
    root = tmp_path / ".vscode-server"
    assert os.access(root / f"code-{COMMIT}", os.X_OK)  # its commit is learned from what was fetched
    assert (
        root / "bin" / COMMIT / "node"
    ).resolve() == root / "cli" / "servers" / f"Stable-{COMMIT}" / "server" / "node"


def test_the_programs_of_busybox_are_enough_beside_what_fetches(hosts: IdeHosts, tmp_path: Path):
    path = image(tmp_path, *(f"busybox:{name}" for name in TOOLS), "curl")
    log = put(tmp_path, "vscode", NUMBER, hosts.address, path, shell=f"{path}/sh")
    assert said(log).endswith("is in place, the first connection need not fetch it\n"), log


@pytest.mark.parametrize(
    ("has", "reason"),
    [
        (TOOLS, "the image has none of curl, wget and python3"),
        ((*(set(TOOLS) - {"tar"}), "curl"), "the image has no tar"),
    ],
)
def test_an_image_without_the_programs_for_it_is_told_of(
    hosts: IdeHosts, tmp_path: Path, has: tuple[str, ...], reason: str
):
    log = put(tmp_path, "vscode", COMMIT, hosts.address, image(tmp_path, *has))
    assert (
        said(log) == f"VS Code server {SHORT}: not put in beforehand: {reason}; VS Code fetches it when it connects\n"
    )
    assert "commands\n" in log
    assert not list((tmp_path / ".vscode-server").iterdir())


def test_nothing_fetches_that_checks_no_certificates(hosts: IdeHosts, tmp_path: Path):
    log = put(tmp_path, "vscode", COMMIT, hosts.address, image(tmp_path, *TOOLS, "busybox:wget"))
    assert "the image has none of curl, wget and python3" in log
    assert hosts.asked == []


@pytest.mark.parametrize("fetching", ["curl", "wget", "python3"])
def test_a_version_that_does_not_exist_and_a_network_that_is_away_are_told_in_the_words_of_what_fetches(
    hosts: IdeHosts, tmp_path: Path, fetching: str
):
    path = image(tmp_path, *TOOLS, fetching)
    assert "404" in said(put(tmp_path, "vscode", "1.0.0", hosts.address, path))
    away = said(put(tmp_path, "vscode", "1.0.0", "http://127.0.0.1:1", path))
    assert any(word in away for word in ("refused", "Couldn't connect")) and away.count("\n") == 1, away


def test_something_else_in_place_of_the_archive_is_not_put_in(hosts: IdeHosts, tmp_path: Path):
    hosts.files[f"/cursor/{COMMIT}/linux/{ARCH}/cursor-reh-linux-{ARCH}.tar.gz"] = b"<html>please log in</html>"
    log = put(tmp_path, "cursor", COMMIT, hosts.address, image(tmp_path, *TOOLS, "curl"))
    assert f"Cursor server {SHORT}: not put in beforehand: " in log and "commands\n" in log
    assert not list((tmp_path / ".cursor-server").iterdir())


def test_a_server_of_windsurf_without_a_folder_around_it_lies_where_one_with_it_lies(hosts: IdeHosts, tmp_path: Path):
    path = f"/windsurf/linux-reh-{ARCH}/stable/{COMMIT}/windsurf-reh-linux-{ARCH}-{NUMBER}.tar.gz"
    hosts.files[path] = archive("", node="#!/bin/sh\n", LICENSE="")
    log = put(tmp_path, "windsurf", f"{NUMBER}@{COMMIT}", hosts.address, image(tmp_path, *TOOLS, "curl"))
    assert said(log) == "Windsurf server 1.95.3: is in place, where Windsurf is taken to look for it\n"
    assert os.access(tmp_path / ".windsurf-server" / "bin" / COMMIT / "node", os.X_OK)


def test_a_server_of_windsurf_is_found_by_its_own_number_and_commit_alone(hosts: IdeHosts, tmp_path: Path):
    path = image(tmp_path, *TOOLS, "curl")
    log = put(tmp_path, "windsurf", f"1.99.1@{COMMIT}", hosts.address, path)
    assert "Windsurf server 1.99.1: not put in beforehand: " in log and "404" in log
    assert "Windsurf fetches it when it connects\n" in log and "commands\n" in log
    assert not list((tmp_path / ".windsurf-server").iterdir())


def test_a_home_that_cannot_be_written_is_told_of(hosts: IdeHosts, tmp_path: Path):
    path = image(tmp_path, *TOOLS, "curl")
    log = put(Path("/proc/nowhere"), "vscode", COMMIT, hosts.address, path)
    assert "nothing can be written to /proc/nowhere/.vscode-server" in log and "commands\n" in log


def test_what_is_in_the_image_or_on_a_volume_already_is_not_fetched(hosts: IdeHosts, tmp_path: Path):
    server = tmp_path / ".vscode-server" / "cli" / "servers" / f"Stable-{COMMIT}" / "server"
    server.mkdir(parents=True)
    log = put(tmp_path, "vscode", COMMIT, hosts.address, image(tmp_path, *TOOLS, "curl"))
    assert said(log) == f"VS Code server {SHORT}: is there already\n"
    assert hosts.asked == [] and not list((tmp_path / ".vscode-server").glob(".dstack-*"))


def test_without_a_mirror_it_is_fetched_from_its_vendor():
    command = put_in("cursor", ServerVersion(NUMBER, COMMIT), None)
    assert HOSTS["cursor"] in command and all(host.startswith("https://") for host in HOSTS.values())


def test_a_version_that_says_nothing_to_its_vendor_leaves_the_job_as_it_is():
    def asked(**fields: str):
        configuration = DevEnvironmentConfiguration.model_validate({"type": "dev-environment", **fields})
        return job_spec(RunSpec(configuration=configuration), "dev").ide

    assert asked(ide="cursor", version="1.7.3") is None
    assert asked(ide="vscode") is None
    found = asked(ide="vscode", version=f"{NUMBER}@{COMMIT}")
    assert found is not None and (found.name, found.number, found.commit) == ("vscode", NUMBER, COMMIT)
