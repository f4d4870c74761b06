"""Fleets: pools of instances, and the template by which more are made."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.host import RemoteHost
from dstack.model.profile import Profile
from dstack.model.row import Row, table


class FleetStatus(StrEnum):
    ACTIVE = "active"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class FleetSpec(BaseModel):
    """Private keys are not kept here: they lie sealed in a table of their own."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    configuration: FleetConfiguration
    configuration_path: str | None = None
    profile: Profile | None = None

    @property
    def hosts(self) -> tuple[RemoteHost, ...]:
        """The hosts of an SSH fleet; none of any other."""
        ssh = self.configuration.ssh_config
        return () if ssh is None else ssh.remote_hosts(self.configuration.blocks)


class Fleet(Row):
    kind: ClassVar[str] = "fleet"
    transitions: ClassVar[dict[str, frozenset[str]]] = table(
        {
            FleetStatus.ACTIVE: {FleetStatus.TERMINATING},
            FleetStatus.TERMINATING: {FleetStatus.TERMINATED},
            FleetStatus.TERMINATED: set(),
        }
    )

    name: str
    status: FleetStatus = FleetStatus.ACTIVE
    spec: FleetSpec
    next_instance_num: int = 0  # instance numbers are never used twice
    seeded: bool = False  # `target` instances were created once; of an SSH fleet, one for each host
    # Back-off of re-creating lost or failed instances below the minimum.
    create_failures: int = 0
    next_create_at: float | None = None
    last_error: str | None = None
    # Intents.
    delete_requested_at: float | None = None
    finished_at: float | None = None
