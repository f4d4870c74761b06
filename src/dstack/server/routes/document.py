"""The document of the API: what the routes say of requests, with the shapes of answers and of refusals."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from dstack.model.profile import ProvisioningParams
from dstack.model.wire.responses.records import Refusal
from dstack.server.routes.answers import ANSWERS, WITHOUT

_REF = "#/components/schemas/{model}"
_OWN_BACKENDS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "`backends` as this server calls them, where the public API does not know one of them",
}
_REFUSALS = {
    "400": "It cannot be done, or the client is newer than the server",
    "401": "There is no token",
    "403": "The token is not known, or its bearer may not do this",
    "404": "The project is not there",
    "422": "The body is not what the call expects",
    "500": "Nobody foresaw it; the server's log has more under the number of the incident",
    "503": "The server cannot use its database or its disk just now; nothing was changed",
}


class _Answers(GenerateJsonSchema):
    """Models as they are sent: no short forms, all fields of the API, and room for fields of later versions."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        if described.get("additionalProperties") is False:
            del described["additionalProperties"]
        fields = described.get("properties", {})
        for name in getattr(schema["cls"], "WIRE_EXTRA", ()):
            fields.pop(name, None)
        if issubclass(schema["cls"], ProvisioningParams):
            fields["x_backends"] = _OWN_BACKENDS
        return described


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once for each application."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        _add_answers(found)
        app.openapi_schema = found
    return app.openapi_schema


def _add_answers(found: dict[str, Any]) -> None:
    shapes, models = _schemas()
    known = found.setdefault("components", {}).setdefault("schemas", {})
    both = sorted(name for name in known.keys() & models.keys() if known[name] != models[name])
    if both:
        raise ValueError(f"requests and answers have other things of the same name: {', '.join(both)}")
    known |= models
    # What the framework says of bodies that are not legal is not what we answer.
    known.pop("HTTPValidationError", None)
    known.pop("ValidationError", None)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"] = {"200": _answer(path, shapes)} | _refusals(path)


def _answer(path: str, shapes: dict[str, JsonSchemaValue]) -> dict[str, Any]:
    if path in shapes:
        return {"description": "Done", "content": {"application/json": {"schema": shapes[path]}}}
    if path.endswith("/logs/follow"):
        return {"description": "One JSON object a line", "content": {"application/x-ndjson": {}}}
    return {"description": "Not in this release: the call is refused"}


def _refusals(path: str) -> dict[str, Any]:
    body = {"application/json": {"schema": {"$ref": _REF.format(model=Refusal.__name__)}}}
    codes = [code for code in _REFUSALS if code != "404" or "{project_name}" in path]
    return {code: {"description": _REFUSALS[code], "content": body} for code in codes}


def _schemas() -> tuple[dict[str, JsonSchemaValue], dict[str, JsonSchemaValue]]:
    """The schema of each path's answer, and the models that they refer to, by name."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (path, "serialization", TypeAdapter(kind)) for path, kind in {**ANSWERS, "": Refusal}.items()
    ]
    found, rest = TypeAdapter.json_schemas(inputs, ref_template=_REF, schema_generator=_Answers)
    return {path: schema for (path, _), schema in found.items() if path}, rest.get("$defs", {})


def undescribed(app: FastAPI) -> list[str]:
    """Paths whose answer nobody wrote down, and answers of paths that are not there."""
    paths = set(document(app)["paths"])
    return sorted(paths ^ (ANSWERS.keys() | WITHOUT))
