"""What a plan remarks on a legal configuration that probably does not do what its author wants, a line each."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator
from typing import Any

from dstack.model.configurations.base import RunConfiguration
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.service import ReplicaGroup, ServiceConfiguration, replica_bounds
from dstack.model.resources import ResourcesSpec
from dstack.values.memory import format_memory

CONDA_IMAGE = "condaforge/miniforge3"

_CONDA = re.compile(r"(?:^|[\s;&|(])conda(?:\s|$)")
_WORD_ENDS = re.compile(r"[\s;&|()<>\"'=`,]+")
_PLAIN_FILE = re.compile(r"(?:\./)*[\w-][\w.+/-]*", re.ASCII)


def remarks(configuration: Any) -> list[str]:
    """What the configuration alone tells."""
    if isinstance(configuration, FleetConfiguration):
        return _idle_without_range(configuration)
    if not isinstance(configuration, RunConfiguration):
        return []
    found = _conda(configuration)
    if isinstance(configuration, ServiceConfiguration):
        found += _scaling_without_range(configuration)
    return found


def exact_gpu_memory(resources: ResourcesSpec | None, last_stage: str | None) -> list[str]:
    """For a plan without any offer; `last_stage` is the furthest at which any of them dropped out."""
    memory = resources.gpu.memory if resources and resources.gpu else None
    if memory is None or memory.min is None or memory.min != memory.max or last_stage != "gpu":
        return []
    size = format_memory(memory.min)
    return [f"resources.gpu: `{size}` is GPUs of exactly that class, and no offer has one; `{size}..` is that or more"]


def possible_files(configuration: Any) -> frozenset[str]:
    """Relative paths that the commands seem to name; which of them exist is for the caller to see."""
    return frozenset(word for _, command in _commands(configuration) for word in _files_in(command))


def local_files(configuration: Any, present: Collection[str]) -> list[str]:
    """A line for each of the `present` files that a command names and that neither `files` nor `repos` bring along."""
    if not isinstance(configuration, RunConfiguration) or configuration.repos:
        return []
    brought = [posixpath.normpath(mapping.local_path) for mapping in configuration.files]
    told: dict[str, str] = {}
    for field, command in _commands(configuration):
        for word in _files_in(command):
            if word in present and not any(_under(word, top) for top in brought):
                told.setdefault(
                    word, f"{field}: nothing uploads the local file `{word}`; add `files: [{word}]`, or `repos: [.]`"
                )
    return list(told.values())


def _commands(configuration: Any) -> Iterator[tuple[str, str]]:
    """Each command with the name of its place."""
    fields = ("setup", "init", "commands")
    for field in fields:
        for index, command in enumerate(getattr(configuration, field, ())):
            yield f"{field}[{index}]", command
    for number, group in enumerate(getattr(configuration, "groups", None) or ()):
        for index, command in enumerate(group.commands):
            yield f"groups[{number}].commands[{index}]", command


def _files_in(command: str) -> Iterator[str]:
    for word in _WORD_ENDS.split(command):
        if _PLAIN_FILE.fullmatch(word) and ("." in word or "/" in word) and ".." not in word.split("/"):
            yield posixpath.normpath(word)


def _under(path: str, top: str) -> bool:
    return top == "." or path == top or path.startswith(top + "/")


def _conda(configuration: RunConfiguration) -> list[str]:
    if configuration.image or configuration.docker:
        return []
    for field, command in _commands(configuration):
        if _CONDA.search(command) and not _has_image(configuration, field):
            return [f"{field}: the default image has uv, not conda; `image: {CONDA_IMAGE}` has it"]
    return []


def _has_image(configuration: RunConfiguration, field: str) -> bool:
    number = re.match(r"groups\[(\d+)\]", field)
    groups = getattr(configuration, "groups", None) or ()
    group = groups[int(number[1])] if number else None
    return isinstance(group, ReplicaGroup) and group.image is not None


def _scaling_without_range(configuration: ServiceConfiguration) -> list[str]:
    found = []
    at_top = [] if configuration.groups is not None else [("", configuration)]
    groups = [(f"groups[{index}].", group) for index, group in enumerate(configuration.groups or ())]
    for prefix, part in (*at_top, *groups):
        low, high = replica_bounds(part.replicas)
        if part.scaling is not None and low == high:
            found.append(f"{prefix}scaling: has no effect until `replicas` is a range, for instance `replicas: 1..4`")
    return found


def _idle_without_range(configuration: FleetConfiguration) -> list[str]:
    nodes, idle = configuration.nodes, configuration.idle_duration
    if nodes is None or idle is None or idle < 0 or nodes.max != nodes.min:
        return []
    return [
        f"idle_duration: has no effect while `nodes` is fixed at {nodes.min}: only instances above the minimum end; "
        f"write `nodes: 0..{nodes.max}`"
    ]
