"""`profiles.yml`: named parameters for configurations that do not say them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import parse_profile

Json = dict[str, Any]


def chosen(name: str | None, none: bool, environ: Mapping[str, str]) -> Json | None:
    """The profile that holds, as it is sent: --no-profile, --profile, the environment, else the default one."""
    if none:
        return None
    if name is None and environ.get("DSTACK_NO_PROFILE"):
        return None
    name = name or environ.get("DSTACK_PROFILE") or None
    known = _known()
    if name is None:
        return next((_sent(item, path) for item, path in known.values() if item.get("default") is True), None)
    if name not in known:
        listed = ", ".join(known) or "none; they stand in .dstack/profiles.yml and ~/.dstack/profiles.yml"
        raise ConfigurationError(f"No such profile: {name}", hint=f"known profiles: {listed}")
    return _sent(*known[name])


def _known() -> dict[str, tuple[Json, Path]]:
    """Profiles by name; those of the working directory win over those of the person."""
    known: dict[str, tuple[Json, Path]] = {}
    for folder in (Path.cwd(), Path.home()):
        path = next((p for p in (folder / ".dstack" / f"profiles.{e}" for e in ("yml", "yaml")) if p.is_file()), None)
        for item in _items(path) if path else ():
            known.setdefault(str(item["name"]), (item, path or Path()))
    return known


def _items(path: Path) -> list[Json]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError(f"{path}{f':{mark.line + 1}' if mark else ''}: this is not YAML") from None
    items = (document or {}).get("profiles") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) and item.get("name") for item in items):
        raise ConfigurationError(f"{path}: profiles: expected a list of profiles, each with a name")
    return items


def _sent(item: Json, path: Path) -> Json:
    return parse_profile(item, f"{path}: {item['name']}").model_dump(mode="json", exclude_unset=True)
