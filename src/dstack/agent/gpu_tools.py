"""Asking a vendor's tool: it is found, given patience, and its trouble is told in words."""

from __future__ import annotations

import asyncio
import glob
import os
import re
import shutil
from typing import Any, Dict, Optional

PATIENCE_S = 15.0  # the first call after a boot loads the driver
# Where vendors install their tools beside the usual folders: services rarely have these on PATH.
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
FOLDERS += ("/opt/rocm/bin", "/opt/habanalabs/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
UNITS = {"b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}

_stuck: Dict[str, asyncio.subprocess.Process] = {}


class ToolFailed(Exception):
    """The tool is there and gave no answer; the message is for people."""


def find(program: str) -> Optional[str]:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *FOLDERS]))


async def ask(program: str, *args: str, patience_s: float = PATIENCE_S) -> Optional[str]:
    """What the tool prints; None where it is not installed. Raises ToolFailed."""
    path = find(program)
    if path is None:
        return None
    before = _stuck.get(program)
    if before is not None and before.returncode is None:
        raise ToolFailed("%s still hangs" % program)  # stuck in the driver it cannot be killed: no more of them
    null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    env = dict(os.environ, LC_ALL="C")  # words and decimal points as the parsers know them
    try:
        process = await asyncio.create_subprocess_exec(path, *args, stdin=null, stdout=pipe, stderr=pipe, env=env)
    except OSError as e:
        raise ToolFailed("%s cannot be run: %s" % (program, e.strerror)) from None
    try:
        out, err = await asyncio.wait_for(process.communicate(), patience_s)
    except asyncio.TimeoutError:
        _stuck[program] = process
        raise ToolFailed("%s does not answer within %g s" % (program, patience_s)) from None
    finally:
        if process.returncode is None:
            process.kill()  # not waited for: a process stuck in the driver cannot be
    text = out.decode("utf-8", "replace")
    if process.returncode != 0:
        raise ToolFailed("%s fails: %s" % (program, _words(text, err.decode("utf-8", "replace"), process.returncode)))
    return text


def in_the_machine(vendor: str, sys: str = "/sys") -> int:
    """How many accelerators of a maker (`0x10de`) the PCI bus has; whether a driver knows them does not matter."""
    count = 0
    for path in glob.glob(os.path.join(sys, "bus/pci/devices/*")):
        try:
            with open(os.path.join(path, "vendor")) as f, open(os.path.join(path, "class")) as g:
                count += f.read().strip().lower() == vendor and g.read().startswith(("0x03", "0x12"))
        except OSError:
            continue  # it was taken out meanwhile
    return count


def number(value: Any) -> float:
    """The first number in a tool's answer: `81559 MiB`, `{"value": 5, "unit": "%"}`; 0 for `[N/A]` and the like."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    found = NUMBER.search(str(value))
    return float(found.group()) if found else 0.0


def size(value: Any, unit: str = "MB") -> int:
    """Bytes of `{"value": 196592, "unit": "MB"}` or `98304 MiB`; `unit` where the answer names none."""
    if isinstance(value, dict):
        unit = str(value.get("unit") or unit)
    else:
        named = re.search(r"([KMG]i?B|B)\b", str(value), re.IGNORECASE)
        unit = named.group(1) if named else unit
    return int(number(value) * UNITS.get(unit.lower(), 1))


def pci(address: str) -> str:
    """`00000000:3B:00.0` of one tool and `0000:3b:00.0` of another are the same: the latter."""
    domain, _, rest = address.strip().lower().partition(":")
    return "%s:%s" % (domain[-4:], rest) if rest else address.strip().lower()


def _words(out: str, err: str, code: Optional[int]) -> str:
    for text in (err, out):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[0][:300]
    return "exit code %s" % code
