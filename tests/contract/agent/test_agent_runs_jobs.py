"""What a job sees and what is told about it, the same on every runtime."""

from __future__ import annotations

import json
import time

import pytest

from dstack.agentapi.client import AgentRefused
from dstack.agentapi.wire import FAILED, IMAGE_PULL, LOG_QUOTA, OOM, RUNNING, START_FAILED, StopRequest


async def test_the_log_holds_exactly_the_bytes_that_the_job_printed(agent):
    report, log = await agent.run(
        r"printf 'a\033[31mred\033[0m\n\ttab\r50%%\r100%%\r\n\303\251\342\202\254 no newline'"
    )
    assert log == "a\x1b[31mred\x1b[0m\n\ttab\r50%\r100%\r\né€ no newline".encode()
    assert (report.state, report.exit_code, report.reason) == ("exited", 0, "")


async def test_bytes_that_are_no_utf8_stay_as_they_are(agent):
    _, log = await agent.run(r"printf 'a\377b\n'")
    assert log == b"a\xffb\n"


async def test_the_exit_code_of_the_job_is_told(agent):
    report, _ = await agent.run("exit 42")
    assert (report.state, report.exit_code) == ("exited", 42)


async def test_a_job_that_ends_by_a_signal_has_128_and_its_number_as_exit_code(agent):
    report, _ = await agent.run("sh -c 'kill -TERM $$'; exit $?")
    assert (report.state, report.exit_code) == ("exited", 143)


async def test_stderr_is_in_the_log_in_the_order_of_printing(agent):
    _, log = await agent.run("echo 1; echo 2 >&2; echo 3")
    assert log == b"1\n2\n3\n"


async def test_the_output_is_a_terminal_and_input_is_at_its_end(agent):
    if agent.runtime == "process":
        _, log = await agent.run("[ -t 1 ] && echo terminal; read x || echo end")
        assert log == b"terminal\nend\n"
    else:
        _, log = await agent.run("[ -t 1 ] && echo terminal")
        assert log == b"terminal\n"


async def test_variables_of_the_spec_reach_the_job_unchanged(agent):
    value = 'sp ace "quotes" $HOME\nline é'
    _, log = await agent.run('printf "%s" "$VALUE"', env={"VALUE": value})
    assert log == value.encode()


async def test_the_hosts_for_mpi_are_in_the_file_that_a_variable_names(agent):
    _, log = await agent.run('cat "$DSTACK_MPI_HOSTFILE"', mpi_hostfile="10.0.0.1 slots=8\n10.0.0.2 slots=8\n")
    assert log == b"10.0.0.1 slots=8\n10.0.0.2 slots=8\n"


async def test_the_job_is_told_its_working_directory_unless_it_says_another(agent):
    report, log = await agent.run('echo "$DSTACK_WORKING_DIR $DSTACK_REPO_DIR"', env={"DSTACK_REPO_DIR": "/mine"})
    assert log.decode() == f"{report.working_dir} /mine\n"


async def test_a_working_directory_is_made_when_it_is_missing(agent, tmp_path):
    folder = str(tmp_path / "not/yet") if agent.runtime == "process" else "/not/yet"
    report, log = await agent.run("pwd", working_dir=folder)
    assert log.decode().strip() == folder == report.working_dir


async def test_an_entrypoint_with_arguments_runs_without_a_shell(agent):
    _, log = await agent.run(None, entrypoint=["/bin/echo", "a b"], args=["$HOME", "*"])
    assert log == b"a b $HOME *\n"


async def test_a_command_that_does_not_exist_ends_with_127_and_says_so(agent):
    report, log = await agent.run("no-such-command")
    assert (report.state, report.exit_code) == ("exited", 127)
    assert "not found" in report.message and b"not found" in log


async def test_a_shell_that_does_not_exist_is_a_failed_start_that_names_it(agent):
    report, _ = await agent.run("echo never", shell="/no/such/shell")
    assert (report.state, report.reason) == (FAILED, START_FAILED)
    assert "/no/such/shell" in report.message


async def test_an_entrypoint_that_does_not_exist_is_a_failed_start_that_names_it(agent):
    report, _ = await agent.run(None, entrypoint=["/no/such/program"])
    assert (report.state, report.reason) == (FAILED, START_FAILED)
    assert "/no/such/program" in report.message


async def test_a_job_that_spams_its_log_is_ended_at_the_quota_with_the_reason(agent):
    report, log = await agent.run("while true; do echo 0123456789; done", log_quota_bytes_per_hour=100_000)
    assert (report.state, report.reason) == (FAILED, LOG_QUOTA)
    assert report.message == "Job log output exceeded the hourly quota of 100000 bytes"
    assert len(log) == 100_000


async def test_a_job_that_takes_more_memory_than_its_limit_ends_named_as_such(agent):
    eat = "head -c 300000000 /dev/zero | tail -c 299999999 | wc -c"  # `tail` must keep it all
    report, _ = await agent.run(
        f"x=$({eat}); exit 137" if agent.runtime == "docker" else _EATER, memory_limit_bytes=60_000_000
    )
    assert (report.reason, report.exit_code) == (OOM, 137)
    assert "memory" in report.message


_EATER = "python3 -c \"import time; x = bytearray(b'x') * 200_000_000; time.sleep(60)\""


async def test_metrics_tell_processor_time_and_memory(agent):
    spec = agent.spec("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo counted; sleep 60")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"counted")
    metrics = await agent.client.metrics(spec.id)
    assert metrics.cpu_usage_us > 0 and metrics.memory_bytes > 0


async def test_a_task_that_is_sent_again_is_not_started_again(agent):
    spec = agent.spec("echo once")
    await agent.client.put_task(spec)
    await agent.client.put_task(spec)
    report, log = await agent.finish(spec.id)
    assert log == b"once\n"
    assert await agent.client.put_task(spec) == report


async def test_marks_tell_when_parts_of_the_log_were_written(agent):
    before = time.time()
    spec = agent.spec("trap 'sleep 0.1; echo b; exit' INT; echo a; while true; do sleep 0.05; done")
    await agent.client.put_task(spec)
    await agent.log_holds(spec.id, b"a\n")
    between = time.time()
    await agent.client.stop(spec.id, StopRequest(grace_s=60))
    await agent.finish(spec.id)
    chunk = await agent.client.logs(spec.id, 0)
    (first, first_at), (second, second_at) = chunk.marks
    assert (first, second) == (0, 2)
    assert before <= first_at <= between <= second_at <= time.time()
    assert (await agent.client.logs(spec.id, 2)).marks == ((0, second_at),)


async def test_secrets_of_a_spec_are_in_no_file_that_others_may_read(agent):
    spec = agent.spec("sleep 60", env={"TOKEN": "s3cr3t-value"})
    await agent.client.put_task(spec)
    await agent.state_is(spec.id, RUNNING)
    exposed = [
        p for p in agent.state.rglob("*") if p.is_file() and p.stat().st_mode & 0o077 and b"s3cr3t" in p.read_bytes()
    ]
    assert exposed == [] and agent.state.stat().st_mode & 0o077 == 0
    assert agent.socket.stat().st_mode & 0o777 == 0o600


async def test_a_body_that_is_no_spec_is_refused_with_the_name_of_the_field(agent):
    spec = agent.spec("true")
    spec.ports = ["x"]  # type: ignore[list-item]
    with pytest.raises(AgentRefused, match=r"TaskSpec\.ports"):
        await agent.client.put_task(spec)


async def test_an_image_that_does_not_exist_fails_as_a_pull_and_names_it(agent):
    if agent.runtime == "process":
        report, _ = await agent.run("true", image="no.such.host.invalid/image:1")
        assert (report.state, report.reason) == (FAILED, "create_failed")
        return
    report, _ = await agent.run("true", image="no.such.host.invalid/image:1")
    assert (report.state, report.reason) == (FAILED, IMAGE_PULL)
    assert "no.such.host.invalid/image:1" in report.message


async def test_events_carry_every_change_of_state_in_order(agent):
    start = await agent.client.events("", 0)
    spec = agent.spec("true")
    await agent.client.put_task(spec)
    seen, seq = [], start.seq
    while not seen or seen[-1] != "exited":
        page = await agent.client.events(start.run, seq, 10)
        seq = page.seq
        seen += [task.state for task in page.tasks if task.id == spec.id]
    assert seen == sorted(seen, key=["pending", "creating", "running", "exited"].index)
    json.dumps(seen)
