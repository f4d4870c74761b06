"""The agent runs on hosts where nothing is installed."""

import ast
import sys
from pathlib import Path

import pytest

from support.product import ROOT

PACKAGE = ROOT / "src" / "dstack"
FILES = [*sorted((PACKAGE / "agent").rglob("*.py")), PACKAGE / "agentapi" / "wire.py"]


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_agent_imports_the_standard_library_itself_and_the_words_of_its_protocol(path: Path):
    ours = ("dstack", "dstack.agent", "dstack.agentapi", "dstack.agentapi.wire")
    foreign = {
        name
        for name in _imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and name not in ours
        and not name.startswith("dstack.agent.")
    }

    assert foreign == set()
