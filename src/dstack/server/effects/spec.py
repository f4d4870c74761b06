"""From a placed job to the task that the agent runs: the one place where secrets are put in."""

from __future__ import annotations

from collections.abc import Mapping

from dstack.agentapi.wire import CodeArchive, Mount, RegistryAuth, TaskSpec
from dstack.model.instance import Instance
from dstack.model.job import Job
from dstack.server.settings import Settings
from dstack.values.interpolate import interpolate, references

GIB = 1024**3


def secret_names(job: Job) -> set[str]:
    """The secrets that the job refers to, in its env and its registry credentials."""
    texts = [*job.spec.env.values(), job.spec.registry_username or "", job.spec.registry_password or ""]
    return {name.partition(".")[2] for text in texts for name in references(text) if name.startswith("secrets.")}


def task_spec(
    job: Job, instance: Instance, secrets: Mapping[str, str], fleet_env: Mapping[str, str], settings: Settings
) -> TaskSpec:
    """The task of `job` on `instance`. Raises ValueError naming a reference that cannot be resolved."""
    spec = job.spec

    def fill(text: str) -> str:
        return interpolate(text, lambda name: secrets.get(name.partition(".")[2]) if _is_secret(name) else None)

    auth = None
    if spec.registry_username or spec.registry_password:
        auth = RegistryAuth(fill(spec.registry_username or ""), fill(spec.registry_password or ""))
    in_container = _runtime(instance) == "docker"
    return TaskSpec(
        id=job.id,
        name=spec.name,
        runtime=_runtime(instance),
        image=(spec.image or settings.default_image) if in_container else "",
        registry_auth=auth,
        user=spec.user or "",
        privileged=spec.privileged,
        shell=spec.shell,
        script=spec.script,
        entrypoint=list(spec.entrypoint) if spec.entrypoint is not None else None,
        working_dir=spec.working_dir or "",
        home_dir=spec.home_dir or "",
        python=spec.python or "",
        env={**fleet_env, **variables(job, instance), **{k: fill(v) for k, v in spec.env.items()}},
        archives=[CodeArchive(a.hash, a.path) for a in spec.archives],
        cpu_limit=_cpu_limit(job, instance),
        memory_limit_bytes=_memory_limit(job, instance),
        shm_bytes=int((spec.shm_gb or 0) * GIB),
        ports=[p["container_port"] for p in spec.ports],
        log_quota_bytes_per_hour=settings.log_quota_per_hour,
        mpi_hostfile=_hostfile(job, instance),
        gpus=_gpus(job, instance),
        mounts=[Mount(target=m.target, path=m.path, name=m.name, optional=m.optional) for m in spec.mounts],
    )


def variables(job: Job, instance: Instance) -> dict[str, str]:
    """The variables that every job gets (surface of the product, "Variables")."""
    gpus, ip = _gpus(job, instance), _ip(instance)
    return {
        "DSTACK_RUN_NAME": job.run_name,
        "DSTACK_RUN_ID": job.run_id,
        "DSTACK_JOB_ID": job.id,
        "DSTACK_REPO_ID": "none",
        "DSTACK_NODES_IPS": ip,
        "DSTACK_MASTER_NODE_IP": ip,
        "DSTACK_NODE_RANK": str(job.job_num),
        "DSTACK_NODES_NUM": str(job.spec.jobs_per_replica),
        "DSTACK_GPUS_PER_NODE": str(gpus),
        "DSTACK_GPUS_NUM": str(gpus * job.spec.jobs_per_replica),
        # DSTACK_WORKING_DIR, DSTACK_REPO_DIR and DSTACK_MPI_HOSTFILE depend on the host: the agent adds them.
    }


def _gpus(job: Job, instance: Instance) -> int:
    blocks = job.place.blocks if job.place else instance.total_blocks
    return len(instance.offer.resources.gpus) * blocks // instance.total_blocks


def _ip(instance: Instance) -> str:
    return (instance.data.internal_ip if instance.data else None) or "127.0.0.1"


def _hostfile(job: Job, instance: Instance) -> str:
    gpus = _gpus(job, instance)
    return f"{_ip(instance)} slots={gpus}\n" if gpus else f"{_ip(instance)}\n"


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
