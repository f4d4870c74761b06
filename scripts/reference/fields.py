"""Fields of the models as rows of tables: type, default, meaning, forms, and what is not executed yet."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator
from inspect import get_annotations
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from dstack.model.base import ReadBy
from dstack.model.configurations.described import told_of
from dstack.model.configurations.document import load
from dstack.model.configurations.parts import EnvSentinel
from dstack.model.configurations.support import notices, unsupported
from dstack.model.resources import FloatRange, IntRange, ResourcesSpec
from dstack.values.duration import format_duration
from dstack.values.memory import format_memory
from dstack.values.ranges import format_range

# Grammars that say more than the type of their result.
_GRAMMARS = {
    "parse_duration": "duration",
    "_window": "duration",
    "parse_off_duration": "duration or `off`",
    "parse_idle_duration": "duration or `off`",
    "_inactivity": "duration or `off`",
    "parse_memory": "size",
    "_backend": "backend",
    "parse_cron": "cron expression, or a list",
    "_blocks": "whole number or `auto`",
    "_env": "mapping or list",
    "parse_compute_capability": "version",
    "parse_gpu_names": "name, or a list",
}
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", dict: "mapping"}
_LEAVES = (IntRange, FloatRange, EnvSentinel)


class Row(NamedTuple):
    """One field; texts are Markdown."""

    name: str
    type: str
    default: str
    text: str
    forms: tuple[str, ...]


class Section(NamedTuple):
    """One model where it is met first; `path` is empty for the file itself."""

    path: str
    model: type[BaseModel]
    rows: list[Row]


def sections(model: type[BaseModel]) -> list[Section]:
    """The model and, each once and the nearest first, the models of its fields."""
    found: list[Section] = []
    waiting: list[tuple[str, type[BaseModel]]] = [("", model)]
    while waiting:
        path, part = waiting.pop(0)
        if any(section.model is part for section in found):
            continue
        names = _ordered(part)
        found.append(Section(path, part, [row(part, name) for name in names]))
        for name in names:
            annotation = part.model_fields[name].annotation
            inner = f"{path}.{name}" if path else name
            waiting += [(f"{inner}[]" if _listed(annotation) else inner, each) for each in models_in(annotation)]
    return found


def _ordered(model: type[BaseModel]) -> list[str]:
    """Type and name, then what is the model's own, then what it has in common with others."""
    own = {name: rank for rank, part in reversed([*enumerate(model.__mro__)]) for name in get_annotations(part)}
    return sorted(model.model_fields, key=lambda name: (name != "type", name != "name", own.get(name, 0)))


def row(model: type[BaseModel], name: str) -> Row:
    """KeyError when the field has no description."""
    info, told = model.model_fields[name], told_of(model, name)
    if told is None:
        raise KeyError(f"{model.__name__}.{name} has no description in dstack.model.configurations.described")
    return Row(name, type_text(info), default_text(info), told.text, told.forms)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Those that people write as mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [] if annotation in _LEAVES else [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]


def values(model: type[BaseModel], name: str) -> list[Any]:
    """What the forms of the field are read as; a form that is not legal raises pydantic's ValidationError."""
    info, told = model.model_fields[name], told_of(model, name)
    whole: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    adapter = TypeAdapter(whole)
    return [adapter.validate_python(load(form, "form").data) for form in (told.forms if told else ())]


def not_executed(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Fields that a plan refuses or remarks, with its words, found by showing it a value of each."""
    for name, info in model.model_fields.items():
        shown = [*values(model, name), *([True] if _is_flag(info) else []), *(["any"] if _is_text(info) else [])]
        for value in shown:
            lone: Any = SimpleNamespace(**{name: value})
            lines = [*unsupported(lone), *notices(lone)]
            if lines:
                yield name, lines[0].partition(": ")[2]
                break


def type_text(info: FieldInfo) -> str:
    for part in info.metadata:
        if isinstance(part, ReadBy) and part.parse.__name__ in _GRAMMARS:
            return _GRAMMARS[part.parse.__name__]
    return _type(info.annotation)


def default_text(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value == () or value == {} or isinstance(value, ResourcesSpec):
        return ""
    if "duration" in type_text(info):
        return f"`{format_duration(value)}`"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, FloatRange):
        return format_range(value.min, value.max, format_memory)
    if isinstance(value, IntRange):
        return format_range(value.min, value.max)
    if hasattr(value, "pretty"):
        return value.pretty()
    if hasattr(value, "size"):
        return _shown(value.size)
    return str(getattr(value, "type", value))


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        grammars = [part.parse.__name__ for part in annotation.__metadata__ if isinstance(part, ReadBy)]
        return next((_GRAMMARS[name] for name in grammars if name in _GRAMMARS), _type(arguments[0]))
    if origin in (typing.Union, types.UnionType):
        words = [_type(part) for part in arguments if part is not type(None)]
        return " or ".join(dict.fromkeys(" or ".join(words).split(" or ")))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{choice.value}`" for choice in annotation)
    if annotation in (IntRange, FloatRange):
        return "range" if annotation is IntRange else "size range"
    if isinstance(annotation, type) and getattr(annotation, "SHORT_FORMS", ()):
        return "short form or mapping"
    return _PLAIN.get(origin or annotation, "mapping")


def _listed(annotation: Any) -> bool:
    return typing.get_origin(annotation) is tuple or any(_listed(part) for part in typing.get_args(annotation))


def _is_flag(info: FieldInfo) -> bool:
    return "`true`" in type_text(info)


def _is_text(info: FieldInfo) -> bool:
    return type_text(info) == "text"
