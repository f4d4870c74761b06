"""The skill for agents and llms.txt, out of the command line, the models' descriptions and the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from dstack.cli.group import root
from dstack.cli.registry import ALIASES, COMMANDS
from dstack.model.configurations.described.examples import KINDS
from dstack.model.configurations.support import EXECUTED

SKILL = "skills/dstack/SKILL.md"
HERE = Path(__file__).parent
# What people may expect from the name of the product, as long as it is not there.
EXPECTED = {"attach": "`dstack logs NAME -f` follows the log of a run"}
SUMMARY = "Provisions GPU machines and runs containers on them: one server, one command line, YAML files."


def generated(folder: Path) -> Iterator[tuple[str, str]]:
    """The skill and llms.txt; `folder` is the root of the project."""
    skill_text = skill((folder / "docs" / "troubleshooting.md").read_text())
    yield SKILL, skill_text
    yield "llms.txt", index(folder, documents(folder))


def full(folder: Path) -> str:
    """All pages for people as one text; permissions are left out, as they are a page of table."""
    pages = [path for path in documents(folder) if path.stem != "permissions"]
    parts = [f"<!-- {path.relative_to(folder).as_posix()} -->\n\n{path.read_text()}" for path in pages]
    return "\n\n".join([f"# dstack\n\n> {SUMMARY}\n", *parts]).rstrip() + "\n"


def skill(troubleshooting: str) -> str:
    """`troubleshooting` is the Markdown of that page, whose tables are taken."""
    text = (HERE / "skill.md").read_text()
    parts = {
        "{types}": "\n".join(_types()),
        "{commands}": "\n".join(_commands()) + "\n",
        "{missing}": "\n".join(_missing()) + "\n",
        "{troubleshooting}": "\n".join(_messages(troubleshooting)),
    }
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def documents(folder: Path) -> list[Path]:
    """Pages for people in the order of reading; reference pages come last."""
    docs = folder / "docs"
    first = [docs / name for name in ("index.md", "installation.md", "quickstart.md")]
    parts = [*sorted(docs.glob("concepts/*.md")), *sorted(docs.glob("guides/*.md")), docs / "troubleshooting.md"]
    return [*first, *parts, *sorted(docs.glob("reference/**/*.md"))]


def index(folder: Path, pages: list[Path]) -> str:
    lines = ["# dstack", "", f"> {SUMMARY}", ""]
    lines.append(f"- [Skill for agents]({SKILL}): commands, types, workflows on one page")
    for path in pages:
        text = path.read_text()
        title = next(line[2:] for line in text.splitlines() if line.startswith("# "))
        lines.append(f"- [{title}]({path.relative_to(folder).as_posix()}): {_first_sentence(text)}")
    return "\n".join(lines) + "\n"


def _first_sentence(text: str) -> str:
    paragraphs = [part for part in text.split("\n\n") if part[:1] not in ("#", "<", "|", "") and part[:3] != "```"]
    sentence = re.split(r"(?<=[.!?])\s", " ".join(paragraphs[0].split()))[0] if paragraphs else ""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", sentence).rstrip(":.") + "."


def _types() -> Iterator[str]:
    for name, kind in KINDS.items():
        executed = name in EXECUTED or name in ("profiles", "server")
        yield f"### {kind.title}"
        yield ""
        yield kind.purpose + ("" if executed else " **This release reads it and refuses to run it.**")
        yield ""
        yield f"```yaml\n{kind.example}```"
        yield ""
        yield f"All fields: `docs/reference/configurations/{name}.md`"
        yield ""


def _commands() -> Iterator[str]:
    yield "| Command | What it does | Options | For instance |"
    yield "|---|---|---|---|"
    context = root.make_context("dstack", [], resilient_parsing=True)
    for entry in COMMANDS:
        command = root.get_command(context, entry.name)
        assert command is not None
        yield from _rows(command, f"dstack {entry.name}", context)


def _rows(command: click.Command, path: str, context: click.Context) -> Iterator[str]:
    arguments = [_argument(parameter, context) for parameter in command.params if isinstance(parameter, click.Argument)]
    options = ["/".join(one.opts) for one in command.params if isinstance(one, click.Option) and not one.hidden]
    example = " ".join((command.epilog or "").removeprefix("Example:").split())
    cells = (
        f"`{' '.join([path, *arguments])}`",
        command.get_short_help_str(100),
        " ".join(f"`{one}`" for one in options),
        f"`{example}`" if example else "",
    )
    yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _rows(inner, f"{path} {name}", context)


def _argument(parameter: click.Argument, context: click.Context) -> str:
    return parameter.make_metavar(context)


def _messages(troubleshooting: str) -> Iterator[str]:
    """The tables as one, with links that hold from here."""
    rows = [line for line in troubleshooting.splitlines() if line.startswith("|")]
    for line in dict.fromkeys(rows):
        yield re.sub(r"\]\((?!https?:)", "](../../docs/", line)


def _missing() -> Iterator[str]:
    for name, kind in KINDS.items():
        if name not in (*EXECUTED, "profiles", "server"):
            yield f"- {kind.title}s: `type: {name}` is read and checked, and refused by name when it is applied"
    for name, instead in EXPECTED.items():
        if name not in {entry.name for entry in COMMANDS} and name not in ALIASES:
            yield f"- There is no `{name}` command; {instead}"
    pages = " and ".join(f"`docs/reference/configurations/{name}.md`" for name in EXECUTED)
    yield f"- Some fields; the plan says so, and the ends of {pages} list them"
