"""Fleets of a project: plan, create or update, look, delete, ask why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.api.transport import Transport

Json = dict[str, Any]


class Fleets:
    """A fleet, a plan and a specification are the JSON objects `Fleet`, `FleetPlan` and `FleetSpec` of the HTTP API."""

    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._project = project

    def plan(self, spec: Json) -> Json:
        """What applying `spec` would do, with the offers that fit."""
        return self._call("get_plan", {"spec": spec})

    def apply(self, spec: Json, *, current_resource: Json | None = None, force: bool = False) -> Json:
        """Create or update a fleet; `current_resource` is the fleet that the plan showed. Returns the fleet."""
        # What was planned for is told by its spec; 10,000 instances would be more than a request may have.
        seen = current_resource and {**current_resource, "instances": []}
        plan = {"spec": spec, "current_resource": seen}
        return self._call("apply", {"plan": plan, "force": force}, idempotent=False)

    def get(self, name: str | None = None, *, id: str | None = None) -> Json:
        """One fleet with its instances; raises ResourceNotFound."""
        return self._call("get", {"name": name, "id": id})

    def list(self) -> list[Json]:
        """The fleets of the project with their instances."""
        return self._call("list", {"include_imported": True})

    def delete(self, names: Sequence[str], *, abandon: bool = False) -> None:
        """Ask for the fleets to be deleted, with their instances. Does not wait for it.

        With `abandon` the server does not wait for hosts of one's own that do not answer.
        """
        self._call("delete", {"names": [*names], **_abandoning(abandon)})

    def delete_instances(self, name: str, instance_nums: Sequence[int], *, abandon: bool = False) -> None:
        """Ask for some instances of a fleet to be terminated; `abandon` as in `delete`."""
        self._call("delete_instances", {"name": name, "instance_nums": [*instance_nums], **_abandoning(abandon)})

    def cordon(self, name: str, instance_nums: Sequence[int] | None = None) -> Json:
        """Place no new jobs on instances of a fleet (None: on all). Returns the fleet."""
        return self._cordon(name, instance_nums, "cordoned")

    def drain(self, name: str, instance_nums: Sequence[int] | None = None) -> Json:
        """The same, and an event tells when the last job has left. Returns the fleet."""
        return self._cordon(name, instance_nums, "draining")

    def uncordon(self, name: str, instance_nums: Sequence[int] | None = None) -> Json:
        """Place new jobs on them again. Returns the fleet."""
        return self._cordon(name, instance_nums, None)

    def why(self, name: str) -> Json:
        """Why a fleet is where it is: `lines` for people, `instances` for programs."""
        return self._call("why", {"name": name})

    def _cordon(self, name: str, instance_nums: Sequence[int] | None, cordon: str | None) -> Json:
        nums = None if instance_nums is None else [*instance_nums]
        return self._call("cordon", {"name": name, "instance_nums": nums, "cordon": cordon})

    def _call(self, verb: str, body: Json, *, idempotent: bool = True) -> Any:
        return self._transport.call(f"/api/project/{self._project}/fleets/{verb}", body, idempotent=idempotent)


def _abandoning(abandon: bool) -> Json:
    return {"x_abandon": True} if abandon else {}
