"""Fleets, events, secrets, projects and the server command."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from support import wire_json as wire
from support.cli_process import Cli
from support.ports import free_port
from support.wire_server import Status, WireServer

UNKNOWN = Status(400, {"detail": [{"msg": "not found", "code": "resource_not_exists"}]})


def test_the_plan_of_a_fleet_has_the_columns_of_the_documents(cli: Cli, server: WireServer):
    aws = wire.offer(0.010052, backend="aws", region="us-west4", spot=True)
    server.on("fleets/get_plan", wire.fleet_plan(offers=[aws, wire.offer()]))
    out = cli.run("plan", "-f", "fleet.dstack.yml").out
    lines = out[out.index(" #") :].splitlines()
    assert lines[0].split() == ["#", "BACKEND", "REGION", "RESOURCES", "SPOT", "PRICE"]
    assert " 1  aws      us-west4  2xCPU, 8GB, 100GB (disk)  yes   $0.010052" in lines
    assert "Nodes          min=0 target=0 max=2" in out


def test_a_new_fleet_is_created_and_its_instances_are_waited_for(cli: Cli, server: WireServer):
    server.on("fleets/get_plan", wire.fleet_plan())
    server.on("fleets/apply", wire.fleet("f1", "pending"))
    server.on("fleets/get", wire.fleet("f1", "provisioning"), wire.fleet("f1", "idle"))
    result = cli.run("apply", "-f", "fleet.dstack.yml", stdin="y\n")
    assert result.code == 0
    assert "Fleet f1 does not exist yet." in result.err
    table = result.out[result.out.index(" FLEET") :].splitlines()
    assert table[0].split() == ["FLEET", "INSTANCE", "BACKEND", "GPU", "PRICE", "STATUS", "CREATED"]
    assert table[1].split()[:6] == ["f1", "0", "local", "-", "$0", "idle"]


def test_an_answer_of_no_creates_no_fleet(cli: Cli, server: WireServer):
    server.on("fleets/get_plan", wire.fleet_plan())
    result = cli.run("apply", "-f", "fleet.dstack.yml", stdin="n\n")
    assert result.code == 0
    assert "Exiting..." in result.err
    assert server.bodies("fleets/apply") == []


def test_an_instance_that_fails_fails_the_command_and_shows_why(cli: Cli, server: WireServer):
    failed = wire.fleet("f1", "terminated")
    failed["instances"][0] |= {"termination_reason": "error", "termination_reason_message": "disk full"}
    server.on("fleets/get_plan", wire.fleet_plan()).on("fleets/apply", failed)
    result = cli.run("apply", "-f", "fleet.dstack.yml", "-y")
    assert result.code == 1
    assert "disk full" in result.out
    assert "Some instances failed" in result.err


def test_instances_that_are_not_even_there_yet_are_waited_for(cli: Cli, server: WireServer):
    empty, made = wire.fleet(), wire.fleet("f1", "idle")
    for item in (empty, made):
        item["spec"] = wire.fleet_spec("f1", nodes={"min": 1, "target": 1, "max": 1})
    server.on("fleets/get_plan", wire.fleet_plan()).on("fleets/apply", empty).on("fleets/get", empty, made)
    result = cli.run("apply", "-f", "fleet.dstack.yml", "-y")
    assert result.code == 0
    assert "idle" in result.out


def test_a_fleet_that_cannot_have_its_instances_fails_with_the_reason(cli: Cli, server: WireServer):
    spec = wire.fleet_spec("f1", nodes={"min": 1, "target": 1, "max": 1})
    stuck = wire.fleet(spec=spec, status_message="No offers match the fleet")
    server.on("fleets/get_plan", wire.fleet_plan(offers=[])).on("fleets/apply", stuck)
    result = cli.run("apply", "-f", "fleet.dstack.yml", "-y")
    assert result.code == 1
    assert "error: No offers match the fleet" in result.err
    assert "retried in the background" in result.err


def test_a_fleet_that_is_the_same_needs_force(cli: Cli, server: WireServer):
    server.on("fleets/get_plan", wire.fleet_plan(current_resource=wire.fleet()))
    result = cli.run("apply", "-f", "fleet.dstack.yml", "-y")
    assert result.code == 0
    assert "No configuration changes detected. Use --force to apply anyway." in result.err


def test_a_fleet_is_changed_in_place_where_that_is_possible(cli: Cli, server: WireServer):
    current = wire.fleet() | {"spec": wire.fleet_spec("f1", nodes={"min": 0, "target": 0, "max": 9})}
    server.on("fleets/get_plan", wire.fleet_plan(current_resource=current, action="update"))
    server.on("fleets/apply", wire.fleet())
    result = cli.run("apply", "-f", "fleet.dstack.yml", "-y")
    assert "  - nodes" in result.err
    assert server.bodies("fleets/apply")[0]["plan"]["current_resource"]["name"] == "f1"


def test_a_fleet_that_is_changed_is_sent_back_without_its_instances(cli: Cli, server: WireServer):
    current = wire.fleet("f1", "idle", "busy") | {
        "spec": wire.fleet_spec("f1", nodes={"min": 0, "target": 0, "max": 9})
    }
    server.on("fleets/get_plan", wire.fleet_plan(current_resource=current, action="update"))
    server.on("fleets/apply", wire.fleet())
    cli.run("apply", "-f", "fleet.dstack.yml", "-y")
    assert server.bodies("fleets/apply")[0]["plan"]["current_resource"] == current | {"instances": []}


def test_any_other_change_of_a_fleet_makes_it_anew(cli: Cli, server: WireServer):
    current = wire.fleet() | {"spec": wire.fleet_spec("f1", idle_duration=5)}
    server.on("fleets/get_plan", wire.fleet_plan(current_resource=current))
    server.on("fleets/delete", None).on("fleets/get", UNKNOWN).on("fleets/apply", wire.fleet())
    result = cli.run("apply", "-f", "fleet.dstack.yml", stdin="y\n")
    assert "Re-create the fleet? [y/n]:" in result.err
    assert server.bodies("fleets/delete") == [{"names": ["f1"]}]
    assert result.code == 0


def test_detached_a_fleet_is_submitted_and_left(cli: Cli, server: WireServer):
    server.on("fleets/get_plan", wire.fleet_plan()).on("fleets/apply", wire.fleet("f1", "pending"))
    result = cli.run("apply", "-f", "fleet.dstack.yml", "-y", "-d")
    assert "Fleet configuration submitted. Exiting..." in result.out


def test_fleets_are_listed_with_a_row_for_each_instance(cli: Cli, server: WireServer):
    server.on("fleets/list", [wire.fleet("f1", "idle", "busy")])
    rows = [line.split() for line in cli.run("fleet").out.splitlines()]
    assert rows[1][:3] == ["f1", "0", "local"]
    assert rows[2][:2] == ["1", "local"]


def test_without_fleets_the_list_says_how_to_make_one(cli: Cli, server: WireServer):
    server.on("fleets/list", [])
    assert "The project has no fleets." in cli.run("fleet").err


def test_details_of_a_fleet_for_people_and_for_programs(cli: Cli, server: WireServer):
    server.on("fleets/get", wire.fleet("f1", "idle"))
    assert "Status   active" in cli.run("fleet", "get", "f1").out
    assert json.loads(cli.run("fleet", "get", "f1", "--json").out)["name"] == "f1"


def test_one_instance_is_deleted_by_number_or_id(cli: Cli, server: WireServer):
    whole, less = wire.fleet("f1", "idle", "idle"), wire.fleet("f1", "terminated", "terminated")
    server.on("fleets/get", whole, less, whole, whole, less).on("fleets/delete_instances", None)
    assert cli.run("fleet", "delete", "f1", "-i", "0", "-y").out == "Fleet f1 instances deleted\n"
    cli.run("fleet", "delete-instance", "f1", wire.an_id(21), "-y")
    assert [body["instance_nums"] for body in server.bodies("fleets/delete_instances")] == [[0], [1]]


def test_an_instance_that_is_not_there_is_told(cli: Cli, server: WireServer):
    server.on("fleets/get", wire.fleet("f1", "idle"))
    result = cli.run("fleet", "delete", "f1", "-i", "7", "-y")
    assert result.code == 1
    assert "Fleet f1 has no instance 7" in result.err


def test_events_are_shown_oldest_first_a_line_each(cli: Cli, server: WireServer):
    def event(number: int, actor: str | None) -> dict:
        return {
            "id": wire.an_id(number),
            "message": f"event {number}",
            "recorded_at": f"2026-01-31T12:00:0{number}Z",
            "actor_user": actor,
            "targets": [{"type": "run", "id": wire.an_id(3), "name": "t1"}],
        }

    server.on("/api/projects/main/get", {"project_id": wire.an_id(9)})
    server.on("/api/events/list", [event(2, None), event(1, "admin")])
    result = cli.run("event", env={"TZ": "UTC"})
    assert result.out.splitlines() == [
        "[2026-01-31 12:00:01] [👤admin] [run t1] event 1",
        "[2026-01-31 12:00:02] [run t1] event 2",
    ]
    assert server.bodies("/api/events/list")[0]["within_projects"] == [wire.an_id(9)]


def test_events_of_one_run_are_asked_for_by_its_id(cli: Cli, server: WireServer):
    server.on("/api/projects/main/get", {"project_id": wire.an_id(9)})
    server.on("runs/get", wire.run("done")).on("/api/events/list", [])
    assert cli.run("event", "--target-run", "t1", "--json").code == 0
    assert server.bodies("/api/events/list")[0]["target_runs"] == [wire.an_id(3)]


def test_a_secret_is_read_from_standard_input(cli: Cli, server: WireServer):
    server.on("secrets/create_or_update", {"id": wire.an_id(1), "name": "s1"})
    assert cli.run("secret", "set", "s1", stdin="line 1\nline 2\n").out == "OK\n"
    assert server.bodies("secrets/create_or_update") == [{"name": "s1", "value": "line 1\nline 2"}]


def test_a_secret_without_a_value_is_refused(cli: Cli):
    assert cli.run("secret", "set", "s1", stdin="").code == 2


def test_secrets_are_listed_without_their_values(cli: Cli, server: WireServer):
    server.on("secrets/list", [{"id": wire.an_id(1), "name": "s1", "value": None}])
    assert "******" in cli.run("secret").out


def test_a_project_is_added_after_the_server_accepted_it(bare: Cli, server: WireServer):
    server.on("/api/projects/main/get", {"project_name": "main"})
    result = bare.run("project", "add", "--name", "main", "--url", server.url, "--token", "tok-1")
    path = bare.home / ".dstack" / "config.yml"
    assert result.out == "OK\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "tok-1" in path.read_text()
    assert "tok-1" not in bare.run("project").out


def test_a_project_with_a_wrong_token_is_not_added(bare: Cli, server: WireServer):
    server.on("/api/projects/main/get", Status(403, {"detail": {"msg": "Invalid token", "code": None}}))
    result = bare.run("project", "add", "--name", "main", "--url", server.url, "--token", "nope")
    assert result.code == 1
    assert not (bare.home / ".dstack" / "config.yml").exists()


def test_the_second_project_becomes_the_default_when_asked(bare: Cli, server: WireServer):
    for name in ("main", "other"):
        server.on(f"/api/projects/{name}/get", {"project_name": name})
        bare.run("project", "add", "--name", name, "--url", server.url, "--token", "t", stdin="n\n")
    assert [e["default"] for e in json.loads(bare.run("project", "--json").out)["projects"]] == [True, False]
    assert bare.run("project", "set-default", "other").out == "OK\n"
    assert [e["default"] for e in json.loads(bare.run("project", "--json").out)["projects"]] == [False, True]


def test_a_project_is_forgotten(bare: Cli, server: WireServer):
    server.on("/api/projects/main/get", {"project_name": "main"})
    bare.run("project", "add", "--name", "main", "--url", server.url, "--token", "t")
    assert bare.run("project", "delete", "--name", "main", "-y").out == "OK\n"
    assert json.loads(bare.run("project", "--json").out)["projects"] == []
    assert bare.run("project", "delete", "--name", "main", "-y").code == 1


def test_the_project_option_chooses_among_those_configured(bare: Cli, server: WireServer):
    server.on("/api/projects/main/get", {"project_name": "main"}).on("/api/runs/list", [])
    bare.run("project", "add", "--name", "main", "--url", server.url, "--token", "t")
    assert bare.run("ps", "--project", "main").code == 0
    result = bare.run("ps", env={"DSTACK_PROJECT": "nope"})
    assert result.code == 1
    assert "Project nope is not configured" in result.err


def test_a_port_that_is_taken_is_told(bare: Cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = bare.run("server", "-p", str(taken.getsockname()[1]), "-n")
    assert result.code == 1
    assert "another program uses the port" in result.err


def test_the_token_of_a_server_is_not_in_its_command_line(bare: Cli):
    process = bare.start("server", "-p", str(free_port()), "--token", "t0ken", "-n")
    assert process.stdout and process.stderr
    try:
        started = any("is running at" in line for line in process.stdout)
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert started
    assert b"dstack.server" in line
    assert b"t0ken" not in line
