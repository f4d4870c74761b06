"""Renders a frozen value once: specs never change, and the store hands out one object for equal ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
KEPT = 512


def once_each(
    render: Callable[Concatenate[T, P], dict[str, Any]],
) -> Callable[Concatenate[T, P], dict[str, Any]]:
    """Remembers by identity of the first argument; whoever gets the result must not change it."""
    # The value is kept beside its rendering, so that its identity cannot go to another one.
    known: OrderedDict[tuple[Any, ...], tuple[T, dict[str, Any]]] = OrderedDict()

    @wraps(render)
    def remembered(value: T, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        key = (id(value), *args, *kwargs.items())
        found = known.get(key)
        if found is not None:
            known.move_to_end(key)
            return found[1]
        rendered = render(value, *args, **kwargs)
        known[key] = (value, rendered)
        if len(known) > KEPT:
            known.popitem(last=False)
        return rendered

    return remembered
