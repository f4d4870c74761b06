"""CPU requests: `8`, `4..8`, `x86:16`, `arm:8..`, `x86` to an architecture and a range of cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dstack.values.grammar import Invalid, is_number, show
from dstack.values.ranges import Bounds, format_range, parse_int, parse_range

ARCHITECTURES = ("x86", "arm")
EXPECTED = "cores such as `4`, `4..8` or `arm:8..`"

_ALIASES = {"amd64": "x86", "x86_64": "x86", "x86-64": "x86", "arm64": "arm", "aarch64": "arm"}


@dataclass(frozen=True)
class CpuRequest:
    """`count` is None where the text names only the architecture."""

    arch: str | None
    count: Bounds[int] | None


def parse_cpu(value: Any) -> CpuRequest:
    """A number of cores, or `:`-joined tokens in any order; one number alone means at least that many."""
    if is_number(value):
        return CpuRequest(None, parse_cores(value))
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a CPU request, expected {EXPECTED}")
    arch: str | None = None
    count: Bounds[int] | None = None
    for token in (part.strip() for part in value.split(":")):
        if not token:
            raise Invalid(f"{show(value)} has an empty part, expected {EXPECTED}")
        if token[0].isalpha():
            if arch is not None:
                raise Invalid(f"{show(value)} names two architectures, expected one of `x86`, `arm`")
            arch = parse_arch(token)
        elif count is not None:
            raise Invalid(f"{show(value)} gives the number of cores twice, expected {EXPECTED}")
        else:
            count = parse_cores(token)
    return CpuRequest(arch, count)


def parse_cores(value: Any) -> Bounds[int]:
    """A range of cores; one number alone means at least that many."""
    return parse_range(value, parse_int, single="at-least", noun="number of cores")


def parse_arch(token: str) -> str:
    """The architecture's name; the names that other tools use are answered with ours."""
    name = token.lower()
    if name in ARCHITECTURES:
        return name
    meant = f" (did you mean `{_ALIASES[name]}`?)" if name in _ALIASES else ""
    raise Invalid(f"{show(token)} is not a CPU architecture, expected `x86` or `arm`{meant}")


def format_cpu(arch: str | None, low: int | None, high: int | None) -> str:
    """The canonical text, for instance `x86:2..`."""
    count = format_range(low, high, single="at-least")
    return f"{arch}:{count}" if arch else count
