"""A line about every field that people write, for references and editors; here, so that models stay models."""

from __future__ import annotations

from pydantic import BaseModel

from dstack.model.configurations.described import parts, pools, runs
from dstack.model.configurations.described.told import Told

BY_MODEL: dict[str, dict[str, Told]] = runs.FIELDS | parts.FIELDS | pools.FIELDS


def told_of(model: type[BaseModel], field: str) -> Told | None:
    """What the model says of its field, or else the nearest model that it comes from."""
    for ancestor in model.__mro__:
        found = BY_MODEL.get(ancestor.__name__, {}).get(field)
        if found is not None:
            return found
    return None
