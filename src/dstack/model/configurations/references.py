"""References in configurations, `${{ namespace.name }}`: which may stand where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from dstack.values.grammar import Invalid
from dstack.values.interpolate import is_plain_reference, references

_NODE = re.compile(r"groups\[(\d{1,6})\]\.(nodes|replicas)\[(\d{1,6})\]\.IP_ADDRESS", re.ASCII)
_NODE_FORM = "${{ groups[0].%s[0].IP_ADDRESS }}"


def check_references(configuration: Any) -> None:
    """Invalid, at its place, for a reference that nobody will ever fill in; for run configurations."""
    for name, value in configuration.env.items():
        if isinstance(value, str):
            _check(value, ("env", name), _in("secrets"), "${{ secrets.NAME }}", shown=False)
    auth = configuration.registry_auth
    for field in ("username", "password") if auth else ():
        expected = "${{ secrets.NAME }} or ${{ env.NAME }}"
        _check(getattr(auth, field), ("registry_auth", field), _in("secrets", "env"), expected, shown=False)
    for path, command in _commands(configuration):
        counts = _counts(configuration)
        expected = "${{ run.args }}" + (f" or {_NODE_FORM % counts[0]}" if counts else "")
        _check(command, path, lambda name, counts=counts: name == "run.args" or _node(name, counts), expected)
    for index, mount in enumerate(configuration.volumes):
        names = getattr(mount, "name", ())
        for name in (names,) if isinstance(names, str) else names:
            known = ("dstack.node_rank", "dstack.job_num")
            _check(name, ("volumes", index), known.__contains__, "${{ dstack.node_rank }} or ${{ dstack.job_num }}")


def _check(
    text: str, path: tuple[str | int, ...], known: Callable[[str], bool], expected: str, *, shown: bool = True
) -> None:
    try:
        names = references(text, legal=lambda name: is_plain_reference(name) or name.startswith("groups["))
    except Invalid as error:
        if shown:
            raise Invalid(f"{error}, expected {expected}", at=path) from None
        raise Invalid(f"holds a reference that is not legal, expected {expected}", at=path) from None
    for name in names:
        if not known(name):
            hint = "; give it to the run in `env`" if name.partition(".")[0] in ("secrets", "env") else ""
            raise Invalid(f"${{{{ {name} }}}} is not known here, expected {expected}{hint}", at=path)


def _in(*namespaces: str) -> Callable[[str], bool]:
    return lambda name: name.partition(".")[0] in namespaces


def _commands(configuration: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for index, command in enumerate(getattr(configuration, "commands", ())):
        yield ("commands", index), command
    for number, group in enumerate(getattr(configuration, "groups", None) or ()):
        for index, command in enumerate(group.commands):
            yield ("groups", number, "commands", index), command


def _counts(configuration: Any) -> tuple[str, list[int]] | None:
    """What groups are made of, and how many of them there are in each at least."""
    groups = getattr(configuration, "groups", None)
    if not groups:
        return None
    if hasattr(groups[0], "nodes"):
        return "nodes", [group.nodes for group in groups]
    return "replicas", [group.replicas.min or 0 for group in groups]


def _node(name: str, counts: tuple[str, list[int]] | None) -> bool:
    match = _NODE.fullmatch(name)
    if match is None or counts is None or match[2] != counts[0]:
        return False
    group, member = int(match[1]), int(match[3])
    return group < len(counts[1]) and member < counts[1][group]
