"""Puts an agent on this machine, or a newer one in its place, and goes back where that does not answer."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import Any, Dict, FrozenSet, Optional

from dstack.ssh.remote import service


def main(request: Dict[str, Any], program: bytes) -> Dict[str, Any]:
    """`request`: instance, label, sha256 (of `program`), version, python, owner_uid; of an upgrade the last two are
    missing: they stay, and so does the label. Answers `done`, `missing`, `taken` or `failed`."""
    with service.alone():
        taken = of_another(request["instance"])
        if taken is not None:
            return {"taken": taken}
        if hashlib.sha256(program).hexdigest() != request["sha256"]:
            return {"failed": "the agent's program did not arrive whole"}
        try:
            return _upgrade(request, program) if "python" not in request else {"done": _install(request, program)}
        except (service.Failed, OSError, subprocess.SubprocessError) as e:
            return {"failed": str(e) or type(e).__name__}


def of_another(instance: str) -> Optional[Dict[str, Any]]:
    """What the host's file says, when the host is another's."""
    known = service.read_json(service.HOST_ID)
    return known if known is not None and known.get("instance") != instance else None


def _install(request: Dict[str, Any], program: bytes) -> str:
    """Returns `unchanged`, `installed` or `upgraded`. Raises Failed, OSError; what was there before then runs again.

    A newer agent that runs is left alone: servers of two versions must not take turns at replacing it.
    """
    wanted = {"sha": request["sha256"], "version": request["version"]}
    wanted.update(python=request["python"], owner_uid=request["owner_uid"])
    before = service.read_json(service.RECORD)
    if before is not None and os.path.exists(service.LINK):
        kept = dict(before, python=wanted["python"], owner_uid=wanted["owner_uid"])
        same = before == wanted or (
            before == kept and service.newer(str(before.get("version", "")), request["version"])
        )
        if same and service.health() is not None:
            _write_host_id(request)
            return "unchanged"
    os.makedirs(service.PROGRAMS, mode=0o755, exist_ok=True)
    os.makedirs(service.DATA, mode=0o755, exist_ok=True)
    os.makedirs(service.STATE, mode=0o700, exist_ok=True)
    _write_host_id(request)
    return _replace(program, wanted)


def _upgrade(request: Dict[str, Any], program: bytes) -> Dict[str, Any]:
    """Only an older agent is replaced. Raises Failed, OSError; the older one then runs again."""
    before, runs = service.read_json(service.RECORD), service.health()
    if before is None or runs is None or not os.path.exists(service.LINK):
        return {"missing": True}
    if not service.newer(request["version"], str(runs.get("version", ""))):
        return {"done": "unchanged"}
    return {"done": _replace(program, dict(before, sha=request["sha256"], version=request["version"]))}


def _replace(program: bytes, wanted: Dict[str, Any]) -> str:
    before, known = service.read_json(service.RECORD), service.tasks()
    target_before = os.readlink(service.LINK) if os.path.islink(service.LINK) else ""
    target = "agent-%s.pyz" % wanted["sha"][:12]
    service.write(os.path.join(service.PROGRAMS, target), program, 0o755)
    try:
        _switch(target, wanted)
        _check_tasks(known)
    except (service.Failed, OSError, subprocess.SubprocessError):
        if before is not None and target_before and os.path.exists(os.path.join(service.PROGRAMS, target_before)):
            _switch(target_before, before)
        else:
            service.stop()
        raise
    _drop_older(target, target_before)
    return "upgraded" if target_before else "installed"


def _check_tasks(known: Optional[FrozenSet[str]]) -> None:
    """An agent that cannot read what the one before it wrote must not stay: it would take jobs for lost."""
    lost = (known or frozenset()) - (service.tasks() or frozenset())
    if lost:
        raise service.Failed("the newer agent does not know %d of the host's tasks" % len(lost))


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
