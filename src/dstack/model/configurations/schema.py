"""JSON schemas of what people write, for editors: they accept what the grammar accepts, short and old forms included.

A schema knows nothing of what fields say together (`image` beside `python`), nor of the grammar of a text (`A100:2`).
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from dstack.model.base import Model
from dstack.model.configurations.described import told_of
from dstack.model.configurations.legacy import OLD_KEYS
from dstack.model.configurations.reading import MODELS
from dstack.model.configurations.server_config import ServerConfig
from dstack.model.profile import Profile
from dstack.values.suggest import did_you_mean

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES = (*MODELS, "profiles", "server")

_FLAG_WORDS = ("true", "false", "yes", "no", "on", "off")


class ProfilesFile(Model):
    """Named parameters for configurations that do not say them."""

    profiles: tuple[Profile, ...] | None


def json_schema(type_: str | None = None) -> dict[str, Any]:
    """The schema of one of `TYPES`, or of a file of any configuration type. KeyError when there is no such type."""
    if type_ is None:
        parts = {name: _schema(model) for name, model in MODELS.items()}
        definitions: dict[str, Any] = {}
        for part in parts.values():
            definitions |= part.pop("$defs", {})
        return {
            "$schema": DIALECT,
            "type": "object",
            "properties": {"type": {"enum": list(MODELS)}},
            "required": ["type"],
            # Not anyOf: what is wrong is then said for the type that was written, and not for all.
            "allOf": [
                {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": part}
                for name, part in parts.items()
            ],
            "$defs": definitions,
        }
    model = {**MODELS, "profiles": ProfilesFile, "server": ServerConfig}[type_]
    return {"$schema": DIALECT, **_schema(model)}


def nearest_type(word: str) -> str | None:
    """The question which of `TYPES` was meant."""
    return did_you_mean(word, TYPES)


class _Generator(GenerateJsonSchema):
    """Numbers and flags may be written as text, text as numbers, as the models read them."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        for name, field in described.get("properties", {}).items():
            if told := told_of(schema["cls"], name):
                field["description"] = told.text
        return described

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return super().int_schema(schema) | {"type": ["integer", "string"]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return super().float_schema(schema) | {"type": ["number", "string"]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return {"anyOf": [{"type": "boolean"}, {"enum": list(_FLAG_WORDS)}]}

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        return super().str_schema(schema) | {"type": ["string", "number"]}


def _schema(model: type[Any]) -> dict[str, Any]:
    described = TypeAdapter(model).json_schema(schema_generator=_Generator, mode="validation")
    tidy: dict[str, Any] = _tidied(described)
    if model in MODELS.values():
        tidy["required"] = sorted({*tidy.get("required", ()), "type"})
    properties = tidy["properties"]
    if model is MODELS["volume"]:
        properties["resources"] = _old("size") | {"type": "object"}
    if model is MODELS["service"]:
        properties["replicas"]["anyOf"].append(_old("groups") | {"type": "array"})
    for part in (tidy, *tidy.get("$defs", {}).values()):
        _add_old_keys(part.get("properties", {}))
    return tidy


def _add_old_keys(properties: dict[str, Any]) -> None:
    """Where the parameters of runs and fleets stand."""
    if "idle_duration" in properties:
        properties |= {old: _old(new) for old, new in OLD_KEYS.items() if new in properties}


def _old(new: str) -> dict[str, Any]:
    return {"deprecated": True, "description": f"an old form of `{new}`"}


def _tidied(value: Any, *, names: bool = False) -> Any:
    """Without titles, which repeat names, and without what says that only one branch may fit."""
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidy: dict[str, Any] = {}
    for key, item in value.items():
        if names:
            tidy[key] = _tidied(item)
        elif key in ("oneOf", "anyOf"):
            tidy["anyOf"] = _branches(item)
        elif key not in ("title", "discriminator"):
            tidy[key] = _tidied(item, names=key in ("properties", "$defs"))
    return tidy


def _branches(items: list[Any]) -> list[Any]:
    """Each branch once, those of branches among them."""
    found: list[Any] = []
    for item in items:
        tidy = _tidied(item)
        inner = tidy["anyOf"] if tidy.keys() == {"anyOf"} else [tidy]
        found += [branch for branch in inner if branch not in found]
    return found
