"""What a person reads when they leave a run, come back to it, or cannot get in."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Hang, Lines, Status, WireServer

DEV = "type: dev-environment\nname: dev\n"


def stays(server: WireServer, run: wire.Json) -> None:
    """A run that runs and goes on."""
    server.on("runs/get_plan", wire.run_plan("dev")).on("runs/apply", run).on("runs/get", run)
    server.on("runs/watch", {"run": run, "seen": 1}, Hang()).on("logs/follow", Lines([], then="hang"))


@pytest.mark.parametrize(
    ("configuration", "way"),
    [
        ({"type": "dev-environment"}, "`dstack attach dev` gets back into it"),
        ({"ports": [{"local_port": None, "container_port": 80}]}, "`dstack attach dev` gets back into it"),
        ({}, "`dstack logs -f dev` shows its log"),
    ],
)
def test_who_leaves_a_run_is_told_the_way_back(cli: Cli, server: WireServer, configuration: dict, way: str):
    stays(server, wire.run("running", "dev", run_spec=wire.spec("dev", **configuration)))
    cli.write("dev.dstack.yml", DEV)
    with cli.on_terminal("apply", "-y", "-f", "dev.dstack.yml") as terminal:
        server.wait_for("runs/watch", 2)
        terminal.interrupt()
        assert way in terminal.expect("ends it")
        assert terminal.end() == 130


def test_to_attach_to_a_run_that_runs_tells_no_old_news(cli: Cli, server: WireServer):
    run = wire.run("running")
    server.on("runs/get", run).on("runs/watch", {"run": wire.run("done"), "seen": 1})
    server.on("logs/follow", Lines([wire.log(0, b"hi\n"), wire.log_end(3)]))
    result = cli.run("attach", "t1", "--logs")
    assert (result.code, result.out) == (0, "hi\n")
    assert "provisioning completed" not in result.err


def test_a_run_that_never_had_a_machine_ends_without_talk_of_its_end(cli: Cli, server: WireServer):
    over = wire.run("submitted", x_waiting_for="the job to end")
    over["jobs"][0]["job_submissions"][0]["termination_reason"] = "failed_to_start_due_to_no_capacity"
    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", wire.run("submitted"))
    last = wire.run("failed", placed=False, message="no capacity")
    server.on("runs/watch", {"run": over, "seen": 1}, {"run": last, "seen": 2})
    server.on("logs/follow", Lines([wire.log_end(0)]))
    result = cli.run("apply", "-y", "-f", "task.dstack.yml")
    assert result.code == 1
    assert "No capacity" in result.err
    assert "waiting for the job to end" not in result.err


@pytest.mark.parametrize("how", ["stopped", "aborted"])
def test_that_a_person_ended_the_run_needs_no_explanation(cli: Cli, server: WireServer, how: str):
    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", wire.run("submitted"))
    server.on("runs/watch", {"run": wire.run("terminated", message=how), "seen": 1})
    server.on("logs/follow", Lines([wire.log_end(0)]))
    result = cli.run("apply", "-y", "-f", "task.dstack.yml")
    assert result.code == 1
    assert how.capitalize() in result.err
    assert "hint:" not in result.err


def test_a_home_that_cannot_be_written_closes_the_way_in_and_not_the_run(cli: Cli, server: WireServer):
    run = wire.run("running", run_spec=wire.spec(type="dev-environment"))
    way = {"port": 1, "user": "root", "host_key": "ssh-ed25519 AAAA", "message": "", "host": None}
    run["jobs"][0]["job_submissions"][0]["x_attach"] = way
    (cli.home / ".dstack").write_text("in the way of the folder")
    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", run).on("/api/users/get_my_user", {"username": "a"})
    server.on("runs/watch", {"run": run, "seen": 1}, {"run": wire.run("done"), "seen": 2})
    server.on("logs/follow", Lines([wire.log(0, b"hi\n"), wire.log_end(3)]))
    result = cli.run("apply", "-y", "-f", "task.dstack.yml")
    assert (result.code, result.out.splitlines()[-1]) == (0, "hi")
    assert "note: no `ssh t1`:" in result.err


def test_a_project_that_does_not_exist_is_no_wrong_address(bare: Cli, server: WireServer):
    detail = [{"msg": "Project not found", "code": "resource_not_exists"}]
    server.on("/api/projects/nope/get", Status(404, {"detail": detail}))
    result = bare.run("project", "add", "--name", "nope", "--url", server.url, "--token", "t")
    assert result.code == 1
    assert f"There is no project nope at {server.url} that this token may see" in result.err


def test_https_to_a_plain_server_says_what_is_wrong_with_the_address(bare: Cli, server: WireServer):
    address = server.url.replace("http://", "https://")
    env = {"DSTACK_SERVER_URL": address, "DSTACK_TOKEN": "t"}
    result = bare.run("ps", env=env)
    assert result.code == 1
    assert f"the server speaks plain HTTP there: {server.url}" in result.err


def test_who_cancels_while_a_run_is_submitted_is_told_that_it_may_run(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", Hang())
    with cli.on_terminal("apply", "-y", "-f", "task.dstack.yml") as terminal:
        server.wait_for("runs/apply")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "the run may have been submitted; `dstack ps` shows it" in terminal.shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_into_a_full_disk_is_no_bug_of_ours(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("running")])
    with open("/dev/full", "w") as full:
        result = cli.run("ps", stdout=full)
    assert result.code == 1
    assert os.strerror(errno.ENOSPC) in result.err
    assert "this is a bug" not in result.err
