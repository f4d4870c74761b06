"""What all domain models share: frozen, strict about unknown keys, and how grammars become field types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dstack.values.grammar import Invalid, show

JsonSchema = dict[str, Any]

TEXT: JsonSchema = {"type": "string"}
NUMBER: JsonSchema = {"type": "number"}
FLAG: JsonSchema = {"type": "boolean"}


class Model(BaseModel):
    """A frozen value. `WIRE_EXTRA` names the fields that the HTTP API's model of the same name does not have,
    `SHORT_FORMS` the JSON schemas of what else than a mapping people may write."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)

    WIRE_EXTRA: ClassVar[frozenset[str]] = frozenset()
    SHORT_FORMS: ClassVar[tuple[JsonSchema, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        described = handler(schema)
        if not cls.SHORT_FORMS or handler.mode == "serialization":  # what we answer is never short
            return described
        return {"anyOf": [described, *cls.SHORT_FORMS]}


@dataclass(frozen=True, eq=False)  # hashed by typing, and schemas are dicts
class ReadBy:
    """Annotation of a field: a grammar that runs before the type's own check, and the forms that it reads."""

    parse: Callable[[Any], Any]
    forms: tuple[JsonSchema, ...]
    null: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        described = handler(schema)
        if not self.forms or handler.mode == "serialization":
            return described
        return {"anyOf": [described, *self.forms]}

    def _read(self, value: Any) -> Any:
        return None if value is None and not self.null else self.parse(value)


def read_by(parse: Callable[[Any], Any], *forms: JsonSchema) -> ReadBy:
    """A field whose value is first read by a grammar; null stays null, and legality of null is the field's type."""
    return ReadBy(parse, forms)


def read_all_by(parse: Callable[[Any], Any], *forms: JsonSchema) -> ReadBy:
    """The same for a grammar that has a meaning for null."""
    return ReadBy(parse, forms, null=True)


def one_of(key: str, names: tuple[str, ...], default: str | None) -> BeforeValidator:
    """A mapping whose `key` says which of several models it is; said in one sentence when it says none of them.

    `default` is what it is without the key; None when the key has to be there.
    """

    def check(value: Any) -> Any:
        if isinstance(value, dict) and value.get(key, default) not in names:
            expected = " or ".join(f"`{name}`" for name in names)
            if key not in value:
                raise Invalid(f"has no `{key}`, expected {expected}")
            raise Invalid(f"{show(value[key])} is not legal, expected {expected}", at=(key,))
        return value

    return BeforeValidator(check)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise Invalid(f"{show(value)} is a boolean, expected a number")
    return value


Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean)]
