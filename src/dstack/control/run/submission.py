"""From what a person wrote to the jobs that are to run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from dstack.control.policy import idle
from dstack.control.run.preludes import DOCKERD
from dstack.control.scheduling.needs import spot_of
from dstack.ids import derived_id
from dstack.model.configurations.base import RunConfiguration
from dstack.model.configurations.dev_environment import DevEnvironmentConfiguration
from dstack.model.configurations.parts import EnvSentinel, InstanceMountPoint, PortMapping
from dstack.model.configurations.task import TaskConfiguration
from dstack.model.job import Job, JobArchive, JobIde, JobMount, JobRepo, JobSpec, Retry, Utilization
from dstack.model.profile import (
    DEFAULT_STOP_S,
    CreationPolicy,
    FleetInstanceSelector,
    InstanceHostnameSelector,
    InstanceSelector,
    Profile,
    RetryEvent,
    StartupOrder,
    StopCriteria,
    merge,
)
from dstack.model.requirements import Requirements
from dstack.model.resources import ResourcesSpec
from dstack.model.run import Run, RunSpec, RunStatus
from dstack.values.cron import next_instant
from dstack.values.ide import ide_link, ide_name
from dstack.values.interpolate import interpolate


def requirements(
    configuration: TaskConfiguration | DevEnvironmentConfiguration,
    profile: Profile | None,
    *,
    resources: ResourcesSpec | None = None,
    multinode: bool | None = None,
) -> Requirements:
    """What one job of the configuration asks of a machine. A parameter of the configuration beats the profile's."""
    p = merge(configuration, profile)
    return Requirements(
        resources=resources or configuration.resources,
        max_price=p.max_price,
        spot=spot_of(p.spot_policy),
        reservation=p.reservation,
        multinode=configuration.node_count > 1 if multinode is None else multinode,
        backends=p.backends,
        regions=p.regions,
        zones=p.availability_zones,
        instance_types=p.instance_types,
        fleets=None if p.fleets is None else tuple(f.name for f in p.fleets),
        instances=None if p.instances is None else tuple(_selected(s) for s in p.instances),
        reuse_only=p.creation_policy is CreationPolicy.REUSE,
        needs_containers=_needs_containers(configuration),
        privileged=configuration.privileged or bool(configuration.docker),
        host_folders=any(not mount.optional for mount in _mounts(configuration, 0)),
    )


def job_spec(spec: RunSpec, run_name: str, *, job_num: int = 0, replica_num: int = 0) -> JobSpec:
    """The job of one node, complete but for what only the host or the secrets can say."""
    c = spec.configuration
    p = merge(c, spec.profile)
    resources, commands, ports = _of_node(c, run_name, job_num)
    shell = _shell(c)
    entrypoint = _entrypoint(c)
    auth = c.registry_auth
    nodes = c.node_count
    return JobSpec(
        name=f"{run_name}-{job_num}-{replica_num}",
        job_num=job_num,
        replica_num=replica_num,
        jobs_per_replica=nodes,
        groups=tuple(group.nodes for group in c.groups or ()) if isinstance(c, TaskConfiguration) else (),
        startup_order=p.startup_order or StartupOrder.ANY,
        stop_criteria=p.stop_criteria or StopCriteria.ALL_DONE,
        requirements=requirements(c, spec.profile, resources=resources, multinode=nodes > 1),
        image=c.image,
        user=c.user,
        docker=bool(c.docker),
        nvcc=bool(c.nvcc),
        dstack=c.dstack,
        privileged=c.privileged or bool(c.docker),
        shell=shell,
        script=None if entrypoint is not None else script((*([DOCKERD] if c.docker else ()), *c.setup, *commands)),
        ide=_ide(c),
        entrypoint=entrypoint,
        commands=commands,
        working_dir=c.working_dir or spec.working_dir,
        home_dir=c.chosen_home_dir,
        python=c.python,
        registry_username=auth.username if auth else None,
        registry_password=auth.password if auth else None,
        env=_env(c.env),
        archives=tuple(JobArchive(hash=a.hash, path=a.path) for a in spec.file_archives),
        repo=repository(spec),
        mounts=_mounts(c, job_num),
        ports=tuple({"container_port": m.container_port, "local_port": m.local_port} for m in ports),
        shm_gb=resources.shm_size,
        cpu_limit=resources.cpu.count.max,
        memory_limit_gb=resources.memory.max,
        max_duration_s=_seconds(p.max_duration),
        stop_duration_s=_stop_seconds(p.stop_duration),
        idle_duration_s=idle.of_run(p.idle_duration),
        retry=_retry(p),
        inactivity_duration_s=c.inactivity_duration if isinstance(c, DevEnvironmentConfiguration) else None,
        utilization=_utilization(p),
    )


def submitted(run: Run, now: float) -> tuple[Run, tuple[Job, ...]]:
    """The first state of a run and its jobs; one with a schedule waits for its time, without jobs."""
    at = next_trigger(run.spec, now)
    if at is None:
        return run, new_jobs(run, 0, now)
    return run.replace(status=RunStatus.PENDING, next_triggered_at=at), ()


def next_trigger(spec: RunSpec, now: float) -> float | None:
    """When the schedule of the run starts it next; None without a schedule."""
    schedule = merge(spec.configuration, spec.profile).schedule
    return None if schedule is None else next_instant(schedule.cron, now)


def new_jobs(run: Run, attempt: int, now: float) -> tuple[Job, ...]:
    """The submissions of all jobs of a run for one attempt. The same attempt names the same rows."""
    return tuple(_job(run, job_num, attempt, now) for job_num in range(run.spec.configuration.node_count))


def repository(spec: RunSpec) -> JobRepo | None:
    """The repository that the run brings along: what its client found out about it, or the address as written."""
    written = next(iter(spec.configuration.repos), None)
    data = spec.repo_data or {}
    remote = data.get("repo_type") == "remote" and spec.repo_id is not None
    if not remote and (written is None or written.url is None):
        return None
    path = spec.repo_dir or (written.path if written else ".")
    branch = spec.configuration.single_branch
    if not remote:
        assert written is not None
        found = {"id": spec.repo_id or "none", "url": written.url, "branch": written.branch, "hash": written.hash}
    else:
        found = {"id": spec.repo_id, "url": data.get("x_repo_url") or (written.url if written else None)}
        found |= {"branch": data.get("repo_branch"), "hash": data.get("repo_hash"), "code_hash": spec.repo_code_hash}
        found |= {"user_name": data.get("repo_config_name"), "user_email": data.get("repo_config_email")}
    return JobRepo(
        path=path,
        if_exists=written.if_exists if written else "error",
        single_branch=isinstance(spec.configuration, TaskConfiguration) if branch is None else branch,
        **{name: value for name, value in found.items() if isinstance(value, str) and value},
    )


def script(commands: tuple[str, ...]) -> str | None:
    """All commands in one shell: the first that fails ends it; one that ends in `&` goes on beside the others."""
    if not commands:
        return None
    return commands[0] if len(commands) == 1 else " && ".join(map(_one, commands))


def _one(command: str) -> str:
    """The command as a link of a chain. The last line of one with several may be the end of a here-document."""
    text = command.rstrip("\n")
    if "\n" in text:
        return f"{{ {text}\n}}"
    goes_on = text.rstrip().endswith("&") and not text.rstrip().endswith("&&")
    return f"{{ {text} }}" if goes_on else text


def _job(run: Run, job_num: int, attempt: int, now: float) -> Job:
    return Job(
        id=derived_id(run.id, "job", f"0/{job_num}", attempt),
        project_id=run.project_id,
        created_at=now,
        run_id=run.id,
        run_name=run.name,
        user_id=run.user_id,
        replica_num=0,
        job_num=job_num,
        submission_num=attempt,
        spec=job_spec(run.spec, run.name, job_num=job_num),
        priority=run.priority,
        submitted_at=now,
        last_processed_at=now,
    )


def _of_node(
    c: TaskConfiguration | DevEnvironmentConfiguration, run_name: str, job_num: int
) -> tuple[ResourcesSpec, tuple[str, ...], tuple[PortMapping, ...]]:
    if isinstance(c, DevEnvironmentConfiguration):
        return c.resources, (*c.init, *_stays(c, run_name)), c.ports
    rank = job_num
    for group in c.groups or ():
        if rank < group.nodes:
            return group.resources, group.commands, group.ports
        rank -= group.nodes
    return c.resources, c.commands, c.ports


def _stays(c: DevEnvironmentConfiguration, run_name: str) -> tuple[str, ...]:
    """What a dev environment does once `init` is through: it tells how to get in, and waits."""
    said = ["", f"To connect via SSH, use: ssh {run_name}", ""]
    if c.ide is not None:
        link = ide_link(c.ide, run_name, "$PWD")
        said = ["", f"To open in {ide_name(c.ide)}, use this link:", "", f"  {link}", *said]
    return ("printf '%s\\n' " + " ".join(f'"{line}"' for line in said), "exec tail -f /dev/null")


def _ide(c: RunConfiguration) -> JobIde | None:
    if not isinstance(c, DevEnvironmentConfiguration) or c.ide is None or c.server is None:
        return None
    return JobIde(name=c.ide, **c.server._asdict())


def _shell(c: RunConfiguration) -> str:
    if c.shell is None:
        return "/bin/sh" if c.image or c.docker else "/bin/bash"
    return {"sh": "/bin/sh", "bash": "/bin/bash"}.get(c.shell, c.shell)


def _entrypoint(c: RunConfiguration) -> tuple[str, ...] | None:
    """As the engine understands it: split like a shell would; the commands become its arguments."""
    return None if c.entrypoint is None else tuple(shlex.split(c.entrypoint))


def _needs_containers(c: RunConfiguration) -> tuple[str, ...]:
    written = {
        "image": c.image,
        "docker": c.docker,
        "privileged": c.privileged,
        "user": c.user,
        "entrypoint": c.entrypoint,
    }
    return tuple(name for name, value in written.items() if value)


def _mounts(c: RunConfiguration, job_num: int) -> tuple[JobMount, ...]:
    """Folders of the host. A name that is no volume of the project is a folder that each host keeps under it."""

    def resolved(name: str) -> str:
        return interpolate(name, {"dstack.node_rank": str(job_num), "dstack.job_num": str(job_num)}.get)

    found = []
    for mount in c.volumes:
        if isinstance(mount, InstanceMountPoint):
            found.append(JobMount(target=mount.path, path=mount.instance_path, optional=mount.optional))
        elif isinstance(mount.name, str):
            found.append(JobMount(target=mount.path, name=resolved(mount.name)))
    return tuple(found)


def _env(env: Mapping[str, str | EnvSentinel]) -> dict[str, str]:
    """A value that the client left open stays unset: the routes refuse such a run before it gets here."""
    return {name: value for name, value in env.items() if isinstance(value, str)}


def _selected(selector: InstanceSelector) -> str:
    if isinstance(selector, FleetInstanceSelector):
        return f"{selector.fleet.name}-{selector.instance}"
    return selector.hostname if isinstance(selector, InstanceHostnameSelector) else selector.name


def _seconds(written: int | str | None) -> float | None:
    return None if written is None or written == "off" else float(written)


def _stop_seconds(written: int | str | None) -> float:
    """`off` gives a job all the time that it wants: a year."""
    if written is None:
        return float(DEFAULT_STOP_S)
    return 365 * 86400.0 if written == "off" else float(written)


def _utilization(p: Profile) -> Utilization | None:
    policy = p.utilization_policy
    if policy is None:
        return None
    return Utilization(least_percent=policy.min_gpu_utilization, window_s=float(policy.time_window))


def _retry(p: Profile) -> Retry | None:
    rule = p.retry_rule
    if rule is None:
        return None
    return Retry(on_events=rule.on_events or tuple(RetryEvent), duration_s=float(rule.duration or 0))
