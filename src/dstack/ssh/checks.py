"""From a look at a host to findings: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Literal

from dstack.model.host import Finding, RemoteHost
from dstack.ssh.accelerators import accelerator_findings
from dstack.ssh.look import OLDEST_PYTHON, Look, version_of

MIB = 1024 * 1024
LITTLE_DISK_BYTES = 10 * 1024 * MIB
NO_DISK_BYTES = 48 * MIB  # below that not even the agent's own files are safe
OLDEST_DOCKER = (19, 3)  # the first whose engine hands out accelerators
PYTHON_PACKAGES = {
    "apt-get": "apt-get update && apt-get install -y python3",
    "dnf": "dnf install -y python3",
    "yum": "yum install -y python3",
    "zypper": "zypper --non-interactive install python3",
    "apk": "apk add python3",
    "pacman": "pacman -Sy --noconfirm python",
}

State = Literal["ok", "warning", "failed"]


def findings(look: Look, host: RemoteHost) -> list[Finding]:
    """All checks that one look answers, in the order in which they are told."""
    found = [sudo(look), python(look), docker(look)]
    found += accelerator_findings(look)
    found += [disk(look), *network(look, host)]
    return found


def sudo(look: Look) -> Finding:
    if look.root:
        return Finding(check="sudo", state="ok", message="the user is root")
    if look.has("sudo"):
        return Finding(check="sudo", state="ok", message="without a password")
    user = look.get("user")
    rule = f"echo '{user} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/{user} && chmod 440 /etc/sudoers.d/{user}"
    message = f"{user} may not use sudo without a password"
    if "not found" in look.get("sudo_error"):
        message = "there is no sudo"
        rule = f"install sudo, then as root: {rule}"
    else:
        rule = f"as root: {rule}"
    return Finding(check="sudo", state="failed", message=message, remedy=rule)


def python(look: Look) -> Finding:
    fit = look.python
    if fit is not None:
        return Finding(check="python", state="ok", message=f"{_dotted(fit.version)} at {fit.path}")
    needed = _dotted(OLDEST_PYTHON)
    message = f"there is no Python; {needed} or newer is needed"
    if look.pythons:
        old = look.pythons[0]
        message = f"{old.path} is Python {_dotted(old.version)}; {needed} or newer is needed"
    return Finding(check="python", state="failed", message=message, remedy=python_remedy(look))


def python_remedy(look: Look) -> str:
    """The command that brings a Python which is new enough, as far as this can be told."""
    if look.pythons:  # the distribution's own is too old: a further one stands beside it
        beside = {"dnf": "dnf install -y python3.11", "yum": "yum install -y python38"}.get(look.get("package_manager"))
        return f"sudo {beside}" if beside else f"install Python {_dotted(OLDEST_PYTHON)} or newer as python3"
    command = PYTHON_PACKAGES.get(look.get("package_manager"))
    if command is None:
        return f"install Python {_dotted(OLDEST_PYTHON)} or newer as python3"
    return f"sudo sh -c '{command}'" if "&&" in command else f"sudo {command}"


def docker(look: Look) -> Finding:
    version = look.get("docker_version")
    if version and version_of(version) >= OLDEST_DOCKER:
        return Finding(check="docker", state="ok", message=f"Docker Engine {version}")
    if version:
        message = f"Docker Engine {version} is too old; {_docker_dotted(OLDEST_DOCKER)} or newer is needed"
        return Finding(check="docker", state="failed", message=message, remedy=_install_docker())
    if not look.may_become_root:
        return Finding(check="docker", state="warning", message="could not be asked without sudo")
    if look.has("docker_installed") or look.has("docker_socket"):
        start = "sudo systemctl enable --now docker" if look.has("systemd") else "start dockerd"
        why = look.get("docker_error") or "no answer at /var/run/docker.sock"
        return Finding(check="docker", state="failed", message=f"Docker does not answer: {why}", remedy=start)
    return Finding(check="docker", state="failed", message="Docker is not installed", remedy=_install_docker())


def disk(look: Look) -> Finding:
    free = look.disk_free_bytes
    if free is None:
        return Finding(check="disk", state="warning", message="how much is free cannot be told (df)")
    message = f"{free / (1024 * MIB):.1f} GB free for dstack's files in /var/lib"
    if free < NO_DISK_BYTES:
        message = f"{free / MIB:.0f} MB free for dstack's files in /var/lib"
        remedy = "make room; for example: sudo docker system prune"
        return Finding(check="disk", state="failed", message=message, remedy=remedy)
    if free < LITTLE_DISK_BYTES:
        remedy = "images and logs need room; for example: sudo docker system prune"
        return Finding(check="disk", state="warning", message=message, remedy=remedy)
    return Finding(check="disk", state="ok", message=message)


def network(look: Look, host: RemoteHost) -> list[Finding]:
    """That the internal address which the fleet names is the host's, or that it has one in the fleet's network."""
    if host.internal_ip is None and host.network is None:
        return []
    address = internal_ip(look, host)
    if address is not None:
        return [Finding(check="network", state="ok", message=f"internal address {address}")]
    has = ", ".join(look.addresses) or "none"
    if host.internal_ip is not None:
        message = f"the host has no address {host.internal_ip}; it has {has}"
        return [Finding(check="network", state="failed", message=message, remedy="correct `internal_ip` of the host")]
    message = f"the host has no address in {host.network}; it has {has}"
    return [Finding(check="network", state="failed", message=message, remedy="correct `network` of the fleet")]


def internal_ip(look: Look, host: RemoteHost) -> str | None:
    """The address by which other hosts of the fleet reach this one, where the fleet says how to tell."""
    own = [ip_interface(each).ip for each in look.addresses]
    if host.internal_ip is not None:
        return host.internal_ip if ip_address(host.internal_ip) in own else None
    if host.network is not None:
        wanted = ip_network(host.network, strict=False)
        return next((str(each) for each in own if each in wanted), None)
    return None


def reachability(problems: Sequence[str]) -> Finding:
    """Whether the other hosts of a cluster were reached; `problems` as `Hosts.unreached` answers."""
    if not problems:
        return Finding(check="network", state="ok", message="the other hosts are reached")
    remedy = "let the hosts of a cluster reach each other on all ports, or correct `network` or `internal_ip`"
    return Finding(check="network", state="failed", message="cannot reach " + "; ".join(problems), remedy=remedy)


def forwarding(allowed: bool | None) -> Finding:
    """Whether sshd carries connections to the host's own ports; None: it could not be tried."""
    if allowed:
        return Finding(check="forwarding", state="ok", message="AllowTcpForwarding")
    remedy = "sudo sed -i '1i AllowTcpForwarding yes' /etc/ssh/sshd_config && sudo systemctl reload ssh"
    if allowed is None:
        return Finding(check="forwarding", state="warning", message="could not be tried", remedy=remedy)
    return Finding(check="forwarding", state="failed", message="sshd does not allow TCP forwarding", remedy=remedy)


def taken(label: str, hostname: str) -> Finding:
    """The host carries the mark of another instance: of another fleet, or of another server."""
    return Finding(
        check="owner",
        state="failed",
        message=f"{hostname} already belongs to {label or 'another fleet'}",
        remedy="remove it there first; if that fleet is no more: sudo rm /var/lib/dstack/host-id",
    )


def _install_docker() -> str:
    return "curl -fsSL https://get.docker.com | sudo sh"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _docker_dotted(version: tuple[int, ...]) -> str:
    return ".".join(f"{part:02d}" for part in version)
