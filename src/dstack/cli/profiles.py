"""Where `profiles.yml` lies, and the profile of it that holds for one command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dstack.cli.terminal import warn
from dstack.errors import ConfigurationError
from dstack.model.configurations.profiles import choose_profile, read_profiles
from dstack.model.profile import Profile

Json = dict[str, Any]


def chosen(name: str | None, none: bool, environ: Mapping[str, str]) -> Json | None:
    """The profile that holds, as it is sent; profiles of the working directory win over those of the person."""
    if none:
        return None  # then nobody needs the files to be legal
    files = [_profiles(folder / ".dstack") for folder in (Path.cwd(), Path.home())]
    profile = choose_profile(files, name=name, none=none, environ=environ)
    return None if profile is None else profile.model_dump(mode="json", exclude_unset=True)


def _profiles(folder: Path) -> tuple[Profile, ...]:
    path = next((path for name in ("profiles.yml", "profiles.yaml") if (path := folder / name).is_file()), None)
    if path is None:
        return ()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    reading = read_profiles(text, str(path))
    for notice in reading.notices:
        warn(notice)
    return reading.profiles
