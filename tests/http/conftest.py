"""The fixtures of HTTP tests."""

from support.http_api import api, live, settings, still

__all__ = ["api", "live", "settings", "still"]
