"""Acts on jobs: hand a task to its host's agent, stop it, store its log to the end and remove it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import select

from dstack.agentapi.client import AgentClient, AgentRefused, AgentUnreachable
from dstack.agentapi.wire import StopRequest, TaskReport, TaskSpec
from dstack.errors import DstackError
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.model.observation import TaskAccepted, TaskRefused, TaskRemoved, TaskReported
from dstack.server.auth.node_keys import NodeKeys
from dstack.server.effects.acts import Again, Done
from dstack.server.effects.entrants import keys_of
from dstack.server.effects.links import HostLinks
from dstack.server.effects.reports import reported
from dstack.server.effects.repos import RepoTrees, Tree
from dstack.server.effects.spec import Node, secret_names, task_spec
from dstack.server.journal import note
from dstack.server.settings import Settings
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.blobs import BlobStore
from dstack.server.store.rows import gang, placed
from dstack.server.store.store import Store
from dstack.server.store.tables import project

# Answers the values of those of the named secrets of a project that exist, by name.
SecretsOf = Callable[[str, Sequence[str]], Awaitable[Mapping[str, str]]]
UPLOAD_DEADLINE_S = 600.0
DRAIN_DEADLINE_S = 60.0
WRONG_HASH = "wrong_hash"  # as agents say it


class DamagedArchive(Exception):
    """The bytes of an archive on the server are not those that were sent."""

    def __init__(self, sha256: str):
        super().__init__(f"The code archive {sha256[:12]} is damaged on the server; submitting again sends it anew")


class TaskEffects:
    def __init__(
        self,
        store: Store,
        links: HostLinks,
        blobs: BlobStore,
        secrets_of: SecretsOf,
        settings: Settings,
        repos: RepoTrees | None = None,
        *,
        node_keys: NodeKeys,
    ):
        self._store = store
        self._links = links
        self._blobs = blobs
        self._secrets_of = secrets_of
        self._node_keys = node_keys
        self._settings = settings
        self._repos = repos

    async def start(self, act: ClaimedAct) -> Done | Again:
        """Hand the task over; a resent one answers the present state, so this may run any number of times."""
        job, instance, fleet = await placed(self._store.database, act.ref.id)
        note(run=job.run_id, instance=job.instance_id)
        if job.terminal or instance is None or fleet is None or instance.going:
            return Done()
        nodes = [Node(*one) for one in await gang(self._store.database, job)] if job.is_gang else ()
        if len(nodes) not in (0, job.spec.jobs_per_replica):
            return Again("another node of the run has lost its machine")
        try:
            names = sorted(secret_names(job))
            secrets = await self._secrets_of(job.project_id, names) if names else {}
            env, keys = _plain(fleet.spec.configuration.env), await keys_of(self._store.database, job)
            of_nodes = await self._node_keys.of(job) if job.is_gang else None
            spec = task_spec(job, instance, secrets, env, self._settings, nodes, keys, of_nodes)
            spec.env = {**await self._way_back(job, instance), **spec.env}
        except (DstackError, ValueError) as e:
            return _refused(act, f"Secrets interpolation error: {e}")
        try:
            tree = await self._repos.of(job) if self._repos else None
        except DstackError as e:
            return _refused(act, f"Failed to set up the repo ({e.message})")
        absent = next((a for a in spec.archives if not self._blobs.has(a.sha256)), None)
        if absent is not None:
            return _refused(act, f"The code archive {absent.sha256[:12]} is not on the server any more")
        try:
            report = await self._hand_over(self._links.client(instance.id), spec, tree)
        except DamagedArchive as e:
            return _refused(act, str(e))
        except AgentUnreachable as e:
            return Again(f"the host does not answer: {e}")
        except AgentRefused as e:
            if e.status >= 500:
                return Again(f"the agent cannot take the task now: {e.message}")
            return _refused(act, e.message)
        self._links.follow(instance.id, report)
        return Done(((act.ref, TaskAccepted()), *((act.ref, r) for r in _news(report))))

    async def _way_back(self, job: Job, instance: Instance) -> dict[str, str]:
        """By what the job finds this server and its project, when it asked for it. A token is for people to give."""
        if not job.spec.dstack:
            return {}
        async with self._store.database.read() as connection:
            name = (await connection.execute(select(project.c.name).where(project.c.id == job.project_id))).scalar()
        here = instance.offer.backend == "local" and instance.offer.runtime == "process"
        nearby = self._settings.url if here else None
        url = self._settings.jobs_url or nearby
        return {"DSTACK_SERVER_URL": url, "DSTACK_PROJECT": str(name)} if url else {}

    async def _hand_over(self, client: AgentClient, spec: TaskSpec, tree: Tree | None) -> TaskReport:
        sent = [(archive.sha256, self._blobs.path(archive.sha256)) for archive in spec.archives]
        if tree is not None:
            # First, so that files may go into it.
            spec = dataclasses.replace(spec, archives=[tree.archive, *spec.archives])
            sent.append((tree.archive.sha256, tree.file))
        for sha256, path in sent:
            if not await client.has_blob(sha256):
                await self._send(client, sha256, path)
        return await client.put_task(spec)

    async def _send(self, client: AgentClient, sha256: str, path: Path) -> None:
        """Raises DamagedArchive."""
        try:
            await client.put_blob(sha256, path, deadline_s=UPLOAD_DEADLINE_S)
        except AgentRefused as e:
            if e.code != WRONG_HASH:
                raise
            self._blobs.set_aside(sha256)  # the next submission sends it anew
            raise DamagedArchive(sha256) from e

    async def stop(self, act: ClaimedAct) -> Done | Again:
        """Ask the task to end; its end is reported by the host's link. An unknown task is forbidden to start later."""
        job, instance = await self._reachable(act.ref.id)
        if instance is None:
            return Done()
        request = StopRequest(
            grace_s=float(act.payload.get("grace_s", 0.0)),
            reason=str(act.payload.get("reason") or "stopped"),
            message=str(act.payload.get("message") or ""),
        )
        try:
            report = await self._links.client(instance.id).stop(job.id, request)
        except AgentUnreachable as e:
            return Again(f"the host does not answer: {e}")
        except AgentRefused as e:
            return Again(e.message)
        self._links.follow(instance.id, report)
        return Done(tuple((act.ref, r) for r in _news(report)))

    async def warn(self, act: ClaimedAct) -> Done | Again:
        """Say in the job that it is about to end, unless that is over, or not true any more."""
        job, instance = await self._reachable(act.ref.id)
        entered = job.session is not None and job.session.inactive_since is None
        if instance is None or entered or job.status is not JobStatus.RUNNING:
            return Done()
        try:
            await self._links.client(instance.id).notice(job.id, str(act.payload.get("message") or ""))
        except AgentUnreachable as e:
            return Again(f"the host does not answer: {e}")
        except AgentRefused:
            pass  # an agent of before, or the job has just ended: the event has the words
        return Done()

    async def remove(self, act: ClaimedAct) -> Done | Again:
        """Store the log to its last byte, then let the host forget the task.

        With `force` the job is over for us, though nobody knows whether its end was ever ordered: it is, first.
        """
        job, instance = await self._reachable(act.ref.id)
        if instance is None:
            return Done(((act.ref, TaskRemoved()),))
        try:
            if act.payload.get("force"):
                await self._links.client(instance.id).stop(job.id, StopRequest(grace_s=0.0))
            size = await self._links.drain(instance.id, job, DRAIN_DEADLINE_S)
            await self._links.client(instance.id).delete(job.id, size)
        except AgentUnreachable as e:
            return Again(f"the host does not answer: {e}")
        except TimeoutError:
            return Again("the log is still being stored", after_s=1.0)
        except OSError as e:
            return Again(f"the log cannot be stored: {e.strerror}")
        except AgentRefused as e:
            if e.status != 404:
                return Again(e.message)
        self._links.forget(instance.id, job.id)
        return Done(((act.ref, TaskRemoved()),))

    async def _reachable(self, job_id: str) -> tuple[Job, Instance | None]:
        """The job and its instance; None when it has none or the machine is gone."""
        job, instance, _ = await placed(self._store.database, job_id)
        note(run=job.run_id, instance=job.instance_id)
        gone = instance is None or instance.status is InstanceStatus.TERMINATED
        return job, None if gone else instance


def _refused(act: ClaimedAct, message: str) -> Done:
    """The task cannot start. An earlier try, of which no answer came back, may have started it all the same."""
    refused = (act.ref, TaskRefused(message=message))
    return Done((refused,) if act.fence <= 1 else ((act.ref, TaskAccepted()), refused))


def _plain(env: Mapping[str, object]) -> dict[str, str]:
    """The variables that have a value; the client filled in those that had none."""
    return {name: value for name, value in env.items() if isinstance(value, str)}


def _news(report: TaskReport) -> list[TaskReported]:
    seen = reported(report)
    return [seen] if seen is not None else []
