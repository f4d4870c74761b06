"""Every field that people can write is described, and every form that a description shows is legal."""

import sys

import pytest

from dstack.model.configurations.described import BY_MODEL
from dstack.model.configurations.described.examples import KINDS
from dstack.model.configurations.schema import TYPES, json_schema
from support.product import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from reference.fields import not_executed, sections, values
from reference.pages import FILES


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_described_and_every_form_that_is_shown_of_it_is_legal(name: str):
    for section in sections(FILES[name]):
        for row in section.rows:
            assert row.text
            assert len(values(section.model, row.name)) == len(row.forms)


def test_no_description_is_of_a_field_that_is_gone():
    models = [section.model for file in FILES.values() for section in sections(file)]
    ancestors = {ancestor.__name__: ancestor for model in models for ancestor in model.__mro__}
    gone = [
        f"{name}.{field}"
        for name, fields in BY_MODEL.items()
        for field in fields
        if name not in ancestors or field not in ancestors[name].model_fields
    ]

    assert gone == []


def test_every_type_of_file_has_an_example_and_a_page():
    assert set(KINDS) == set(FILES) == set(TYPES)


@pytest.mark.parametrize("type_", TYPES)
def test_editors_show_the_description_of_each_field(type_: str):
    properties = json_schema(type_)["properties"]

    assert [name for name, field in properties.items() if not field.get("description")] == []


def test_what_is_not_executed_is_found_by_showing_it_to_the_plan():
    refused = dict(not_executed(FILES["task"]))

    assert "volumes" in refused
    assert "commands" not in refused
    assert "nodes" not in dict(not_executed(FILES["fleet"])), "nodes of a fleet are no nodes of a task"
