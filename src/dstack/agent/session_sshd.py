"""The machine's own OpenSSH server, started for one connection of one task: its configuration and its command line."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from typing import Iterable, List, Optional

from dstack.agent.keys import PublicKey
from dstack.agent.store import write_atomic

SBIN = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/sbin",
    "/opt/homebrew/sbin",
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
)
INSTALL = "install the OpenSSH server on the machine (`apt-get install openssh-server`, `dnf install openssh-server`)"
KEYGEN_S = 20.0
PRIVILEGE_SEPARATION = "/run/sshd"

# No PAM and no files of the account's home: who may enter, and to what, is in the task's own files alone. Stream-local
# forwarding would open sockets of the machine, not of the job.
OPTIONS = """\
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
PermitEmptyPasswords no
PermitUserEnvironment no
PermitUserRC no
AllowTcpForwarding yes
AllowAgentForwarding yes
AllowStreamLocalForwarding no
GatewayPorts no
PermitTunnel no
X11Forwarding no
AcceptEnv LANG LC_* TERM COLORTERM
PrintMotd no
PrintLastLog no
UseDNS no
PidFile none
LoginGraceTime 30
MaxAuthTries 20
MaxSessions 200
ClientAliveInterval 30
ClientAliveCountMax 4
LogLevel INFO
Subsystem sftp internal-sftp
"""


class NoServer(Exception):
    """There is no OpenSSH server here; the text says what to install."""


def find_program(name: str) -> Optional[str]:
    """Where a program of the system is; daemons' PATH often lacks the folders of administrators."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(SBIN))


def sshd() -> str:
    """The absolute path of sshd. Raises NoServer."""
    found = find_program("sshd")
    if found is None or find_program("ssh-keygen") is None:
        raise NoServer("There is no OpenSSH server on this machine, so nobody can `ssh` into its runs: " + INSTALL)
    return os.path.abspath(found)


def write_host_key(path: str) -> str:
    """Make the task's own host key unless it is there; its public half, `type base64`. Raises OSError, NoServer."""
    if not os.path.exists(path + ".pub"):
        keygen = find_program("ssh-keygen")
        if keygen is None:
            raise NoServer("There is no ssh-keygen on this machine: " + INSTALL)
        if os.path.exists(path):
            os.unlink(path)
        argv = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=KEYGEN_S
        )
        if done.returncode:
            raise OSError("ssh-keygen failed: %s" % done.stdout.decode("utf-8", "replace").strip())
    with open(path + ".pub") as f:
        return " ".join(f.read().split()[:2])


def write_config(directory: str, command: List[str]) -> None:
    """Write `sshd.conf`: everybody who gets in gets `command`, and nothing else."""
    lines = [
        "HostKey %s" % _quoted(os.path.join(directory, "hostkey")),
        "AuthorizedKeysFile %s" % _quoted(os.path.join(directory, "authorized_keys").replace("%", "%%")),
        "ForceCommand exec " + " ".join(shlex.quote(part) for part in command),
    ]
    write_atomic(os.path.join(directory, "sshd.conf"), ("\n".join(lines) + "\n" + OPTIONS).encode())


def write_keys(directory: str, keys: List[PublicKey]) -> None:
    text = "".join(key.line + "\n" for key in keys)
    write_atomic(os.path.join(directory, "authorized_keys"), text.encode())


def write_accounts(directory: str, names: Iterable[str]) -> None:
    """The accounts that sshd sees in place of the machine's: each of `names` is a way to say the task's user.

    What runs is the forced command, as root, by a plain shell: no profile of the machine's root slows it down or shows.
    """
    lines = ["%s:x:0:0::/:/bin/sh" % name for name in dict.fromkeys(["root", *names])]
    try:
        separated = pwd.getpwnam("sshd")
        lines.append("sshd:x:%d:%d::%s:/bin/false" % (separated.pw_uid, separated.pw_gid, separated.pw_dir))
    except KeyError:
        lines.append("sshd:x:65534:65534::/nonexistent:/bin/false")
    shadow = ["%s:*:::::::" % line.split(":")[0] for line in lines]
    for name, content in (("passwd", lines), ("shadow", shadow)):
        path = os.path.join(directory, name)
        write_atomic(path, ("\n".join(content) + "\n").encode())
    os.chmod(os.path.join(directory, "passwd"), 0o644)


def prepare_machine() -> None:
    """What a package's start script would have made: some sshd refuse to start without this empty folder."""
    if os.geteuid() == 0 and os.path.isdir("/run"):
        os.makedirs(PRIVILEGE_SEPARATION, mode=0o755, exist_ok=True)


def plain_argv(directory: str) -> List[str]:
    """sshd for one connection on standard input, as the user that the agent is."""
    return [sshd(), "-i", "-e", "-f", os.path.join(directory, "sshd.conf")]


def contained_argv(directory: str, network_fd: int, files: List[List[str]]) -> List[str]:
    """The same in the network of a container, with the task's accounts, and with its names of hosts.

    `files` are what to see at other places, as [what, where]. Nothing of this can be seen by the rest of the machine.
    """
    tools = [find_program(name) for name in ("nsenter", "unshare")]
    if None in tools:
        raise NoServer("Entering containers needs `nsenter` and `unshare` on the machine: install util-linux")
    binds = [(os.path.join(directory, name), "/etc/" + name, "exit 1") for name in ("passwd", "shadow")]
    binds += [(what, where, ":") for what, where in files]
    mounts = ["mount -n --bind %s %s || %s" % (shlex.quote(what), where, miss) for what, where, miss in binds]
    script = "\n".join([*mounts, 'exec "$@"'])
    into = [str(tools[0]), "--net=/proc/self/fd/%d" % network_fd, "--", str(tools[1]), "--mount", "--"]
    return [*into, "/bin/sh", "-c", script, "sh", *plain_argv(directory)]


def _quoted(path: str) -> str:
    return '"%s"' % path
