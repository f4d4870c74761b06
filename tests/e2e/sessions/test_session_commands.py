"""Shells and commands in a task: what they see, how they end, and what ends with them."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from dstack.agentapi.wire import StopRequest
from support.sessions import Door, SessionAgent, Terminal, mark, running, until_running

pytestmark = [pytest.mark.docker, pytest.mark.root]


def test_output_errors_and_exit_code_of_a_command_arrive_apart(tools: Door):
    done = tools.ssh("run", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 42)


def test_a_command_sees_the_jobs_variables_folder_and_user(tools: Door, worker: Door):
    assert tools.says('echo "$MINE $DSTACK_WORKING_DIR $PWD $(id -u)"') == "a b /work /work 0"
    assert worker.says('echo "$(id -u) $PWD $HOME $USER $SHELL"') == "1234 /work /home/worker worker /bin/bash"


def test_the_login_shell_of_the_image_is_used_and_a_plain_one_where_there_is_none(tools: Door, plain: Door):
    assert tools.says("echo ${BASH_VERSION:+bash}") == "bash"
    assert plain.says("echo $0") == "/bin/sh"


def test_an_image_that_has_only_busybox_gives_commands_and_terminals(plain: Door):
    assert plain.ssh("run", "exit 7").returncode == 7
    terminal = Terminal(plain)
    terminal.until("[#$] ")
    terminal.type("echo $((6*7)); exit 5\n")
    terminal.until("\n42\r")
    assert terminal.exit_code() == 5


def test_a_script_on_standard_input_is_run_by_the_shell(tools: Door):
    assert tools.ssh("-T", "run", input=b"echo one\nexit 3\n").stdout == b"one\n"


def test_standard_input_arrives_whole_and_its_end_is_seen(tools: Door):
    data = os.urandom(20_000_000)
    assert tools.ssh("run", "md5sum", input=data).stdout.split()[0].decode() == hashlib.md5(data).hexdigest()


def test_a_long_output_arrives_whole(tools: Door):
    done = tools.ssh("run", "head -c 20000000 /dev/zero | tr '\\0' x")
    assert len(done.stdout) == 20_000_000 and set(done.stdout) == {ord("x")}


def test_a_terminal_has_its_size_its_name_and_follows_resizing(tools: Door):
    terminal = Terminal(tools, rows=33, columns=101)
    terminal.type("stty size; echo $TERM; tty; trap 'echo now $(stty size)' WINCH; echo ready\n")
    terminal.until("33 101\r\nxterm-256color\r\n/dev/pts/")
    terminal.until("\nready\r")
    terminal.resize(40, 120)
    terminal.until("now 40 120")
    terminal.type("exit 42\n")
    assert terminal.exit_code() == 42


def test_ctrl_c_on_a_terminal_interrupts_the_command(tools: Door):
    terminal = Terminal(tools, "echo ready; exec sleep 600")
    terminal.until("ready")
    terminal.type("\x03")
    assert terminal.exit_code() == 130


def test_a_terminal_that_hangs_up_ends_its_jobs_but_not_those_that_ignore_it(tools: Door):
    ends, stays = f"sleep {mark(71)}", f"sleep {mark(72)}"
    terminal = Terminal(tools)
    terminal.type(f"{ends} & nohup {stays} >/dev/null 2>&1 & echo rea''dy\n")
    terminal.until("ready")
    until_running(ends, 1)
    until_running(stays, 1)  # from here on it ignores the hang-up
    terminal.hang_up()
    until_running(ends, 0)
    (pid,) = running(stays)
    os.kill(pid, 9)


def test_a_client_that_dies_without_a_terminal_ends_what_still_reads_or_writes_it(tools: Door):
    sleep, yes = f"sleep {mark(73)}", f"yes {mark(74)}"
    with tools.going("run", sleep) as one, tools.going("run", f"{yes} | cat") as two:
        until_running(sleep, 1)
        until_running(yes, 1)
        for client in (one, two):
            client.kill()
        until_running(sleep, 0)
        until_running(yes, 0)


def test_a_server_that_a_session_started_outlives_it(tools: Door):
    server, script = f"sleep {mark(75)}", f"cat {mark(76)} -"
    with tools.going("run", "bash") as client:
        assert client.stdin and client.stdout
        client.stdin.write(f"nohup {server} </dev/null >/dev/null 2>&1 & echo listening; {script}\n".encode())
        client.stdin.flush()
        assert client.stdout.readline() == b"listening\n"
        until_running(script, 1)
        until_running(server, 1)
        client.kill()
        until_running(script, 0)
    (pid,) = running(server)
    os.kill(pid, 9)


def test_sessions_end_with_the_task(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh())
    with door.going("run", "echo in; sleep 600") as client, door.going("-N", "run") as forwarder:
        assert client.stdout and client.stdout.readline() == b"in\n"
        engine_agent.until(door.task_id, lambda r: r.sessions == 2)
        engine_agent.ask(lambda c: c.stop(door.task_id, StopRequest(grace_s=0)))
        assert client.wait(60) != 0
        assert forwarder.wait(60) == 255
    report = engine_agent.until(door.task_id, lambda r: r.sessions == 0 and "10022" not in r.ports)
    assert report.state == "failed"


def test_who_is_in_is_counted_and_since_when_nobody_is(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh())
    assert engine_agent.report(door.task_id).inactive_since is not None
    with door.going("-N", "run"):
        engine_agent.until(door.task_id, lambda r: r.sessions == 1 and r.inactive_since is None)
        before = time.time()
    report = engine_agent.until(door.task_id, lambda r: r.sessions == 0)
    assert report.inactive_since is not None and report.inactive_since >= before - 1


def test_sessions_outlive_the_agent_and_are_found_again_at_the_same_port(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh())
    with door.going("run", "echo in; cat") as client:
        assert client.stdin and client.stdout and client.stdout.readline() == b"in\n"
        engine_agent.live.kill()
        client.stdin.write(b"still here\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"still here\n"
        engine_agent.ask(lambda _: engine_agent.live.start())
        report = engine_agent.until(door.task_id, lambda r: r.sessions == 1)
        assert report.ports == door.report.ports
        assert door.ssh("run", "echo again").stdout == b"again\n"
    engine_agent.until(door.task_id, lambda r: r.sessions == 0)


def test_eight_sessions_at_once_all_answer(tools: Door):
    clients = [tools.going("run", "read line; echo $line") for _ in range(8)]
    entered = [client.__enter__() for client in clients]
    try:
        for number, client in enumerate(entered):
            out, _ = client.communicate(b"%d\n" % number, timeout=60)
            assert out == b"%d\n" % number
    finally:
        for client in clients:
            client.__exit__(None, None, None)
