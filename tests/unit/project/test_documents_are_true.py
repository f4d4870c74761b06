"""What documents show is understood: each file through the grammar, each command line through the real parser."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dstack.backends.sim.config import SimConfig
from dstack.model.configurations.document import load
from dstack.model.configurations.profiles import read_profiles
from dstack.model.configurations.reading import read, validate
from dstack.model.configurations.server_config import read_server_config
from support.command_lines import parse, shown
from support.product import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "llms.txt", *ROOT.glob("docs/**/*.md"), *ROOT.glob("skills/**/*.md")],
)
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_yaml_block_is_read_without_an_old_form(page: Path):
    for text in blocks(page, "ya?ml"):
        assert notices(text, page.name) == ()


def notices(text: str, name: str) -> tuple[str, ...]:
    """What reading the block tells of old forms: a whole file, or a part of one that its page is about."""
    data = load(text, name).data
    if name == "backends.md" and "projects" not in data:
        for settings in data if isinstance(data, list) else [{"type": "sim", **data}]:
            validate(SimConfig, settings, name)
        return ()
    if "profiles" in data:
        return read_profiles(text, name).notices
    if data.keys() & {"projects", "encryption", "default_permissions"}:
        read_server_config(text, name)
        return ()
    return read(text if "type" in data else f"type: task\ncommands: [date]\n{text}", name).notices


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_line_is_understood(page: Path):
    for block in [*blocks(page, "(?:shell|bash|sh)"), *commands_in_tables(page)]:
        for line in shown(block):
            parse(line)


def commands_in_tables(page: Path) -> list[str]:
    """Whole examples in the last column of a table of commands."""
    return re.findall(r"\| `(dstack [^`]+)` \|$", page.read_text(), re.MULTILINE)


def test_every_message_of_the_troubleshooting_page_is_one_of_the_product():
    sources = "\n".join(path.read_text() for path in (ROOT / "src" / "dstack").rglob("*.py"))
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)

    assert len(messages) > 20
    assert [message for message in messages if fixed_part(message) not in sources] == []


def fixed_part(message: str) -> str:
    """The longest part between what stands for names and numbers."""
    return max(re.split(r"[A-Z_]{3,}|\bX\b|\.\.\.|[\d.:]{4,}|: | \(", message), key=len).strip()


def test_a_wrong_flag_in_a_document_would_be_found():
    lines = shown("echo n | dstack apply --no-such-flag\n$ dstack ps -a  # all\nUsage: dstack\n")

    assert lines == ["dstack apply --no-such-flag", "dstack ps -a  # all"]
    with pytest.raises(click.NoSuchOption, match="no-such-flag"):
        parse(lines[0])
    parse(lines[1])


def test_generated_documents_are_up_to_date():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate-docs"), "--check"], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun scripts/generate-docs"
