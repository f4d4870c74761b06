"""Memory sizes: text such as `80GB`, `512MB`, `1TB` to gigabytes and back."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from dstack.values.grammar import Invalid, is_number, show

EXPECTED = "a size such as `512MB`, `80GB` or `1TB`"
MAX_GB = 1e9

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,12})?|\.\d{1,12})([mgt]b?)?", re.ASCII)
_GB_PER_UNIT = {"m": 1 / 1024, "g": 1.0, "t": 1024.0, "": 1.0}


def parse_memory(value: Any) -> float:
    """Gigabytes (1TB is 1024GB) of a number (gigabytes) or of text with an optional unit."""
    if is_number(value):
        return _checked(float(value) if abs(value) <= MAX_GB else math.inf, value)
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a size, expected {EXPECTED}")
    match = _SIZE.fullmatch(re.sub(r"\s+", "", value).lower())
    if match is None:
        raise Invalid(f"{show(value)} is not a size, expected {EXPECTED}")
    return _checked(float(match[1]) * _GB_PER_UNIT[(match[2] or "")[:1]], value)


def format_memory(gigabytes: float) -> str:
    """The shortest canonical text: `8GB`, `0.3GB`, and whole megabytes below one gigabyte as `512MB`."""
    megabytes = gigabytes * 1024
    if 0 < gigabytes < 1 and megabytes == int(megabytes):
        return f"{int(megabytes)}MB"
    text = format(Decimal(repr(float(gigabytes))), "f")
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}GB"


def has_unit(text: str) -> bool:
    """Whether text speaks of memory: a digit followed by a unit."""
    return re.search(r"\d\s*[mgt]b?\b", text, re.IGNORECASE) is not None


def _checked(gigabytes: float, value: Any) -> float:
    if math.isnan(gigabytes) or not 0 <= gigabytes <= MAX_GB:
        raise Invalid(f"{show(value)} is out of range, expected {EXPECTED}")
    return round(abs(gigabytes), 10)  # a megabyte is exact, and less has no meaning
