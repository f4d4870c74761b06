"""Dev environments: a machine to work on, from an IDE or over SSH."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dstack.model.base import FLAG, TEXT, read_all_by
from dstack.model.configurations.base import RunConfiguration
from dstack.model.configurations.parts import PortMapping
from dstack.values.duration import parse_off_duration
from dstack.values.grammar import Invalid, show
from dstack.values.ide import ServerVersion, server_version


def _inactivity(value: Any) -> int | None:
    """Seconds; `off`, false, true and null disable the limit, as they do in the HTTP API."""
    seconds = parse_off_duration(value)
    return None if seconds == "off" else seconds


class DevEnvironmentConfiguration(RunConfiguration):
    """`ide` None is SSH alone; `inactivity_duration` is in seconds without a connection, None without limit."""

    type: Literal["dev-environment"] = "dev-environment"
    ide: Literal["vscode", "cursor", "windsurf", "zed"] | None = None
    version: Annotated[str, Field(min_length=1)] | None = None
    init: tuple[str, ...] = ()
    inactivity_duration: Annotated[int | None, read_all_by(_inactivity, TEXT, FLAG)] = None
    ports: tuple[PortMapping, ...] = ()

    @property
    def node_count(self) -> int:
        """How many jobs run side by side."""
        return 1

    @property
    def server(self) -> ServerVersion | None:
        """The server of the IDE that is put in beforehand; None where none is named."""
        return None if self.ide is None or self.version is None else server_version(self.ide, self.version)

    @model_validator(mode="after")
    def _session_agrees(self) -> Self:
        if self.entrypoint is not None:
            raise Invalid("is not supported for a dev environment, expected `init` for commands", at=("entrypoint",))
        if self.version is not None and self.ide is None:
            raise Invalid("`version` requires `ide` to be set", at=("version",))
        if self.ide == "windsurf" and self.version is not None and self.server is None:
            raise Invalid(
                f"{show(self.version)} is not a version of windsurf, expected `VERSION@COMMIT`", at=("version",)
            )
        if self.dstack and self.inactivity_duration is not None:
            raise Invalid("`dstack` and `inactivity_duration` exclude each other", at=("inactivity_duration",))
        return self
