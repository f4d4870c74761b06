"""An image with a Docker Engine in it, made of this machine's own programs: nothing is downloaded."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from support.docker_engine import APPLETS, BUSYBOX_IMAGE, import_tar

IMAGE = "dstack-test-dind:latest"
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS = ("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "runc", "iptables", "ip6tables", "mount")
_MORE = ("sleep", "tail", "cat", "mkdir", "ls", "tar", "mktemp", "rm")


def import_docker_inside(url: str) -> str:
    """The name of the image, which is there afterwards. Skips where this machine lacks one of the programs."""
    found = {name: shutil.which(name, path=f"{PATH}:/usr/libexec/docker") for name in _PROGRAMS}
    missing = [name for name, path in found.items() if path is None]
    if missing or not Path("/bin/busybox").exists():
        pytest.skip(f"an image with an engine needs {', '.join(missing) or 'busybox'} on this machine")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        _folders(tar)
        tar.add(Path("/bin/busybox").resolve(), "bin/busybox")
        for name in {*APPLETS, *_MORE} - {"mount"}:
            _link(tar, f"bin/{name}", "busybox")
        files = {Path(path or "").resolve(): f"usr/bin/{name}" for name, path in found.items()}
        added: set[str] = set()
        for name, path in found.items():
            real = Path(path or "").resolve()
            if files[real] != f"usr/bin/{name}":
                tar.add(real, f"usr/bin/{name}")
        for real, target in files.items():
            tar.add(real, target)
            for library in _libraries(real):
                if library not in added:
                    added.add(library)
                    tar.add(Path(library).resolve(), library.lstrip("/"))
        for folder in ("/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib/aarch64-linux-gnu/xtables"):
            if Path(folder).is_dir():
                tar.add(folder, folder.lstrip("/"))
    import_tar(url, IMAGE, out.getvalue(), PATH)
    return IMAGE


def privileged_refused(url: str) -> str | None:
    """Why the engine may not give a container all rights, in words of its own that do not name the container; None
    when it may. An engine that is in a container itself often may not."""
    command = ["docker", "-H", url, "run", "--rm", "--network", "none", "--privileged", BUSYBOX_IMAGE, "true"]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    if done.returncode == 0:
        return None
    words = re.search(r"(operation not permitted|permission denied)", done.stderr)
    assert words, done.stderr
    return words[1]


def _folders(tar: tarfile.TarFile) -> None:
    for name in ("bin", "usr", "usr/bin", "tmp", "root", "etc", "var", "var/log", "var/lib", "run"):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
        tar.addfile(entry)
    _link(tar, "var/run", "/run")
    entry = tarfile.TarInfo("etc/passwd")
    accounts = b"root:x:0:0:root:/root:/bin/sh\n"
    entry.size = len(accounts)
    tar.addfile(entry, io.BytesIO(accounts))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _libraries(program: Path) -> list[str]:
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    return re.findall(r"(?:=> )?(/\S+) \(0x", listed)
