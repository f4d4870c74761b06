"""Requirements and policies in words, from the JSON of the API."""

from __future__ import annotations

from typing import Any

from dstack.values.duration import format_duration
from dstack.values.memory import format_memory, parse_memory
from dstack.values.ranges import format_range

Json = dict[str, Any]

ALL_EVENTS = {"no-capacity", "interruption", "error"}


def resources_text(spec: Json) -> str:
    """`cpu=2.. mem=8GB.. disk=100GB.. gpu=A100:40GB:2`."""
    parts = []
    cpu = spec.get("cpu")
    if isinstance(cpu, dict):
        arch = f"{cpu['arch']}:" if cpu.get("arch") else ""
        parts.append(f"cpu={arch}{_range(cpu.get('count') or cpu)}")
    elif cpu is not None:
        parts.append(f"cpu={cpu}")
    if spec.get("memory") is not None:
        parts.append(f"mem={_size(spec['memory'])}")
    if spec.get("disk") is not None:
        disk = spec["disk"]
        parts.append(f"disk={_size(disk.get('size', disk) if isinstance(disk, dict) else disk)}")
    if spec.get("gpu") is not None:
        parts.append(f"gpu={_gpu(spec['gpu'])}")
    return " ".join(parts)


def retry_text(retry: Any) -> str:
    """`off` or `1h[no-capacity, error]`."""
    if not retry:
        return "off"
    if retry is True:
        return "1h"
    events = retry.get("on_events") or sorted(ALL_EVENTS)
    duration = retry.get("duration")
    shown = "" if set(events) == ALL_EVENTS else f"[{', '.join(events)}]"
    return f"{format_duration(int(duration)) if duration is not None else '1h'}{shown}"


def off_text(seconds: Any) -> str:
    """A duration, or `off` for none."""
    return format_duration(int(seconds)) if isinstance(seconds, (int, float)) else str(seconds or "off")


def schedule_text(schedule: Any, next_at: str | None) -> str:
    """`0 8 * * mon-fri, next 2026-11-23 08:00 UTC`, or `-` without a schedule."""
    if not schedule:
        return "-"
    written = schedule["cron"]
    shown = written if isinstance(written, str) else "; ".join(written)
    return f"{shown}, next {next_at[:16].replace('T', ' ')} UTC" if next_at else shown


def idle_text(seconds: Any, default: str) -> str:
    """A duration, `-` for never."""
    if seconds is None:
        return default
    if isinstance(seconds, (int, float)):
        return "-" if seconds < 0 else format_duration(int(seconds))
    return "-" if seconds == "off" else str(seconds)


def _gpu(gpu: Any) -> str:
    if not isinstance(gpu, dict):
        return str(gpu)
    names = gpu.get("name") or []
    parts = [",".join(names) if isinstance(names, list) else str(names)] if names else [str(gpu.get("vendor") or "")]
    if gpu.get("memory"):
        parts.append(_size(gpu["memory"], exact=True))
    parts.append(_range(gpu.get("count") or {"min": 1}))
    more = f" (total {_size(gpu['total_memory'], exact=True)})" if gpu.get("total_memory") else ""
    return ":".join(part for part in parts if part) + more


def _range(bounds: Any) -> str:
    if not isinstance(bounds, dict):
        return str(bounds)
    return format_range(bounds.get("min"), bounds.get("max"))


def _size(bounds: Any, exact: bool = False) -> str:
    if not isinstance(bounds, dict):
        return str(bounds)
    low, high = (parse_memory(bounds[end]) if bounds.get(end) is not None else None for end in ("min", "max"))
    return format_range(low, high, format_memory, single="exact" if exact else "at-least")
