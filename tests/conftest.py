"""What tests in more than one folder share."""

from __future__ import annotations

from support.hosts_fixture import hosts

__all__ = ["hosts"]  # up once, for all who ask
