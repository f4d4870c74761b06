"""Settings of the server: read once from the environment, handed down, never looked up again."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dstack.errors import UsageError
from dstack.model.images import BASE_IMAGE, DEVEL_IMAGE, DOCKER_IMAGE, Images

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEY_BYTES = 32
RUNTIMES = ("auto", "docker", "process")


@dataclass(frozen=True)
class Rules:
    """The `default_permissions` of the server's configuration, and how many projects a person may own."""

    non_admins_create_projects: bool = True
    non_admins_manage_ssh_fleets: bool = True
    managers_manage_secrets: bool = True
    projects_per_user: int = 10


DAY_S = 24 * 3600.0


@dataclass(frozen=True)
class Keep:
    """How long what is over is kept, in seconds; 0 is for ever. docs/guides/retention.md tells the rules."""

    events_s: float = 30 * DAY_S
    metrics_s: float = 3600.0
    logs_s: float = 90 * DAY_S
    runs_s: float = 365 * DAY_S
    deleted_runs_s: float = 7 * DAY_S
    fleets_s: float = 90 * DAY_S
    uploads_s: float = 30 * DAY_S


@dataclass(frozen=True)
class Settings:
    """Durations in seconds, sizes in bytes. Every field is documented in docs/reference/environment.md."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 3000
    database_url: str | None = field(default=None, repr=False)  # with its password; None: SQLite in data_dir
    shared_dir: Path | None = None  # logs and uploaded files, for all servers of the database; None: in data_dir
    admin_token: str | None = field(default=None, repr=False)
    default_project: str = "main"
    local_backend: bool | None = None  # None: enabled on a loopback address only
    local_runtime: str = "auto"
    local_docker_host: str | None = None
    default_image: str = BASE_IMAGE
    nvcc_image: str = DEVEL_IMAGE
    docker_image: str = DOCKER_IMAGE
    jobs_url: str | None = None  # of this server, as jobs reach it; None: as processes of this machine alone
    ide_mirror: str | None = None  # where servers of IDEs are fetched from; None: from their vendors
    code_upload_limit: int = 2 * 1024 * 1024
    repo_size_limit: int = 2 * 1024**3
    repo_loopback: bool | None = None  # None: where the backend `local` is, whose jobs reach it anyway
    log_quota_per_hour: int = 50 * 1024 * 1024
    log_level: str = "info"
    log_format: str = "text"
    update_cli_config: bool | None = None  # None: ask on a terminal, else do when there is no config yet
    act_workers: int = 64  # they mostly wait for machines
    shutdown_grace_s: float = 5.0
    prometheus: bool = False
    rules: Rules = field(default_factory=Rules)
    keep: Keep = field(default_factory=Keep)
    encryption_keys: tuple[bytes, ...] = field(default=(), repr=False)  # the newest first

    @property
    def sqlite_path(self) -> Path:
        return self.data_dir / "data" / "sqlite.db"

    @property
    def storage_dir(self) -> Path:
        """Where logs and uploaded files lie."""
        return self.shared_dir or self.data_dir

    @property
    def resolved_database_url(self) -> str:
        return async_url(self.database_url) if self.database_url else f"sqlite:///{self.sqlite_path}"

    @property
    def images(self) -> Images:
        """What containers are made of when nobody wrote an image."""
        return Images(self.default_image, self.nvcc_image, self.docker_image)

    @property
    def local_enabled(self) -> bool:
        return self.host in LOOPBACK if self.local_backend is None else self.local_backend

    @property
    def repos_of_loopback(self) -> bool:
        """Whether repositories of the server's own machine are fetched."""
        return self.local_enabled if self.repo_loopback is None else self.repo_loopback

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        """Settings of the environment, with `overrides` (those that are not None) on top.

        Raises UsageError naming the variable whose value is not legal.
        """
        env = os.environ if env is None else env
        home = Path(env.get("HOME") or Path.home())
        values: dict[str, object] = {
            "data_dir": Path(env.get("DSTACK_SERVER_DIR") or home / ".dstack" / "server"),
            "host": env.get("DSTACK_SERVER_HOST"),
            "port": _int(env, "DSTACK_SERVER_PORT"),
            "database_url": env.get("DSTACK_DATABASE_URL"),
            "shared_dir": Path(env["DSTACK_SERVER_SHARED_DIR"]) if env.get("DSTACK_SERVER_SHARED_DIR") else None,
            "admin_token": env.get("DSTACK_SERVER_ADMIN_TOKEN"),
            "local_backend": _bool(env, "DSTACK_SERVER_LOCAL_BACKEND"),
            "local_runtime": _choice(env, "DSTACK_SERVER_LOCAL_RUNTIME", RUNTIMES),
            "local_docker_host": env.get("DOCKER_HOST"),
            "default_image": env.get("DSTACK_SERVER_DEFAULT_IMAGE"),
            "nvcc_image": env.get("DSTACK_SERVER_NVCC_IMAGE"),
            "docker_image": env.get("DSTACK_SERVER_DOCKER_IMAGE"),
            "jobs_url": _url(env, "DSTACK_SERVER_JOBS_URL"),
            "ide_mirror": _url(env, "DSTACK_SERVER_IDE_MIRROR"),
            "code_upload_limit": _int(env, "DSTACK_SERVER_CODE_UPLOAD_LIMIT"),
            "repo_loopback": _bool(env, "DSTACK_SERVER_REPO_LOOPBACK"),
            "repo_size_limit": _int(env, "DSTACK_SERVER_REPO_SIZE_LIMIT"),
            "log_quota_per_hour": _int(env, "DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR"),
            "log_level": env.get("DSTACK_SERVER_LOG_LEVEL"),
            "log_format": env.get("DSTACK_LOG_FORMAT"),
            "prometheus": _bool(env, "DSTACK_ENABLE_PROMETHEUS_METRICS"),
            "rules": _rules(env),
            "keep": _keep(env),
            "encryption_keys": _keys(env),
        }
        values.update({k: v for k, v in overrides.items() if v is not None})
        return cls(**{k: v for k, v in values.items() if v is not None and v != ""})  # type: ignore[arg-type]


def async_url(url: str) -> str:
    """A database URL as people write it, with the driver that is used here. Raises UsageError for other databases."""
    scheme, separator, rest = url.partition("://")
    driver = {"postgres": "postgresql", "postgresql": "postgresql", "sqlite": "sqlite"}.get(scheme.partition("+")[0])
    if not separator or driver is None:
        raise UsageError(
            "The database URL is not one of postgresql://... or sqlite:///...",
            hint="for example DSTACK_DATABASE_URL=postgresql://user:password@host:5432/dstack",
        )
    return f"{'postgresql+asyncpg' if driver == 'postgresql' else driver}://{rest}"


def _keys(env: Mapping[str, str]) -> tuple[bytes, ...]:
    name, keys = "DSTACK_SERVER_ENCRYPTION_KEYS", []
    for number, text in enumerate((env.get(name) or "").replace(",", " ").split(), 1):
        try:
            key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            # Not repeated here: it is a secret.
            raise UsageError(f"{name}: key {number} is not {KEY_BYTES} bytes in base64 or hexadecimal digits")
        keys.append(key)
    return tuple(keys)


def _rules(env: Mapping[str, str]) -> Rules:
    quota = _int(env, "DSTACK_SERVER_PROJECTS_PER_USER")
    return Rules() if quota is None else Rules(projects_per_user=quota)


_TTL = {
    "events_s": "DSTACK_SERVER_EVENTS_TTL_SECONDS",
    "metrics_s": "DSTACK_SERVER_METRICS_TTL_SECONDS",
    "logs_s": "DSTACK_SERVER_LOGS_TTL_SECONDS",
    "runs_s": "DSTACK_SERVER_RUNS_TTL_SECONDS",
    "deleted_runs_s": "DSTACK_SERVER_DELETED_RUNS_TTL_SECONDS",
    "fleets_s": "DSTACK_SERVER_FLEETS_TTL_SECONDS",
    "uploads_s": "DSTACK_SERVER_UPLOADS_TTL_SECONDS",
}


def _keep(env: Mapping[str, str]) -> Keep:
    given: dict[str, float] = {}
    for field_name, variable in _TTL.items():
        seconds = _int(env, variable)
        if seconds is not None and seconds < 0:
            raise UsageError(f"{variable}={seconds}: expected 0, which is for ever, or a number of seconds")
        if seconds is not None:
            given[field_name] = float(seconds)
    return Keep(**given)


def _int(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}={text!r}: expected a whole number") from None


def _url(env: Mapping[str, str], name: str) -> str | None:
    text = (env.get(name) or "").rstrip("/")
    if text and not text.startswith(("http://", "https://")):
        raise UsageError(f"{name}={text!r}: expected an address such as https://dstack.example.org")
    return text or None


def _bool(env: Mapping[str, str], name: str) -> bool | None:
    text = (env.get(name) or "").lower()
    if not text:
        return None
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{name}={text!r}: expected true or false")


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    text = env.get(name)
    if text and text not in choices:
        raise UsageError(f"{name}={text!r}: expected one of {', '.join(choices)}")
    return text or None
