"""The end of a machine that nothing needed, by the rows alone: whoever carries it out looks at the machine first."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.backends.local.backend import LocalBackend
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.instance import InstanceTerminationReason as Reason
from dstack.model.job import JobStatus
from dstack.model.observation import Gone
from dstack.server.effects.acts import Again, Done
from dstack.server.effects.unknown_tasks import LOOKED_FOR_S
from dstack.server.services.rows import change_rows
from dstack.server.store.acts import ClaimedAct
from support import builders
from support.live_host import Host

STRANGER = builders.some_id("job", "stranger")


class Deaf(LocalBackend):
    """Nobody reaches its agents."""

    async def agent_connect(self, token: str, data: object):
        raise ConnectionRefusedError("nobody listens")


async def ends(host: Host, reason: Reason, *, begun_s: float = 0.0, linked: bool = True) -> Done | Again:
    """A try to terminate it, of an act that was recorded so long ago."""
    fields = {"status": InstanceStatus.TERMINATING, "terminate_requested": reason, "linked": linked}
    async with host.database.write() as connection:
        await change_rows(connection, Instance, [host.instance.id], **fields)
    began = host.clock.now() - begun_s
    return await host.machines.terminate(
        ClaimedAct(host.instance.ref, "terminate_instance", "t", {}, 0, began, "me", 1)
    )


def folder(host: Host) -> Path:
    return host.folder / "local" / host.instance.token


@pytest.mark.parametrize("reason", [Reason.IDLE_TIMEOUT, Reason.MAX_INSTANCES_LIMIT])
async def test_it_is_kept_until_what_no_job_answers_for_has_ended(host: Host, reason: Reason):
    go = host.folder / "go"
    await host.start(STRANGER, f"until [ -e {go} ]; do sleep 0.05; done; exit 7")
    outcome = await ends(host, reason)
    assert isinstance(outcome, Again)
    assert outcome.error == "it runs a task that no job of this server answers for"
    go.touch()
    await host.until(lambda: host.ended(STRANGER))
    assert (await host.tasks())[STRANGER].exit_code == 7
    assert await ends(host, reason) == Done(((host.instance.ref, Gone()),))
    assert not folder(host).exists()


async def test_it_goes_with_all_that_runs_there_when_a_person_asked_for_it(host: Host):
    await host.start(STRANGER, "sleep 4242")
    assert isinstance(await ends(host, Reason.TERMINATED_BY_USER), Done)
    assert not folder(host).exists()


async def test_what_is_left_of_a_job_that_is_over_does_not_keep_it(host: Host):
    over = await host.job("over", status=JobStatus.FAILED)
    await host.start(over.id, "sleep 4242")
    assert isinstance(await ends(host, Reason.IDLE_TIMEOUT), Done)


@pytest.mark.parametrize(
    ("begun_s", "linked", "kept"), [(0.0, True, True), (LOOKED_FOR_S + 1, True, False), (0.0, False, False)]
)
async def test_one_that_answered_lately_and_does_not_now_is_asked_for_a_while(
    host: Host, begun_s: float, linked: bool, kept: bool
):
    host.own["local"] = Deaf(host.folder / "local", lambda: host.folder, "python3", "process")
    outcome = await ends(host, Reason.IDLE_TIMEOUT, begun_s=begun_s, linked=linked)
    assert isinstance(outcome, Again) == kept
    assert folder(host).exists() == kept
