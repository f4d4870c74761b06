"""The link to a host: what is believed of it, what a loss does, what is cleaned up, what it wakes."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from itertools import count

import pytest
from sqlalchemy import insert, select, text

from dstack.agentapi.client import AgentUnreachable
from dstack.agentapi.wire import RUNNING, TaskReport
from dstack.model.instance import InstanceStatus
from dstack.model.job import JobStatus
from dstack.model.row import Ref
from dstack.server.services.rows import change_rows
from dstack.server.store.acts import ClaimedAct
from dstack.server.store.tables import act, host_link
from support import builders
from support.live_host import Host


async def test_a_host_is_not_believed_about_the_jobs_of_others(host: Host):
    elsewhere = builders.instance(1)
    foreign = builders.job("foreign", on=elsewhere)
    await host.add(foreign)
    mine = await host.job("mine")
    await host.start(foreign.id, "echo stolen")
    await host.start(mine.id, "echo mine")
    await host.until(lambda: host.ended(mine.id))
    await host.until(lambda: host.ended(foreign.id))

    async with host.linked():
        await host.until(lambda: _stored(host, mine.id))

    assert [s for s in await host.heard(mine.id) if "exited" in s]
    assert await host.heard(foreign.id) == []
    assert not await _stored(host, foreign.id)


async def test_a_task_whose_job_is_over_is_ended_without_cutting_the_link(host: Host):
    over = await host.job("over", status=JobStatus.FAILED)
    await host.start(over.id, "sleep 4242")

    async with host.linked():
        await host.until(lambda: _forgotten(host, over.id))

    seen = await host.heard(host.instance.id)
    assert len(seen) == 1, seen


async def test_a_task_that_an_act_is_to_remove_is_left_to_it_and_its_log_is_stored_first(host: Host):
    over = await host.job("over", status=JobStatus.FAILED)
    await host.start(over.id, "echo its last words")
    await host.until(lambda: host.ended(over.id))
    async with host.database.write() as connection:
        await connection.execute(insert(act).values(**_act(over.id, host.clock.now() + 1000, "remove_task")))

    async with host.linked():
        mine = await host.job("mine")
        await host.start(mine.id, "true")
        await host.until(lambda: _told(host, mine.id))  # after all that the link did when it came up
        assert over.id in await host.tasks()
        await host.effects.remove(ClaimedAct(Ref("job", over.id), "remove_task", "t", {"force": True}, 0, 1.0, "me", 1))

    assert over.id not in await host.tasks()
    assert (await host.logs.read(over.project_id, over.id, 0, 1000)).data == b"its last words\n"


async def test_what_somebody_else_has_stored_of_a_log_meanwhile_is_not_stored_twice(host: Host):
    mine, go = await host.job("mine"), host.folder / "go"
    async with host.linked():
        await host.start(mine.id, f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two; echo three")

        async def first_line_is_stored() -> bool:
            return (await host.logs.size(mine.id)).size == len(b"one\n")

        await host.until(first_line_is_stored)
        await host.logs.append(mine.project_id, mine.id, 0, b"one\ntwo\n", ((0, 1.0),), False)
        go.touch()
        await host.until(lambda: _stored(host, mine.id))
    assert (await host.logs.read(mine.project_id, mine.id, 0, 1000)).data == b"one\ntwo\nthree\n"


async def test_a_loss_that_cannot_be_recorded_does_not_end_the_other_links(
    host: Host, caplog: pytest.LogCaptureFixture
):
    async with host.linked() as running:
        async with host.database.write() as connection:
            await connection.execute(text("ALTER TABLE inbox RENAME TO away"))
        host.kill_agent()
        with caplog.at_level(logging.ERROR):
            await host.until(lambda: _logged(caplog, "could not be recorded"))
        assert not running.done()
        async with host.database.write() as connection:
            await connection.execute(text("ALTER TABLE away RENAME TO inbox"))
        await host.until(lambda: _linked_again(host))


async def test_tasks_that_are_told_of_while_the_link_breaks_are_left_to_the_next_link(host: Host):
    async with host.linked():
        host.kill_agent()
        with pytest.raises(AgentUnreachable):
            for n in count():
                host.links.client(host.instance.id)
                host.links.follow(host.instance.id, TaskReport(id=f"task-{n}", state=RUNNING))
                await asyncio.sleep(0)


async def test_a_link_that_is_closed_while_it_breaks_is_closed(host: Host):
    async with host.linked() as running:
        [(link, _)] = host.links._links.values()
        host.kill_agent()
        while _lets_in(link._group):
            await asyncio.sleep(0)
        running.cancel()  # as when the server stops, or another one has the host
        assert (await asyncio.wait([running], timeout=60))[0]


def _lets_in(group: asyncio.TaskGroup | None) -> bool:
    assert group is not None
    late = asyncio.sleep(0)
    try:
        group.create_task(late)
    except RuntimeError:
        late.close()
        return False
    return True


async def test_acts_that_were_tried_in_vain_are_due_when_the_host_is_back(host: Host):
    job = await host.job("waiting")
    other = builders.job("elsewhere", on=builders.instance(1))
    await host.add(other)
    later = host.clock.now() + 1000
    async with host.database.write() as connection:
        for one in (job, other):
            await connection.execute(insert(act).values(**_act(one.id, later)))

    async with host.linked():
        await host.until(lambda: _kicked(host))

    async with host.database.read() as connection:
        due = dict((await connection.execute(select(act.c.resource_id, act.c.due_at))).all())
    assert due[job.id] <= host.clock.now()
    assert due[other.id] == later


async def test_what_no_job_answers_for_is_counted_until_it_ends_and_is_left_alone(host: Host):
    mine, go, stranger = await host.job("mine"), host.folder / "go", builders.some_id("job", "stranger")
    waits = f"until [ -e {go} ]; do sleep 0.05; done"
    await host.start(mine.id, waits)
    await host.start(stranger, f"{waits}; exit 7")
    async with host.linked():
        assert await _unknown_tasks(host) == [1]
        later = host.clock.now() + 1000
        async with host.database.write() as connection:
            waiting = {**_act(host.instance.id, later, "terminate_instance"), "kind": "instance"}
            await connection.execute(insert(act).values(**waiting))
        go.touch()
        await host.until(lambda: _counted(host, [1, 0]))
    assert (await host.tasks())[stranger].exit_code == 7
    async with host.database.read() as connection:
        due = (await connection.execute(select(act.c.due_at).where(act.c.kind == "instance"))).scalar_one()
    assert due < later, "who waits for its end need not wait longer"


async def _unknown_tasks(host: Host) -> list[int]:
    """As often as the host was told to be up, how many it had then."""
    seen = [json.loads(one) for one in await host.heard(host.instance.id)]
    return [one["host"]["unknown_tasks"] for one in seen if one["type"] == "link_up"]


async def _counted(host: Host, counts: list[int]) -> bool:
    return await _unknown_tasks(host) == counts


def _act(job_id: str, due_at: float, verb: str = "stop_task") -> dict:
    act = {"token": f"t-{job_id}", "kind": "job", "resource_id": job_id, "verb": verb, "payload": "{}"}
    return {**act, "created_at": 1.0, "due_at": due_at}


async def _kicked(host: Host) -> bool:
    return host.kicked["acts"] > 0


async def _told(host: Host, job_id: str) -> bool:
    return bool(await host.heard(job_id))


async def _stored(host: Host, job_id: str) -> bool:
    return (await host.logs.size(job_id)).final


async def _forgotten(host: Host, task_id: str) -> bool:
    return task_id not in await host.tasks()


async def _linked_again(host: Host) -> bool:
    return sum('"link_up"' in seen for seen in await host.heard(host.instance.id)) > 1


async def _logged(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return any(words in record.getMessage() for record in caplog.records)


async def test_a_host_that_went_away_unnoticed_is_found_by_looking_at_all(host: Host):
    gone = {"status": InstanceStatus.TERMINATED, "finished_at": host.clock.now()}
    async with host.linked():
        assert host.links.client(host.instance.id)
        async with host.database.write() as connection:
            await change_rows(connection, type(host.instance), [host.instance.id], **gone)
        host.links.look_at_all()
        await host.until(partial(_let_go, host))


async def _let_go(host: Host) -> bool:
    async with host.database.read() as connection:
        held = (await connection.execute(select(host_link.c.server_id))).scalars().all()
    try:
        host.links.client(host.instance.id)
    except AgentUnreachable:
        return held == []
    return False
