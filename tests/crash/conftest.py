"""The fixtures of the tests of crash points."""

from support.http_api import first_started, postgresql

__all__ = ["first_started", "postgresql"]
