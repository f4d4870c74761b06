"""Parts of configurations that have a short text form: environment, ports, mounts, files, repos, credentials."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from dstack.model.base import NUMBER, TEXT, Model, read_all_by, read_by
from dstack.values.env import parse_env
from dstack.values.grammar import Invalid, show
from dstack.values.mounts import parse_mount, parse_mount_path
from dstack.values.names import parse_name
from dstack.values.paths import check_container_path, check_home, parse_file, parse_repo
from dstack.values.ports import parse_port, parse_port_number

_GROUP_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)


class EnvSentinel(Model):
    """Stands for a value that is taken from where the command runs, until it is resolved."""

    key: str


def _env(value: Any) -> dict[str, str | EnvSentinel]:
    if isinstance(value, dict):
        value = {name: {"key": name} if isinstance(item, EnvSentinel) else item for name, item in value.items()}
    return {name: EnvSentinel(key=name) if text is None else text for name, text in parse_env(value).items()}


_LISTED_ENV = {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*(=|$)"}}

Env = Annotated[dict[str, str | EnvSentinel], read_all_by(_env, _LISTED_ENV, {"type": "null"})]


class PortMapping(Model):
    """A port of the job and where it appears on the person's machine; `local_port` None is any free one."""

    SHORT_FORMS = (TEXT, NUMBER)

    local_port: Annotated[int | None, read_by(parse_port_number, TEXT)] = None
    container_port: Annotated[int, read_by(parse_port_number, TEXT)]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (dict, Model)):
            return value
        port = parse_port(value)
        return {"local_port": port.local, "container_port": port.container}


class RegistryAuth(Model):
    """Credentials of a container registry."""

    username: str
    password: str = Field(repr=False)


class VolumeMountPoint(Model):
    """A network volume (one of several names) at a path of the container."""

    name: str | tuple[str, ...]
    path: Annotated[str, read_by(parse_mount_path)]


class InstanceMountPoint(Model):
    """A directory of the host at a path of the container."""

    instance_path: Annotated[str, read_by(parse_mount_path)]
    path: Annotated[str, read_by(parse_mount_path)]
    optional: bool = False


def _mount(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    mount = parse_mount(value)
    return {"instance_path" if mount.from_host else "name": mount.source, "path": mount.path}


def _mount_form(value: Any) -> str:
    of_host = isinstance(value, InstanceMountPoint) or (isinstance(value, dict) and "instance_path" in value)
    return "~instance" if of_host else "~volume"


MountPoint = Annotated[
    Annotated[VolumeMountPoint, Tag("~volume")] | Annotated[InstanceMountPoint, Tag("~instance")],
    Discriminator(_mount_form),
    read_all_by(_mount, TEXT),
]


class FilePathMapping(Model):
    """A file or directory of the person's machine and its path in the container."""

    SHORT_FORMS = (TEXT,)

    local_path: str
    path: Annotated[str, read_by(lambda value: check_container_path(str(value)))]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (dict, Model)):
            return value
        mapping = parse_file(value)
        return {"local_path": mapping.local, "path": mapping.path}


class RepoSpec(Model):
    """A Git repository, local or by address, and where it goes."""

    SHORT_FORMS = (TEXT,)

    local_path: str | None = None
    url: str | None = None
    branch: str | None = None
    hash: str | None = None
    path: Annotated[str, read_by(lambda value: check_container_path(str(value)))] = "."
    if_exists: Literal["error", "skip"] = "error"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (dict, Model)):
            return value
        repo = parse_repo(value)
        return {"local_path": repo.local, "url": repo.url} | ({"path": repo.path} if repo.path else {})

    @model_validator(mode="after")
    def _one_source(self) -> RepoSpec:
        if self.local_path is not None and self.url is not None:
            raise Invalid("has both `local_path` and `url`, expected one of them")
        if self.local_path is None and self.url is None:
            raise Invalid("has neither `local_path` nor `url`, expected one of them")
        if self.local_path is not None:
            check_home(self.local_path)
        return self


def _group_name(value: Any) -> str:
    name = str(value)
    if isinstance(value, bool) or not _GROUP_NAME.fullmatch(name):
        raise Invalid(f"{show(value)} is not a group name, expected 1 to 40 characters a-z, 0-9 and `-`")
    return name


Name = Annotated[str, read_by(parse_name)]
GroupName = Annotated[str, read_by(_group_name, NUMBER)]
