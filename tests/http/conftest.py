"""The fixtures of HTTP tests."""

from support.http_api import api, first_started, live, postgresql, settings, still, this_machine

__all__ = ["api", "first_started", "live", "postgresql", "settings", "still", "this_machine"]
