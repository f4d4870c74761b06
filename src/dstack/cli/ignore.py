"""Which local files stay at home: the rules of `.gitignore` and `.dstackignore`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

FILES = (".gitignore", ".dstackignore")


class Rule(NamedTuple):
    """One line of an ignore file that lies in the folder `base` (relative to the root, `` for the root)."""

    pattern: re.Pattern[str]
    base: str
    keep: bool
    folders_only: bool


class Ignored:
    """Rules from the root down; later rules and deeper folders win, as Git does it."""

    def __init__(self, rules: Iterable[Rule] = ()):
        self._rules = tuple(rules)

    def within(self, folder: Path, base: str) -> Ignored:
        """These rules and those of the ignore files that lie in `folder`."""
        rules = list(self._rules)
        for name in FILES:
            try:
                text = (folder / name).read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            rules += [rule for line in text.splitlines() if (rule := parse(line, base))]
        return Ignored(rules)

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether `path` (relative to the root, with `/`) stays at home."""
        if path.rpartition("/")[2] == ".git":
            return True
        result = False
        for rule in self._rules:
            if rule.folders_only and not is_folder:
                continue
            if rule.base and not path.startswith(rule.base + "/"):
                continue
            if rule.pattern.fullmatch(path[len(rule.base) + 1 :] if rule.base else path):
                result = not rule.keep
        return result


def parse(line: str, base: str) -> Rule | None:
    """One line of an ignore file, or None for one that matches nothing: a comment, an empty one, a broken pattern."""
    text = line.rstrip() if not line.endswith("\\ ") else line
    if not text or text.startswith("#"):
        return None
    keep = text.startswith("!")
    text = text[1:] if keep else text.removeprefix("\\") if text[:2] in ("\\#", "\\!") else text
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    anchored = "/" in text
    body = _translate(text.lstrip("/"))
    try:
        pattern = re.compile(body if anchored else f"(?:.*/)?{body}")
    except re.error:
        return None  # such as `[z-a]`, which Git does not complain about either
    return Rule(pattern, base, keep, folders_only)


def _translate(glob: str) -> str:
    pieces, index = [], 0
    while index < len(glob):
        rest = glob[index:]
        if rest.startswith("**/"):
            pieces.append("(?:.*/)?")
            index += 3
        elif rest.startswith("**"):
            pieces.append(".*")
            index += 2
        elif rest[0] == "*":
            pieces.append("[^/]*")
            index += 1
        elif rest[0] == "?":
            pieces.append("[^/]")
            index += 1
        elif rest[0] == "[" and (end := rest.find("]", 2)) > 0:
            inside = rest[1:end].replace("\\", "\\\\")
            pieces.append(f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]")
            index += end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            pieces.append(re.escape(rest[1]))
            index += 2
        else:
            pieces.append(re.escape(rest[0]))
            index += 1
    return "".join(pieces)
