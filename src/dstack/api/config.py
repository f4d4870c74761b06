"""`~/.dstack/config.yml`: which servers and projects this machine knows, readable by its owner only."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dstack.errors import DstackError

# The form in which this program writes the file: read without YAML, whose import takes longer than a request.
_PLAIN = re.compile(r"(- |  )(name|url|token|default): ([A-Za-z0-9_/](?:[A-Za-z0-9_./:@-]*[A-Za-z0-9_/-])?)")
_AMBIGUOUS = re.compile(r"(?i)null|yes|no|on|off|true|false|[-+.\d][\d_.eE:+-]*|0[xo].*")


@dataclass(frozen=True)
class ProjectEntry:
    name: str
    url: str
    token: str
    default: bool = False

    def __repr__(self) -> str:
        return f"ProjectEntry({self.name!r}, {self.url!r})"


def default_path() -> Path:
    """Where the configuration of the person lies."""
    return Path.home() / ".dstack" / "config.yml"


def load(path: Path | None = None) -> list[ProjectEntry]:
    """The projects, in their order; none when there is no file. Raises DstackError for a file that is not one."""
    path = path or default_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DstackError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    entries = _quick(text)
    return _entries(_slow(text, path), path) if entries is None else entries


def save(entries: list[ProjectEntry], path: Path | None = None) -> None:
    """Replace the file as a whole: it is the old one or the new one, never half of it. Raises DstackError."""
    path = path or default_path()
    try:
        _replace(entries, path)
    except OSError as e:
        raise DstackError(
            f"{path} cannot be written: {e.strerror}",
            hint="nothing was changed; DSTACK_SERVER_URL and DSTACK_TOKEN do without the file",
        ) from None


def _replace(entries: list[ProjectEntry], path: Path) -> None:
    import tempfile

    import yaml

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = path.resolve()  # a link stays one
    text = yaml.safe_dump({"projects": [asdict(entry) for entry in entries]}, sort_keys=False, allow_unicode=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".config-")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def with_entry(entries: list[ProjectEntry], new: ProjectEntry) -> list[ProjectEntry]:
    """The entries with `new` in its place; it is the only default if it is one at all."""
    names = [entry.name for entry in entries]
    entries = [new if entry.name == new.name else entry for entry in entries]
    entries = entries if new.name in names else [*entries, new]
    return with_default(entries, new.name) if new.default else entries


def with_default(entries: list[ProjectEntry], name: str) -> list[ProjectEntry]:
    """The entries with `name` as the only default."""
    return [replace(entry, default=entry.name == name) for entry in entries]


def _quick(text: str) -> list[ProjectEntry] | None:
    """The entries of a file in the plain form, or None when YAML has to say what it means."""
    first, *lines = text.splitlines() or [""]
    if first != "projects:":
        return None
    found: list[dict[str, Any]] = []
    for line in lines:
        match = _PLAIN.fullmatch(line)
        if match is None or (not found and match[1] != "- "):
            return None
        if match[1] == "- ":
            found.append({})
        if match[2] in found[-1] or (match[2] != "default" and _AMBIGUOUS.fullmatch(match[3])):
            return None
        if match[2] == "default" and match[3] not in ("true", "false"):
            return None
        found[-1][match[2]] = match[3] == "true" if match[2] == "default" else match[3]
    if any(not item.keys() >= {"name", "url", "token"} for item in found):
        return None
    return [ProjectEntry(**item) for item in found]


def _slow(text: str, path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DstackError(
            f"{path}{line}: this is not YAML", hint="correct it, or delete it and run `dstack project add`"
        ) from None


def _entries(document: Any, path: Path) -> list[ProjectEntry]:
    projects = document.get("projects") if isinstance(document, dict) else document
    if projects is None:
        return []
    if not isinstance(projects, list):
        raise DstackError(f"{path}: projects: expected a list of projects with name, url and token")
    return [_entry(item, index, path) for index, item in enumerate(projects)]


def _entry(item: Any, index: int, path: Path) -> ProjectEntry:
    for key in ("name", "url", "token"):
        if not isinstance(item, dict) or item.get(key) in (None, ""):
            raise DstackError(
                f"{path}: projects[{index}].{key}: is missing", hint="`dstack project add` writes a whole entry"
            )
    return ProjectEntry(str(item["name"]), str(item["url"]), str(item["token"]), item.get("default") is True)
