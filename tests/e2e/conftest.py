"""Products for the tests: one that most share, fresh ones for those that harm it; the server's log on failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.docker_engine import docker_engine
from support.product import Product, product_in_temporary_folder

__all__ = ["docker_engine"]
LOG_TAIL = 8000


@pytest.fixture(scope="session")
def shared_product() -> Iterator[Product]:
    with product_in_temporary_folder() as product:
        product.start()
        product.fleet()
        yield product


@pytest.fixture
def dstack(shared_product: Product) -> Product:
    """A running server with a fleet, shared: runs need names of their own, and nothing but runs may be changed."""
    return shared_product


@pytest.fixture
def product() -> Iterator[Product]:
    """A product of this test alone, not started."""
    with product_in_temporary_folder() as product:
        yield product


@pytest.fixture(scope="session")
def docker_product(docker_engine: str) -> Iterator[Product]:
    """A running server with a fleet whose jobs are containers."""
    with product_in_temporary_folder(DSTACK_SERVER_LOCAL_RUNTIME="docker", DOCKER_HOST=docker_engine) as product:
        product.start()
        product.fleet()
        yield product
        product.cli("fleet", "delete", "here", "-y")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Product):
                report.sections.append((f"server log of {name}", value.server_log[-LOG_TAIL:]))
    return report
