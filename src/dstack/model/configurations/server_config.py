"""The server's own `config.yml`: projects with their backends, encryption keys, permissions, plugins."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from dstack.model.base import Model, one_of, read_all_by
from dstack.model.configurations.document import Path, Positions, load
from dstack.model.configurations.messages import Problem
from dstack.model.configurations.numerals import with_numbers
from dstack.model.configurations.place import Place
from dstack.model.configurations.reading import validate_at
from dstack.model.profile import BackendName
from dstack.values.grammar import Invalid, kind
from dstack.values.names import parse_project

AES_KEY_BYTES = 32


class BackendCreds(Model):
    """`type` says how the backend knows the server; the backend reads the rest."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(min_length=1)]

    def __repr_args__(self) -> Any:
        return [("type", self.type)]  # the rest is secret


class BackendEntry(Model):
    """A backend of a project. The settings beside `type` and `creds` are read by the backend itself, as strictly."""

    model_config = ConfigDict(extra="allow")

    type: BackendName
    creds: BackendCreds | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What is for the backend to read: plain data."""
        return dict(self.model_extra or {})


class ProjectEntry(Model):
    """Backends that the server makes, changes and deletes as they stand here; None leaves them as they are."""

    name: Annotated[str, read_all_by(parse_project)]
    backends: tuple[BackendEntry, ...] | None = None

    @field_validator("backends")
    @classmethod
    def _one_of_each(cls, value: tuple[BackendEntry, ...] | None) -> tuple[BackendEntry, ...] | None:
        types = [backend.type for backend in value or ()]
        for index, name in enumerate(types):
            if types.index(name) != index:
                raise Invalid(f"`{name}` is given twice, expected each backend once", at=(index, "type"))
        return value


class IdentityKey(Model):
    """No key of its own: in its place stands the key file of the server."""

    type: Literal["identity"] = "identity"


def _aes_secret(value: Any) -> str:
    # Never shown in messages.
    try:
        key = base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"is not base64, expected {AES_KEY_BYTES} random bytes in base64") from None
    if len(key) != AES_KEY_BYTES:
        raise Invalid(f"is a key of {len(key)} bytes, expected {AES_KEY_BYTES} random bytes in base64")
    return str(value)


class AESKey(Model):
    """AES-256-GCM; the first key encrypts, the others still decrypt."""

    type: Literal["aes"] = "aes"
    name: Annotated[str, Field(min_length=1)]
    secret: Annotated[str, read_all_by(_aes_secret)] = Field(repr=False)


def _key_form(value: Any) -> str:
    type_ = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "~aes" if type_ == "aes" else "~identity"


EncryptionKey = Annotated[
    Annotated[IdentityKey, Tag("~identity")] | Annotated[AESKey, Tag("~aes")],
    Discriminator(_key_form),
    one_of("type", ("identity", "aes"), None),
]


class Encryption(Model):
    keys: tuple[EncryptionKey, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [key.name for key in self.keys if isinstance(key, AESKey)]
        if len(set(names)) < len(names):
            raise Invalid("have names that are used twice, expected a name of its own for each", at=("keys",))
        return self


class DefaultPermissions(Model):
    """What people may do whose role alone does not say it."""

    allow_non_admins_create_projects: bool = True
    allow_non_admins_manage_ssh_fleets: bool = True
    allow_managers_manage_secrets: bool = True


class ServerConfig(Model):
    """The whole file; everything is optional. None leaves what the server has as it is."""

    projects: tuple[ProjectEntry, ...] | None = None
    encryption: Encryption | None = None
    default_permissions: DefaultPermissions | None = None
    plugins: tuple[str, ...] | None = None

    @field_validator("projects")
    @classmethod
    def _named_once(cls, value: tuple[ProjectEntry, ...] | None) -> tuple[ProjectEntry, ...] | None:
        names = [project.name for project in value or ()]
        for index, name in enumerate(names):
            if names.index(name) != index:
                raise Invalid(f"`{name}` is given twice, expected each project once", at=(index, "name"))
        return value


def read_server_config(text: str | bytes, filename: str) -> ServerConfig:
    """The server's file; ConfigurationError with a line `FILE:LINE:COL: FIELD: ...` for each problem."""
    data, positions = load(text, filename)
    place = Place(filename, positions)
    if data is None:
        return ServerConfig()
    if not isinstance(data, dict):
        place.refuse(Problem((), f"is {kind(data)} at the top, expected a mapping of keys to values"))
    return validate_at(ServerConfig, _with_numbers(data, positions), place, root="configuration")


def _with_numbers(data: dict[str, Any], positions: Positions) -> dict[str, Any]:
    """Numbers in the settings of backends. Credentials stay text, and so does all that our own grammar reads."""
    projects = data.get("projects")
    if not isinstance(projects, list):
        return data
    return data | {"projects": [_project(one, positions, ("projects", n)) for n, one in enumerate(projects)]}


def _project(data: Any, positions: Positions, path: Path) -> Any:
    backends = data.get("backends") if isinstance(data, dict) else None
    if not isinstance(backends, list):
        return data
    return data | {
        "backends": [backend_settings(one, positions, (*path, "backends", n)) for n, one in enumerate(backends)]
    }


def backend_settings(data: Any, positions: Positions, path: Path = ()) -> Any:
    """A backend's configuration as YAML means it: numbers but in its type and credentials."""
    if not isinstance(data, dict):
        return data
    return {
        key: value if key in ("type", "creds") else with_numbers(value, positions, (*path, key))
        for key, value in data.items()
    }
