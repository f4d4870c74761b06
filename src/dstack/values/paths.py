"""What goes into a container from elsewhere: files (`LOCAL[:CONTAINER]`) and repos (`LOCAL or URL[:CONTAINER]`)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dstack.values.grammar import Invalid, show

FILE_EXPECTED = "a path such as `./data` or `./data:/root/data`"
REPO_EXPECTED = "a directory or an address such as `.`, `../code:/code` or `https://github.com/org/repo.git`"

_URL = re.compile(r"(?:https?|ssh|git)://\S+", re.ASCII)
_SCP = re.compile(r"[\w.-]+@[\w.-]+:\S+", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]", re.ASCII)


class FileMapping(NamedTuple):
    """A path of the person's machine and where it goes."""

    local: str
    path: str


class Repo(NamedTuple):
    """One of `local` and `url`; `path` None is the default directory."""

    local: str | None
    url: str | None
    path: str | None


def parse_file(value: Any) -> FileMapping:
    """Both paths; a local path alone goes to the same path in the container."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise Invalid(f"{show(value)} is not a file or directory, expected {FILE_EXPECTED}")
    parts = _split(value.strip())
    if len(parts) > 2 or not all(parts):
        raise Invalid(f"{show(value)} is not a file or directory, expected {FILE_EXPECTED}")
    return FileMapping(parts[0], check_container_path(parts[-1]))


def parse_repo(value: Any) -> Repo:
    """A local directory or the address of a Git repository, with an optional directory in the container."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise Invalid(f"{show(value)} is not a repo, expected {REPO_EXPECTED}")
    text = value.strip()
    if _URL.fullmatch(text) or _SCP.fullmatch(text):
        url, path = _split_url(text)
        return Repo(None, url, path)
    parts = _split(text)
    if len(parts) > 2 or not all(parts):
        raise Invalid(f"{show(value)} is not a repo, expected {REPO_EXPECTED}")
    check_home(parts[0])
    return Repo(parts[0], None, check_container_path(parts[1]) if len(parts) == 2 else None)


def check_home(path: str) -> None:
    """Refuse another person's home: only `~` and `~/...` are understood."""
    if path.startswith("~") and path != "~" and not path.startswith("~/"):
        raise Invalid(f"{show(path)} names another user's home, expected `~/...` or a plain path")


def check_container_path(path: str) -> str:
    """A path inside the container, relative or absolute, with forward slashes."""
    if _DRIVE.match(path) or "\\" in path or "\0" in path or not path:
        raise Invalid(f"{show(path)} is not a path in the container, expected forward slashes, for instance `/data`")
    check_home(path)
    return path


def format_file(mapping: FileMapping) -> str:
    """The canonical text."""
    return mapping.local if mapping.local == mapping.path else f"{mapping.local}:{mapping.path}"


def _split(text: str) -> list[str]:
    """Split at `:`, but not after the drive letter of a Windows path."""
    if _DRIVE.match(text):
        head, separator, tail = text[2:].partition(":")
        return [text[:2] + head, tail] if separator else [text]
    return text.split(":")


def _split_url(text: str) -> tuple[str, str | None]:
    """The container's directory is what follows the last `:` when it is absolute or starts with `~` or `.`."""
    head, separator, tail = text.rpartition(":")
    if separator and tail[:1] in ("/", "~", ".") and not tail.startswith("//") and ("://" in head or ":" in head):
        return head, check_container_path(tail)
    return text, None
