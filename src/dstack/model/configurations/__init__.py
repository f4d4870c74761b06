"""What users write: run and fleet configurations, and the one way to read them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dstack.model.configurations.fleet import FleetConfiguration
from dstack.model.configurations.task import TaskConfiguration

AnyConfiguration = Annotated[TaskConfiguration | FleetConfiguration, Field(discriminator="type")]

__all__ = ["AnyConfiguration", "FleetConfiguration", "TaskConfiguration"]
