"""A network for each task: of addresses that nobody else has, removed when its task is no more."""

from __future__ import annotations

import json
import zlib
from ipaddress import IPv4Network, ip_network
from typing import Dict, List, Optional

from dstack.agent import subnets
from dstack.agent.docker_client import DockerClient, EngineError
from dstack.agent.docker_orders import Orders
from dstack.agent.docker_spec import AGENT_LABEL, TASK_LABEL, agent_label, bridge_name, labels, resource_name
from dstack.agent.machine import Task, TaskFailed
from dstack.agent.runtime import Host
from dstack.agent.subnets import Taken
from dstack.agentapi.wire import CREATE_FAILED

TRIES = 50


class Networks:
    """Those of one agent's tasks on an engine that it may share with others."""

    def __init__(self, docker: DockerClient, state: str):
        self._docker = docker
        self._state = state
        self._coming: Dict[str, str] = {}  # task -> the network that is being created
        self._orders = Orders()  # by task
        self._ranges: Optional[List[IPv4Network]] = None

    async def create(self, task: Task, host: Host) -> None:
        """One that keeps the task from reaching other tasks of this host. Idempotent. Raises TaskFailed."""
        await self._orders.carry_out(task.id, lambda: self._create(task, host))

    async def remove_of(self, task_id: str) -> None:
        """That of the task, also when it is still being created. Idempotent. Raises EngineError, EngineUnreachable."""
        await self._orders.over(task_id)
        await self.remove(resource_name(task_id))

    async def _create(self, task: Task, host: Host) -> None:
        refused: List[Taken] = []
        try:
            for _ in range(TRIES):
                self._coming[task.id] = await self._free(task, host, refused)
                if await self._created(task.id, self._coming[task.id]):
                    return
                refused.append(Taken(IPv4Network(self._coming[task.id]), "another network of the engine"))
        finally:
            self._coming.pop(task.id, None)
        raise TaskFailed(CREATE_FAILED, "The engine refused %d networks for the task, which seemed free" % TRIES)

    async def remove(self, name: str) -> None:
        """Idempotent. Raises EngineError, EngineUnreachable."""
        try:
            await self._docker.json("DELETE", "/networks/" + name)
        except EngineError as e:
            if e.status != 404:
                raise

    async def of_ours(self) -> Dict[str, str]:
        """Engine's id of each network of this agent -> the task that it was made for."""
        query = {"filters": json.dumps({"label": ["%s=%s" % (AGENT_LABEL, agent_label(self._state))]})}
        found = await self._docker.json("GET", "/networks", query) or []
        return {network["Id"]: (network.get("Labels") or {}).get(TASK_LABEL, "") for network in found}

    async def _free(self, task: Task, host: Host, refused: List[Taken]) -> str:
        """Raises TaskFailed: none is, even without those of tasks that have ended."""
        ranges = await self._allowed()
        start = zlib.crc32(task.id.encode())
        for sweeping in (False, True):
            if sweeping:
                await self._sweep(host)
            taken = [*refused, *await self._of_engine(), *subnets.of_machine()]
            taken += [Taken(IPv4Network(subnet), "a task that starts") for subnet in self._coming.values()]
            found = subnets.choose(ranges, taken, start)
            if found:
                return found
        raise TaskFailed(CREATE_FAILED, subnets.refusal(ranges, taken))

    async def _created(self, task_id: str, subnet: str) -> bool:
        """False when the engine knows of a collision. Raises TaskFailed."""
        body = {
            "Name": resource_name(task_id),
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": labels(task_id, self._state),
            "Options": {"com.docker.network.bridge.name": bridge_name(task_id)},
            "IPAM": {"Config": [{"Subnet": subnet}]},
        }
        try:
            await self._docker.json("POST", "/networks/create", body=body)
        except EngineError as e:
            if "overlap" in e.message.lower():
                return False
            if e.status != 409:  # there already: of a start that was cut off
                raise TaskFailed(CREATE_FAILED, "The task's network cannot be created: %s" % e.message) from None
        return True

    async def _allowed(self) -> List[IPv4Network]:
        """What is set aside for tasks, else what the engine was told to use, else our own choice. Raises TaskFailed."""
        try:
            ranges = subnets.configured()
        except ValueError as e:
            raise TaskFailed(CREATE_FAILED, "The networks for tasks are not to be had: %s" % e) from None
        if ranges:
            return ranges
        if self._ranges is None:
            engine = await self._docker.json("GET", "/info") or {}
            self._ranges = subnets.of_pools(engine.get("DefaultAddressPools") or []) or subnets.defaults()
        return self._ranges

    async def _of_engine(self) -> List[Taken]:
        found = []
        for network in await self._docker.json("GET", "/networks") or []:
            for one in (network.get("IPAM") or {}).get("Config") or []:
                subnet = ip_network(str(one.get("Subnet") or "::/128"), strict=False)
                if isinstance(subnet, IPv4Network):
                    found.append(Taken(subnet, "the Docker network %s" % network.get("Name")))
        return found

    async def _sweep(self, host: Host) -> None:
        """Remove what tasks left that have ended, and are not deleted yet or not any more."""
        running = {task.id for task in host.running()}
        for network, task_id in (await self.of_ours()).items():
            if task_id not in running:
                try:
                    await self.remove(network)
                except EngineError:
                    pass  # somebody of the outside has joined it: it stays taken, and is told as such
