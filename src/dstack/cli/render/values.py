"""Money, ages, resources and places as people read them; the input is the JSON of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dstack.values.memory import format_memory

Json = dict[str, Any]

MIB_PER_GB = 1024


def money(price: float | None, places: int = 4) -> str:
    """Dollars with up to `places` decimals, zeros trimmed: `$0`, `$0.1624`, `$2.5`."""
    if price is None:
        return ""
    text = f"{price:.{places}f}"
    return "$" + (text.rstrip("0").rstrip(".") if "." in text else text)


def instant(text: str | None) -> float | None:
    """Seconds since the epoch of an ISO 8601 instant of the API; None where there is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else datetime.fromisoformat(text + "+00:00").timestamp()


def age(text: str | None, now: float) -> str:
    """How long ago: `now`, `12 sec ago`, `3 mins ago`, `1 hour ago`, `yesterday`, `2 weeks ago`."""
    at = instant(text)
    if at is None:
        return ""
    seconds = int(now - at)
    if seconds < 10:
        return "now"
    if seconds < 60:
        return f"{seconds} sec ago"
    if seconds < 3600:
        return _ago(seconds // 60, "min")
    if seconds < 86400:
        return _ago(seconds // 3600, "hour")
    days = seconds // 86400
    if days == 1:
        return "yesterday"
    for unit, length in (("year", 365), ("month", 30), ("week", 7)):
        if days >= length:
            return _ago(days // length, unit)
    return _ago(days, "day")


def clock(text: str | None) -> str:
    """The local date and time to the second."""
    at = instant(text)
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at is not None else ""


def memory(mib: float) -> str:
    """`8GB`, `512MB`; whole gigabytes from one up."""
    gigabytes = mib / MIB_PER_GB
    return format_memory(round(gigabytes, 1)) if gigabytes >= 1 else f"{mib:.0f}MB"


def gpus(resources: Json) -> str:
    """`A100:80GB:2`, `L4:24GB`, `` without any."""
    items = resources.get("gpus") or []
    if not items:
        return ""
    first = items[0]
    size = f":{memory(first['memory_mib'])}" if first.get("memory_mib") else ""
    return f"{first['name']}{size}{f':{len(items)}' if len(items) > 1 else ''}"


def resources(found: Json) -> str:
    """What a machine has, as run tables show it: `cpu=2 mem=8GB disk=100GB gpu=L4:24GB`."""
    parts = [f"cpu={found['cpus']}", f"mem={memory(found['memory_mib'])}"]
    disk = (found.get("disk") or {}).get("size_mib")
    if disk:
        parts.append(f"disk={memory(disk)}")
    if found.get("gpus"):
        parts.append(f"gpu={gpus(found)}")
    return " ".join(parts) + (" (spot)" if found.get("spot") else "")


def resources_old(found: Json) -> str:
    """The same as fleet plans show it: `2xCPU, 8GB, 1xL4 (24GB), 100GB (disk)`."""
    parts = [f"{found['cpus']}xCPU", memory(found["memory_mib"])]
    if found.get("gpus"):
        first = found["gpus"][0]
        size = f" ({memory(first['memory_mib'])})" if first.get("memory_mib") else ""
        parts.append(f"{len(found['gpus'])}x{first['name']}{size}")
    disk = (found.get("disk") or {}).get("size_mib")
    if disk:
        parts.append(f"{memory(disk)} (disk)")
    return ", ".join(parts)


def backend(item: Json) -> str:
    """The backend by its true name: `x_backend` where the API has to say `remote` for a new one."""
    name = str(item.get("x_backend") or item.get("backend") or "")
    return "ssh" if name == "remote" else name


def place(item: Json) -> str:
    """`gcp (europe-west-1)`, `ssh (remote)`, `local`."""
    name, region = backend(item), item.get("region")
    return f"{name} ({region})" if name and region and region != name else name


def _ago(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'} ago"
