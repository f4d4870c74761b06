"""The fields that all run configurations have in common."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from dstack.model.base import NUMBER, Integer, read_all_by, read_by
from dstack.model.configurations.parts import Env, FilePathMapping, MountPoint, Name, RegistryAuth, RepoSpec
from dstack.model.configurations.references import check_references
from dstack.model.profile import ProfileParams
from dstack.model.resources import ResourcesSpec
from dstack.values.grammar import Invalid, show
from dstack.values.user import format_user, parse_user

PYTHON_VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
DEFAULT_HOME_DIR = "/root"


def _python(value: Any) -> str:
    version = "3.10" if value == 3.1 else str(value)  # YAML reads an unquoted 3.10 as the number 3.1
    if isinstance(value, bool) or version not in PYTHON_VERSIONS:
        raise Invalid(f"{show(value)} is not a Python version, expected one of {', '.join(PYTHON_VERSIONS)}")
    return version


PythonVersion = Annotated[str, read_by(_python, NUMBER, {"enum": list(PYTHON_VERSIONS)})]


def _shell(value: Any) -> str:
    if value in ("sh", "bash") or (isinstance(value, str) and value.startswith("/") and "\0" not in value):
        return value
    raise Invalid(f"{show(value)} is not a shell, expected `sh`, `bash` or an absolute path")


def _working_dir(value: Any) -> str:
    if isinstance(value, str) and (value.startswith(("/", "~/")) or value == "~") and "\0" not in value:
        return value
    raise Invalid(
        f"{show(value)} is not an absolute path, expected for instance `/workspace` or `~/workspace` "
        "(it uploads nothing: `files` and `repos` bring local files into the run)"
    )


def _command_line(value: str) -> str:
    """As it is written: it is split where the job is made, and an open quote would only fail there."""
    try:
        shlex.split(value)
    except ValueError as e:
        raise Invalid(f"{show(value)} is not a command line: {str(e).lower()}") from None
    return value


def _home_dir(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return value
    raise Invalid(f"{show(value)} is not an absolute path, expected for instance `/root`")


def check_image(image: str | None, python: str | None, docker: bool | None, nvcc: bool | None) -> None:
    """Refuse two answers to the question which image it is."""
    if image and python:
        raise Invalid("`image` and `python` exclude each other, expected one of them", at=("python",))
    if docker and (image or python or nvcc):
        other = "image" if image else "python" if python else "nvcc"
        raise Invalid(f"`docker` and `{other}` exclude each other, expected one of them", at=(other,))


class RunConfiguration(ProfileParams):
    """What tasks, services and dev environments share; None is the default of the server or of the image."""

    name: Name | None = None
    image: Annotated[str, Field(min_length=1)] | None = None
    user: Annotated[str | None, read_by(lambda value: format_user(parse_user(value)))] = None
    privileged: bool = False
    entrypoint: Annotated[str, AfterValidator(_command_line)] | None = None
    working_dir: Annotated[str | None, read_by(_working_dir)] = None
    home_dir: Annotated[str, read_all_by(_home_dir)] = DEFAULT_HOME_DIR
    registry_auth: RegistryAuth | None = None
    python: PythonVersion | None = None
    nvcc: bool | None = None
    single_branch: bool | None = None
    env: Env = Field(default_factory=dict, repr=False)
    shell: Annotated[str | None, read_by(_shell)] = None
    resources: ResourcesSpec = ResourcesSpec()
    priority: Annotated[Integer, Field(ge=0, le=100)] | None = None
    volumes: tuple[MountPoint, ...] = ()
    docker: bool | None = None
    repos: tuple[RepoSpec, ...] = ()
    files: tuple[FilePathMapping, ...] = ()
    dstack: bool = False
    setup: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _images_agree(self) -> Self:
        check_image(self.image, self.python, self.docker, self.nvcc)
        if len(self.repos) > 1:
            raise Invalid(f"has {len(self.repos)} repos, expected one at most", at=("repos",))
        check_references(self)
        return self

    @property
    def chosen_home_dir(self) -> str | None:
        """The home directory that a person chose, or None: the default says nothing."""
        return None if self.home_dir == DEFAULT_HOME_DIR else self.home_dir
