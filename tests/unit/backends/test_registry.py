"""Backends are found by type and loaded only when they are needed."""

import tomllib
from pathlib import Path

import pytest

from dstack.backends.base import BackendContext
from dstack.backends.errors import MissingDependency, UnknownBackend
from dstack.backends.registry import GROUP, SHIPPED, Registry
from dstack.clock import WallClock
from dstack.errors import ConfigurationError
from support.product import ROOT


def context(folder: Path) -> BackendContext:
    return BackendContext(folder, lambda: folder / "agent.pyz", "python3", WallClock())


def test_the_shipped_backends_are_the_entry_points_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == SHIPPED


@pytest.mark.parametrize("type_", sorted(SHIPPED))
def test_a_shipped_backend_is_made_from_its_configuration(type_: str, tmp_path: Path) -> None:
    assert Registry.installed().make({"type": type_}, context(tmp_path)).name == type_


def test_an_unknown_type_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownBackend) as caught:
        Registry.installed().make({"type": "cumulus"}, context(tmp_path))
    assert "cumulus" in caught.value.message and "local" in (caught.value.hint or "")


def test_a_missing_sdk_says_what_to_install(tmp_path: Path) -> None:
    registry = Registry({"aws": "sdk_that_is_not_there.backend:Backend"})
    with pytest.raises(MissingDependency) as caught:
        registry.make({"type": "aws"}, context(tmp_path))
    assert caught.value.hint == "pip install 'dstack[aws]'"


def test_a_class_is_loaded_only_when_it_is_asked_for() -> None:
    registry = Registry({"broken": "sdk_that_is_not_there:Backend", "local": SHIPPED["local"]})
    assert registry.types() == ["broken", "local"]
    assert registry.load("local").name == "local"


ILLEGAL = {
    "type": {},
    "regions": {"type": "local", "regions": []},
    "runtime": {"type": "local", "runtime": "x"},
    "failures[0].kind": {"type": "sim", "failures": [{"kind": "flood"}]},
    "offers[0].gpu": {"type": "sim", "offers": [{"instance_type": "x", "price": 1, "gpu": "24GB"}]},
}


@pytest.mark.parametrize("field", sorted(ILLEGAL))
def test_a_configuration_that_is_not_legal_names_the_field(field: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Registry.installed().make(ILLEGAL[field], context(tmp_path))
    assert field in caught.value.message
