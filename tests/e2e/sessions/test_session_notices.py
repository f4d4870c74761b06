"""What the agent says to people who are in a task, and in its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.agentapi.wire import StopRequest
from support.sessions import TOOLS_IMAGE, Door, SessionAgent, Terminal, until

WORDS = "It stops in 5m"
SHOWN = r"\[dstack\] It stops in 5m"


def logged(agent: SessionAgent, task: str) -> bytes:
    return agent.ask(lambda client: client.logs(task, 0)).data


@pytest.mark.docker
@pytest.mark.root
def test_a_notice_is_on_every_terminal_in_a_container_and_in_its_log(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh("echo job; sleep 1000"))
    terminals = [entered(door), entered(door)]
    engine_agent.ask(lambda client: client.notice(door.task_id, WORDS + "\x1b[2J\n"))
    for terminal in terminals:
        terminal.until(r"\[dstack\] It stops in 5m \[2J ")
    until(lambda: b"[dstack] It stops in 5m" in logged(engine_agent, door.task_id), "the log")
    engine_agent.ask(lambda client: client.stop(door.task_id, StopRequest(grace_s=20, reason="max_duration_exceeded")))
    terminals[0].until(r"being stopped \(max duration exceeded\); what still runs in \d+ s is killed")
    for terminal in terminals:
        terminal.hang_up()


@pytest.mark.root
def test_beside_a_process_a_notice_is_on_the_terminal_and_in_the_log(beside: Door):
    terminal = entered(beside)
    beside.agent.ask(lambda client: client.notice(beside.task_id, WORDS))
    terminal.until(SHOWN)
    until(lambda: b"[dstack] It stops in 5m\n" in logged(beside.agent, beside.task_id), "the log")
    terminal.hang_up()


def test_a_file_that_a_job_prints_to_gets_no_notice(process_agent: SessionAgent, tmp_path: Path):
    file = tmp_path / "printed"
    task = process_agent.task(f"exec > {file}; echo job; exec sleep 1000")
    until(lambda: file.exists() and file.read_text() == "job\n", "the job's file")
    process_agent.ask(lambda client: client.notice(task, WORDS))
    assert file.read_text() == "job\n"
    process_agent.end(task)


@pytest.mark.docker
@pytest.mark.root
def test_a_job_that_ends_at_once_when_it_is_stopped_still_says_so_to_who_is_in(engine_agent: SessionAgent, fresh):
    door = engine_agent.door(fresh("sleep 1000", image=TOOLS_IMAGE))
    terminal = entered(door)
    engine_agent.ask(lambda client: client.stop(door.task_id, StopRequest(grace_s=0, reason="terminated_by_user")))
    terminal.until(r"\[dstack\] The run is being stopped \(terminated by user\)")
    terminal.exit_code()


def entered(door: Door) -> Terminal:
    terminal = Terminal(door)
    terminal.type("echo rea''dy\n")
    terminal.until("ready")
    return terminal
