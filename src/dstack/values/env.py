"""Environment variables: a list of `NAME=value`, `NAME=` and `NAME`, or a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dstack.values.grammar import Invalid, is_number, kind, show

EXPECTED = "a list of `NAME=value` or `NAME`, or a mapping of names to values"

_NAME_EXPECTED = "letters, digits and `_`, not starting with a digit"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def parse_env(value: Any) -> dict[str, str | None]:
    """Values by name, in the order written; None is a value to be taken from where the command runs.

    Values never appear in messages: they may be secrets.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {_name(name, name): _mapped(name, item) for name, item in value.items()}
    if not isinstance(value, (list, tuple)):
        raise Invalid(f"is {kind(value)}, expected {EXPECTED}")
    variables: dict[str, str | None] = {}
    for index, item in enumerate(value):
        name, given = parse_variable(item, index)
        if name in variables:
            raise Invalid(f"`{name}` is given twice, expected each variable once", at=(index,))
        variables[name] = given
    return variables


def parse_variable(item: Any, at: int | None = None) -> tuple[str, str | None]:
    """`NAME=value` as (name, value) and `NAME` as (name, None)."""
    path = () if at is None else (at,)
    if not isinstance(item, str):
        hint = ": write `NAME=value`, or take away the dashes for a mapping" if isinstance(item, dict) else ""
        raise Invalid(f"is {kind(item)}, expected `NAME=value` or `NAME`{hint}", at=path)
    name, equals, value = item.partition("=")
    if not is_env_name(name):  # not shown: what stands here may be a secret without its name
        raise Invalid(f"has no legal name before its value, expected {_NAME_EXPECTED}", at=path)
    return name, _text(value, *path) if equals else None


def is_env_name(name: str) -> bool:
    """Letters, digits and underscores, not starting with a digit."""
    return _NAME.fullmatch(name) is not None


def _name(name: Any, *at: str | int) -> str:
    if not isinstance(name, str) or not is_env_name(name):
        raise Invalid(f"{show(name)} is not a name of an environment variable, expected {_NAME_EXPECTED}", at=at)
    return name


def _mapped(name: str, item: Any) -> str | None:
    if isinstance(item, Mapping) and set(item) == {"key"}:
        return None  # how the HTTP API writes a value to be taken from the environment
    if is_number(item):
        return str(item)
    if item is None:
        raise Invalid(
            f"`{name}` has no value, expected text; in the list form `- {name}` takes it from your environment",
            at=(name,),
        )
    if isinstance(item, bool):
        raise Invalid(f"`{name}` is a boolean in YAML, expected text: put the value in quotes", at=(name,))
    if not isinstance(item, str):
        raise Invalid(f"`{name}` is {kind(item)}, expected text", at=(name,))
    return _text(item, name)


def _text(value: str, *at: str | int) -> str:
    if "\0" in value:
        raise Invalid("the value holds a NUL character, which no environment can carry", at=at)
    return value
