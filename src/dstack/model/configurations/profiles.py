"""`profiles.yml`: named parameters for configurations that do not say them, and which of them holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from dstack.errors import ConfigurationError
from dstack.model.configurations.document import load
from dstack.model.configurations.legacy import modernize
from dstack.model.configurations.messages import Problem, illegal_text, invalid, problems
from dstack.model.configurations.place import Place
from dstack.model.configurations.reading import in_old_terms, old_forms
from dstack.model.profile import Profile
from dstack.values.grammar import Invalid, kind, show
from dstack.values.suggest import did_you_mean

NO_PROFILE_VARIABLE = "DSTACK_NO_PROFILE"
PROFILE_VARIABLE = "DSTACK_PROFILE"


class ProfilesReading(NamedTuple):
    """The profiles of one file in their order, and what to tell about old forms in it."""

    profiles: tuple[Profile, ...]
    notices: tuple[str, ...]


def read_profiles(text: str | bytes, filename: str) -> ProfilesReading:
    """A profiles file; ConfigurationError with a line `FILE:LINE:COL: FIELD: ...` for each problem."""
    data, positions = load(text, filename)
    place = Place(filename, positions)
    items = _items(data, place)
    profiles: list[Profile] = []
    found: list[Problem] = []
    notices: list[str] = []
    for index, item in enumerate(items):
        profile, wrong, told = _profile(item, place, index)
        found += [replace(problem, path=("profiles", index, *problem.path)) for problem in wrong]
        notices += told
        if profile is not None:
            profiles.append(profile)
    found = found or list(_clashes(profiles))
    if found:
        place.refuse(*found, root="profiles")
    return ProfilesReading(tuple(profiles), tuple(notices))


def choose_profile(
    files: Iterable[Sequence[Profile]], *, name: str | None, none: bool, environ: Mapping[str, str]
) -> Profile | None:
    """The profile that holds; of two with one name that of the earlier file.

    `none` (--no-profile) beats `name` (--profile), then come DSTACK_NO_PROFILE and DSTACK_PROFILE, then the default
    profile. ConfigurationError when there is no profile of that name.
    """
    if none or (name is None and environ.get(NO_PROFILE_VARIABLE)):
        return None
    name = name or environ.get(PROFILE_VARIABLE) or None
    known: dict[str, Profile] = {}
    for profiles in files:
        for profile in profiles:
            known.setdefault(profile.name, profile)
    if name is None:
        return next((profile for profile in known.values() if profile.default), None)
    if name not in known:
        listed = ", ".join(known) or "none; they stand in .dstack/profiles.yml and ~/.dstack/profiles.yml"
        raise ConfigurationError(f"No such profile: {name}", hint=f"known profiles: {listed}")
    return known[name]


def _items(data: Any, place: Place) -> list[Any]:
    if data is None:
        return []
    if not isinstance(data, dict):
        place.refuse(Problem((), f"is {kind(data)} at the top, expected `profiles:` and a list"), root="profiles")
    if illegal := illegal_text(data):
        place.refuse(illegal, root="profiles")
    unknown = [
        Problem((key,), "unknown key, expected `profiles`", did_you_mean(key, ["profiles"]), about_key=True)
        for key in data
        if key != "profiles"
    ]
    items = data.get("profiles")
    if not isinstance(items, list) and items is not None:
        unknown.append(Problem(("profiles",), f"is {kind(items)}, expected a list: write `- ` before each profile"))
    if not unknown and "profiles" not in data:
        unknown.append(Problem(("profiles",), "is missing, expected a list of profiles"))
    if unknown:
        place.refuse(*unknown, root="profiles")
    return items or []


def _profile(item: Any, place: Place, index: int) -> tuple[Profile | None, list[Problem], tuple[str, ...]]:
    """The profile or what is wrong with it, with paths inside it, and what to tell."""
    if not isinstance(item, dict):
        return None, [Problem((), f"is {kind(item)}, expected a mapping with a `name`")], ()
    try:
        modern = modernize(item)
    except Invalid as error:
        return None, [invalid(error, item)], ()
    unnamed = [Problem(("name",), "is missing, expected a name")] if not item.get("name") else []
    try:
        profile = Profile.model_validate(modern.data)
    except ValidationError as error:
        found = [in_old_terms(problem, modern, item) for problem in problems(error, Profile, modern.data)]
        return None, unnamed + found, ()
    if unnamed:
        return None, unnamed, ()
    return profile, [], old_forms(modern, place, ("profiles", index))


def _clashes(profiles: Sequence[Profile]) -> Iterable[Problem]:
    names = [profile.name for profile in profiles]
    for index, name in enumerate(names):
        if names.index(name) != index:
            yield Problem(("profiles", index, "name"), f"{show(name)} is used twice, expected a name of its own")
    defaults = [index for index, profile in enumerate(profiles) if profile.default]
    for index in defaults[1:]:
        yield Problem(("profiles", index, "default"), "is a second default profile, expected one at most")
