"""The one way from what a person or a client wrote to a configuration; everything that is wrong is said at once."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from dstack.errors import ConfigurationError
from dstack.model.configurations.document import Path, Positions, load
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.legacy import Modern, modernize
from dstack.model.configurations.messages import Problem, field_text, illegal_text, invalid, problems
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.profile import Profile
from dstack.values.grammar import Invalid, kind, show
from dstack.values.suggest import did_you_mean

Configuration = TaskConfiguration | FleetConfiguration
M = TypeVar("M", bound=BaseModel)

SUPPORTED: dict[str, type[TaskConfiguration] | type[FleetConfiguration]] = {
    "task": TaskConfiguration,
    "fleet": FleetConfiguration,
}
NOT_YET = ("dev-environment", "service", "volume", "gateway")


class Reading(NamedTuple):
    """A configuration, what to tell about old forms in it (a line each), and where things stand in the text."""

    configuration: Configuration
    notices: tuple[str, ...]
    positions: Positions


def read(text: str | bytes, filename: str) -> Reading:
    """A configuration file; ConfigurationError with a line `FILE:LINE:COL: FIELD: ...` for each problem."""
    data, positions = load(text, filename)
    place = _Place(filename, positions)
    model = _model(data, place)
    configuration, modern = _validated(model, data, place)
    notices = tuple(f"{place.prefix((key,), key=True)}{words}" for key, words in modern.notices.items())
    return Reading(configuration, notices, positions)


def parse(data: Any, where: str) -> Configuration:
    """A configuration that came as data; messages begin with `where` instead of file and line."""
    place = _Place(where)
    return _validated(_model(data, place), data, place)[0]


def parse_profile(data: Any, where: str) -> Profile:
    """A profile that came as data, as strict as a configuration."""
    place = _Place(where)
    if not isinstance(data, dict):
        place.refuse(Problem((), f"is {kind(data)}, expected a mapping of keys to values"))
    return _validated(Profile, data, place)[0]


def validate(model: type[M], data: Any, where: str) -> M:
    """Data of any other model, refused in the same words."""
    place = _Place(where)
    if illegal := illegal_text(data):
        place.refuse(illegal, root="body")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = problems(error, model, data)
    place.refuse(*found, root="body")


class _Place:
    """Where the document is, and how its problems become one error."""

    def __init__(self, where: str, positions: Positions | None = None):
        self.where, self.positions = where, positions

    def prefix(self, path: Path, *, key: bool = False) -> str:
        if self.positions is None:
            return f"{self.where}: " if self.where else ""
        position = self.positions.of(path, key=key)
        return f"{self.where}:{position.line}:{position.column}: "

    def refuse(self, *found: Problem, root: str = "configuration") -> NoReturn:
        ordered = sorted(found, key=self._order) if self.positions else found
        lines = [
            f"{self.prefix(item.path, key=item.about_key)}{field_text(item.path) or root}: {item.message}"
            for item in ordered
        ]
        hints = {item.path: item.hint for item in ordered if item.hint}
        several = len(ordered) > 1
        hint = "\n".join(f"{field_text(path)}: {text}" if several else text for path, text in hints.items())
        raise ConfigurationError("\n".join(lines), hint=hint or None)

    def _order(self, item: Problem) -> tuple[int, int]:
        return self.positions.of(item.path, key=item.about_key) if self.positions else (0, 0)


def _model(data: Any, place: _Place) -> type[TaskConfiguration] | type[FleetConfiguration]:
    expected = f"expected one of {', '.join(f'`{name}`' for name in SUPPORTED)}"
    if data is None:
        place.refuse(Problem((), "is empty, expected at least `type: task` or `type: fleet`"))
    if not isinstance(data, dict):
        place.refuse(Problem((), f"is {kind(data)} at the top, expected a mapping of keys to values"))
    written = data.get("type")
    if written is None:
        place.refuse(Problem(("type",), f"is missing, {expected}", hint=_guess(data)))
    if isinstance(written, str) and written in SUPPORTED:
        return SUPPORTED[written]
    if written in NOT_YET:
        supported = ", ".join(SUPPORTED)
        place.refuse(Problem(("type",), f"{written} is not supported yet by this server; supported: {supported}"))
    meant = did_you_mean(written, (*SUPPORTED, *NOT_YET)) if isinstance(written, str) else None
    place.refuse(Problem(("type",), f"{show(written)} is not a type of configuration, {expected}", hint=meant))


def _guess(data: dict[str, Any]) -> str:
    """The type to add, by what else is written."""
    likely = "fleet" if "ssh_config" in data or ("nodes" in data and "commands" not in data) else "task"
    return f"add a line `type: {likely}`"


def _validated(model: type[M], data: dict[str, Any], place: _Place) -> tuple[M, Modern]:
    root = str(data.get("type") or "profile")
    if illegal := illegal_text(data):
        place.refuse(illegal, root=root)
    try:
        modern = modernize(data)
    except Invalid as error:
        place.refuse(invalid(error, data), root=root)
    try:
        return model.model_validate(modern.data), modern
    except ValidationError as error:
        found = problems(error, model, modern.data)
    place.refuse(*(_in_old_terms(problem, modern) for problem in found), root=root)


def _in_old_terms(problem: Problem, modern: Modern) -> Problem:
    """A problem with a rewritten key is told of the key that the person wrote."""
    if problem.path and problem.path[0] in modern.origins:
        return Problem((modern.origins[str(problem.path[0])],), problem.message, problem.hint, problem.about_key)
    return problem
