"""The hosts of an SSH fleet in words: what a plan does with them, what is wrong with them and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.cli.render import values

Json = dict[str, Any]

_STATES = {
    "new": "Hosts to add",
    "again": "Hosts to set up again",
    "removed": "Hosts to remove",
}


def host_changes(hosts: Sequence[Json]) -> list[str]:
    """Bullets; empty when all stay as they are."""
    bullets = []
    for state, title in _STATES.items():
        named = [host for host in hosts if host["state"] == state]
        if named:
            bullets += [f"- {title}:", *(f"  - {_one(host)}" for host in named)]
    return bullets


def is_settled(instance: Json) -> bool:
    """Whether the host is in use, was found unfit, or will not come: nothing is to be waited for.

    Without a report nobody has looked at it since the fleet was applied.
    """
    if instance.get("x_to_mend") or instance["status"] == "terminated":
        return True
    looked = instance.get("x_report") is not None
    return looked and instance["status"] in ("idle", "busy") and not instance.get("unreachable")


def is_fit(instance: Json) -> bool:
    return is_settled(instance) and instance["status"] in ("idle", "busy") and not instance.get("x_to_mend")


def ready(instance: Json, seconds: float) -> str:
    """`10.0.0.5: ready in 3.2 s, 8xCPU, 32GB, 200GB (disk)`, with its warnings below."""
    resources = (instance.get("instance_type") or {}).get("resources")
    has = f", {values.resources_old(resources)}" if resources else ""
    head = f"{instance['x_host']}: ready in {seconds:.1f} s{has}"
    return "\n".join([head, *_findings(instance, "warning")])


def unfit(instance: Json) -> str:
    """What is missing on the host, each with the command that mends it."""
    lines = _findings(instance, "failed")
    if not lines:
        lines = [f"    {instance.get('x_message') or instance.get('termination_reason') or 'no reason is known'}"]
    return "\n".join([f"{instance['x_host']}: cannot be used", *lines, *_findings(instance, "warning")])


def report(instance: Json) -> list[str]:
    """All that is not in order with the host, for its details."""
    return [*_findings(instance, "failed"), *_findings(instance, "warning")]


def _findings(instance: Json, state: str) -> list[str]:
    lines = []
    for finding in instance.get("x_report") or []:
        if finding["state"] != state:
            continue
        mark = "" if state == "failed" else "warning, "
        lines.append(f"    {mark}{finding['check']}: {finding['message']}")
        if finding.get("remedy"):
            lines.append(f"      mend it: {finding['remedy']}")
    return lines


def _one(host: Json) -> str:
    message = f": {host['message']}" if host.get("message") else ""
    runs = f" (in use by {', '.join(host['runs'])})" if host.get("runs") else ""
    return f"{host['host']}{runs}{message}"
