"""`dstack apply --help TYPE`: the properties of a type, from its JSON schema."""

from __future__ import annotations

import json
from typing import Any

from dstack.cli.render.table import table

Json = dict[str, Any]

HEADERS = ("PROPERTY", "VALUES", "DEFAULT", "MEANING")
MANY = 6  # more words than that are not listed
FIRST = ("type", "name")
FLAG_WORDS = ("true", "false", "yes", "no", "on", "off")
KINDS = ("text", "number", "mapping", "list", "boolean", "any")


def keys_table(schema: Json, width: int | None = None) -> str:
    """A row for each property; those of nested objects stand under them, with a dot."""
    return table(HEADERS, _rows(schema, schema.get("$defs") or {}, ""), width)


def _rows(schema: Json, definitions: Json, prefix: str) -> list[tuple[str, ...]]:
    required = schema.get("required") or ()
    rows = []
    parts = schema.get("properties") or {}
    for name in [name for name in FIRST if name in parts] + [name for name in parts if name not in FIRST]:
        part = parts[name]
        if part.get("deprecated"):
            continue
        default = "(required)" if name in required and not prefix else _default(part)
        rows.append(
            (prefix + name, " | ".join(_plain(_words(part, definitions))), default, str(part.get("description", "")))
        )
        nested = _nested(part, definitions)
        if nested is not None and prefix.count(".") < 1:
            rows += _rows(nested, definitions, f"{prefix}{name}.")
    return rows


def _words(part: Json, definitions: Json) -> list[str]:
    """The kinds of value that are legal, in the words of YAML."""
    part = _resolved(part, definitions)
    if "const" in part:
        return [str(part["const"])]
    if "enum" in part:
        return [str(word) for word in part["enum"]][:MANY] + (["..."] if len(part["enum"]) > MANY else [])
    if "anyOf" in part:
        return [word for branch in part["anyOf"] for word in _words(branch, definitions) if word != "null"]
    kinds = part.get("type")
    found = kinds if isinstance(kinds, list) else [kinds] if kinds else ["any"]
    return [_kind(kind, part, definitions) for kind in found]


def _plain(words: list[str]) -> list[str]:
    """Without what YAML makes legal and nobody writes: a name that is a number, a flag that is a word."""
    found = list(dict.fromkeys(words))
    if "boolean" in found:
        found = [word for word in found if word not in FLAG_WORDS]
        if "number" in found or "text" in found:
            found[found.index("boolean")] = "off"
    if found[:2] == ["text", "number"]:
        found.remove("number")
        if any(word.split()[0] not in KINDS for word in found):
            found.remove("text")
    return found


def _kind(kind: str, part: Json, definitions: Json) -> str:
    if kind == "array":
        items = part.get("items") or (part.get("prefixItems") or [{}])[0]
        words = _plain(_words(items, definitions)) if isinstance(items, dict) else []
        return f"list of {' or '.join(words)}" if words else "list"
    return {"object": "mapping", "string": "text", "integer": "number"}.get(kind, kind)


def _nested(part: Json, definitions: Json) -> Json | None:
    """The object among the legal values whose properties are worth telling, if there is one."""
    part = _resolved(part, definitions)
    branches = [_resolved(branch, definitions) for branch in part.get("anyOf") or [part]]
    found = [branch for branch in branches if "$described" in branch and branch.get("properties")]
    return found[0] if len(found) == 1 else None


def _resolved(part: Json, definitions: Json) -> Json:
    """With `$ref` followed; what is defined elsewhere is an object with a meaning of its own."""
    reference = part.get("$ref")
    if not isinstance(reference, str):
        return part
    return {**definitions[reference.rsplit("/", 1)[-1]], "$described": True}


def _default(part: Json) -> str:
    value = part.get("default")
    if value is None or isinstance(value, (dict, list)):
        return ""
    return str(value) if isinstance(value, str) else json.dumps(value)
