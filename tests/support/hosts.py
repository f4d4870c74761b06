"""Test hosts: namespaces on a bridge, each with its own address, file system, sshd, users, Docker Engine and boot id.

All of it hangs on one process, the fabric, and one per host: when they end, the kernel takes down links, mounts and
whatever ran in the hosts. What a host writes lands in a layer over this machine's root folder, so nothing of the
machine's own is touched, and what a host was left with can be listed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.hosts_one import TestHost, control_group, generate_key, remove_control_groups, run

NAMES = ("host-a", "host-b", "host-c", "login", "bare")  # what there is where nobody says otherwise
WITHOUT_DOCKER = ("login", "bare")
FOLDERS, PREFIX = Path("/var/tmp"), "dstack-hosts-"
PARTS = ("sshd", "ssh-keygen", "sudo", "ip", "iptables", "dockerd", "nsenter", "unshare")
KEEP_ALIVE = "import os, signal, sys\nos.write(1, b'up\\n')\nwhile sys.argv[1] == '1' and os.read(0, 1): pass\n"
KEEP_ALIVE += "while sys.argv[1] != '1': signal.pause()\n"


def missing() -> str:
    """Why test hosts cannot be made here; "" when they can."""
    if os.geteuid() != 0:
        return "test hosts need root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [part for part in PARTS if shutil.which(part, path=path) is None]
    return f"test hosts need {', '.join(absent)}" if absent else ""


class Hosts:
    """The bridge and the hosts on it. `owned`: all of it ends with this process, however that ends."""

    def __init__(self, folder: Path, owned: bool = True):
        self.folder = folder
        self.key = folder / "id_ed25519"  # opens every account of every host
        self.all: dict[str, TestHost] = {}
        self.subnet = ""  # "10.213.7"
        self._owned = owned
        self._fabric: subprocess.Popen[bytes] | None = None
        self.fabric_pid = 0

    def start(self, names: Sequence[str], without_docker: Sequence[str] = ()) -> None:
        """Bring up hosts with these names at once; returns when their sshd and engines answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        generate_key(self.key)
        self._start_fabric()
        for number, name in enumerate(names):
            folder = self.folder / name
            address = f"{self.subnet}.{11 + number}"
            self.all[name] = TestHost(
                name, address, folder, self.fabric_pid, self.key, docker=name not in without_docker, owned=self._owned
            )
        self._at_once([host.boot for host in self.all.values()])
        self.save()

    def __getitem__(self, name: str) -> TestHost:
        return self.all[name]

    def stop(self) -> None:
        """Remove every trace: processes, links, mounts, control groups, files."""
        self._at_once([host.power_off for host in self.all.values()])
        if self.fabric_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.fabric_pid, signal.SIGKILL)
            if self._fabric is not None:
                self._fabric.communicate()
        self.fabric_pid = 0
        _wait_for(lambda: _removed(self.folder), 60.0)

    @classmethod
    def load(cls, folder: Path) -> Hosts | None:
        """Those that another process started in `folder` and left running; None when there are none."""
        try:
            saved = json.loads((folder / "hosts.json").read_text())
        except (OSError, ValueError):
            return None
        if _network_of(saved["fabric"]) != saved.get("network"):
            return None  # ended meanwhile; the number may be another's by now
        hosts = cls(folder, owned=False)
        hosts.subnet, hosts.fabric_pid = saved["subnet"], saved["fabric"]
        for each in saved["hosts"]:
            host = TestHost(
                each["name"],
                each["address"],
                folder / each["name"],
                hosts.fabric_pid,
                hosts.key,
                each["docker"],
                owned=False,
            )
            host.found(each["pid"])
            hosts.all[host.name] = host
        return hosts

    def save(self) -> None:
        """Write down what `load` needs."""
        hosts = [{"name": h.name, "address": h.address, "pid": h.pid, "docker": h.docker} for h in self.all.values()]
        network = _network_of(self.fabric_pid)
        saved = {"subnet": self.subnet, "fabric": self.fabric_pid, "network": network, "hosts": hosts}
        (self.folder / "hosts.json").write_text(json.dumps(saved))

    def _start_fabric(self) -> None:
        """A network with the bridge in it, a mount namespace with the hosts' layers, and this machine's leg into it."""
        command = ["unshare", "--net", "--mount", "/usr/bin/python3", "-IS", "-c", KEEP_ALIVE, str(int(self._owned))]
        trouble = self.folder / "fabric.log"
        with trouble.open("wb") as log:  # not our stderr: it stays, and whoever reads that to its end would wait for it
            self._fabric = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if self._owned else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._fabric.stdout is not None
        if self._fabric.stdout.read(3) != b"up\n":
            raise RuntimeError(f"the test hosts' network cannot be made: {trouble.read_text()}")
        self.fabric_pid = self._fabric.pid
        inside = ["nsenter", "-t", str(self.fabric_pid), "-n"]
        run([*inside, "ip", "link", "add", "br0", "type", "bridge"])
        run([*inside, "ip", "link", "set", "br0", "up"])
        number = self._free_number()
        self.subnet = f"10.213.{number}"
        leg = f"dstacktest{number}"
        run([*inside, "ip", "link", "set", leg + "b", "master", "br0"])
        run([*inside, "ip", "link", "set", leg + "b", "up"])
        run(["ip", "addr", "add", f"{self.subnet}.1/24", "dev", leg])
        run(["ip", "link", "set", leg, "up"])

    def _free_number(self) -> int:
        """Makes this machine's leg under the first free number: several may run side by side."""
        numbers = random.sample(range(1, 255), 254)
        for number in numbers:
            leg = f"dstacktest{number}"
            peer = ["peer", "name", leg + "b", "netns", str(self.fabric_pid)]
            if run(["ip", "link", "add", leg, "type", "veth", *peer], check=False).returncode == 0:
                return number
        raise RuntimeError("no address range is free for test hosts")

    @staticmethod
    def _at_once(calls: Sequence[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(max(1, len(calls))) as pool:
            for done in [pool.submit(call) for call in calls]:
                done.result()


@contextlib.contextmanager
def hosts_up(names: Sequence[str], without_docker: Sequence[str] = ()) -> Iterator[Hosts]:
    """Hosts for the length of a block."""
    sweep()
    hosts = Hosts(Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDERS)))
    try:
        hosts.start(names, without_docker)
        yield hosts
    finally:
        hosts.stop()


def sweep() -> None:
    """Remove what hosts left whose owner was killed: the kernel took all but their folders and control groups."""
    for folder in FOLDERS.glob(PREFIX.rstrip("-") + "*"):
        try:
            saved = json.loads((folder / "hosts.json").read_text())
        except (OSError, ValueError):
            continue  # they are just being made
        if _network_of(saved["fabric"]) != saved.get("network"):
            for each in saved["hosts"]:
                remove_control_groups(control_group(folder.name, each["name"]))
            shutil.rmtree(folder, ignore_errors=True)


def _network_of(pid: int) -> str:
    """The name of a process's network namespace; "" when there is no such process."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def _removed(folder: Path) -> bool:
    """Remove `folder`; the kernel lets go of a dead host's mounts a moment after it."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _wait_for(condition: Callable[[], bool], deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the test hosts' folder cannot be removed")
        time.sleep(0.05)
