"""`ps`, `logs`, `run`, `stop`, `delete`, `why`: looking at runs and ending them."""

from __future__ import annotations

import json

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Lines, Status, WireServer

UNKNOWN = Status(400, {"detail": [{"msg": "not found", "code": "resource_not_exists"}]})
LINES = b"first \x1b[31mloss=3\x1b[0m\nsecond\nthird loss=1\n"


def logged(server: WireServer, *pieces: bytes) -> None:
    server.on("runs/get", wire.run("done"))
    offset, items = 0, []
    for number, data in enumerate(pieces):
        items.append(wire.log(offset, data, at=1769860800.0 + number))
        offset += len(data)
    server.on("logs/follow", Lines([*items, wire.log_end(offset)]))


def test_active_runs_are_listed(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("running")])
    out = cli.run("ps").out
    header, row = out.splitlines()
    assert header.split() == ["NAME", "BACKEND", "GPU", "PRICE", "STATUS", "SUBMITTED"]
    assert row.split()[:4] == ["t1", "local", "$0", "running"]


def test_without_active_runs_the_last_one_is_listed(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [], [wire.run("done")])
    assert "exited (0)" in cli.run("ps").out
    assert [(b["only_active"], b["limit"]) for b in server.bodies("/api/runs/list")] == [(True, 100), (False, 1)]


def test_more_runs_than_a_page_are_asked_for_page_by_page(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("done")] * 100, [wire.run("done")] * 20)
    assert len(cli.run("ps", "-n", "150").out.splitlines()) == 121
    assert [body["prev_run_id"] for body in server.bodies("/api/runs/list")] == [None, wire.an_id(3)]


def test_the_longer_table_has_resources_and_errors(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("failed", exit_status=1, error="runner error")])
    out = cli.run("ps", "-v").out
    assert "RESOURCES" in out
    assert "cpu=2 mem=8GB disk=100GB" in out
    assert "runner error" in out


def test_runs_as_json_are_one_document_on_one_line(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("running")])
    out = cli.run("ps", "--json").out
    assert out.count("\n") == 1
    assert json.loads(out)["runs"][0]["status"] == "running"
    assert json.loads(out)["project"] == "main"


def test_json_and_watch_exclude_each_other(cli: Cli):
    result = cli.run("ps", "--json", "-w")
    assert result.code == 2
    assert "not supported together with --watch" in result.err


def test_the_log_is_printed_as_it_was_written(cli: Cli, server: WireServer):
    logged(server, LINES[:10], LINES[10:])
    assert cli.run("logs", "t1").out.encode() == LINES
    assert server.bodies("logs/follow")[0]["wait"] is False


def test_following_asks_the_server_to_wait_for_more(cli: Cli, server: WireServer):
    logged(server, LINES)
    assert cli.run("logs", "-f", "t1").code == 0
    assert server.bodies("logs/follow")[0]["wait"] is True


def test_lines_are_searched_without_their_colours_and_across_pieces(cli: Cli, server: WireServer):
    logged(server, LINES[:14], LINES[14:])
    assert cli.run("logs", "t1", "--grep", "^first loss=[0-9]$").out == "first \x1b[31mloss=3\x1b[0m\n"


def test_a_wrong_expression_is_a_usage_error(cli: Cli):
    result = cli.run("logs", "t1", "--grep", "(")
    assert result.code == 2
    assert "not a regular expression" in result.err


def test_lines_can_carry_their_time(cli: Cli, server: WireServer):
    logged(server, b"one\n", b"two\n")
    out = cli.run("logs", "t1", "--timestamps", env={"TZ": "UTC"}).out
    assert out.splitlines() == ["2026-01-31 12:00:00.000 one", "2026-01-31 12:00:01.000 two"]


def test_only_what_is_newer_than_an_instant_is_shown(cli: Cli, server: WireServer):
    logged(server, b"one\n", b"two\n")
    assert cli.run("logs", "t1", "--since", "2026-01-31T12:00:01Z").out == "two\n"


@pytest.mark.parametrize("since", ["yesterday", "2026-01-31T12:00:01"])
def test_an_instant_that_is_none_is_a_usage_error(cli: Cli, server: WireServer, since: str):
    logged(server, b"one\n")
    result = cli.run("logs", "t1", "--since", since)
    assert result.code == 2
    assert f"Invalid datetime format: {since}" in result.err


def test_lines_as_json_are_objects_with_time_and_text(cli: Cli, server: WireServer):
    logged(server, LINES)
    items = [json.loads(line) for line in cli.run("logs", "t1", "--json").out.splitlines()]
    assert items[0] == {"timestamp": "2026-01-31T12:00:00Z", "message": "first loss=3"}


def test_a_job_that_does_not_exist_is_told_with_those_that_do(cli: Cli, server: WireServer):
    logged(server, b"one\n")
    result = cli.run("logs", "t1", "--job", "3")
    assert result.code == 1
    assert "has no job matching job=3" in result.err
    assert "t1-0-0" in result.err


def test_the_agents_own_log_is_read_page_by_page(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done"))
    event = {"timestamp": wire.SUBMITTED_AT, "log_source": "stdout", "message": "b25lCg=="}
    server.on("logs/poll", {"logs": [event], "next_token": "n"}, {"logs": [event], "next_token": None})
    assert cli.run("logs", "t1", "-d").out == "one\none\n"
    assert [body["next_token"] for body in server.bodies("logs/poll")] == [None, "n"]


def test_details_of_a_run_for_people_and_for_programs(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running", x_waiting_for=None))
    assert "Status     running" in cli.run("run", "get", "t1").out
    assert json.loads(cli.run("run", "get", "t1", "--json").out)["status"] == "running"


def test_an_id_that_is_none_is_a_usage_error(cli: Cli):
    result = cli.run("run", "get", "--id", "7")
    assert result.code == 2
    assert "Invalid UUID format: 7" in result.err


def test_a_run_is_stopped_after_a_yes(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running")).on("runs/stop", None)
    result = cli.run("stop", "t1", stdin="y\n")
    assert (result.code, result.out) == (0, "Stopped\n")
    assert server.bodies("runs/stop") == [{"runs_names": ["t1"], "abort": False}]


def test_a_run_is_aborted_without_a_question(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running")).on("runs/stop", None)
    assert cli.run("stop", "t1", "-x", "-y").out == "Aborted\n"
    assert server.bodies("runs/stop")[0]["abort"] is True


def test_stopping_what_is_finished_fails(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done"))
    result = cli.run("stop", "t1", "-y")
    assert result.code == 1
    assert "is finished (exited (0))" in result.err


def test_a_finished_run_is_deleted_by_its_file(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done")).on("runs/delete", None)
    assert cli.run("delete", "-f", "task.dstack.yml", "-y").out == "Run t1 deleted\n"


def test_an_active_run_is_not_deleted(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running")).on("fleets/get", UNKNOWN)
    result = cli.run("delete", "t1", "-y")
    assert result.code == 1
    assert "Cannot delete active runs: ['t1']" in result.err


def test_a_fleet_is_deleted_by_its_name_and_waited_for(cli: Cli, server: WireServer):
    gone = wire.fleet(status="terminating")
    server.on("runs/get", UNKNOWN).on("fleets/delete", None).on("fleets/get", wire.fleet(), wire.fleet(), gone, UNKNOWN)
    result = cli.run("destroy", "f1", stdin="y\n")
    assert "Delete the fleet f1? [y/n]:" in result.err
    assert result.out == "Fleet f1 deleted\n"


def test_a_name_of_both_a_run_and_a_fleet_is_not_guessed(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done")).on("fleets/get", wire.fleet())
    result = cli.run("delete", "t1", "-y")
    assert result.code == 1
    assert "both a run and a fleet" in result.err


def test_why_prints_the_words_of_the_server(cli: Cli, server: WireServer):
    server.on("runs/why", {"name": "t1", "lines": ["t1 waits for a GPU", "add one"]})
    assert cli.run("why", "t1").out == "t1 waits for a GPU\nadd one\n"


def test_why_asks_about_fleets_when_there_is_no_such_run(cli: Cli, server: WireServer):
    server.on("runs/why", UNKNOWN).on("fleets/why", {"name": "f1", "lines": ["f1 is active"]})
    assert json.loads(cli.run("why", "f1", "--json").out)["name"] == "f1"
