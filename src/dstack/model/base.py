"""What all domain models share: frozen, strict about unknown keys, and how grammars become field types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from dstack.values.grammar import Invalid, show


class Model(BaseModel):
    """A frozen value. `WIRE_EXTRA` names the fields that the HTTP API's model of the same name does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    WIRE_EXTRA: ClassVar[frozenset[str]] = frozenset()


def read_by(parse: Callable[[Any], Any]) -> BeforeValidator:
    """A field whose value is first read by a grammar; null stays null, and legality of null is the field's type."""
    return BeforeValidator(lambda value: None if value is None else parse(value))


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise Invalid(f"{show(value)} is a boolean, expected a number")
    return value


Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
