"""What a validation found, in words for people: field, what is wrong, what was expected, the nearest known key."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from dstack.model.configurations.document import MAX_DEPTH, MAX_VALUES, Path
from dstack.values.grammar import Invalid, kind, show
from dstack.values.suggest import did_you_mean, nearest

SECRET_FIELDS = frozenset({"env", "registry_auth", "ssh_key", "headers", "creds", "encryption"})
MAX_LISTED = 12


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a document; `about_key` when the key itself is the trouble."""

    path: Path
    message: str
    hint: str | None = None
    about_key: bool = False


def problems(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """What the validation of `data` by `model` found, in its order."""
    details = [detail for detail in error.errors(include_url=False) if not _follows_from_others(detail)]
    return list(dict.fromkeys(_problem(detail, model, data) for detail in details))


def invalid(error: Invalid, data: Any) -> Problem:
    """The same for a grammar that was asked directly."""
    return Problem(within(error.at, data), str(error))


def field_text(path: Path) -> str:
    """For instance `resources.gpu` or `volumes[0].path`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = isinstance(part, str) and re.fullmatch(r"[\w-]{1,60}", part, re.ASCII)
            text += ("." if text else "") + (part if plain else show(part))  # keys of data need not be text
    return text


def _follows_from_others(detail: Any) -> bool:
    """A list all of whose items are wrong is reported as too short as well."""
    return detail["type"] == "too_short" and bool(detail["input"])


def illegal_text(data: Any) -> Problem | None:
    """The first text that no process and no database could carry, or that the data are too deep or too many."""
    waiting: list[tuple[Path, Any]] = [((), data)]
    seen = 0
    while waiting:
        path, value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES or len(path) > MAX_DEPTH:
            return Problem((), "is too large or nested too deep")
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
            return Problem(path, "holds a character that is not legal text")
        if isinstance(value, dict):
            waiting += [(path, key) for key in value]
            waiting += [((*path, key), item) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [((*path, index), item) for index, item in enumerate(value)]
    return None


def _problem(detail: Any, model: type[BaseModel], data: Any) -> Problem:
    code, context = detail["type"], detail.get("ctx", {})
    loc: Path = detail["loc"]
    path = within(loc, data, open_end=code == "missing")
    if code == "extra_forbidden":
        return _unknown_key(path, model)
    if code == "value_error" and isinstance(context["error"], Invalid):
        return Problem(within((*path, *context["error"].at), data), str(context["error"]))
    if code in ("enum", "literal_error"):
        return _not_one_of(path, detail["input"], context["expected"])
    words = _WORDS.get(code, _anything)
    return Problem(path, words(_got(path, detail["input"]), detail["input"], context))


def _got(path: Path, value: Any) -> str:
    """What stands there, as the beginning of a sentence; of secrets only the kind."""
    if value is None:
        return "has no value"
    what = "a number" if _looks_like_number(value) else kind(value)
    secret = any(part in SECRET_FIELDS for part in path)
    return f"is {what}" if secret else f"{show(value)} is {what}"


def _looks_like_number(value: Any) -> bool:
    """Numbers come from files as text, as written."""
    return isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?", value) is not None


def within(loc: Path, data: Any, *, open_end: bool = False) -> Path:
    """The parts of a location that are in the data: the others name branches of unions and short forms."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        if _has(data, part):
            path.append(part)
            data = data[part]
        elif open_end and index == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, (list, tuple)):
        return isinstance(part, int) and 0 <= part < len(data)
    return isinstance(data, Mapping) and part in data


def _unknown_key(path: Path, model: type[BaseModel]) -> Problem:
    *parents, key = path or ("",)
    models = _models_at(model, tuple(parents))
    known = [name for found in models for name in found.model_fields]
    hint = did_you_mean(str(key), known) or _belongs_under(str(key), models)
    expected = f", expected one of {', '.join(f'`{name}`' for name in known)}" if 0 < len(known) <= MAX_LISTED else ""
    return Problem(path, f"unknown key{expected}", hint, about_key=True)


def _models_at(model: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    models = [model]
    for part in path:
        if isinstance(part, str):
            fields = [found.model_fields[part] for found in models if part in found.model_fields]
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return models


def _models_in(annotation: Any, *, lists: bool = True) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is tuple and not lists:
        return []
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument, lists=lists)]


def _belongs_under(key: str, models: list[type[BaseModel]]) -> str | None:
    for model in models:
        for name, field in model.model_fields.items():
            if any(key in inner.model_fields for inner in _models_in(field.annotation, lists=False)):
                return f"`{key}` belongs under `{name}`"
    return None


def _not_one_of(path: Path, value: Any, expected: str) -> Problem:
    known = re.findall(r"'([^']*)'", expected)
    listed = ", ".join(f"`{name}`" for name in known)
    meant = nearest(value, known) if isinstance(value, str) else None
    message = f"{show(value)} is not legal, expected {'one of ' if len(known) > 1 else ''}{listed}"
    return Problem(path, message, f"did you mean `{meant}`?" if meant else None)


Words = Callable[[str, Any, Mapping[str, Any]], str]


def _anything(got: str, value: Any, context: Mapping[str, Any]) -> str:
    return "is not legal here"


def _expected(what: str) -> Words:
    return lambda got, value, context: f"{got}, expected {what}"


def _text(got: str, value: Any, context: Mapping[str, Any]) -> str:
    if isinstance(value, dict):
        return f"{got}, expected text: put a line that holds `: ` in quotes"
    return f"{got}, expected text{': put it in quotes' if isinstance(value, bool) else ''}"


def _list(got: str, value: Any, context: Mapping[str, Any]) -> str:
    return f"{got}, expected a list{': write `- ` before each item' if isinstance(value, str) else ''}"


def _bound(words: str, name: str) -> Words:
    return lambda got, value, context: f"{show(value)} is out of range, expected {words} {context[name]:g}"


def _too_long(of: str) -> Words:
    return lambda got, value, context: f"is too long, expected {context['max_length']} {of} at most"


def _says(words: str) -> Words:
    return lambda got, value, context: words


_INTEGER, _NUMBER = _expected("a whole number"), _expected("a number")
_FLAG, _MAPPING = _expected("`true` or `false`"), _expected("a mapping of keys to values")

_WORDS: dict[str, Words] = {
    "missing": _says("is missing"),
    "string_type": _text,
    "string_unicode": _says("holds a character that is not legal text"),
    "string_too_short": _says("is empty, expected text"),
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_from_float": _INTEGER,
    "int_parsing_size": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": lambda got, value, context: f"{show(value)} is not a finite number",
    "bool_type": _FLAG,
    "bool_parsing": _FLAG,
    "tuple_type": _list,
    "list_type": _list,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "greater_than": _bound("more than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "too_short": _says("is empty, expected at least one item"),
    "too_long": _too_long("items"),
    "string_too_long": _too_long("characters"),
}
