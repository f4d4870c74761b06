"""Whether this machine is the one that it should be, and its agent at work; starts it where it is not."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Dict

from dstack.ssh.remote import service


def main(request: Dict[str, Any], _: bytes) -> Dict[str, Any]:
    """`request`: instance. One of the keys `done`, `missing`, `taken`, `failed`."""
    known = service.read_json(service.HOST_ID)
    if known is None or not os.path.exists(service.LINK) or not os.path.exists(service.RECORD):
        return {"missing": True}
    if known.get("instance") != request["instance"]:
        return {"taken": known}
    if service.health() is not None:
        return {"done": "runs"}
    with service.alone():
        if service.health() is not None:
            return {"done": "runs"}
        try:
            service.start()
        except (service.Failed, OSError, subprocess.SubprocessError) as e:
            return {"failed": str(e) or type(e).__name__}
    return {"done": "started"}
