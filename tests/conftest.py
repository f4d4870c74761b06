"""What tests in more than one folder share."""

from __future__ import annotations

import gc
import tracemalloc  # pytest does so in the midst of a collection of garbage, where a second one fails the test it meets

from support.hosts_fixture import hosts

__all__ = ["hosts", "tracemalloc"]  # the hosts are up once, for all who ask


def pytest_sessionfinish() -> None:
    """Collect garbage before the reports and not while they are made.

    They are made by parsing, and CPython 3.11 fails ("AST constructor recursion depth mismatch") when a greenlet that
    nobody holds is collected in that moment.
    """
    gc.collect()
    gc.disable()
