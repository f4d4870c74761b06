"""Tasks: commands that run to their end, on one node or on several."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dstack.model.base import Integer, Model
from dstack.model.configurations.base import RunConfiguration
from dstack.model.configurations.parts import GroupName, PortMapping
from dstack.model.resources import ResourcesSpec
from dstack.values.grammar import Invalid

# Each node is a job, and all of them are placed, started and ended together.
MOST_NODES = 1000


class NodeGroup(Model):
    """Nodes of a task that run the same commands; its resources do not come from the top level."""

    name: GroupName | None = None
    nodes: Annotated[Integer, Field(ge=1, le=MOST_NODES)] = 1
    resources: ResourcesSpec = ResourcesSpec()
    commands: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()


class TaskConfiguration(RunConfiguration):
    """`nodes` None is one node."""

    type: Literal["task"] = "task"
    nodes: Annotated[Integer, Field(ge=1, le=MOST_NODES)] | None = None
    groups: tuple[NodeGroup, ...] | None = None
    ports: tuple[PortMapping, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def node_count(self) -> int:
        """How many jobs run side by side."""
        return sum(group.nodes for group in self.groups) if self.groups else self.nodes or 1

    @model_validator(mode="after")
    def _something_to_run(self) -> Self:
        if self.groups is not None:
            self._check_groups(self.groups)
        elif not self.commands and not self.image:
            raise Invalid("has neither `commands` nor `image`, expected at least one of them")
        return self

    def _check_groups(self, groups: tuple[NodeGroup, ...]) -> None:
        if not groups:
            raise Invalid("is empty, expected at least one group", at=("groups",))
        if self.nodes is not None:
            raise Invalid("`nodes` and `groups` exclude each other, expected one of them", at=("nodes",))
        for field in ("commands", "ports", "entrypoint"):
            if getattr(self, field):
                raise Invalid(f"is not allowed beside `groups`, expected `{field}` in each group", at=(field,))
        if sum(group.nodes for group in groups) > MOST_NODES:
            raise Invalid(f"has more than {MOST_NODES} nodes in all", at=("groups",))
        names = [group.name or str(index) for index, group in enumerate(groups)]
        for index, group in enumerate(groups):
            if names.index(names[index]) != index:
                raise Invalid(f"`{names[index]}` is used twice, expected a name of its own", at=("groups", index))
            if not group.commands and not self.image:
                raise Invalid("has no `commands`, expected them here, or `image` at the top", at=("groups", index))
