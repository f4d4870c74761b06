"""What the servers said, when a test of theirs failed."""

from __future__ import annotations

from typing import Any

import pytest

from support.several import Servers

LOG_TAIL = 4000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    for value in getattr(item, "funcargs", {}).values() if report.failed else ():
        if isinstance(value, Servers):
            for name, product in value.of.items():
                report.sections.append((f"log of server {name}", product.server_log[-LOG_TAIL:]))
    return report
