"""Names of resources, references to them, random names for runs, and tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any, NamedTuple

from dstack.values.grammar import Invalid, show

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,40}$"
EXPECTED = "1 to 41 characters a-z, 0-9 and `-`, starting with a letter"

_NAME = re.compile(NAME_PATTERN.strip("^$"), re.ASCII)
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,50}", re.ASCII)
_TAG_KEY = re.compile(r"[_\-a-zA-Z0-9]{1,60}", re.ASCII)
_TAG_VALUE = re.compile(r"[a-zA-Z0-9 .:/=_\-+@]{0,256}", re.ASCII)

_ADJECTIVES = (
    "able amber ample bold brave breezy bright brisk calm clever cool cosy curly dapper eager early easy fair fancy "
    "fast fine fresh gentle giant glad golden good grand green happy hardy heavy honest humble jolly keen kind late "
    "lazy light lively lucky mellow merry mighty mild modest neat nimble noble orange perky plain polite proud quick "
    "quiet rapid rare ready red rosy round royal sharp shiny silent silver simple sleepy slow smart smooth snappy soft "
    "spicy spry steady strong sunny sweet swift tall tame tender tidy tiny warm wild wise witty young zany"
)
_ANIMALS = (
    "ant badger bat bear beaver bee bison bobcat camel cat cheetah chicken cobra cod crab crane cricket crow deer "
    "dodo dog dolphin donkey dove duck eagle eel elk emu falcon ferret finch fish fly fox frog gecko goat goose gull "
    "hare hawk hen heron horse ibex jackal jay kiwi koala lamb lark lemur lion lizard llama lobster lynx magpie mole "
    "moose moth mouse mule newt octopus orca otter owl ox panda parrot penguin pig pony puffin puma quail rabbit ram "
    "rat raven robin salmon seal shark sheep shrimp skunk sloth snail squid stork swan tapir tiger toad trout turkey "
    "turtle vole walrus wasp whale wolf wombat yak zebra"
)
ADJECTIVES = tuple(_ADJECTIVES.split())
ANIMALS = tuple(_ANIMALS.split())


class Reference(NamedTuple):
    """A resource of this project (`project` None) or of another."""

    name: str
    project: str | None


def parse_name(value: Any) -> str:
    """A legal name of a run, fleet, volume or gateway."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Invalid(f"{show(value)} is not a name, expected {EXPECTED}")
    return value


def parse_project(value: Any) -> str:
    """A legal name of a project."""
    if not isinstance(value, str) or not _PROJECT.fullmatch(value):
        raise Invalid(f"{show(value)} is not a name of a project, expected 1 to 50 letters, digits, `-` and `_`")
    return value


def parse_reference(value: Any) -> Reference:
    """`name` or `project/name`."""
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a reference, expected `name` or `project/name`")
    project, separator, name = value.strip().rpartition("/")
    if not name or (separator and not _PROJECT.fullmatch(project)):
        raise Invalid(f"{show(value)} is not a reference, expected `name` or `project/name`")
    return Reference(name, project if separator else None)


def format_reference(reference: Reference) -> str:
    """The canonical text."""
    return f"{reference.project}/{reference.name}" if reference.project else reference.name


def random_name(randbelow: Callable[[int], int], taken: Container[str] = ()) -> str:
    """`adjective-animal-N`; `randbelow(n)` gives a number from 0 to n-1, N is the first one not taken."""
    stem = f"{ADJECTIVES[randbelow(len(ADJECTIVES))]}-{ANIMALS[randbelow(len(ANIMALS))]}"
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def parse_tags(value: Any) -> dict[str, str] | None:
    """A mapping of tag keys to values that every cloud accepts."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Invalid(f"{show(value)} is not a set of tags, expected a mapping of names to values")
    return {_tag_key(key): _tag_value(key, item) for key, item in value.items()}


def _tag_key(key: Any) -> str:
    if not isinstance(key, str) or not _TAG_KEY.fullmatch(key):
        at = (key,) if isinstance(key, str) else ()
        raise Invalid(f"{show(key)} is not a tag key, expected 1 to 60 letters, digits, `_` and `-`", at=at)
    return key


def _tag_value(key: str, value: Any) -> str:
    text = str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _TAG_VALUE.fullmatch(text):
        raise Invalid(
            f"{show(value)} is not a tag value, expected up to 256 letters, digits, spaces and `.:/=_-+@`", at=(key,)
        )
    return text
