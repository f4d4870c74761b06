"""Puts an agent on this machine, or a newer one in its place, and goes back where that does not answer."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import Any, Dict, Optional

from dstack.ssh.remote import service


def main(request: Dict[str, Any], program: bytes) -> Dict[str, Any]:
    """`request`: instance, label, sha256 (of `program`), python, owner_uid. Answers `done`, `taken` or `failed`."""
    with service.alone():
        taken = of_another(request["instance"])
        if taken is not None:
            return {"taken": taken}
        if hashlib.sha256(program).hexdigest() != request["sha256"]:
            return {"failed": "the agent's program did not arrive whole"}
        try:
            return {"done": _install(request, program)}
        except (service.Failed, OSError, subprocess.SubprocessError) as e:
            return {"failed": str(e) or type(e).__name__}


def of_another(instance: str) -> Optional[Dict[str, Any]]:
    """What the host's file says, when the host is another's."""
    known = service.read_json(service.HOST_ID)
    return known if known is not None and known.get("instance") != instance else None


def _install(request: Dict[str, Any], program: bytes) -> str:
    """Returns `unchanged`, `installed` or `upgraded`. Raises Failed, OSError; what was there before then runs again."""
    wanted = {"sha": request["sha256"], "python": request["python"], "owner_uid": request["owner_uid"]}
    before = service.read_json(service.RECORD)
    if before == wanted and os.path.exists(service.LINK) and service.health() is not None:
        _write_host_id(request)
        return "unchanged"
    target_before = os.readlink(service.LINK) if os.path.islink(service.LINK) else ""
    os.makedirs(service.PROGRAMS, mode=0o755, exist_ok=True)
    os.makedirs(service.DATA, mode=0o755, exist_ok=True)
    os.makedirs(service.STATE, mode=0o700, exist_ok=True)
    _write_host_id(request)
    target = "agent-%s.pyz" % request["sha256"][:12]
    service.write(os.path.join(service.PROGRAMS, target), program, 0o755)
    try:
        _switch(target, wanted)
    except (service.Failed, OSError, subprocess.SubprocessError):
        if before is not None and target_before and os.path.exists(os.path.join(service.PROGRAMS, target_before)):
            _switch(target_before, before)
        else:
            service.stop()
        raise
    _drop_older(target, target_before)
    return "upgraded" if target_before else "installed"


def _write_host_id(request: Dict[str, Any]) -> None:
    text = json.dumps({"instance": request["instance"], "label": request["label"]})
    service.write(service.HOST_ID, (text + "\n").encode())


def _switch(target: str, record: Dict[str, Any]) -> None:
    """From now on `target` is the agent, and it runs. Raises Failed, OSError."""
    fresh = service.LINK + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    os.replace(fresh, service.LINK)
    service.write(service.RECORD, json.dumps(record).encode())
    service.write(service.PYTHON, record["python"].encode())
    service.stop()
    service.write_unit()
    service.start()


def _drop_older(target: str, before: str) -> None:
    for name in os.listdir(service.PROGRAMS):
        if name.startswith("agent-") and name not in (target, before):
            os.unlink(os.path.join(service.PROGRAMS, name))
