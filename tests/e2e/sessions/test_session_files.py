"""Files in and out of a task by the tools that people have, and what SFTP refuses."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sessions import TOOLS_IMAGE, Door, SessionAgent, run, until

pytestmark = [pytest.mark.docker, pytest.mark.root]


def sftp(door: Door, *commands: str) -> subprocess.CompletedProcess[bytes]:
    return run(["sftp", "-b", "-", "-F", str(door.config), "run"], input="\n".join(commands).encode())


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]], ids=["sftp", "legacy"])
def test_scp_copies_there_and_back(tools: Door, tmp_path: Path, protocol: list[str]):
    data = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(data)
    there = run(["scp", *protocol, "-F", str(tools.config), str(tmp_path / "up"), "run:copied"])
    back = run(["scp", *protocol, "-F", str(tools.config), "run:/work/copied", str(tmp_path / "down")])
    assert (there.returncode, back.returncode) == (0, 0), (there, back)
    assert (tmp_path / "down").read_bytes() == data


def test_scp_copies_into_an_image_that_has_only_busybox(plain: Door, tmp_path: Path):
    (tmp_path / "file").write_text("hello\n")
    assert run(["scp", "-F", str(plain.config), str(tmp_path / "file"), "run:/tmp/file"]).returncode == 0
    assert plain.says("cat /tmp/file") == "hello"


def test_sftp_does_what_its_clients_ask(tools: Door, tmp_path: Path):
    (tmp_path / "f").write_text("text\n")
    done = sftp(
        tools, f"put {tmp_path}/f a", "mkdir dir", "rename a dir/b", "symlink dir/b link", "chmod 640 dir/b",
        "ln dir/b hard", f"get link {tmp_path}/back", "df", "ls -l dir", "rm hard", "pwd",
    )  # fmt: skip
    assert done.returncode == 0, done
    assert b"-rw-r-----" in done.stdout and b"working directory: /work" in done.stdout
    assert (tmp_path / "back").read_text() == "text\n"
    assert tools.says("readlink link; cat dir/b; ls hard 2>&1 | grep -c 'No such'") == "dir/b\ntext\n1"
    assert sftp(tools, "rm dir/b", "rmdir dir", "rm link").returncode == 0
    assert sftp(tools, "get nothing").returncode == 1


def test_files_belong_to_the_jobs_user_and_what_it_may_not_is_refused(worker: Door, tmp_path: Path):
    (tmp_path / "f").write_text("mine\n")
    assert sftp(worker, f"put {tmp_path}/f /home/worker/f", "mkdir /home/worker/d").returncode == 0
    assert worker.says("stat -c %u:%g /home/worker/f /home/worker/d") == "1234:1234\n1234:1234"
    assert sftp(worker, f"put {tmp_path}/f /etc/f").returncode == 1
    assert sftp(worker, "chown 0 /home/worker/f").returncode == 1


def test_links_of_an_image_that_point_at_the_machine_lead_nowhere(tools: Door, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("the machine's")
    tools.look(f"ln -sf {secret} /work/out; ln -sf /proc/1/root{secret} /work/proc; ln -sfn / /work/top; true")
    for path in ("/work/out", "/work/proc", f"/work/top{secret}", f"/../../..{secret}", f"/proc/1/root{secret}"):
        target = tmp_path / "stolen"
        assert sftp(tools, f"get {path} {target}").returncode == 1, path
        assert not target.exists()
    assert sftp(tools, "get /work/top/etc/passwd " + str(tmp_path / "accounts")).returncode == 0
    assert "worker" in (tmp_path / "accounts").read_text()


def test_a_device_that_the_container_made_cannot_be_read_past_its_rules(tools: Door, tmp_path: Path):
    device = Path("/dev/kmsg").stat()
    number = f"{os.major(device.st_rdev)} {os.minor(device.st_rdev)}"
    assert stat.S_ISCHR(device.st_mode)
    assert (
        tools.says(f"mknod /work/device c {number} && cat /work/device 2>&1 | head -c 300 | grep -c permitted") == "1"
    )
    done = sftp(tools, f"get /work/device {tmp_path}/stolen")
    assert done.returncode == 1 and not (tmp_path / "stolen").exists()


def test_a_passwd_of_the_image_that_is_a_link_to_the_machine_is_not_followed(engine_agent: SessionAgent, fresh):
    task = fresh("rm /etc/passwd; ln -s /proc/1/root/etc/shadow /etc/passwd; sleep 100000", image=TOOLS_IMAGE)
    door = engine_agent.door(task)
    assert door.says("id -u") == "0"


def test_rsync_makes_an_identical_tree_both_ways(tools: Door, tmp_path: Path):
    tree = tmp_path / "tree"
    for number in range(200):
        (tree / f"d{number % 7}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{number % 7}" / f"f{number}").write_bytes(os.urandom(1000))
    shell = f"ssh -F {tools.config}"
    there = run(["rsync", "-a", "-e", shell, f"{tree}/", "run:tree/"])
    back = run(["rsync", "-a", "-e", shell, "run:tree/", f"{tmp_path}/back/"])
    assert (there.returncode, back.returncode) == (0, 0), (there, back)
    assert run(["diff", "-r", str(tree), str(tmp_path / "back")]).returncode == 0


def test_git_pushes_to_a_task_and_clones_from_it(tools: Door, tmp_path: Path):
    env = {**os.environ, "GIT_SSH_COMMAND": f"ssh -F {tools.config}", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}
    mine = tmp_path / "mine"
    tools.says("git init -q --bare /work/repo.git && git -C /work/repo.git symbolic-ref HEAD refs/heads/main")
    name = ["-c", "user.name=n", "-c", "user.email=e@e"]
    for argv in (
        ["git", "init", "-q", str(mine)],
        ["git", "-C", str(mine), *name, "commit", "-q", "--allow-empty", "-m", "first"],
        ["git", "-C", str(mine), "push", "-q", "run:/work/repo.git", "HEAD:refs/heads/main"],
        ["git", "clone", "-q", "run:/work/repo.git", str(tmp_path / "theirs")],
    ):
        done = run(argv, env=env)
        assert done.returncode == 0, done
    log = run(["git", "-C", str(tmp_path / "theirs"), "log", "--format=%s"], env=env)
    assert log.stdout == b"first\n"


@pytest.mark.parametrize("door_name", ["tools", "worker"])
def test_a_forwarded_ssh_agent_answers_inside(request: pytest.FixtureRequest, door_name: str, tmp_path: Path):
    door: Door = request.getfixturevalue(door_name)
    with key_agent(tmp_path, door.agent.owner.key) as sock:
        done = door.ssh("-A", "run", "ssh-add -l", env={**os.environ, "SSH_AUTH_SOCK": sock})
    assert done.returncode == 0 and b"owner (ED25519)" in done.stdout, done
    assert door.look("ssh-add -l").returncode == 2
    assert door.says("ls /.dstack/agent") == ""


@contextlib.contextmanager
def key_agent(tmp_path: Path, key: Path) -> Iterator[str]:
    """A person's ssh-agent that has the key; its socket."""
    path = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        until(lambda: Path(path).exists(), "the key agent")
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": path})
        yield path
    finally:
        agent.terminate()
        agent.wait()
