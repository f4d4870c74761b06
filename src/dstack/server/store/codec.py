"""Rows to columns and back: scalars natively, everything nested as JSON text."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import BigInteger, Boolean, Column, Float, String, Text

from dstack.model.row import Row

R = TypeVar("R", bound=Row)
_NATIVE: dict[type, Any] = {str: String, int: BigInteger, float: Float, bool: Boolean}


@lru_cache(maxsize=256)
def _adapter(cls: type[Row], field: str) -> TypeAdapter[Any]:
    annotation: Any = cls.model_fields[field].annotation
    return TypeAdapter(annotation)


@lru_cache(maxsize=256)
def native(cls: type[Row], field: str) -> tuple[type, bool, type[StrEnum] | None] | None:
    """(Python type, nullable, enum) of a field that is a plain column; None of one that is stored as JSON."""
    annotation = cls.model_fields[field].annotation
    nullable = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        nullable = len(members) < len(typing.get_args(annotation))
        annotation = members[0] if len(members) == 1 else None
    if isinstance(annotation, type):
        if issubclass(annotation, StrEnum):
            return str, nullable, annotation
        if annotation in _NATIVE:
            return annotation, nullable, None
    return None


def columns(cls: type[Row]) -> list[Column[Any]]:
    """The columns of the table that holds rows of `cls`."""
    result: list[Column[Any]] = []
    for field in cls.model_fields:
        kind = native(cls, field)
        if kind is None:
            result.append(Column(field, Text, nullable=True))
        else:
            result.append(Column(field, _NATIVE[kind[0]], nullable=kind[1], primary_key=field == "id"))
    return result


def encode_field(cls: type[Row], field: str, value: Any) -> Any:
    """One field as its column's value. Raises pydantic.ValidationError when the value is not legal for the field."""
    kind = native(cls, field)
    if kind is not None and type(value) is (kind[2] or kind[0]):
        return value.value if kind[2] is not None else value  # what the validator would say, in a tenth of its time
    checked = _adapter(cls, field).validate_python(value)
    if checked is None:
        return None
    if kind is None:
        return _adapter(cls, field).dump_json(checked, exclude_unset=True).decode()
    return str(checked) if kind[0] is str else checked


def encode(row: Row) -> dict[str, Any]:
    return {field: encode_field(type(row), field, getattr(row, field)) for field in type(row).model_fields}


def decode(cls: type[R], columns_of_row: Any) -> R:
    """A row from a database mapping. Nested values are immutable, so equal JSON is parsed once."""
    values: dict[str, Any] = {}
    for field, nested, enum in _plan(cls):
        value = columns_of_row[field]
        if value is not None:
            if nested:
                value = _parse(cls, field, value)
            elif enum is not None:
                value = enum(value)
        values[field] = value
    return _constructed(cls, values)


def decode_field(cls: type[Row], field: str, text: str) -> Any:
    """The value of one field that is stored as JSON. Immutable: equal JSON is parsed once."""
    return _parse(cls, field, text)


@lru_cache(maxsize=64)
def _plan(cls: type[Row]) -> list[tuple[str, bool, Callable[[str], StrEnum] | None]]:
    """For each field: its name, whether it is stored as JSON, and how its text becomes a member of its enum."""
    kinds = [(field, native(cls, field)) for field in cls.model_fields]
    return [(field, kind is None, _member_of(kind[2]) if kind and kind[2] else None) for field, kind in kinds]


def _member_of(enum: type[StrEnum]) -> Callable[[str], StrEnum]:
    """Raises KeyError for a text that is no member."""
    return {member.value: member for member in enum}.__getitem__


def _constructed(cls: type[R], values: dict[str, Any]) -> R:
    """What `model_construct` makes of values for all fields, in a twentieth of its time."""
    row = cls.__new__(cls)
    object.__setattr__(row, "__dict__", values)
    object.__setattr__(row, "__pydantic_fields_set__", set(values))
    object.__setattr__(row, "__pydantic_extra__", None)
    object.__setattr__(row, "__pydantic_private__", None)
    return row


@lru_cache(maxsize=8192)
def _parse(cls: type[Row], field: str, text: str) -> Any:
    try:
        return _adapter(cls, field).validate_json(text)
    except ValidationError:
        # A newer server beside this one writes fields that this one does not know: to refuse the row would leave it to
        # nobody. Only now, as what is strict tells the members of a union apart.
        return _adapter(cls, field).validate_json(text, extra="ignore")
