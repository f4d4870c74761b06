"""The document of the API: it is whole, it is served, and an answer that differs from it is found.

That each answer of all the other tests is what the document says is checked where tests make calls.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator

from dstack.server.routes import install
from dstack.server.routes.document import undescribed
from support import own_document
from support.http_api import Api, task
from support.product import ROOT

PROJECT = ROOT / "docs" / "reference" / "openapi.json"


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        here = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return here.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_path_says_what_it_answers() -> None:
    app = FastAPI()
    install(app)
    assert undescribed(app) == [], "src/dstack/server/routes/answers.py has a line for each path"


def test_all_that_the_document_refers_to_is_in_it() -> None:
    document = own_document.document()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) - known == set()
    assert known - references(document) == set()


@pytest.mark.parametrize("name", sorted(own_document.document()["components"]["schemas"]))
def test_a_schema_is_one_and_says_what_kind_of_value_it_is(name: str) -> None:
    schema = own_document.document()["components"]["schemas"][name]
    Draft202012Validator.check_schema(schema)
    assert {"type", "enum", "anyOf", "oneOf"}.intersection(schema)


async def test_the_server_gives_its_document_to_anybody(api: Api) -> None:
    response = await api.having(None).raw("/openapi.json", method="GET")
    assert response.json()["paths"] == json.loads(PROJECT.read_text())["paths"]


GET_INFO = httpx.Request("POST", "http://server/api/server/get_info")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"server_version": 22, "x_version": "1"}, "server_version"),
        ({"x_version": "1"}, "server_version"),
        ({"server_version": "0.22.5", "x_version": "1", "invented": 1}, "invented"),
    ],
)
def test_an_answer_that_differs_from_the_document_is_found(body: dict[str, Any], named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        own_document.check(httpx.Response(200, json=body, request=GET_INFO))


async def test_a_status_that_nobody_knows_is_found(api: Api) -> None:
    await api.call("runs/apply", {"plan": {"run_spec": task("true", name="t1")}})
    right = await api.raw("/api/runs/list", {})
    wrong = httpx.Response(200, json=[right.json()[0] | {"status": "sleeping"}], request=right.request)
    with pytest.raises(AssertionError, match="'sleeping' is not one of"):
        own_document.check(wrong)
