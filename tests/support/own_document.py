"""Holds answers of the server to our own document of the API: types, values, and that no field is missing in it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import httpx
from fastapi import FastAPI
from jsonschema import Draft202012Validator, FormatChecker

from dstack.server.routes import install
from support.openapi import deepest

HINT = "the shapes of answers are in src/dstack/model/wire/responses"


def check(response: httpx.Response) -> None:
    """Raises AssertionError naming the place where the answer differs from the document."""
    found = _operation(response.request.method.lower(), response.request.url.path)
    if found is None:
        return
    template, method = found
    where = f"{method} {template} {response.status_code}"
    validator = _validator(template, method, response.status_code)
    assert validator is not None, f"{where}: the document does not have such an answer; {HINT}"
    errors = sorted(validator.iter_errors(response.json()), key=lambda e: list(e.absolute_path))
    assert not errors, f"{where}: {[str(part) for part in errors[0].absolute_path]}: {deepest(errors[0])}; {HINT}"


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    app = FastAPI(title="dstack", version="test")
    install(app)
    return app.openapi()


@lru_cache(maxsize=512)
def _operation(method: str, path: str) -> tuple[str, str] | None:
    """None: nothing there, which is answered like any unknown path."""
    for template, operations in document()["paths"].items():
        if method in operations and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            return template, method
    return None


@lru_cache(maxsize=512)
def _validator(template: str, method: str, status: int) -> Draft202012Validator | None:
    answer = document()["paths"][template][method]["responses"].get(str(status))
    schema = (answer or {}).get("content", {}).get("application/json", {}).get("schema")
    if schema is None:
        return None
    return Draft202012Validator(
        {**schema, "components": _strict()}, format_checker=FormatChecker(["uuid", "date-time"])
    )


@lru_cache(maxsize=1)
def _strict() -> dict[str, Any]:
    """The components with no room for fields that are not written down; clients are told that there is."""
    return {"schemas": {name: _closed(schema) for name, schema in document()["components"]["schemas"].items()}}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"additionalProperties": False, **schema} if "properties" in schema else schema
