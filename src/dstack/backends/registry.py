"""Which backends there are, and the making of one from its configuration; classes are loaded when they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points

from dstack.backends.base import Backend, BackendClass, BackendConfig, BackendContext
from dstack.backends.errors import MissingDependency, UnknownBackend
from dstack.errors import ConfigurationError

GROUP = "dstack.backends"
# The entry points of our own package: a source tree that was not installed, or before this release, has none.
SHIPPED = {
    "local": "dstack.backends.local.backend:LocalBackend",
    "sim": "dstack.backends.sim.backend:SimBackend",
}


class Registry:
    """`places` names a class by type, as `module:Class`."""

    def __init__(self, places: Mapping[str, str]):
        self._places = dict(places)

    @classmethod
    def installed(cls) -> Registry:
        """The backends of this package, and those that other installed packages bring."""
        return cls({**{point.name: point.value for point in entry_points(group=GROUP)}, **SHIPPED})

    def types(self) -> list[str]:
        return sorted(self._places)

    def make(self, config: BackendConfig, context: BackendContext) -> Backend:
        """The backend of a configuration. Raises UnknownBackend, MissingDependency or ConfigurationError."""
        type_ = config.get("type")
        if not isinstance(type_, str):
            raise ConfigurationError("type: expected the name of a backend")
        return self.load(type_).from_config(config, context)

    def load(self, type_: str) -> BackendClass:
        """The class of a type. Raises UnknownBackend, or MissingDependency when its SDK is not installed."""
        place = self._places.get(type_)
        if place is None:
            raise UnknownBackend(
                f"The backend {type_} is not supported by this server", hint=f"it has {', '.join(self.types())}"
            )
        module, _, name = place.partition(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as e:
            if e.name is None or e.name.partition(".")[0] == "dstack":
                raise
            raise MissingDependency(
                f"The backend {type_} needs {e.name}, which is not installed", hint=f"pip install 'dstack[{type_}]'"
            ) from e
