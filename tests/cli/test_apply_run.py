"""`dstack apply` and `dstack plan` of a task: the plan, the question, submission, detached and attached."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import Any

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Lines, Status, WireServer

REPORT = {
    "at": 0.0,
    "considered": 3,
    "fitting": 0,
    "drops": [
        {"stage": "gpu", "reason": "no such GPU", "count": 2, "nearest": "L4:24GB", "hint": None},
        {"stage": "price", "reason": "costs too much", "count": 1, "nearest": "$2.1", "hint": "max_price: 2.1"},
    ],
}


def planned(server: WireServer, **more: Any) -> None:
    server.on("runs/get_plan", wire.run_plan(**more))


def finishing(server: WireServer, last: dict, log: bytes = b"") -> None:
    """A run that is submitted, runs and ends as `last` says."""
    server.on("runs/apply", wire.run("submitted"))
    states = [{"run": state, "seen": n} for n, state in enumerate([wire.run("submitted"), wire.run("running"), last])]
    server.on("runs/watch", *states)
    server.on("logs/follow", Lines([wire.log(0, log), wire.log_end(len(log))] if log else [wire.log_end(0)]))


def test_the_plan_shows_what_is_asked_for_and_the_offers_with_prices(cli: Cli, server: WireServer):
    planned(server, offers=[wire.offer(0.16239999, backend="aws", gpus=1, spot=True, region="us-east-1")])
    result = cli.run("plan", "-f", "task.dstack.yml")
    assert result.code == 0
    assert " Resources      cpu=x86:2.. mem=8GB.. disk=100GB.. gpu=0..\n" in result.out
    assert " #  BACKEND          RESOURCES" in result.out
    assert "aws (us-east-1)  cpu=2 mem=8GB disk=100GB gpu=L4:24GB (spot)  local          $0.1624" in result.out


def test_an_answer_of_no_shows_the_plan_and_submits_nothing(cli: Cli, server: WireServer):
    planned(server)
    result = cli.run("apply", "-f", "task.dstack.yml", stdin="n\n")
    assert result.code == 0
    assert "INSTANCE TYPE" in result.out
    assert "Submit the run t1? [y/n]:" in result.err
    assert "Exiting..." in result.err
    assert server.bodies("runs/apply") == []


def test_the_end_of_the_input_is_a_no_with_a_hint(cli: Cli, server: WireServer):
    planned(server)
    result = cli.run("apply", "-f", "task.dstack.yml", stdin="")
    assert result.code == 0
    assert "-y" in result.err
    assert server.bodies("runs/apply") == []


def test_any_other_answer_is_asked_again(cli: Cli, server: WireServer):
    planned(server)
    result = cli.run("apply", "-f", "task.dstack.yml", stdin="maybe\nn\n")
    assert result.err.count("Submit the run t1?") == 2
    assert "Please enter Y or N" in result.err


def test_a_run_without_a_name_is_asked_about_as_a_new_one(cli: Cli, server: WireServer):
    planned(server, name=None)
    cli.write("unnamed.yml", "type: task\ncommands: [echo hi]\n")
    assert "Submit a new run?" in cli.run("apply", "-f", "unnamed.yml", stdin="n\n").err


def test_detached_the_run_is_submitted_and_left(cli: Cli, server: WireServer):
    planned(server)
    server.on("runs/apply", wire.run("submitted"))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "-d")
    assert result.code == 0
    assert "Run t1 submitted, detaching..." in result.out


def test_detached_with_json_prints_the_run_and_nothing_else(cli: Cli, server: WireServer):
    planned(server)
    server.on("runs/apply", wire.run("submitted"))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "-d", "--json")
    assert json.loads(result.out)["run_spec"]["run_name"] == "t1"


def test_flags_are_sent_on_top_of_the_file(cli: Cli, server: WireServer):
    planned(server)
    cli.run(
        *("plan", "-f", "task.dstack.yml", "--gpu", "A100:2", "--max-price", "2.5", "-e", "A=1", "--fleet", "f9"),
        *("--spot", "--max-duration", "2h", "--retry", "-n", "other", "--idle-duration", "10m", "-b", "aws"),
    )
    [body] = server.bodies("runs/get_plan")
    configuration = body["run_spec"]["configuration"]
    assert body["run_spec"]["run_name"] == "other"
    assert configuration["resources"]["gpu"]["name"] == ["A100"]
    assert configuration["max_price"] == 2.5
    assert configuration["env"] == {"A": "1"}
    assert configuration["spot_policy"] == "spot"
    assert configuration["max_duration"] == 7200
    assert configuration["retry"] is True
    assert configuration["idle_duration"] == 600
    assert configuration["backends"] == ["aws"]
    assert [item["name"] for item in configuration["fleets"]] == ["f9"]


def test_what_nobody_wrote_is_not_sent(cli: Cli, server: WireServer):
    planned(server)
    cli.run("plan", "-f", "task.dstack.yml")
    [body] = server.bodies("runs/get_plan")
    assert body["run_spec"]["configuration"] == {"type": "task", "name": "t1", "commands": ["echo hi"]}


def test_arguments_replace_their_place_in_the_commands(cli: Cli, server: WireServer):
    planned(server)
    cli.write("args.yml", "type: task\ncommands:\n  - train ${{ run.args }}\n")
    cli.run("plan", "-f", "args.yml", "--", "--name", "a b")
    [body] = server.bodies("runs/get_plan")
    assert body["run_spec"]["configuration"]["commands"] == ["train --name 'a b'"]


def test_the_file_may_come_from_standard_input(cli: Cli, server: WireServer):
    planned(server)
    server.on("runs/apply", wire.run("submitted"))
    result = cli.run("apply", "-f", "-", "-y", "-d", stdin="type: task\nname: t1\ncommands: [echo hi]\n")
    assert result.code == 0


def test_an_absolute_path_outside_the_working_directory_works(cli: Cli, server: WireServer):
    planned(server)
    path = cli.home / "elsewhere.yml"
    path.write_text("type: task\ncommands: [echo hi]\n")
    assert cli.run("plan", "-f", str(path)).code == 0


def test_local_files_are_uploaded_and_named_by_their_hash(cli: Cli, server: WireServer):
    cli.write("sub/files.yml", "type: task\ncommands: [python main.py]\nfiles:\n  - main.py\n")
    cli.write("sub/main.py", "print('hi')\n")
    unknown = {"detail": [{"msg": "Archive not found", "code": "resource_not_exists"}]}
    server.on("/api/files/get_archive_by_hash", Status(400, unknown), {"id": wire.an_id(40), "hash": "x"})
    server.on("/api/files/upload_archive", {"id": wire.an_id(40), "hash": "x"})
    planned(server)
    assert cli.run("plan", "-f", "sub/files.yml").code == 0
    sent = server.requests[1].raw
    assert b"print('hi')" in sent
    assert cli.run("plan", "-f", "sub/files.yml").code == 0
    for body in server.bodies("runs/get_plan"):
        [archive] = body["run_spec"]["file_archives"]
        assert (archive["id"], archive["path"]) == (wire.an_id(40), ".")
    assert len([one for one in server.requests if one.path.endswith("upload_archive")]) == 1
    [name] = {body["hash"] for body in server.bodies("/api/files/get_archive_by_hash")}
    [data] = [part.partition(b"\r\n\r\n")[2] for part in sent.split(b"\r\n--") if name.encode() in part]
    assert hashlib.sha256(data).hexdigest() == name


def test_a_project_without_fleets_is_told_how_to_make_one(cli: Cli, server: WireServer):
    planned(server, offers=[])
    server.on("fleets/list", [])
    result = cli.run("apply", "-f", "task.dstack.yml", stdin="n\n")
    assert result.code == 0
    assert "The project has no fleets. Create one before submitting a run." in result.out
    pasted = result.out[result.out.index("  printf") :].splitlines()[:2]
    assert pasted[1].strip() == "dstack apply -f fleet.dstack.yml -y"
    subprocess.run(["sh", "-c", pasted[0]], cwd=cli.cwd, check=True)
    assert (cli.cwd / "fleet.dstack.yml").read_text() == "type: fleet\nname: default\nnodes: 0..2\n"


def test_when_no_offer_fits_the_plan_says_why_and_what_would_help(cli: Cli, server: WireServer):
    planned(server, offers=[], x_report=REPORT)
    server.on("fleets/list", [wire.fleet()])
    out = cli.run("plan", "-f", "task.dstack.yml").out
    assert "2 x no such GPU (nearest: L4:24GB)" in out
    assert "What would help: max_price: 2.1" in out


def test_notices_are_told_and_refusals_end_the_command(cli: Cli, server: WireServer):
    planned(server, x_notices=["ports: not yet"], x_refusals=["volumes: not yet"])
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.code == 1
    assert "note: ports: not yet" in result.err
    assert "error: volumes: not yet" in result.err
    assert server.bodies("runs/apply") == []


def test_an_active_run_without_changes_needs_force(cli: Cli, server: WireServer):
    planned(server, current=wire.run("running"))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "-d")
    assert result.code == 0
    assert "Detected no changes." in result.err
    assert "Use --force to apply anyway." in result.err
    assert server.bodies("runs/apply") == []


def test_a_change_that_can_be_made_in_place_is_shown_and_made(cli: Cli, server: WireServer):
    current = wire.run("running") | {"run_spec": wire.spec("t1", priority=5)}
    planned(server, current=current, action="update")
    server.on("runs/apply", wire.run("running"))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "-d")
    assert "can be updated in-place:\n- Configuration properties:\n  - priority" in result.err
    assert "Run t1 updated, detaching..." in result.out
    assert server.bodies("runs/apply")[0]["plan"]["current_resource"]["id"] == current["id"]


def test_any_other_change_stops_and_overrides_the_run(cli: Cli, server: WireServer):
    planned(server, current=wire.run("running") | {"run_spec": wire.spec("t1", commands=["old"])})
    server.on("runs/stop", None)
    server.on("runs/watch", {"run": wire.run("terminating"), "seen": 1}, {"run": wire.run("terminated"), "seen": 2})
    server.on("runs/apply", wire.run("submitted"))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "-d")
    assert result.code == 0
    assert "cannot be updated in-place" in result.err
    assert server.bodies("runs/stop") == [{"runs_names": ["t1"], "abort": False}]
    assert server.bodies("runs/apply")[0]["plan"]["current_resource"]["status"] == "terminated"


def test_a_finished_run_of_the_same_name_is_replaced_without_a_word(cli: Cli, server: WireServer):
    planned(server, current=wire.run("failed", exit_status=1))
    server.on("runs/apply", wire.run("submitted"))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "-d")
    assert "already exists" not in result.err
    assert result.code == 0


def test_attached_the_log_goes_to_stdout_byte_by_byte_and_talk_to_stderr(cli: Cli, server: WireServer):
    planned(server)
    log = b"\x1b[31mred\x1b[0m\r\nno end"
    finishing(server, wire.run("done", exit_status=0), log)
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.code == 0
    assert result.out.encode().endswith(b"\n\n" + log.replace(b"\r\n", b"\n"))  # text mode reads line ends as one
    assert "t1 provisioning completed (running)" in result.err
    assert result.err.endswith("Exited (0)\n")


def test_the_exit_code_of_the_job_is_that_of_the_command(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("failed", exit_status=7))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.code == 7
    assert "Exited (7)" in result.err


def test_a_run_that_could_not_start_exits_with_1_and_the_reason(cli: Cli, server: WireServer):
    planned(server)
    failed = wire.run("failed", message="no capacity", placed=False, error="No offers matching the run requirements")
    finishing(server, failed)
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.code == 1
    assert "No capacity" in result.err
    assert "No offers matching the run requirements" in result.err


def test_it_says_what_the_run_is_waiting_for(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("done", exit_status=0))
    waiting = wire.run("submitted", x_waiting_for="a free instance in fleet f1")
    server.on("runs/watch", {"run": waiting, "seen": 1}, {"run": wire.run("done", exit_status=0), "seen": 2})
    assert (
        "t1: submitted (waiting for a free instance in fleet f1)" in cli.run("apply", "-f", "task.dstack.yml", "-y").err
    )


def test_a_log_that_is_cut_goes_on_where_it_was(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("done", exit_status=0))
    server.on("logs/follow", Lines([wire.log(0, b"one\n")], "cut"), Lines([wire.log(4, b"two\n"), wire.log_end(8)]))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.out.endswith("one\ntwo\n")
    assert [body["offset"] for body in server.bodies("logs/follow")] == [0, 4]


def test_missing_bytes_of_the_log_are_told(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("done", exit_status=0))
    server.on("logs/follow", Lines([wire.log(0, b"one\n"), wire.log_end(4, lost=12)]))
    assert "12 bytes of the log are missing" in cli.run("apply", "-f", "task.dstack.yml", "-y").err


def test_a_server_that_goes_away_is_told_and_waited_for(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("done", exit_status=0))
    server.on(
        "runs/watch",
        {"run": wire.run("running"), "seen": 1},
        Status(503),
        {"run": wire.run("done", exit_status=0), "seen": 2},
    )
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.code == 0
    assert "trying again for 5 minutes" in result.err
    assert "The server answers again" in result.err


def test_a_token_that_ends_meanwhile_ends_the_command(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("running"))
    server.on("runs/watch", Status(403, {"detail": {"msg": "Invalid token", "code": None}}))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y")
    assert result.code == 1
    assert "Invalid token" in result.err


def test_a_retried_run_shows_the_log_of_the_next_attempt_too(cli: Cli, server: WireServer):
    planned(server)
    again = wire.run("running")
    again["jobs"][0]["job_submissions"][0]["id"] = wire.an_id(8)
    done = wire.run("done", exit_status=0)
    done["jobs"][0]["job_submissions"][0]["id"] = wire.an_id(8)
    finishing(server, done)
    server.on(
        "runs/watch", {"run": wire.run("running"), "seen": 1}, {"run": again, "seen": 2}, {"run": done, "seen": 3}
    )
    server.on(
        "logs/follow",
        lambda request: Lines(
            [wire.log(0, b"first\n"), wire.log_end(6)]
            if request.body["job_submission_id"] == wire.an_id(7)
            else [wire.log(0, b"second\n"), wire.log_end(7)]
        ),
    )
    assert cli.run("apply", "-f", "task.dstack.yml", "-y").out.endswith("first\nsecond\n")


def test_attached_with_json_prints_the_finished_run_only(cli: Cli, server: WireServer):
    planned(server)
    finishing(server, wire.run("failed", exit_status=3))
    result = cli.run("apply", "-f", "task.dstack.yml", "-y", "--json")
    assert json.loads(result.out)["status"] == "failed"
    assert result.code == 3
