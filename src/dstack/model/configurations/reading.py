"""The one way from what a person or a client wrote to a configuration; everything that is wrong is said at once."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.document import Path, Positions, load
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.gateway import GatewayConfiguration
from dstack.model.configurations.legacy import Modern, modernize
from dstack.model.configurations.messages import Problem, illegal_text, invalid, problems, within
from dstack.model.configurations.place import Place
from dstack.model.configurations.service import ServiceConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.configurations.volume import VolumeConfiguration
from dstack.model.profile import Profile
from dstack.values.grammar import Invalid, kind, show
from dstack.values.suggest import did_you_mean

Configuration = (
    DevEnvironmentConfiguration
    | TaskConfiguration
    | ServiceConfiguration
    | FleetConfiguration
    | VolumeConfiguration
    | GatewayConfiguration
)
M = TypeVar("M", bound=BaseModel)

MODELS: dict[str, type[Configuration]] = {
    "dev-environment": DevEnvironmentConfiguration,
    "task": TaskConfiguration,
    "service": ServiceConfiguration,
    "fleet": FleetConfiguration,
    "volume": VolumeConfiguration,
    "gateway": GatewayConfiguration,
}


class Reading(NamedTuple):
    """A configuration, what to tell about old forms in it (a line each), and where things stand in the text."""

    configuration: Configuration
    notices: tuple[str, ...]
    positions: Positions

    def at(self, filename: str, *path: str | int) -> str:
        """`FILE:LINE:COL: ` of a value, for what is said of it later."""
        return Place(filename, self.positions).prefix(path)


def read(text: str | bytes, filename: str) -> Reading:
    """A configuration file; ConfigurationError with a line `FILE:LINE:COL: FIELD: ...` for each problem."""
    data, positions = load(text, filename)
    place = Place(filename, positions)
    model = _model(data, place)
    configuration, modern = _validated(model, data, place)
    return Reading(configuration, old_forms(modern, place), positions)


def parse(data: Any, where: str) -> Configuration:
    """A configuration that came as data; messages begin with `where` instead of file and line."""
    place = Place(where)
    return _validated(_model(data, place), data, place)[0]


def parse_profile(data: Any, where: str) -> Profile:
    """A profile that came as data, as strict as a configuration."""
    place = Place(where)
    if not isinstance(data, dict):
        place.refuse(Problem((), f"is {kind(data)}, expected a mapping of keys to values"))
    return _validated(Profile, data, place)[0]


def validate(model: type[M], data: Any, where: str) -> M:
    """Data of any other model, refused in the same words."""
    return validate_at(model, data, Place(where), root="body")


def validate_at(model: type[M], data: Any, place: Place, *, root: str) -> M:
    """The same for data with a place of their own; `root` names the whole in messages."""
    if illegal := illegal_text(data):
        place.refuse(illegal, root=root)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = problems(error, model, data)
    place.refuse(*found, root=root)


def old_forms(modern: Modern, place: Place, above: Path = ()) -> tuple[str, ...]:
    """A line for each old form in the order of the document; `above` is where the mapping stands in it."""
    told = sorted(((*above, key), words) for key, words in modern.notices.items())
    if positions := place.positions:
        told.sort(key=lambda item: positions.of(item[0], key=True))
    return tuple(f"{place.prefix(path, key=True)}{words}" for path, words in told)


def in_old_terms(problem: Problem, modern: Modern, data: Any) -> Problem:
    """A problem with a rewritten key is told of the key that the person wrote; `data` is what was written."""
    if problem.path and problem.path[0] in modern.origins:
        path = within((modern.origins[str(problem.path[0])], *problem.path[1:]), data)
        return Problem(path, problem.message, problem.hint, problem.about_key)
    return problem


def _model(data: Any, place: Place) -> type[Configuration]:
    expected = f"expected one of {', '.join(f'`{name}`' for name in MODELS)}"
    if data is None:
        place.refuse(Problem((), "is empty, expected at least `type: task` or `type: fleet`"))
    if not isinstance(data, dict):
        place.refuse(Problem((), f"is {kind(data)} at the top, expected a mapping of keys to values"))
    written = data.get("type")
    if written is None:
        place.refuse(Problem(("type",), f"is missing, {expected}", hint=_guess(data)))
    if isinstance(written, str) and written in MODELS:
        return MODELS[written]
    meant = did_you_mean(written, MODELS) if isinstance(written, str) else None
    place.refuse(Problem(("type",), f"{show(written)} is not a type of configuration, {expected}", hint=meant))


# What else is written tells the type; the first that fits.
_SIGNS = (
    ("fleet", ("ssh_config",)),
    ("service", ("port", "replicas", "scaling", "model")),
    ("dev-environment", ("ide", "init")),
    ("task", ("commands", "ports")),
    ("fleet", ("nodes", "placement", "blocks")),
    ("gateway", ("domain", "certificate")),
    ("volume", ("size", "volume_id", "backend")),
)


def _guess(data: dict[str, Any]) -> str:
    likely = next((name for name, keys in _SIGNS if any(key in data for key in keys)), "task")
    return f"add a line `type: {likely}`"


def _validated(model: type[M], data: dict[str, Any], place: Place) -> tuple[M, Modern]:
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
    place.refuse(*(in_old_terms(problem, modern, data) for problem in found), root=root)
