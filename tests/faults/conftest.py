"""The fixtures of the tests of failing storage: a server whose database, logs or files lie on a disk of a few MiB."""

from support.http_api import first_started, postgresql

__all__ = ["first_started", "postgresql"]
