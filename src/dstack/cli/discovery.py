"""Which configuration file is meant, and what it says."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from dstack.errors import ConfigurationError, UsageError

DEFAULT_NAMES = (".dstack.yml", ".dstack.yaml")


@dataclass(frozen=True)
class Source:
    """`shown` names the file in messages and to the server; local paths in it are relative to `folder`."""

    text: bytes
    shown: str
    folder: Path


def find(file: str | None, *, assume_yes: bool, arguments: tuple[str, ...] = ()) -> Source:
    """The file given by -f, stdin for `-`, else the default names in the working directory."""
    if file == "-":
        if not assume_yes:
            raise UsageError(
                "Cannot read configuration from stdin if -y/--yes is not specified",
                hint="stdin cannot answer the question too: add -y",
            )
        return Source(sys.stdin.buffer.read(), "stdin", Path.cwd())
    if file is None:
        return _default(arguments)
    path = Path(file).expanduser()
    return Source(_content(path, file), _shown(path), path.absolute().parent)


def _default(arguments: tuple[str, ...]) -> Source:
    for name in DEFAULT_NAMES:
        if Path(name).exists():
            return Source(_content(Path(name), name), name, Path.cwd())
    hint = "name it: `dstack apply -f FILE`"
    if arguments and Path(arguments[0]).exists():
        hint = f"did you mean `dstack apply -f {arguments[0]}`?"
    elif near := sorted(Path.cwd().glob("*.dstack.y*ml"))[:3]:
        hint = "name it: " + " or ".join(f"`dstack apply -f {path.name}`" for path in near)
    raise ConfigurationError(
        "No configuration file specified via `-f` and no default .dstack.yml configuration found", hint=hint
    )


def _content(path: Path, given: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        near = sorted(item.name for item in path.absolute().parent.glob("*.y*ml"))[:5]
        raise ConfigurationError(
            f"Configuration file {given} does not exist", hint=f"there is: {', '.join(near)}" if near else None
        ) from None
    except IsADirectoryError:
        raise ConfigurationError(f"{given} is a directory", hint="name the file in it") from None
    except OSError as error:
        raise ConfigurationError(f"Configuration file {given} cannot be read: {error.strerror}") from None


def _shown(path: Path) -> str:
    """Relative to the working directory where it lies below it, else as it is."""
    try:
        return os.fspath(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)
