"""Pytest's test hosts: three, a login node and one without Docker, up once for all tests that ask."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support import hosts as test_hosts
from support.hosts import NAMES, WITHOUT_DOCKER, Hosts, hosts_up


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Running hosts; whoever breaks one mends it. Skipped, or under CI failed, where none can be made."""
    reason = test_hosts.missing()
    if reason and os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"CI must have test hosts: {reason}")
    if reason:
        pytest.skip(reason)
    with hosts_up(NAMES, WITHOUT_DOCKER) as running:
        yield running
