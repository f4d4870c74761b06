"""An image for tasks on several nodes: this machine's Python, OpenMPI and SSH client, with what they load."""

from __future__ import annotations

import glob
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from support.docker_engine import add_busybox, import_tar, unavailable

NODES_IMAGE = "dstack-test-nodes:latest"
PROGRAMS = ("/usr/bin/ssh", "/usr/bin/mpirun", "/usr/bin/orted", "/usr/bin/python3")
# What they open by name. The rest of Python's library is left out: it is most of its size.
PLUGINS = "/usr/lib/*-linux-gnu/openmpi/lib/openmpi*/*.so"
RUNTIME = "/usr/lib/*-linux-gnu/pmix2/lib/pmix/*.so"
DATA = ("/usr/share/openmpi", "/etc/openmpi", "/usr/share/pmix*", "/etc/pmix*")
NAMES = "/lib/*-linux-gnu/libnss_files.so.2"
LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|lib2to3|tkinter|ensurepip|pydoc_data|dist-packages|__pycache__|config-[^/]*)(/|$)"
)


def import_nodes_image(url: str) -> None:
    """Have NODES_IMAGE in the engine; nothing is downloaded."""
    import_tar(url, NODES_IMAGE, nodes_tar(), "/usr/bin:/bin")


@lru_cache
def nodes_tar() -> bytes:
    absent = [program for program in PROGRAMS if not os.path.exists(program)]
    if absent:
        unavailable(f"the image of the nodes needs {', '.join(absent)} (Debian: openmpi-bin openssh-client python3)")
    plugins = [path for pattern in (PLUGINS, RUNTIME, NAMES) for path in glob.glob(pattern)]
    stdlib = _system_stdlib()
    modules = [path for path in glob.glob(stdlib + "/lib-dynload/*.so")]
    files = {*PROGRAMS, *plugins, *_loaded([*PROGRAMS, *plugins, *modules])}
    for pattern in (*DATA, stdlib):
        for top in glob.glob(pattern):
            files.update(
                str(path) for path in Path(top).rglob("*") if path.is_file() and not LEFT_OUT.search(str(path))
            )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        add_busybox(tar)
        for path in sorted(files):
            tar.add(path, path.lstrip("/"))
    return out.getvalue()


def _system_stdlib() -> str:
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _loaded(paths: Iterable[str]) -> set[str]:
    """The libraries that these need, and the loader, where they ask for them."""
    done = subprocess.run(["ldd", *paths], capture_output=True, text=True)
    found = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)
    return {path for path in found if os.path.exists(path)}
