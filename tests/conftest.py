"""What tests in more than one folder share."""

from __future__ import annotations

import gc

from support.hosts_fixture import hosts

__all__ = ["hosts"]  # up once, for all who ask


def pytest_sessionfinish() -> None:
    """CPython 3.11 fails while it parses ("AST constructor recursion depth mismatch") when a greenlet that nobody holds
    is collected in that moment, and reports are made by parsing: whatever is to be collected goes now, and nothing later.
    """
    gc.collect()
    gc.disable()
