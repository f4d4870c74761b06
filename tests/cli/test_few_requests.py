"""How often a command asks the server: each question is a wait for the person, and load for the server."""

from __future__ import annotations

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import WireServer


def asked(server: WireServer) -> list[str]:
    return [request.path.rsplit("/", 2)[-2] + "/" + request.path.rsplit("/", 1)[-1] for request in server.requests]


def test_a_detached_apply_asks_for_the_plan_and_submits(cli: Cli, server: WireServer):
    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", wire.run("submitted"))
    assert cli.run("apply", "-f", "task.dstack.yml", "-y", "-d").code == 0
    assert asked(server) == ["runs/get_plan", "runs/apply"]


def test_a_run_is_deleted_by_its_file_after_one_look(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done")).on("runs/delete", {})
    assert cli.run("delete", "-f", "task.dstack.yml", "-y").code == 0
    assert asked(server) == ["runs/get", "runs/delete"]


def test_to_stop_a_run_is_a_look_and_a_word(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running")).on("runs/stop", {})
    assert cli.run("stop", "t1", "-y").code == 0
    assert asked(server) == ["runs/get", "runs/stop"]
