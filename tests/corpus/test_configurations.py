"""Every configuration of the mission's documents is understood as shown, and runs or is refused by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import Reading, read
from dstack.model.configurations.schema import json_schema
from dstack.model.configurations.support import executed, notices, unsupported

CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("configurations.yml").read_text())
LEGAL = [case for case in CASES if "error" not in case]
# Lower it when an issue brings some to execution; it never rises.
MOST_LATER = 21


def label(case: dict[str, Any]) -> str:
    return f"{case['doc']}: {case['heading']}"


def reading_of(case: dict[str, Any]) -> Reading:
    return read(case["text"], "shown.dstack.yml")


def at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[int(part) if isinstance(data, list) else part]
    return data


def refusals(reading: Reading) -> list[str]:
    """What a plan would refuse, by name."""
    try:
        return unsupported(executed(reading.configuration, ""))
    except ConfigurationError as error:
        return [error.message]


@pytest.mark.parametrize("case", LEGAL, ids=label)
def test_a_shown_configuration_is_understood_as_it_is_meant(case: dict[str, Any]):
    reading = reading_of(case)
    data = reading.configuration.model_dump(mode="json")
    assert {path: at(data, path) for path in case["expect"]} == case["expect"]
    assert len(reading.notices) == case.get("notices", 0), reading.notices


@pytest.mark.parametrize("case", LEGAL, ids=label)
def test_editors_accept_a_shown_configuration(case: dict[str, Any]):
    jsonschema.validate(yaml.safe_load(case["text"]), json_schema())


@pytest.mark.parametrize("case", [case for case in LEGAL if "later" not in case], ids=label)
def test_a_shown_configuration_is_executed(case: dict[str, Any]):
    assert refusals(reading_of(case)) == []


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=label)
def test_what_a_document_promises_and_nobody_can_do_is_an_error_that_shows_the_way(case: dict[str, Any]):
    with pytest.raises(ConfigurationError) as refused:
        reading_of(case)
    assert case["error"] in refused.value.message


@pytest.mark.parametrize("case", [case for case in CASES if "hint" in case], ids=label)
def test_the_plan_remarks_what_a_shown_configuration_no_longer_finds(case: dict[str, Any]):
    assert any(line.startswith(case["hint"]) for line in notices(reading_of(case).configuration))


def test_what_is_left_for_later_only_shrinks():
    later = [case for case in CASES if "later" in case]
    ready = [label(case) for case in later if not refusals(reading_of(case))]
    by_issue = {name: sum(case["later"] == name for case in later) for name in sorted({c["later"] for c in later})}
    sys.stdout.write(f"configurations: {len(CASES)} shown, {len(CASES) - len(later)} executed, later: {by_issue}\n")
    sys.stdout.write(f"no longer refused, their `later` can go: {ready}\n")
    assert len(later) <= MOST_LATER
