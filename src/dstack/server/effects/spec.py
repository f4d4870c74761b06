"""From a placed job to the task that the agent runs: the one place where secrets are put in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dstack.agentapi.wire import CodeArchive, Mount, NodeSsh, RegistryAuth, TaskSpec
from dstack.control.run import editors, preludes
from dstack.model.instance import Instance
from dstack.model.job import Job, JobSpec
from dstack.server.auth.node_keys import ReplicaKeys
from dstack.server.settings import Settings
from dstack.values.ide import ServerVersion
from dstack.values.interpolate import ESCAPED_OPENING, OPENING, interpolate, references

GIB = 1024**3
_NODE = re.compile(r"(\$?)\$\{\{\s*groups\[(\d+)\]\.nodes\[(\d+)\]\.IP_ADDRESS\s*\}\}")


class Node(NamedTuple):
    """One of several that start together, and its machine."""

    job: Job
    instance: Instance


def secret_names(job: Job) -> set[str]:
    """The secrets that the job refers to, in its env and its registry credentials."""
    texts = [*job.spec.env.values(), job.spec.registry_username or "", job.spec.registry_password or ""]
    return {name.partition(".")[2] for text in texts for name in references(text) if name.startswith("secrets.")}


def task_spec(
    job: Job,
    instance: Instance,
    secrets: Mapping[str, str],
    fleet_env: Mapping[str, str],
    settings: Settings,
    nodes: Sequence[Node] = (),
    keys: Sequence[str] = (),
    node_keys: ReplicaKeys | None = None,
) -> TaskSpec:
    """The task of `job` on `instance`; `nodes` are all of its gang with itself, in their order, () of a single one.

    `keys` are the public keys of those who may enter it, `node_keys` those of its gang.

    Raises ValueError naming a reference that cannot be resolved.
    """
    spec = job.spec
    nodes = nodes or [Node(job, instance)]

    def fill(text: str) -> str:
        return interpolate(text, lambda name: secrets.get(name.partition(".")[2]) if _is_secret(name) else None)

    in_container = _runtime(instance) == "docker"
    return TaskSpec(
        id=job.id,
        name=spec.name,
        runtime=_runtime(instance),
        image=settings.images.of(spec) if in_container else "",
        registry_auth=_registry_auth(spec, fill),
        user=spec.user or "",
        privileged=spec.privileged,
        shell=spec.shell,
        script=_with_ide(
            spec, _with_python(spec, _with_addresses(spec.script, spec.groups, nodes), in_container), settings
        ),
        docker=spec.docker,
        entrypoint=list(spec.entrypoint) if spec.entrypoint is not None else None,
        working_dir=spec.working_dir or "",
        home_dir=spec.home_dir or "",
        python=spec.python or "",
        env={**fleet_env, **variables(job, nodes), **_of_image(spec, in_container), **_written(spec, fill)},
        archives=[CodeArchive(a.hash, a.path) for a in spec.archives],
        cpu_limit=_cpu_limit(job, instance),
        memory_limit_bytes=_memory_limit(job, instance),
        shm_bytes=int((spec.shm_gb or 0) * GIB),
        ports=[p["container_port"] for p in spec.ports],
        log_quota_bytes_per_hour=settings.log_quota_per_hour,
        network="host" if in_container and job.is_gang else "bridge",
        gpus=_leased(job, instance),
        authorized_keys=list(keys),
        node_ssh=_node_ssh(instance, nodes, node_keys) if in_container else None,
        mpi_hostfile="".join(_hostfile(node) for node in nodes),
        mounts=[Mount(target=m.target, path=m.path, name=m.name, optional=m.optional) for m in spec.mounts],
    )


def variables(job: Job, nodes: Sequence[Node]) -> dict[str, str]:
    """The variables that every job gets (surface of the product, "Variables")."""
    addresses = [_ip(node.instance) for node in nodes]
    own = next(node for node in nodes if node.job.id == job.id)
    return {
        "DSTACK_RUN_NAME": job.run_name,
        "DSTACK_RUN_ID": job.run_id,
        "DSTACK_JOB_ID": job.id,
        "DSTACK_REPO_ID": job.spec.repo.id if job.spec.repo else "none",
        "DSTACK_NODES_IPS": "\n".join(addresses),
        "DSTACK_MASTER_NODE_IP": addresses[0],
        "DSTACK_NODE_RANK": str(job.job_num),
        "DSTACK_NODES_NUM": str(job.spec.jobs_per_replica),
        "DSTACK_GPUS_PER_NODE": str(_gpus(*own)),
        "DSTACK_GPUS_NUM": str(sum(_gpus(*node) for node in nodes)),
        # DSTACK_WORKING_DIR, DSTACK_REPO_DIR and DSTACK_MPI_HOSTFILE depend on the host: the agent adds them.
    }


def _written(spec: JobSpec, fill: Callable[[str], str]) -> dict[str, str]:
    """The variables of the configuration itself."""
    return {name: fill(value) for name, value in spec.env.items()}


def _registry_auth(spec: JobSpec, fill: Callable[[str], str]) -> RegistryAuth | None:
    if not spec.registry_username and not spec.registry_password:
        return None
    return RegistryAuth(fill(spec.registry_username or ""), fill(spec.registry_password or ""))


def _of_image(spec: JobSpec, in_container: bool) -> dict[str, str]:
    """Where the virtual environment of the server's own image lies."""
    own = in_container and not spec.image and not spec.docker
    return {"DSTACK_VENV_DIR": preludes.VENV} if own else {}


def _gpus(job: Job, instance: Instance) -> int:
    blocks = job.place.blocks if job.place else instance.total_blocks
    return len(instance.offer.resources.gpus) * blocks // instance.total_blocks


def _leased(job: Job, instance: Instance) -> int:
    """How many accelerators the agent gives it; -1 is all of them, whatever their number is."""
    whole = job.place is None or job.place.blocks >= instance.total_blocks
    return -1 if whole and instance.offer.resources.gpus else _gpus(job, instance)


def _ip(instance: Instance) -> str:
    data = instance.data
    return (data and (data.internal_ip or _address(data.hostname))) or "127.0.0.1"


def _address(hostname: str | None) -> str | None:
    """An address that other machines reach; `localhost` is none for them, but on one machine it is all there is."""
    return None if hostname in (None, "localhost") else hostname


def _hostfile(node: Node) -> str:
    gpus = _gpus(*node)
    return f"{_ip(node.instance)} slots={gpus}\n" if gpus else f"{_ip(node.instance)}\n"


def _node_ssh(instance: Instance, nodes: Sequence[Node], keys: ReplicaKeys | None) -> NodeSsh | None:
    """None where nodes share an address: behind the same port there is one of them only."""
    addresses = [_ip(node.instance) for node in nodes]
    if keys is None or len(set(addresses)) < len(addresses):
        return None
    return NodeSsh(
        private_key=keys.job.private,
        public_key=keys.job.public,
        host_key=keys.host.private,
        host_public=keys.host.public,
        address=_ip(instance),
        nodes=addresses,
    )


def _with_python(spec: JobSpec, script: str | None, in_container: bool) -> str | None:
    """With the Python that was asked for; under the process runtime the agent sees to that."""
    if script is None or not in_container or spec.image or spec.python is None:
        return script
    return f"{preludes.python(spec.python)}\n{script}"


def _with_ide(spec: JobSpec, script: str | None, settings: Settings) -> str | None:
    """With what puts the server of the IDE in, before all that may take long."""
    if script is None or spec.ide is None:
        return script
    version = ServerVersion(spec.ide.number, spec.ide.commit)
    return f"{editors.put_in(spec.ide.name, version, settings.ide_mirror)}\n{script}"


def _with_addresses(script: str | None, groups: Sequence[int], nodes: Sequence[Node]) -> str | None:
    """The script as the job has it: with the addresses of the nodes that it names by group and place in it.

    It is the last pass over the commands: what `$${{` escaped in any of them stands there as `${{` now.
    """
    if script is None:
        return None

    def fill(match: re.Match[str]) -> str:
        if match[1] or not groups:
            return match[0]
        return _ip(nodes[sum(groups[: int(match[2])]) + int(match[3])].instance)

    return _NODE.sub(fill, script).replace(ESCAPED_OPENING, OPENING)


def _is_secret(name: str) -> bool:
    return name.startswith("secrets.")


def _runtime(instance: Instance) -> str:
    return instance.host.runtime if instance.host else instance.offer.runtime


def _share(job: Job, instance: Instance) -> float | None:
    """The part of the instance that the job has, when it shares it."""
    if job.place is None or job.place.blocks >= instance.total_blocks:
        return None
    return job.place.blocks / instance.total_blocks


def _cpu_limit(job: Job, instance: Instance) -> float:
    share = _share(job, instance)
    limits = [job.spec.cpu_limit, share and share * instance.offer.resources.cpus]
    return min((x for x in limits if x), default=0.0)


def _memory_limit(job: Job, instance: Instance) -> int:
    share = _share(job, instance)
    asked = job.spec.memory_limit_gb
    limits = [asked and asked * GIB, share and share * instance.offer.resources.memory_mib * 1024**2]
    return int(min((x for x in limits if x), default=0))
