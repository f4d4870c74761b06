"""What only containers have: networks, users, images, and an engine that may go away."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sys
import tarfile
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from dstack.agentapi.client import hash_of
from dstack.agentapi.wire import FAILED, PULLING, RUNNING, CodeArchive, StopRequest
from support.docker_engine import Engine, call, import_busybox
from support.live_agent import LiveAgent

pytestmark = pytest.mark.docker

HTTPD = "mkdir -p /www && echo page > /www/index.html && httpd -p 8000 -h /www && echo up && sleep 600"


async def fetch(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_a_port_of_a_bridged_task_answers_on_a_port_of_this_machine(docker_agent):
    spec = docker_agent.spec(HTTPD, network="bridge", ports=[8000])
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"up")
    report = await docker_agent.report(spec.id)
    assert (await fetch(report.ports["8000"])).endswith(b"page\n")
    assert report.ip.startswith("1")


async def test_tasks_on_bridges_cannot_reach_one_another(docker_agent):
    server = docker_agent.spec(HTTPD, network="bridge")
    await docker_agent.client.put_task(server)
    await docker_agent.log_holds(server.id, b"up")
    ip = (await docker_agent.report(server.id)).ip
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {ip} 8000; echo asked"
    _, log = await docker_agent.run(ask, network="bridge")
    assert log.endswith(b"asked\n") and b"page" not in log
    _, log = await docker_agent.run(ask, network="host")
    assert b"page" in log


async def test_tasks_have_small_networks_within_the_pools_of_the_engine(docker_agent):
    pools = call(docker_agent.docker_host, "GET", "/info").get("DefaultAddressPools") or []
    specs = [docker_agent.spec("sleep 600", network="bridge") for _ in range(3)]
    for spec in specs:
        await docker_agent.client.put_task(spec)
    found = []
    for spec in specs:
        await docker_agent.state_is(spec.id, RUNNING)
        network = call(docker_agent.docker_host, "GET", f"/networks/dstack-{spec.id}")
        found.append(ip_network(network["IPAM"]["Config"][0]["Subnet"]))
    assert {network.prefixlen for network in found} == {28} and len(set(found)) == 3
    assert not pools or all(any(one.subnet_of(ip_network(pool["Base"])) for pool in pools) for one in found)


async def test_networks_that_tasks_left_are_used_again_and_a_range_without_room_is_named(docker_agent):
    """The range has room for two."""
    docker_agent.kill()
    docker_agent.env = {**os.environ, "DSTACK_AGENT_SUBNETS": "10.253.77.0/27"}
    await docker_agent.start()
    ended, running, later, too_many = (docker_agent.spec(s, network="bridge") for s in ("true", *3 * ["sleep 600"]))
    await docker_agent.client.put_task(ended)
    await docker_agent.finish(ended.id)
    for spec in (running, later):
        await docker_agent.client.put_task(spec)
        await docker_agent.state_is(spec.id, RUNNING)
    await docker_agent.client.put_task(too_many)
    report = await docker_agent.state_is(too_many.id, FAILED)
    assert report.message.startswith("No network is free for the task: 10.253.77.0/27 is taken by ")
    assert f"the Docker network dstack-{running.id} (10.253.77." in report.message


async def test_a_missing_working_directory_belongs_to_the_jobs_user(docker_agent):
    report, log = await docker_agent.run("id -u; pwd; touch f && echo written", user="worker", working_dir="/a/b")
    assert log == b"1234\n/a/b\nwritten\n", report


async def test_a_working_directory_may_be_relative_to_the_users_home(docker_agent):
    _, log = await docker_agent.run("pwd; echo $HOME", user="worker", working_dir="~/x")
    assert log == b"/home/worker/x\n/home/worker\n"


async def test_unpacked_code_belongs_to_the_jobs_user(docker_agent):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("sub/file")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    await docker_agent.client.put_blob(hash_of(out.getvalue()), out.getvalue())
    archives = [CodeArchive(hash_of(out.getvalue()), "code")]
    script = "stat -c %u code code/sub/file"
    _, log = await docker_agent.run(script, user="worker", working_dir="/w", archives=archives)
    assert log == b"1234\n1234\n"


async def test_shared_memory_has_the_size_that_was_asked(docker_agent):
    _, log = await docker_agent.run("grep ' /dev/shm ' /proc/mounts", shm_bytes=8 * 1024 * 1024)
    assert b"size=8192k" in log


async def test_half_a_million_lines_over_rotated_files_arrive_exactly(docker_agent):
    report, log = await docker_agent.run(args=["seq", "1", "500000"], log_quota_bytes_per_hour=0)  # no shell of ours
    assert log == "".join(f"{n}\n" for n in range(1, 500001)).encode()
    assert report.exit_code == 0


async def test_a_container_that_somebody_removes_is_told_as_such(docker_agent):
    spec = docker_agent.spec("echo up; sleep 600")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"up")
    call(docker_agent.docker_host, "DELETE", f"/containers/dstack-{spec.id}?force=1")
    report, log = await docker_agent.finish(spec.id)
    assert (report.state, report.reason, log) == (FAILED, "container_removed", b"up\n")


async def test_a_job_that_ends_as_if_by_a_signal_after_the_clock_was_set_back_is_not_waited_for(docker_agent):
    spec = docker_agent.spec("echo up; sleep 2; exit 137")
    await docker_agent.client.put_task(spec)
    await docker_agent.log_holds(spec.id, b"up")
    docker_agent.kill()
    path = docker_agent.state / "tasks" / spec.id / "state.json"
    state = json.loads(path.read_text())
    state["report"]["started_at"] += 24 * 3600  # as a day earlier sees it
    path.write_text(json.dumps(state))
    await docker_agent.start()
    report, _ = await docker_agent.finish(spec.id)
    assert (report.state, report.exit_code) == ("exited", 137)


async def test_deleting_a_task_removes_its_container_and_its_network(docker_agent):
    report, log = await docker_agent.run("echo a", network="bridge")
    name = f"dstack-{report.id}"
    assert name in [n["Name"] for n in call(docker_agent.docker_host, "GET", "/networks")]
    await docker_agent.client.delete(report.id, len(log))
    assert name not in [n["Name"] for n in call(docker_agent.docker_host, "GET", "/networks")]
    assert "No such container" in call(docker_agent.docker_host, "GET", f"/containers/{name}/json")["message"]


async def test_what_tasks_left_that_are_no_more_is_removed_but_not_what_other_agents_own(
    docker_agent, tmp_path, zipapp
):
    other = LiveAgent(zipapp, tmp_path / "other" / "state", "docker", docker_agent.docker_host)
    other.state.parent.mkdir()
    await other.start()
    try:
        theirs, ours = other.spec("sleep 600"), docker_agent.spec("sleep 600", network="bridge")
        for agent, spec in ((other, theirs), (docker_agent, ours)):
            await agent.client.put_task(spec)
            await agent.state_is(spec.id, RUNNING)
        docker_agent.kill()
        shutil.rmtree(docker_agent.state / "tasks" / ours.id)
        await docker_agent.start()
        await _until(lambda: f"dstack-{ours.id}" not in _names(docker_agent.docker_host))
        assert f"dstack-{theirs.id}" in _names(docker_agent.docker_host)
        assert (await other.report(theirs.id)).state == RUNNING
    finally:
        await other.clean_up()


async def test_a_stop_during_a_pull_that_hangs_ends_the_task_at_once(docker_agent):
    async def never_answer(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    spec = docker_agent.spec("true", image=f"127.0.0.1:{port}/image:1", network="bridge")
    await docker_agent.client.put_task(spec)
    await docker_agent.state_is(spec.id, PULLING)
    started = time.monotonic()
    await docker_agent.client.stop(spec.id, StopRequest(grace_s=300))
    report, _ = await docker_agent.finish(spec.id)
    server.close()
    assert (report.state, report.reason) == (FAILED, "stopped")
    assert time.monotonic() - started < 60  # of a grace of 300


@pytest.mark.root
async def test_an_agent_without_root_reads_logs_through_the_engine(tmp_path, zipapp, docker_engine):
    if os.geteuid() != 0 or not docker_engine.startswith("unix://"):
        pytest.skip("needs root to become somebody else, and a local engine")
    live = _agent_of_nobody(zipapp, docker_engine)
    try:
        await live.start()
        spec = live.spec("for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.1; done; exit 3")
        await live.client.put_task(spec)
        await live.log_holds(spec.id, b"line 3")
        live.kill()
        await live.start()
        report, log = await live.finish(spec.id)
        assert log == "".join(f"line {n}\n" for n in range(1, 11)).encode()
        assert report.exit_code == 3
        stopped = live.spec("echo up; sleep 600; echo never")
        await live.client.put_task(stopped)
        await live.log_holds(stopped.id, b"up")
        started = time.monotonic()
        await live.client.stop(stopped.id, StopRequest(grace_s=300))
        assert (await live.finish(stopped.id))[1] == b"up\n"
        assert time.monotonic() - started < 60
    finally:
        await live.clean_up()
        shutil.rmtree(live.state.parent)


@pytest.mark.root
async def test_an_engine_that_is_restarted_ends_the_job_with_that_reason_and_keeps_its_log(tmp_path, zipapp):
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("needs root and a dockerd of its own")
    folder = Path("/tmp") / f"dstack-engine-restart-{os.getpid()}"
    folder.mkdir()
    engine = Engine(folder, "--bridge=none", "--iptables=false")  # beside the session's engine
    live = LiveAgent(zipapp, tmp_path / "state", "docker", engine.url)
    try:
        engine.start()
        import_busybox(engine.url)
        await live.start()
        spec = live.spec("echo up; sleep 600")
        await live.client.put_task(spec)
        await live.log_holds(spec.id, b"up")
        engine.stop()
        assert (await live.report(spec.id)).state == RUNNING
        engine.start()
        report, log = await live.finish(spec.id)
        assert (report.state, report.reason, log) == (FAILED, "engine_restarted", b"up\n")
    finally:
        await live.clean_up()
        engine.stop()
        engine.remove()


def _agent_of_nobody(zipapp: Path, docker_host: str) -> LiveAgent:
    folder = Path("/tmp") / f"dstack-nobody-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    shutil.copy(zipapp, folder / "agent.pyz")
    shutil.chown(folder, "nobody")
    os.chmod(docker_host[len("unix://") :], 0o666)
    os.chmod(Path(docker_host[len("unix://") :]).parent, 0o755)
    live = LiveAgent(folder / "agent.pyz", folder / "state", "docker", docker_host, python=_python_for_all())
    live.user = "nobody"
    live.state.mkdir()
    shutil.chown(live.state, "nobody")
    return live


def _python_for_all() -> str:
    """An interpreter that other users may run; that of a virtual environment in root's home is not."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def _names(url: str) -> list[str]:
    containers = [name.lstrip("/") for c in call(url, "GET", "/containers/json?all=1") for name in c["Names"]]
    return containers + [network["Name"] for network in call(url, "GET", "/networks")]


async def _until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
