"""`Client`: everything that a server offers, grouped by resource."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from dstack.api.fleets import Fleets
from dstack.api.logs import Logs
from dstack.api.resources import (
    Events,
    Files,
    Gateways,
    Gpus,
    Metrics,
    Orphans,
    Projects,
    Repos,
    Secrets,
    Users,
    Volumes,
)
from dstack.api.runs import Runs
from dstack.api.transport import Transport
from dstack.errors import UsageError

_PROJECT = re.compile(r"[a-zA-Z0-9_-]{1,50}")


class Client:
    """One project of one server.

    `url` is the server's address, `token` the user's, `timeout_s` the deadline of each call in seconds. Nothing is
    sent before the first call. A client belongs to one thread; `fork` makes another one.
    """

    def __init__(
        self,
        url: str,
        token: str,
        project: str = "main",
        *,
        timeout_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if not _PROJECT.fullmatch(project):
            raise UsageError(f"{project!r} is not a project name", hint="expected 1 to 50 letters, digits, `-` and `_`")
        self.project = project
        self._transport = Transport(url, token, timeout_s=timeout_s, sleep=sleep)
        self._bind()

    def _bind(self) -> None:
        transport, project = self._transport, self.project
        self.runs = Runs(transport, project)
        self.fleets = Fleets(transport, project)
        self.logs = Logs(transport, project)
        self.secrets = Secrets(transport, project)
        self.events = Events(transport, project)
        self.projects = Projects(transport)
        self.users = Users(transport)
        self.files = Files(transport)
        self.repos = Repos(transport, project)
        self.gpus = Gpus(transport, project)
        self.metrics = Metrics(transport, project)
        self.orphans = Orphans(transport)
        self.volumes = Volumes(transport, project)
        self.gateways = Gateways(transport, project)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def server_info(self) -> dict[str, Any]:
        """`{"server_version": ...}`; needs no token."""
        return self._transport.call("/api/server/get_info")

    def login_providers(self) -> list[dict[str, Any]]:
        """Ways of signing in at the server other than by token; needs no token."""
        return self._transport.call("/api/auth/list_providers")

    def list_shared(self, direction: str) -> list[dict[str, Any]]:
        """What the project shares with others (`exports`) or others with it (`imports`)."""
        return self._transport.call(f"/api/project/{self.project}/{direction}/list")

    def fork(self) -> Client:
        """The same project over a connection of its own, for another thread."""
        other = Client.__new__(Client)
        other.project = self.project
        other._transport = self._transport.fork()
        other._bind()
        return other

    def close(self) -> None:
        """End the connection. The client can be used again."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
