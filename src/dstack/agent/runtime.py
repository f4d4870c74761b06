"""What a runtime must be able to do: the one interface behind which containers and processes run."""

from __future__ import annotations

from typing import Dict, Protocol

from dstack.agent.machine import Ending, Task
from dstack.agentapi.wire import TaskMetrics


class Runtime(Protocol):
    """Each method may be called again, with the task as stored on disk, after the agent was killed in its middle."""

    name: str

    async def launch(self, task: Task, host: Host) -> None:
        """Bring the task to life, from nothing or from whatever an earlier try left. Raises TaskFailed.

        Sets `report.started_at` and the other facts of the report; may be cancelled, and is then followed by `abandon`.
        """
        ...

    async def wait(self, task: Task, host: Host) -> Ending:
        """Follow a launched task until its end; when it returns, the log is complete. Raises TaskFailed."""
        ...

    async def stop(self, task: Task, grace_s: float) -> None:
        """Send the stop signal to the job's processes; the caller kills later. Never raises for a job that is gone."""
        ...

    async def kill(self, task: Task) -> None:
        """SIGKILL everything in the task."""
        ...

    async def abandon(self, task: Task) -> None:
        """Undo a launch that was cut off: afterwards nothing of the task runs."""
        ...

    async def metrics(self, task: Task) -> TaskMetrics:
        """Raises TaskFailed when nothing can be measured (not started, or gone)."""
        ...

    async def remove(self, task: Task) -> None:
        """Remove what lies outside of the task's folder. Idempotent."""
        ...


class Host(Protocol):
    """What a runtime may ask of the agent."""

    def changed(self, task: Task) -> None:
        """Store the task and tell those who wait for its changes."""
        ...

    def progressed(self, task: Task) -> None:
        """Tell those who wait, but store nothing: progress is not worth a write."""
        ...

    def blob(self, sha256: str) -> str:
        """The path of a blob. Raises TaskFailed when it was never sent."""
        ...

    def running(self) -> list[Task]:
        """Tasks that have not ended."""
        ...


def place_variables(working_dir: str, repo_dir: str = "") -> Dict[str, str]:
    """Where the job is, for the job itself; without a repo its folder is the working directory."""
    return {"DSTACK_WORKING_DIR": working_dir, "DSTACK_REPO_DIR": repo_dir or working_dir}
