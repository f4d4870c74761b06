"""Where the server's own images do not serve, so that a person has to name one."""

from __future__ import annotations

import re

from dstack.model.configurations.base import RunConfiguration
from dstack.model.resources import ResourcesSpec

SERVED_VENDORS = ("nvidia", "google")
_BY_NAME = (
    (re.compile(r"mi\d{2,3}[a-z]*", re.ASCII), "amd"),
    (re.compile(r"gaudi\d*", re.ASCII), "intel"),
    (re.compile(r"[npe]\d{3}[a-z]?|wormhole.*|blackhole.*", re.ASCII), "tenstorrent"),
)


def image_missing(configuration: RunConfiguration) -> list[str]:
    """A line for each reason; for containers, not for plain processes."""
    found: list[str] = []
    groups = getattr(configuration, "groups", None) or ()
    for resources in (configuration.resources, *(group.resources for group in groups)):
        found += [line for line in _reasons(configuration, resources) if line not in found]
    return found


def _reasons(configuration: RunConfiguration, resources: ResourcesSpec) -> list[str]:
    found = []
    if resources.cpu.arch == "arm":
        if configuration.docker:
            found.append("docker: is not supported on ARM CPU")
        elif not configuration.image:
            found.append("image: must be set when ARM CPU requested")
    vendors = _vendors(resources)
    if vendors and not configuration.image and not configuration.docker:
        found.append(
            "image: must be set when the requested accelerator is not supported by the default image: "
            + ", ".join(vendors)
        )
    return found


def _vendors(resources: ResourcesSpec) -> list[str]:
    gpu = resources.gpu
    if gpu is None or gpu.count.max == 0:
        return []
    named = [gpu.vendor] if gpu.vendor else [_vendor(name) for name in gpu.name or ()]
    return sorted({vendor for vendor in named if vendor and vendor not in SERVED_VENDORS})


def _vendor(name: str) -> str | None:
    return next((vendor for pattern, vendor in _BY_NAME if pattern.fullmatch(name.lower())), None)
