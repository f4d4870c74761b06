"""Small parts of the agent as plain functions: states, names of images, pull progress, where the engine is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from dstack.agent import daemon
from dstack.agent.docker_client import engine_url
from dstack.agent.docker_images import Progress, split_name
from dstack.agent.docker_spec import container_body
from dstack.agent.docker_terminal import onto_terminal
from dstack.agent.machine import TRANSITIONS, Ending, IllegalTransition, new_task, stored_task
from dstack.agentapi.wire import (
    CREATING,
    ENDED,
    EXITED,
    FAILED,
    LOG_QUOTA,
    PENDING,
    PULLING,
    RUNNING,
    TaskSpec,
    to_json,
)


def task(tmp_path):
    return new_task(TaskSpec(id="t"), str(tmp_path), "boot")


def test_no_state_follows_an_end():
    assert all(not TRANSITIONS[state] for state in ENDED)


def test_every_state_can_reach_an_end():
    assert all(FAILED in after for state, after in TRANSITIONS.items() if state not in ENDED)


def test_a_resumed_start_does_not_go_back(tmp_path):
    t = task(tmp_path)
    assert t.move(CREATING) and not t.move(PULLING) and not t.move(CREATING)
    assert t.report.state == CREATING


def test_a_move_after_the_end_is_a_fault(tmp_path):
    t = task(tmp_path)
    t.move(CREATING)
    t.end(Ending(0))
    with pytest.raises(IllegalTransition):
        t.move(RUNNING)


def test_a_stop_explains_the_end_and_keeps_the_exit_code(tmp_path):
    t = task(tmp_path)
    t.order_stop(10, "stopped", "by ann")
    t.end(Ending(130))
    assert (t.report.state, t.report.reason, t.report.message, t.report.exit_code) == (FAILED, "stopped", "by ann", 130)


def test_a_limit_that_ended_the_job_before_its_stop_is_the_reason(tmp_path):
    t = task(tmp_path)
    t.order_stop(10, "stopped", "")
    t.end(Ending(137, LOG_QUOTA, "too much", failed=True))
    assert (t.report.state, t.report.reason) == (FAILED, LOG_QUOTA)


def test_an_exit_is_the_jobs_own_also_when_memory_was_its_cause(tmp_path):
    t = task(tmp_path)
    t.move(CREATING)
    t.end(Ending(137, "oom", "too much memory"))
    assert (t.report.state, t.report.reason) == (EXITED, "oom")


def test_a_stored_task_is_the_same_task(tmp_path):
    t = task(tmp_path)
    t.memo["container"] = "abc"
    t.order_stop(10, "stopped", "by ann")
    again = stored_task(str(tmp_path / "t"), to_json(t.spec), json.loads(json.dumps(t.to_state())))
    assert (again.report, again.memo, again.spec) == (t.report, t.memo, t.spec)
    assert again.stop is not None and (again.stop.grace_s, again.stop.reason, again.stop.message) == (
        10,
        "stopped",
        "by ann",
    )


def test_the_grace_of_a_stop_is_not_stretched_by_a_clock_that_was_set_back_while_no_agent_ran(tmp_path):
    t = task(tmp_path)
    t.order_stop(30, "stopped", "by ann")
    state = json.loads(json.dumps(t.to_state()))
    state["stop"]["kill_at"] += 24 * 3600.0  # as a day earlier sees it
    again = stored_task(str(tmp_path / "t"), None, state)
    assert again.stop is not None and 0 < again.stop.left_s <= 30


def test_a_stop_whose_grace_was_over_before_the_agent_was_back_is_due(tmp_path):
    t = task(tmp_path)
    t.order_stop(30, "stopped", "by ann")
    state = json.loads(json.dumps(t.to_state()))
    state["stop"]["kill_at"] -= 60
    again = stored_task(str(tmp_path / "t"), None, state)
    assert again.stop is not None and again.stop.left_s == 0


def test_a_job_that_ended_before_its_start_was_stored_has_exited(tmp_path):
    t = task(tmp_path)
    t.end(Ending(0))
    assert t.report.state == EXITED


def test_a_new_task_is_pending(tmp_path):
    assert task(tmp_path).report.state == PENDING


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("ubuntu", ("ubuntu", "latest")),
        ("ubuntu:22.04", ("ubuntu", "22.04")),
        ("host:5000/a/b", ("host:5000/a/b", "latest")),
        ("host:5000/a/b:1", ("host:5000/a/b", "1")),
        ("a/b:1@sha256:00", ("a/b", "sha256:00")),
        ("host:5000/b@sha256:00", ("host:5000/b", "sha256:00")),
    ],
)
def test_an_image_is_split_into_name_and_tag(image, parts):
    assert split_name(image) == parts


def test_progress_sums_layers_and_knows_when_the_total_is_final():
    progress = Progress()
    progress.note({"status": "Pulling fs layer", "id": "a"})
    progress.note({"status": "Pulling fs layer", "id": "b"})
    progress.note({"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}})
    assert (progress.sum().downloaded_bytes, progress.sum().total_bytes, progress.sum().total_final) == (10, 100, False)
    progress.note({"status": "Downloading", "id": "b", "progressDetail": {"current": 5, "total": 50}})
    progress.note({"status": "Pull complete", "id": "a"})
    done = progress.sum()
    assert (done.downloaded_bytes, done.extracted_bytes, done.total_bytes, done.total_final) == (105, 100, 150, True)


def test_progress_counts_layers_whose_download_a_busy_engine_did_not_tell_of():
    progress = Progress()
    for layer in ("extracted", "silent"):
        progress.note({"status": "Pulling fs layer", "id": layer})
    progress.note({"status": "Extracting", "id": "extracted", "progressDetail": {"current": 10, "total": 100}})
    assert (progress.sum().downloaded_bytes, progress.sum().total_final) == (100, False)
    for layer in ("extracted", "silent"):
        progress.note({"status": "Pull complete", "id": layer})
    done = progress.sum()
    assert (done.downloaded_bytes, done.extracted_bytes, done.total_bytes, done.total_final) == (100, 100, 100, True)


def test_bash_loads_the_persons_environment_and_gives_way_to_one_that_is_quiet(tmp_path):
    body = container_body(TaskSpec(id="t", image="i", script="echo $HOME", shell="/bin/bash"), "s", "/w", True)
    assert [*body["Entrypoint"], *body["Cmd"]] == [
        "/bin/bash",
        "-i",
        "-c",
        'exec "$0" -c "$1"',
        "/bin/bash",
        "echo $HOME",
    ]


def test_ports_are_published_on_loopback_only():
    host = container_body(TaskSpec(id="t", image="i", ports=[80]), "s", "", True)["HostConfig"]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_memory_is_limited_without_swap():
    host = container_body(TaskSpec(id="t", image="i", memory_limit_bytes=5), "s", "", True)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (5, 5)


def test_the_engine_is_that_of_the_current_context(tmp_path, monkeypatch):
    digest = hashlib.sha256(b"colima").hexdigest()
    meta = tmp_path / "contexts" / "meta" / digest
    meta.mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"currentContext": "colima"}')
    (meta / "meta.json").write_text('{"Endpoints": {"docker": {"Host": "unix:///colima.sock"}}}')
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert engine_url() == "unix:///colima.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://1.2.3.4:2375")
    assert engine_url() == "tcp://1.2.3.4:2375"


def test_the_pid_file_is_never_seen_empty(tmp_path):
    daemon.write_pid(str(tmp_path))
    before = os.stat(tmp_path / "agent.pid").st_ino
    daemon.write_pid(str(tmp_path))
    assert os.stat(tmp_path / "agent.pid").st_ino != before  # replaced as a whole, not written again
    assert os.listdir(tmp_path) == ["agent.pid"]


def test_a_shell_whose_terminal_cannot_be_opened_prints_where_it_printed_before():
    argv = onto_terminal("/bin/sh", ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    done = subprocess.run(argv, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
