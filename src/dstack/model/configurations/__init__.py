"""What users write: configurations of runs, fleets, volumes and gateways, and the one way to read them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.gateway import GatewayConfiguration
from dstack.model.configurations.service import ServiceConfiguration
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.configurations.volume import VolumeConfiguration

AnyConfiguration = Annotated[
    DevEnvironmentConfiguration
    | TaskConfiguration
    | ServiceConfiguration
    | FleetConfiguration
    | VolumeConfiguration
    | GatewayConfiguration,
    Field(discriminator="type"),
]

__all__ = [
    "AnyConfiguration",
    "DevEnvironmentConfiguration",
    "FleetConfiguration",
    "GatewayConfiguration",
    "ServiceConfiguration",
    "TaskConfiguration",
    "VolumeConfiguration",
]
