"""Holds answers of the server to the public API's document, where that lies beside the project.

Clients of the API ignore fields that they do not know, so `x_` fields are taken out before an answer is checked.
Bodies of errors are not: there the document differs from what released servers answer and clients expect.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker

DOCUMENT = Path(__file__).parents[3] / "shared" / "reference" / "wire" / "openapi.json"


def check(response: httpx.Response) -> None:
    """Raises AssertionError naming the place where the answer differs from the document."""
    if not DOCUMENT.exists() or not response.is_success:
        return
    validator = _validator(response.request.method.lower(), response.request.url.path, response.status_code)
    if validator is None:
        return
    errors = sorted(validator.iter_errors(_known(response.json())), key=lambda e: list(e.absolute_path))
    where = f"{response.request.method} {response.request.url.path} {response.status_code}"
    assert not errors, f"{where}: {[str(part) for part in errors[0].absolute_path]}: {deepest(errors[0])}"


def check_schema(name: str, data: Any) -> None:
    """Raises AssertionError when `data` is not what the document says of the schema."""
    if DOCUMENT.exists():
        schema = {"$ref": f"#/components/schemas/{name}", "components": _document()["components"]}
        errors = sorted(Draft202012Validator(schema).iter_errors(_known(data)), key=lambda e: list(e.absolute_path))
        assert not errors, f"{name}: {deepest(errors[0])}"


def deepest(error: Any) -> str:
    while error.context:
        error = min(error.context, key=lambda e: (-len(e.absolute_path), e.message))
    return f"{list(error.absolute_path)}: {error.message[:400]}"


def _known(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _known(value) for key, value in data.items() if not key.startswith("x_")}
    return [_known(item) for item in data] if isinstance(data, list) else data


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text())


@lru_cache(maxsize=512)
def _validator(method: str, path: str, status: int) -> Draft202012Validator | None:
    """None: the document does not have the path, or says nothing of such an answer."""
    document = _document()
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            answer = operations.get(method, {}).get("responses", {}).get(str(status), {})
            schema = answer.get("content", {}).get("application/json", {}).get("schema")
            if schema is not None:
                schema = {**schema, "components": document["components"]}
                return Draft202012Validator(schema, format_checker=FormatChecker(["uuid", "date-time"]))
    return None
