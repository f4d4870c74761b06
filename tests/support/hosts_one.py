"""One test host: its life (boot, reboot, power), its faults, and looks behind its back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from support.docker_engine import answers, import_busybox

BOOT_SCRIPT = Path(__file__).with_name("hosts_boot.sh")
SUDOER, PLAIN = "ubuntu", "plain"  # accounts: one with sudo without a password, one without any sudo
START_S = 60.0
CONTROL_GROUPS = Path("/sys/fs/cgroup")
SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile .ssh/authorized_keys
MaxStartups 300:30:400
PrintMotd no
Subsystem sftp internal-sftp
"""

# What useradd and userdel touch and leave behind.
ACCOUNT_FILES = frozenset(
    f"/etc/{name}{copy}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid") for copy in ("", "-")
) | {"/etc/.pwd.lock"}


class TestHost:
    """A machine of its own as far as processes, files, network, users and boots go; its kernel is this machine's."""

    __test__ = False  # no tests in here, for all its name

    def __init__(self, name: str, address: str, folder: Path, fabric: int, key: Path, docker: bool, owned: bool):
        self.name = name
        self.address = address
        self.docker = docker
        self.pid = 0  # of its first process, as this machine counts
        self._folder = folder
        self._fabric = fabric
        self._key = key
        self._owned = owned
        self._outer: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        """The host's `/`, as this machine reaches it."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def docker_url(self) -> str:
        return f"unix://{self.root}/run/docker.sock"

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    # Life.

    def boot(self) -> None:
        """Start it, or start it again with a new boot id; files stay as they are."""
        fresh = not (self._folder / "boot_id").exists()
        (self._folder / "docker").mkdir(parents=True, exist_ok=True)
        if fresh:
            (self._folder / "rw").mkdir()
            self._in_fabric("-m", "mount", "-t", "tmpfs", "tmpfs", str(self._folder / "rw"))
        (self._folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self._start_first_process()
        self._plug_in()
        if fresh:
            self._furnish()
        self.start_sshd()
        if self.docker:
            self.start_docker()
            if fresh:
                import_busybox(self.docker_url)

    def found(self, pid: int) -> None:
        """It runs already, started by another process."""
        self.pid = pid

    def power_off(self) -> None:
        """The plug is pulled: nothing on it gets a word."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self._outer is not None:
            self._outer.communicate()
        wait_until(lambda: not Path(f"/proc/{self.pid}/root/etc").exists(), f"{self.name} is off")
        self.pid = 0
        remove_control_groups(self._control_group)

    def reboot(self) -> None:
        self.power_off()
        self.boot()

    # Faults.

    def cut_link(self) -> None:
        self._in_fabric("-n", "ip", "link", "set", self._port, "down")

    def restore_link(self) -> None:
        self._in_fabric("-n", "ip", "link", "set", self._port, "up")

    def unroute(self, address: str) -> None:
        """Nothing goes from this host to `address` any more."""
        self.run("ip", "route", "add", "blackhole", f"{address}/32")

    def start_sshd(self, options: str = "") -> None:
        """Start sshd, with lines of configuration ahead of the usual ones; connections that are open stay."""
        self.kill_pid_in("/run/sshd.pid", signal.SIGTERM)
        self.write("/etc/ssh/sshd_config", options + SSHD)
        self.run("/usr/sbin/sshd", "-f", "/etc/ssh/sshd_config")
        wait_until(lambda: self.path("/run/sshd.pid").exists(), f"sshd of {self.name} is up")

    def change_host_key(self) -> None:
        generate_key(self._folder / f"host_key_{uuid.uuid4().hex}", self)
        self.start_sshd()

    def kill_docker(self, sig: int = signal.SIGKILL) -> None:
        self.kill_pid_in("/run/docker.pid", sig)

    def start_docker(self) -> None:
        command = ["dockerd", "--log-level=warn", "--cgroup-parent", self._control_group, "--storage-driver=overlay2"]
        with open(self._folder / "dockerd.log", "ab") as log:
            subprocess.Popen(self._inside(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: answers(self.docker_url), f"dockerd of {self.name} answers")

    def kill_agent(self) -> None:
        self.kill_pid_in("/var/lib/dstack/agent/agent.pid", signal.SIGKILL)

    def limit_disk(self, size_bytes: int) -> None:
        """From now on there is so little room for what dstack writes; before it is installed."""
        self.run("mkdir", "-p", "/var/lib/dstack")
        self.run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", "/var/lib/dstack")

    def fill_disk(self) -> None:
        self.run("sh", "-c", "cat /dev/zero >/var/lib/dstack/ballast 2>/dev/null || true")

    def free_disk(self) -> None:
        self.path("/var/lib/dstack/ballast").unlink()

    def wipe(self) -> None:
        """Set up anew, as far as dstack is concerned: no file and no process of it is left."""
        self.kill_agent()
        self.run("rm", "-rf", "/opt/dstack", "/var/lib/dstack", "/run/dstack")

    # Looks, and changes by hand.

    def run(self, *command: str, input: bytes = b"", check: bool = True) -> str:
        """Run a command on it as root, past sshd; what it printed."""
        done = run(self._inside(command), input=input, check=check)
        return done.stdout.decode(errors="replace")

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def files(self) -> set[str]:
        """Every file that the host changed or made, but logs and what Docker and passing programs keep.

        An account that came and went leaves copies of what was before; what is in the files themselves is compared.
        """
        top = Path(f"/proc/{self._fabric}/root{self._folder}/rw/upper")
        # A folder that goes meanwhile, as they do below an engine that works, is passed over.
        found = {f"/{Path(place, name).relative_to(top)}" for place, _, names in os.walk(top) for name in names}
        passing = ("/var/log/", "/var/lib/docker/", "/root/.cache/", "/tmp/", "/root/.docker/", "/etc/docker/key.json")
        found = {path for path in found if not path.startswith(passing) and "__pycache__" not in path}
        return {path for path in found if path not in ACCOUNT_FILES} | self.accounts()

    def accounts(self) -> set[str]:
        """The names of its accounts and groups."""
        lines = (self.path("/etc/passwd").read_text() + self.path("/etc/group").read_text()).splitlines()
        return {line.split(":")[0] for line in lines}

    def marks(self) -> dict[str, list[str]]:
        """What a host can be left with beside files: packet filters, links, routes, mounts, Docker's own, accounts."""
        asked = {
            "packets": "for tool in iptables ip6tables; do $tool-save 2>/dev/null; done",
            "links": "ip -brief link | cut -d ' ' -f 1; ip route; ip rule",
            "mounts": "cut -d ' ' -f 2,3 /proc/self/mounts",
            "docker": "docker network ls --format '{{.Name}}'; docker ps -aq; docker volume ls -q; docker images -q",
            "accounts": "cat /etc/passwd /etc/group",
        }
        told = {what: self.run("sh", "-c", script).splitlines() for what, script in asked.items()}
        told["packets"] = [line for line in told["packets"] if not line.startswith(("#", ":"))]  # times and counters
        return {what: sorted(lines) for what, lines in told.items()}

    def processes(self) -> list[str]:
        """Command lines of what runs on it."""
        return self.run("ps", "-eo", "args=").splitlines()

    def kill_pid_in(self, path: str, sig: int) -> None:
        """Signal the process whose number stands in a file, and wait for its end."""
        try:
            pid = self.path(path).read_text().strip()
        except OSError:
            return
        self.run("kill", f"-{int(sig)}", pid, check=False)
        wait_until(lambda: not self.path(f"/proc/{pid}").exists(), f"process {pid} of {self.name} is gone")
        self.path(path).unlink(missing_ok=True)

    @property
    def _port(self) -> str:
        return f"v{self.address.rsplit('.', 1)[1]}"

    @property
    def _control_group(self) -> str:
        return control_group(self._folder.parent.name, self.name)

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "--", *command]

    def _in_fabric(self, which: str, *command: str) -> None:
        run(["nsenter", "-t", str(self._fabric), which, "--", *command])

    def _start_first_process(self) -> None:
        namespaces = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        script = ["sh", str(BOOT_SCRIPT), str(self._folder), self.name, str(self._folder / "boot_id")]
        with open(self._folder / "boot.log", "wb") as log:
            self._outer = subprocess.Popen(
                ["nsenter", "-t", str(self._fabric), "-m", "--", *namespaces, *script, str(int(self._owned))],
                stdin=subprocess.PIPE if self._owned else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._outer.stdout is not None
        if self._outer.stdout.read(3) != b"up\n":
            raise RuntimeError(f"test host {self.name} did not start: {(self._folder / 'boot.log').read_text()}")
        self.pid = int(Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()[0])

    def _plug_in(self) -> None:
        # The same card after a reboot: who talked to it before has its number in mind.
        card = "02:d5:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        peer = ["peer", "name", "eth0", "address", card, "netns", str(self.pid)]
        with contextlib.suppress(RuntimeError):  # the cable of the life before, which the kernel takes away in its time
            self._in_fabric("-n", "ip", "link", "del", self._port)
        self._in_fabric("-n", "ip", "link", "add", self._port, "type", "veth", *peer)
        self._in_fabric("-n", "ip", "link", "set", self._port, "master", "br0", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", self.address.rsplit(".", 1)[0] + ".1")

    def _furnish(self) -> None:
        """Accounts, keys and names, as they stand on a rented machine."""
        public = self._key.with_name(self._key.name + ".pub").read_text()
        passwd, shadow = self.path("/etc/passwd").read_text(), self.path("/etc/shadow").read_text()
        for uid, account in ((2001, SUDOER), (2002, PLAIN)):
            passwd += f"{account}:x:{uid}:{uid}::/home/{account}:/bin/bash\n"
            shadow += f"{account}:*:19000:0:99999:7:::\n"
        self.write("/etc/passwd", passwd)
        self.write("/etc/shadow", shadow, 0o640)
        self.write("/etc/group", self.path("/etc/group").read_text() + f"{SUDOER}:x:2001:\n{PLAIN}:x:2002:\n")
        self.write(f"/etc/sudoers.d/{SUDOER}", f"{SUDOER} ALL=(ALL) NOPASSWD:ALL\n", 0o440)
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        for uid, home in ((0, "root"), (2001, f"home/{SUDOER}"), (2002, f"home/{PLAIN}")):
            self.run("mkdir", "-p", "-m", "700", f"/{home}/.ssh")
            self.write(f"/{home}/.ssh/authorized_keys", public, 0o600)
            self.run("chown", "-R", f"{uid}:{uid}", f"/{home}" if uid else "/root/.ssh")
        generate_key(self._folder / "host_key", self)
        if not self.docker:
            self.run("sh", "-c", "rm -f $(which -a dockerd docker)")


def control_group(hosts: str, name: str) -> str:
    """What a host's engine puts its containers under."""
    return f"/dstack-test-{hosts}-{name}"


def remove_control_groups(name: str) -> None:
    """Those that an engine left which was killed, in every hierarchy."""
    tops = [path / name.lstrip("/") for path in (CONTROL_GROUPS, *CONTROL_GROUPS.iterdir())]
    for top in filter(Path.is_dir, tops):
        for folder in sorted(top.rglob("*"), reverse=True):
            if folder.is_dir():
                with contextlib.suppress(OSError):
                    folder.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()


def generate_key(path: Path, host: TestHost | None = None) -> None:
    """A new key pair at `path`, which becomes the host key of `host`."""
    if not path.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)])
    if host is not None:
        host.write("/etc/ssh/ssh_host_ed25519_key", path.read_text(), 0o600)
        host.write("/etc/ssh/ssh_host_ed25519_key.pub", path.with_name(path.name + ".pub").read_text())


def run(command: Sequence[str], *, input: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode(errors='replace')[-2000:]}")
    return done


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = START_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {deadline_s:.0f} s: {what}")
        time.sleep(0.02)
