"""The public Python client of a dstack server.

    from dstack.api import Client

    client = Client("http://127.0.0.1:3000", token, project="main")
    for run in client.runs.list(only_active=True):
        print(run["run_spec"]["run_name"], run["status"])

Answers are the JSON of the HTTP API as plain dictionaries; errors are those of `dstack.errors`.
"""

from dstack.api.client import Client
from dstack.api.logs import LogPiece
from dstack.errors import (
    AccessDenied,
    DstackError,
    InvalidCredentials,
    NotAuthenticated,
    ResourceExists,
    ResourceNotFound,
    ServerUnreachable,
)

__all__ = [
    "AccessDenied",
    "Client",
    "DstackError",
    "InvalidCredentials",
    "LogPiece",
    "NotAuthenticated",
    "ResourceExists",
    "ResourceNotFound",
    "ServerUnreachable",
]
