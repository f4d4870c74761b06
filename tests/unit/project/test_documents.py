"""What the documents claim about the project is there."""

import re
from dataclasses import fields

import pytest

from dstack.cli.registry import COMMANDS
from dstack.server.settings import Settings
from support.product import ROOT

DOCS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("contributing/**/*.md"), ROOT / "bench/README.md"]
)
ENVIRONMENT = ROOT / "docs" / "reference" / "environment.md"
SOURCES = sorted((ROOT / "src" / "dstack").rglob("*.py"))
# Set by dstack inside jobs, told in their own table, or internal to one process tree.
VARIABLE = re.compile(r"\bDSTACK_[A-Z0-9_]*[A-Z0-9]\b")


def _in_sources() -> set[str]:
    return {name for path in SOURCES for name in VARIABLE.findall(path.read_text())}


@pytest.mark.parametrize("name", sorted(_in_sources()))
def test_variable_is_documented(name: str):
    assert f"`{name}`" in ENVIRONMENT.read_text()


def test_documented_variables_exist():
    documented = set(VARIABLE.findall(ENVIRONMENT.read_text()))

    assert documented - _in_sources() == set()


def test_every_setting_of_the_server_that_can_be_set_says_how():
    text = ENVIRONMENT.read_text()
    missing = [field.name for field in fields(Settings) if f"`{field.name}`" not in text]

    assert missing == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())

    assert [t for t in targets if not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_and_commands_that_a_document_names_exist(path):
    text = path.read_text()
    files = re.findall(r"-f (examples/[\w./-]+)", text) + re.findall(
        r"`((?:src|tests|docs|scripts|bench)/[\w./-]+)`", text
    )
    commands = set(re.findall(r"(?:^|`|\$ )dstack ([a-z][a-z-]+)", text, re.MULTILINE))

    assert [f for f in files if not (ROOT / f).exists()] == []
    assert commands - {entry.name for entry in COMMANDS} == set()
