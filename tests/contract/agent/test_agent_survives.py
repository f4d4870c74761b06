"""The agent's death is not the job's: nothing is lost, doubled or started twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from dstack.agent.processes import boot_id, table
from dstack.agentapi.wire import StopRequest, TaskReport, to_json
from support.docker_engine import call
from support.live_agent import arguments

SEED = int(os.environ.get("DSTACK_TEST_SEED", "20261122"))
COUNT = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 5"
COUNTED = "".join(f"line {i}\n" for i in range(400)).encode()


async def test_five_kills_while_a_job_prints_leave_its_log_exact_and_its_exit_code_right(agent):
    spec, chance = agent.spec(COUNT), random.Random(SEED)
    await agent.client.put_task(spec)
    for n in range(5):
        await agent.log_holds(spec.id, b"line %d\n" % (n * 50 + chance.randrange(40)))
        agent.kill(signal.SIGKILL)
        await agent.start()
    report, log = await agent.finish(spec.id)
    assert log == COUNTED
    assert (report.state, report.exit_code) == ("exited", 5)


async def test_a_job_that_ends_while_no_agent_runs_is_told_by_the_next_one(agent, tmp_path):
    spec = agent.spec("echo before; sleep 0.5; echo after; exit 6")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"before")
    agent.kill(signal.SIGKILL)
    await _job_is_over(agent, spec.id)
    over = time.time()
    await agent.start()
    report, log = await agent.finish(spec.id)
    assert log == b"before\nafter\n"
    assert (report.state, report.exit_code) == ("exited", 6)
    assert report.started_at + 0.4 < report.finished_at <= over


async def test_an_agent_killed_at_any_moment_of_a_start_starts_the_job_once(agent):
    for n, moment in enumerate(MOMENTS_OF_A_START):
        spec = agent.spec("echo once; exit 7", network=("host", "bridge")[n % 2])
        await agent.client.put_task(spec)
        await _seen(moment, agent, spec.id)
        agent.kill(signal.SIGKILL)
        await agent.start()
        report, log = await agent.finish(spec.id)
        assert (report.state, report.exit_code, log) == ("exited", 7, b"once\n"), moment.__doc__


async def test_an_agent_that_died_before_it_noted_a_start_finds_what_it_started(agent):
    for script in ("echo once; exit 7", "echo once; sleep 1; exit 7"):
        spec = agent.spec(script)
        await agent.client.put_task(spec)
        await agent.log_holds(spec.id, b"once\n")
        await _seen(_is_launched, agent, spec.id)
        agent.kill(signal.SIGKILL)
        _forget_the_start(agent, spec.id)
        await agent.start()
        report, log = await agent.finish(spec.id)
        assert (report.state, report.exit_code, log) == ("exited", 7, b"once\n")


async def test_an_agent_killed_at_any_moment_of_a_removal_leaves_nothing_of_the_task(agent):
    for moment in (_is_asked_for, _container_is_gone, _network_is_gone, _folder_is_gone):
        spec = agent.spec("echo once", network="bridge" if agent.runtime == "docker" else "host")
        await agent.client.put_task(spec)
        _, log = await agent.finish(spec.id)
        deletion = asyncio.ensure_future(agent.client.delete(spec.id, len(log)))
        await _seen(moment, agent, spec.id)
        agent.kill(signal.SIGKILL)
        await asyncio.gather(deletion, return_exceptions=True)
        await agent.start()
        await agent.client.delete(spec.id, len(log))
        assert spec.id not in {task.id for task in await agent.client.tasks()}
        assert not [path for path in (agent.state / "tasks").iterdir() if spec.id in path.name]
        if agent.runtime == "docker":
            kinds = ("/containers/json?all=1", "/networks")
            assert not [one for kind in kinds for one in call(agent.docker_host, "GET", kind) if spec.id in str(one)]


async def test_a_polite_end_of_the_agent_leaves_the_job_running(agent):
    spec = agent.spec("echo up; sleep 0.3; echo still up")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up\n")
    agent.kill(signal.SIGTERM)
    await agent.start()
    assert (await agent.finish(spec.id))[1] == b"up\nstill up\n"


async def test_a_stop_goes_on_when_the_agent_is_killed_within_its_grace(agent):
    spec = agent.spec("trap '' INT; echo up; while true; do sleep 0.1; done")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    started = time.monotonic()
    await agent.client.stop(spec.id, StopRequest(grace_s=1.0))
    agent.kill(signal.SIGKILL)
    await agent.start()
    report, _ = await agent.finish(spec.id)
    assert (report.state, report.reason) == ("failed", "stopped")
    assert time.monotonic() - started > 0.9


async def test_a_second_agent_on_the_same_folder_says_that_there_is_one_and_leaves_it_alone(agent):
    second = await asyncio.to_thread(subprocess.run, agent.argv(), capture_output=True, timeout=30)
    assert second.returncode == 1
    assert b"already serves" in second.stderr and b"Traceback" not in second.stderr
    assert (await agent.client.health()).protocol == 1


async def test_each_start_of_the_agent_is_a_new_run_that_tells_all_its_tasks(agent):
    _, log = await agent.run("echo a")
    before = await agent.client.events("", 0)
    agent.kill(signal.SIGKILL)
    await agent.start()
    after = await agent.client.events(before.run, before.seq, 10)
    assert after.run != before.run
    assert [(t.id, t.state, t.log_size) for t in after.tasks] == [(before.tasks[0].id, "exited", len(log))]


async def test_a_job_that_ran_before_the_machine_was_restarted_is_told_as_such(agent):
    spec = agent.spec("echo up; sleep 600")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"up")
    agent.kill(signal.SIGKILL)
    _pretend_a_reboot(agent, spec.id)
    await agent.start()
    report, log = await agent.finish(spec.id)
    assert (report.state, report.reason) == ("failed", "host_rebooted")
    if agent.runtime == "process" or os.geteuid() == 0:  # else the engine has the whole log
        assert log == b"up\n[dstack] The end of this log may be missing: the machine was restarted\n"


async def test_a_task_that_waited_for_its_start_when_the_machine_was_restarted_is_started_and_ends_as_its_own(agent):
    spec = agent.spec("echo once; exit 3")
    agent.kill(signal.SIGKILL)
    _leave(agent, spec, "pending")
    await agent.start()
    report, log = await agent.finish(spec.id)
    assert (report.state, report.reason, report.exit_code, log) == ("exited", "", 3, b"once\n")


async def test_a_task_that_may_have_been_started_before_the_machine_was_restarted_is_not_started_again(agent):
    spec = agent.spec("echo again")
    agent.kill(signal.SIGKILL)
    _leave(agent, spec, "creating")
    await agent.start()
    report, log = await agent.finish(spec.id)
    assert (report.state, report.reason) == ("failed", "host_rebooted") and b"again" not in log


def _leave(agent, spec, state: str) -> None:
    """A task on disk as an agent of the boot before this one left it."""
    folder = agent.state / "tasks" / spec.id
    folder.mkdir()
    report = {**to_json(TaskReport(id=spec.id, state=state)), "runtime": "" if state == "pending" else agent.runtime}
    (folder / "spec.json").write_text(json.dumps(to_json(spec)))
    (folder / "state.json").write_text(json.dumps({"report": report, "boot_id": "the boot before", "memo": {}}))


async def _seen(moment, agent, task_id: str) -> None:
    """Look behind the agent's back, as often as possible, until it has come to that."""
    deadline = time.monotonic() + 60
    while not moment(agent, agent.state / "tasks" / task_id):
        assert time.monotonic() < deadline, moment.__doc__
        await asyncio.sleep(0)


def _is_stored(agent, folder: Path) -> bool:
    """Its description is on disk."""
    return (folder / "spec.json").exists()


def _has_begun(agent, folder: Path) -> bool:
    """It is not only noted."""
    return b'"pending"' not in (folder / "state.json").read_bytes()


def _has_company(agent, folder: Path) -> bool:
    """The process that is to outlive the agent is on its way; one without root needs none for a container."""
    return (folder / "wake").exists() or (agent.runtime == "docker" and os.geteuid() != 0)


def _has_a_log(agent, folder: Path) -> bool:
    """Somebody is there to write it."""
    return (folder / "log").exists()


def _has_a_network(agent, folder: Path) -> bool:
    """Its network is there, or will not come."""
    return agent.runtime == "process" or _ended(folder) or _of_engine(agent, "/networks", folder)


def _has_a_container(agent, folder: Path) -> bool:
    """Its container is there."""
    return agent.runtime == "process" or _of_engine(agent, "/containers/json?all=1", folder)


def _is_launched(agent, folder: Path) -> bool:
    """The agent knows that it runs."""
    return b'"launched"' in (folder / "state.json").read_bytes()


def _has_printed(agent, folder: Path) -> bool:
    """Its output is in the log."""
    return (folder / "log").exists() and (folder / "log").stat().st_size > 0


def _is_asked_for(agent, folder: Path) -> bool:
    """The request is on its way."""
    return True


def _container_is_gone(agent, folder: Path) -> bool:
    """The engine has no container of it."""
    return agent.runtime == "process" or not _of_engine(agent, "/containers/json?all=1", folder)


def _network_is_gone(agent, folder: Path) -> bool:
    """The engine has no network of it."""
    return agent.runtime == "process" or not _of_engine(agent, "/networks", folder)


def _folder_is_gone(agent, folder: Path) -> bool:
    """Nothing of it is on disk."""
    return not folder.exists()


def _ended(folder: Path) -> bool:
    return b'"exited"' in (folder / "state.json").read_bytes()


def _of_engine(agent, kind: str, folder: Path) -> bool:
    return any(folder.name in str(one) for one in call(agent.docker_host, "GET", kind))


MOMENTS_OF_A_START = (
    _is_stored,
    _has_begun,
    _has_company,
    _has_a_log,
    _has_a_network,
    _has_a_container,
    _is_launched,
    _has_printed,
)


async def _job_is_over(agent, task_id: str) -> None:
    """Look behind the back of the agent, which is dead, until the job has ended."""
    deadline = time.monotonic() + 30
    while True:
        if agent.runtime == "process":
            over = (agent.state / "tasks" / task_id / "exit.json").exists()
        else:
            over = not call(agent.docker_host, "GET", f"/containers/dstack-{task_id}/json")["State"]["Running"]
        if over:
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def _forget_the_start(agent, task_id: str) -> None:
    """What an agent leaves that dies in the instant after it started a job."""
    path = agent.state / "tasks" / task_id / "state.json"
    state = json.loads(path.read_text())
    del state["memo"]["launched"]
    state["report"] |= {"state": "creating", "started_at": None, "exit_code": None, "finished_at": None}
    path.write_text(json.dumps(state))


def _pretend_a_reboot(agent, task_id: str) -> None:
    """What a restart of the machine leaves: nothing runs, and the stored boot is another one."""
    folder = agent.state / "tasks" / task_id
    state = (folder / "state.json").read_text()
    (folder / "state.json").write_text(state.replace(boot_id(), "another-boot"))
    if agent.runtime == "process":
        holder = json.loads((folder / "holder.json").read_text())
        os.kill(holder["pid"], signal.SIGKILL)
        os.killpg(holder["job_pid"], signal.SIGKILL)
    else:
        call(agent.docker_host, "POST", f"/containers/dstack-{task_id}/kill")
        for row in table().values():
            if task_id.encode() in arguments(row.pid):
                os.kill(row.pid, signal.SIGKILL)  # those that kept its output
