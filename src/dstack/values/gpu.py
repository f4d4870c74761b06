"""GPU requests: `:`-joined tokens in any order (vendor, names, memory, count) and their canonical text."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from dstack.values.grammar import Invalid, is_number, show
from dstack.values.memory import format_memory, has_unit, parse_memory
from dstack.values.ranges import Bounds, format_range, parse_int, parse_range

VENDORS = ("nvidia", "amd", "google", "intel", "tenstorrent")
EXPECTED = "a GPU such as `24GB`, `A100`, `H100:8`, `A100:40GB:2` or `amd:MI300X`"

_VENDOR_ALIASES = {"tpu": "google", "tt": "tenstorrent"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 ._+/-]{0,63}", re.ASCII)
_TPU_PREFIX = "tpu-"


@dataclass(frozen=True)
class GpuRequest:
    """What the text says; None where it says nothing."""

    vendor: str | None = None
    names: tuple[str, ...] | None = None
    memory: Bounds[float] | None = None
    count: Bounds[int] | None = None


def parse_gpu(value: Any) -> GpuRequest:
    """A number of GPUs or tokens; one count alone and one memory size alone are exact."""
    if is_number(value):
        return GpuRequest(count=parse_gpu_count(value))
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a GPU request, expected {EXPECTED}")
    request = GpuRequest()
    for token in (part.strip() for part in value.split(":")):
        field, meaning = _read_token(token, value)
        if getattr(request, field) is not None:
            what = field.removesuffix("s")
            raise Invalid(f"{show(value)} gives the {what} twice (at {show(token)}), expected {EXPECTED}")
        request = replace(request, **{field: meaning})
    return _with_tpu_vendor(request)


def parse_gpu_count(value: Any) -> Bounds[int]:
    """A number of GPUs or a range of numbers."""
    return parse_range(value, parse_int, noun="number of GPUs")


def parse_gpu_memory(value: Any) -> Bounds[float]:
    """A memory size or a range of sizes, in gigabytes."""
    return parse_range(value, parse_memory, noun="range of memory")


def parse_vendor(value: Any) -> str:
    """The vendor's canonical name; `tpu` is google, `tt` is tenstorrent."""
    name = value.strip().lower() if isinstance(value, str) else ""
    name = _VENDOR_ALIASES.get(name, name)
    if name not in VENDORS:
        raise Invalid(f"{show(value)} is not a GPU vendor, expected one of {', '.join(f'`{v}`' for v in VENDORS)}")
    return name


def parse_gpu_names(value: Any) -> tuple[str, ...]:
    """Names from a list or from text separated by commas."""
    if not isinstance(value, (str, list, tuple)):
        raise Invalid(f"{show(value)} is not a GPU name, expected for instance `A100` or `A10G,A100`")
    items = value.split(",") if isinstance(value, str) else value
    names = tuple(item.strip() if isinstance(item, str) else "" for item in items)
    if not names or any(not name for name in names):
        raise Invalid(f"{show(value)} has an empty GPU name, expected for instance `A100` or `A10G,A100`")
    for name in names:
        if not _NAME.fullmatch(name):
            raise Invalid(f"{show(name)} is not a GPU name, expected for instance `A100` or `A10G,A100`")
    return names


def parse_compute_capability(value: Any) -> tuple[int, int]:
    """`7.5`, `"7.5"` or `[7, 5]` as (7, 5)."""
    parts = value if isinstance(value, (list, tuple)) else str(value).split(".")
    if not isinstance(value, bool) and len(parts) in (1, 2):
        digits = [str(part) for part in parts] + ["0"] * (2 - len(parts))
        if all(re.fullmatch(r"\d{1,3}", digit, re.ASCII) for digit in digits):
            return int(digits[0]), int(digits[1])
    raise Invalid(f"{show(value)} is not a compute capability, expected for instance `8.0`")


def format_gpu(request: GpuRequest) -> str:
    """The canonical text, `vendor:names:memory:count`; the vendor only where no name tells it."""
    parts: list[str] = []
    if request.vendor and not request.names:
        parts.append(request.vendor)
    if request.names:
        parts.append(",".join(request.names))
    if request.memory:
        parts.append(format_range(request.memory.min, request.memory.max, format_memory))
    if request.count:
        parts.append(format_range(request.count.min, request.count.max))
    return ":".join(parts)


def _read_token(token: str, value: str) -> tuple[str, Any]:
    if not token:
        raise Invalid(f"{show(value)} has an empty part, expected {EXPECTED}")
    lowered = token.lower()
    if lowered in VENDORS or lowered in _VENDOR_ALIASES:
        return "vendor", parse_vendor(token)
    if token[0].isalpha() or token[0] == ",":
        return "names", parse_gpu_names(token)
    if has_unit(token):
        return "memory", parse_gpu_memory(token)
    if re.fullmatch(r"\d+|\d*\s*\.\.\s*\d*", token, re.ASCII):
        return "count", parse_gpu_count(token)
    raise Invalid(f"{show(token)} in {show(value)} is not understood, expected {EXPECTED}")


def _with_tpu_vendor(request: GpuRequest) -> GpuRequest:
    """The old prefix `tpu-` of a name says the vendor and is no part of the name."""
    names = request.names or ()
    if not any(name.lower().startswith(_TPU_PREFIX) for name in names):
        return request
    bare = tuple(n[len(_TPU_PREFIX) :] if n.lower().startswith(_TPU_PREFIX) else n for n in names)
    if request.vendor not in (None, "google") or not all(_NAME.fullmatch(name) for name in bare):
        raise Invalid(f"{show(','.join(names))} is not a GPU name of {request.vendor or 'google'}, expected {EXPECTED}")
    return replace(request, names=bare, vendor="google")
