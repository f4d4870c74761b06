"""The HTTP API: thin functions from requests to services."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI

from dstack.server.routes import (
    account,
    backends,
    entering,
    errors,
    events,
    files,
    fleets,
    gpus,
    instances,
    later,
    logs,
    metrics,
    orphans,
    projects,
    public_keys,
    repos,
    runs,
    secrets,
    server,
    size,
    users,
    version,
)

# Those that are asked most often first: a request tries one after the other.
MODULES = (
    runs,
    account,
    logs,
    fleets,
    server,
    users,
    public_keys,
    projects,
    backends,
    instances,
    gpus,
    metrics,
    secrets,
    events,
    files,
    repos,
    orphans,
    entering,
    later,
)


def install(app: FastAPI) -> None:
    """Routes, error handlers and the version check. `app.state.parts` must be set before the first request."""
    errors.install(app)
    app.add_middleware(size.SizeLimit)
    app.add_middleware(version.VersionCheck)
    for module in MODULES:
        app.include_router(module.router)
    app.openapi = partial(_document, app)


def _document(app: FastAPI) -> dict[str, Any]:
    # Imported here: only who asks for the document pays for the shapes of all answers.
    from dstack.server.routes.document import document

    return document(app)
