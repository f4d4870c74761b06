"""Stop, kill, tombstones, and when a task may be forgotten."""

from __future__ import annotations

import os
import random
import time
import uuid

import pytest

from dstack.agent.processes import table
from dstack.agentapi.client import AgentRefused
from dstack.agentapi.wire import FAILED, RUNNING, STOPPING, StopRequest
from support.live_agent import arguments


async def test_a_stop_sends_the_signal_and_lets_the_job_tidy_up(agent):
    spec = agent.spec("trap 'echo tidied; exit 3' INT; echo up; while true; do sleep 0.05; done")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    answer = await agent.client.stop(spec.id, StopRequest(grace_s=30, reason="stopped", message="by ann"))
    assert answer.state == STOPPING
    report, log = await agent.finish(spec.id)
    assert log == b"up\ntidied\n"
    assert (report.state, report.reason, report.message, report.exit_code) == (FAILED, "stopped", "by ann", 3)


async def test_a_stop_reaches_the_command_that_the_shell_waits_for(agent):
    spec = agent.spec("echo up; sleep 600; echo never")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    started = time.monotonic()
    await agent.client.stop(spec.id, StopRequest(grace_s=300))
    await agent.finish(spec.id)
    assert time.monotonic() - started < 60


async def test_a_job_that_ignores_the_signal_is_killed_after_its_grace(agent):
    spec = agent.spec("trap '' INT TERM; echo up; while true; do sleep 0.05; done")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    started = time.monotonic()
    await agent.client.stop(spec.id, StopRequest(grace_s=0.5))
    report, _ = await agent.finish(spec.id)
    assert (report.state, report.exit_code) == (FAILED, 137)
    assert time.monotonic() - started >= 0.5


async def test_no_grace_kills_at_once(agent):
    spec = agent.spec("trap 'echo tidied; exit 3' INT; echo up; while true; do sleep 0.05; done")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    await agent.client.stop(spec.id, StopRequest(grace_s=0))
    report, log = await agent.finish(spec.id)
    assert (report.exit_code, log) == (137, b"up\n")


async def test_a_later_stop_may_shorten_the_grace(agent):
    spec = agent.spec("trap '' INT; echo up; while true; do sleep 0.05; done")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    await agent.client.stop(spec.id, StopRequest(grace_s=600))
    await agent.client.stop(spec.id, StopRequest(grace_s=0))
    assert (await agent.finish(spec.id))[0].state == FAILED


async def test_a_stop_right_after_the_start_is_never_lost(agent):
    for _ in range(5):
        spec = agent.spec("sleep 600")
        await agent.client.put_task(spec)
        await agent.client.stop(spec.id, StopRequest(grace_s=0))
        report, _ = await agent.finish(spec.id)
        assert (report.state, report.reason) == (FAILED, "stopped")


async def test_a_stop_of_an_unknown_task_keeps_a_late_start_from_happening(agent):
    spec = agent.spec("echo never")
    answer = await agent.client.stop(spec.id, StopRequest(reason="stopped", message="too late"))
    assert (answer.state, answer.reason) == (FAILED, "stopped")
    agent.kill()
    await agent.start()
    assert (await agent.client.put_task(spec)).message == "too late"
    assert (await agent.finish(spec.id))[1] == b""
    await agent.client.delete(spec.id, 0)


async def test_a_stop_of_an_ended_task_changes_nothing(agent):
    report, _ = await agent.run("exit 4")
    task_id = (await agent.client.tasks())[0].id
    assert await agent.client.stop(task_id, StopRequest()) == report


async def test_what_the_job_left_in_the_background_ends_with_it(agent):
    left = random.randrange(10**7, 10**8)  # seconds: no other program has just these
    # The end of the terminal ends what does not ignore it, whatever the agent does.
    report, log = await agent.run(f"trap '' HUP; (sleep 600; echo never) & sleep {left} & echo done")
    assert (report.exit_code, log) == (0, b"done\n")
    assert not [row.pid for row in table().values() if str(left).encode() in arguments(row.pid)]


async def test_a_running_task_cannot_be_deleted(agent):
    spec = agent.spec("sleep 600")
    await agent.client.put_task(spec)
    await agent.state_is(spec.id, RUNNING)
    with pytest.raises(AgentRefused) as e:
        await agent.client.delete(spec.id, 0)
    assert (e.value.status, e.value.code) == (409, "not_ended")


async def test_a_task_is_deleted_only_when_its_whole_log_was_read(agent):
    spec = agent.spec("echo 12345")
    await agent.client.put_task(spec)
    _, log = await agent.finish(spec.id)
    with pytest.raises(AgentRefused, match="the log ends at 6, it was read to 5"):
        await agent.client.delete(spec.id, len(log) - 1)
    await agent.client.delete(spec.id, len(log))
    assert await agent.client.tasks() == []
    assert list((agent.state / "tasks").iterdir()) == []
    await agent.client.delete(spec.id, len(log))


async def test_questions_about_an_unknown_task_say_that_there_is_none(agent):
    with pytest.raises(AgentRefused) as e:
        await agent.client.logs(str(uuid.uuid4()), 0)
    assert (e.value.status, e.value.code) == (404, "not_found")


async def test_a_log_offset_beyond_the_end_is_refused_while_the_task_runs(agent):
    spec = agent.spec("echo a; sleep 600")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"a\n")
    with pytest.raises(AgentRefused) as e:
        await agent.client.logs(spec.id, 100)
    assert e.value.code == "bad_offset"


async def test_an_id_that_would_leave_the_state_folder_is_refused(agent):
    for bad in ("..", "../../etc", ".hidden", "a/b"):
        with pytest.raises(AgentRefused):
            await agent.client.stop(bad, StopRequest())


async def test_a_log_that_lost_its_tail_to_a_power_cut_is_over_for_who_had_read_more(agent):
    spec = agent.spec("echo all of it")
    await agent.client.put_task(spec)
    _, log = await agent.finish(spec.id)
    agent.kill()
    os.truncate(agent.state / "tasks" / spec.id / "log", len(log) - 3)
    await agent.start()

    chunk = await agent.client.logs(spec.id, len(log), 0)

    assert (chunk.data, chunk.final) == (b"", True)
    await agent.client.delete(spec.id, len(log))
    assert await agent.client.tasks() == []


async def test_a_log_that_is_gone_is_read_to_its_end_at_once(agent):
    spec = agent.spec("echo all of it")
    await agent.client.put_task(spec)
    await agent.finish(spec.id)
    (agent.state / "tasks" / spec.id / "log").unlink()

    chunk = await agent.client.logs(spec.id, 0, 0)

    assert (chunk.data, chunk.final) == (b"", True)
    await agent.client.delete(spec.id, 0)
