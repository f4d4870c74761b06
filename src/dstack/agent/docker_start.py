"""How a container comes to life: network, image, creation with its files, start."""

from __future__ import annotations

import asyncio
import os
import posixpath
from typing import Any, Dict, List, Optional

from dstack.agent.docker_client import DockerClient, EngineError
from dstack.agent.docker_files import find_account, own_new_folders, put_archives, put_file, resolve
from dstack.agent.docker_images import find_image, pull_image
from dstack.agent.docker_keeping import Keeping
from dstack.agent.docker_networks import Networks
from dstack.agent.docker_orders import Orders
from dstack.agent.docker_spec import MPI_HOSTFILE, container_body, resource_name, sockets_bind
from dstack.agent.docker_terminal import TERMINAL_IN_CONTAINER
from dstack.agent.gpu_options import Options, of_container
from dstack.agent.gpus import Gpus
from dstack.agent.machine import Task, TaskFailed
from dstack.agent.mounts import for_engine, prepare
from dstack.agent.nodes_files import put_node_files
from dstack.agent.runtime import Host
from dstack.agentapi.wire import (
    CREATE_FAILED,
    CREATING,
    EXECUTOR_ERROR,
    PULLING,
    START_FAILED,
    PullProgress,
    TaskSpec,
)

Facts = Dict[str, Any]  # an engine's answer


class Start:
    """The start of one task's container."""

    def __init__(
        self, client: DockerClient, orders: Orders, state: str, gpus: Gpus, keeping: Keeping, networks: Networks
    ):
        self._docker = client
        self._orders = orders
        self._state = state
        self._gpus = gpus
        self._keeping = keeping
        self._networks = networks
        self._terminal = ""  # the name of the one that the job is to print to
        self._init = True

    async def run(self, task: Task, spec: TaskSpec, host: Host) -> None:
        """Raises TaskFailed, EngineUnreachable. What an earlier try left must have been removed."""
        if not spec.image:
            raise TaskFailed(CREATE_FAILED, "A container needs an `image`")
        network = asyncio.ensure_future(self._create_network(task, spec, host))  # slow, and needed at the start only
        try:
            image = await self._image(task, spec, host)
            if spec.script is not None:  # else there may be no shell in the image
                self._terminal = await self._keeping.open_terminal(self._docker.url)
            task.move(CREATING)
            host.changed(task)
            await self._create(task, spec, image, host)
            await network
            await self._start(task, spec, image, host)
        except EngineError as e:
            message = "The container cannot be created: %s" % e.message
            raise TaskFailed(CREATE_FAILED, message) from None
        finally:
            network.cancel()
            await asyncio.gather(network, return_exceptions=True)

    async def _image(self, task: Task, spec: TaskSpec, host: Host) -> Facts:
        image = await find_image(self._docker, spec.image)
        if image is None:
            if task.memo.get("had_registry_auth") and spec.registry_auth is None:
                message = (
                    "The agent was restarted before the image was pulled; it had the registry's password in memory only"
                )
                raise TaskFailed(EXECUTOR_ERROR, message)
            if task.move(PULLING):
                host.changed(task)

            def tell(progress: PullProgress) -> None:
                task.report.pull = progress
                host.progressed(task)

            await pull_image(self._docker, spec.image, spec.registry_auth, tell)
            image = await find_image(self._docker, spec.image)
        if image is None:
            raise TaskFailed(CREATE_FAILED, "The image %s is not there after its pull" % spec.image)
        return image

    async def _create_network(self, task: Task, spec: TaskSpec, host: Host) -> None:
        if spec.network != "host":
            await self._networks.create(task, host)

    async def _create(self, task: Task, spec: TaskSpec, image: Facts, host: Host) -> None:
        """Create the container with its working directory and the code, ready to start."""
        config = image.get("Config") or {}
        user = spec.user or config.get("User") or ""
        folder = spec.working_dir
        repo_dir = next((archive.path for archive in spec.archives if archive.if_exists), "")
        if folder.startswith("~") or repo_dir.startswith("~"):
            home = spec.home_dir or await self._home(task, spec, user)
            folder = resolve(folder, home, "/") if folder else ""
            repo_dir = resolve(repo_dir, home, "/") if repo_dir.startswith("~") else repo_dir
        name = resource_name(task.id)
        extras = await self._extras(task, spec)
        folder = folder or config.get("WorkingDir") or "/"
        repo_dir = resolve(repo_dir, "", folder) if repo_dir else ""
        body = container_body(spec, self._state, folder, self._init, extras, repo_dir, self._terminal)
        await self._order(task, "/containers/create", {"name": name}, body)
        task.report.working_dir, task.report.user = folder, user
        spool = os.path.join(task.directory, "spool.tar")
        if spec.mpi_hostfile:
            await put_file(self._docker, name, MPI_HOSTFILE, spec.mpi_hostfile, spool)
        if not spec.archives and not user and spec.node_ssh is None:
            return
        account = await find_account(self._docker, name, user)
        if self._terminal:
            os.chown(self._terminal, account.uid, -1)
        if not spec.archives and not spec.working_dir and spec.node_ssh is None:
            return
        if spec.node_ssh is not None:
            await put_node_files(self._docker, name, spec.node_ssh, account, spool)
        if account.uid:
            await own_new_folders(self._docker, name, posixpath.normpath(folder), account, spool)
        await put_archives(self._docker, name, task, spec, folder, account, host)

    async def _extras(self, task: Task, spec: TaskSpec) -> List[Options]:
        """The task's accelerators and mounts, and the folder where ssh-agents of people who are in appear."""
        extras = [Options({"Mounts": for_engine(prepare(spec.mounts, self._state))})] if spec.mounts else []
        if os.geteuid() == 0:  # elsewhere nobody could give a socket to the container's user
            os.makedirs(os.path.join(task.directory, "sockets"), mode=0o755, exist_ok=True)
            extras.append(Options({"Binds": [sockets_bind(task.id, self._state)]}))
        built_in = await self._gpus.facts()
        if built_in:
            engine = await self._docker.json("GET", "/info")
            extras.append(of_container(await self._gpus.of(task.report.gpus), built_in, engine))
        return extras

    async def _home(self, task: Task, spec: TaskSpec, user: str) -> str:
        """The user's home in the image; only a container made from it can tell."""
        if user in ("", "root", "0"):
            return "/root"
        name = resource_name(task.id)
        await self._order(
            task, "/containers/create", {"name": name}, container_body(spec, self._state, "/", self._init)
        )
        account = await find_account(self._docker, name, user)
        await remove_container(self._docker, task)
        return account.home

    async def _start(self, task: Task, spec: TaskSpec, image: Facts, host: Host) -> None:
        path = "/containers/%s/start" % resource_name(task.id)
        while True:
            try:
                await self._order(task, path)
                return
            except EngineError as e:
                if not await self._can_do_without(e.message):
                    raise TaskFailed(START_FAILED, "The container cannot be started: %s" % _plain(e.message)) from None
            host.changed(task)  # an agent that finds the next container running must not look for the terminal
            await remove_container(self._docker, task)
            await self._create(task, spec, image, host)

    async def _order(self, task: Task, path: str, query: Optional[Dict[str, str]] = None, body: Any = None) -> None:
        await self._orders.carry_out(task.id, lambda: self._docker.json("POST", path, query, body))

    async def _can_do_without(self, trouble: str) -> bool:
        """Whether the engine failed for want of something that the next try does not ask for."""
        if self._init and "docker-init" in trouble:
            self._init = False  # an engine installed without its init
        elif self._terminal and TERMINAL_IN_CONTAINER in trouble:
            self._terminal = ""  # one that cannot mount it
            await self._keeping.do_without_terminal()
        else:
            return False
        return True


async def remove_container(docker: DockerClient, task: Task) -> None:
    """End and remove the task's container. Idempotent. Raises EngineError, EngineUnreachable."""
    path = "/containers/" + resource_name(task.id)
    for _ in range(50):
        try:
            await docker.json("DELETE", path, {"force": "true", "v": "true"})
        except EngineError as e:
            if e.status == 404:
                return
            if e.status != 409:
                raise
            await asyncio.sleep(0.1)  # its removal is on the way


def _plain(message: str) -> str:
    """An engine's error without the chain of its parts: what comes after the last `exec:` or `process:`."""
    for marker in ("exec: ", "container process: "):
        if marker in message:
            message = message.rsplit(marker, 1)[1]
    return (message[: -len(": unknown")] if message.endswith(": unknown") else message).strip()
