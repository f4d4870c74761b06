"""Every example is a legal configuration without a deprecated word in it."""

from pathlib import Path

import pytest

from dstack.model.configurations.reading import read
from support.product import ROOT

EXAMPLES = sorted((ROOT / "examples").rglob("*.yml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_is_legal_and_says_what_it_shows(path: Path):
    reading = read(path.read_bytes(), path.name)

    assert reading.notices == () or list(reading.notices) == []
    assert path.read_text().startswith("# "), "an example begins with a line that says what it shows"
    assert path.name.endswith(".dstack.yml")
