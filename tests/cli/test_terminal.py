"""On a terminal: questions, Ctrl-C at each of them and at each wait, and the signal to end."""

from __future__ import annotations

import signal
import threading

import pytest

from support import wire_json as wire
from support.cli_process import Cli, Terminal
from support.wire_server import Hang, Lines, WireServer


def waiting(server: WireServer, status: str = "running") -> None:
    """A run that goes on until it is stopped."""
    server.on("runs/get_plan", wire.run_plan())
    server.on("runs/apply", wire.run("submitted"))
    server.on("runs/watch", {"run": wire.run(status), "seen": 1}, Hang())
    server.on("logs/follow", Lines([wire.log(0, b"working\n")] if status == "running" else [], "hang"))


def stoppable(server: WireServer, *, last: str = "terminated", message: str = "stopped") -> None:
    """As `waiting`; it ends once it was stopped (the log's end comes with it)."""
    waiting(server)
    stopped = threading.Event()

    def end(_: object) -> dict:
        stopped.wait(60)
        return {"run": wire.run(last, message=message), "seen": 2}

    def stop(_: object) -> None:
        stopped.set()

    server.on("runs/watch", {"run": wire.run("running"), "seen": 1}, end)
    server.on("runs/stop", stop)
    server.on("logs/follow", Lines([wire.log(0, b"working\n"), stopped, wire.log_end(8)]))


def attached(cli: Cli, server: WireServer, *flags: str) -> Terminal:
    terminal = cli.on_terminal("apply", "-f", "task.dstack.yml", *flags)
    if "-y" not in flags:
        terminal.expect("Submit the run t1? [y/n]: ")
        terminal.type("y\n")
    terminal.expect("working")
    return terminal


def test_ctrl_c_at_the_first_question_submits_nothing(cli: Cli, server: WireServer):
    waiting(server)
    with cli.on_terminal("apply", "-f", "task.dstack.yml") as terminal:
        terminal.expect("[y/n]: ")
        terminal.interrupt()
        assert terminal.end() == 130
    assert terminal.shown.rstrip().endswith("Cancelled by user")
    assert server.bodies("runs/apply") == []


@pytest.mark.parametrize(
    ("line", "path", "answer"),
    [
        ("stop t1", "runs/get", wire.run("running")),
        ("delete t1", "runs/get", wire.run("done")),
        ("fleet delete f1", "fleets/get", wire.fleet()),
        ("secret delete s1", "secrets/list", []),
        ("secret set s1", "secrets/list", []),
    ],
)
def test_ctrl_c_at_any_question_ends_with_130_and_one_line(
    cli: Cli, server: WireServer, line: str, path: str, answer: object
):
    from support.wire_server import Status

    unknown = Status(400, {"detail": [{"msg": "not found", "code": "resource_not_exists"}]})
    server.on("fleets/get", unknown)
    server.on(path, answer)
    with cli.on_terminal(*line.split()) as terminal:
        terminal.expect(": ")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rstrip().endswith("Cancelled by user")


def test_ctrl_c_while_the_plan_is_made_ends_with_130(cli: Cli, server: WireServer):
    server.on("runs/get_plan", Hang())
    with cli.on_terminal("apply", "-f", "task.dstack.yml") as terminal:
        server.wait_for("runs/get_plan")
        terminal.interrupt()
        assert terminal.end() == 130


def test_while_it_waits_the_status_line_says_for_what(cli: Cli, server: WireServer):
    waiting(server, "submitted")
    server.on("runs/watch", {"run": wire.run("submitted", x_waiting_for="a free instance"), "seen": 1}, Hang())
    with cli.on_terminal("apply", "-f", "task.dstack.yml", "-y") as terminal:
        terminal.expect("t1: submitted (waiting for a free instance)")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Detached" in terminal.shown


def test_with_yes_ctrl_c_detaches_without_a_question(cli: Cli, server: WireServer):
    waiting(server)
    with attached(cli, server, "-y") as terminal:
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Detached" in terminal.shown
    assert "[y/n]" not in terminal.shown


def test_ctrl_c_and_no_detaches_and_the_run_goes_on(cli: Cli, server: WireServer):
    waiting(server)
    with attached(cli, server) as terminal:
        terminal.interrupt()
        terminal.expect("Stop the run t1 before detaching? [y/n]: ")
        terminal.type("n\n")
        assert terminal.end() == 130
    assert "Detached" in terminal.shown
    assert server.bodies("runs/stop") == []


def test_ctrl_c_at_the_question_about_stopping_detaches(cli: Cli, server: WireServer):
    waiting(server)
    with attached(cli, server) as terminal:
        terminal.interrupt()
        terminal.expect("before detaching? [y/n]: ")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Detached" in terminal.shown
    assert server.bodies("runs/stop") == []


def test_ctrl_c_and_yes_stops_the_run_and_waits_for_its_end(cli: Cli, server: WireServer):
    stoppable(server)
    with attached(cli, server) as terminal:
        terminal.interrupt()
        terminal.expect("before detaching? [y/n]: ")
        terminal.type("y\n")
        assert terminal.end() == 130
    assert terminal.shown.rstrip().endswith("Stopped")
    assert server.bodies("runs/stop") == [{"runs_names": ["t1"], "abort": False}]


def test_a_second_ctrl_c_while_it_stops_aborts_the_run(cli: Cli, server: WireServer):
    stoppable(server)
    stop = server._routes[server._full("runs/stop")].answers[0]
    server.on("runs/stop", None, stop)  # the graceful one has no effect
    with attached(cli, server) as terminal:
        terminal.interrupt()
        terminal.expect("before detaching? [y/n]: ")
        terminal.type("y\n")
        server.wait_for("runs/stop")
        terminal.interrupt()
        assert terminal.end() == 130
    assert terminal.shown.rstrip().endswith("Aborted")
    assert [body["abort"] for body in server.bodies("runs/stop")] == [False, True]


def test_the_signal_to_end_detaches_and_asks_nothing(cli: Cli, server: WireServer):
    waiting(server)
    with attached(cli, server, "-y") as terminal:
        terminal.signal(signal.SIGTERM)
        assert terminal.end() == 143
    assert terminal.shown.rstrip().endswith("Detached")


def test_the_table_of_runs_is_shown_again_until_ctrl_c_which_is_no_failure(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("running")], [wire.run("done")])
    with cli.on_terminal("ps", "-w") as terminal:
        terminal.expect("running")
        terminal.expect("exited (0)")
        terminal.interrupt()
        assert terminal.end() == 0


def test_following_a_log_ends_with_130_at_ctrl_c_and_says_that_the_run_goes_on(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running"))
    server.on("logs/follow", Lines([wire.log(0, b"one\n")], "hang"))
    with cli.on_terminal("logs", "-f", "t1") as terminal:
        terminal.expect("one")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Detached" in terminal.shown and "the run goes on; `dstack stop t1` ends it" in terminal.shown


def test_ctrl_c_while_a_fleet_is_made_asks_whether_to_delete_it(cli: Cli, server: WireServer):
    server.on("fleets/get_plan", wire.fleet_plan())
    server.on("fleets/apply", wire.fleet("f1", "provisioning"))
    server.on("fleets/get", wire.fleet("f1", "provisioning"))
    with cli.on_terminal("apply", "-f", "fleet.dstack.yml") as terminal:
        terminal.expect("Create the fleet? [y/n]: ")
        terminal.type("y\n")
        terminal.expect("Provisioning... 1 provisioning")
        terminal.interrupt()
        terminal.expect("Delete the fleet before exiting? [y/n]: ")
        terminal.type("n\n")
        assert terminal.end() == 130
    assert "Fleet provisioning will continue in the background." in terminal.shown


def test_a_secret_is_asked_for_without_being_shown(cli: Cli, server: WireServer):
    server.on("secrets/create_or_update", {"id": wire.an_id(1), "name": "s1"})
    with cli.on_terminal("secret", "set", "s1") as terminal:
        terminal.expect("Value of s1: ")
        terminal.type("hush\n")
        assert terminal.end() == 0
    assert "hush" not in terminal.shown
    assert server.bodies("secrets/create_or_update") == [{"name": "s1", "value": "hush"}]


def test_on_a_terminal_the_default_project_is_chosen_by_number(bare: Cli, server: WireServer):
    for name in ("main", "other"):
        server.on(f"/api/projects/{name}/get", {"project_name": name})
        bare.run("project", "add", "--name", name, "--url", server.url, "--token", "t", "-n")
    with bare.on_terminal("project") as terminal:
        terminal.expect("1. main (default)")
        terminal.expect("Enter keeps it]: ")
        terminal.type("7\n")
        terminal.expect("Expected a number from 1 to 2, or a name")
        terminal.type("2\n")
        terminal.expect("The default project is other")
        assert terminal.end() == 0


def test_metrics_are_watched_until_ctrl_c(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running"))
    server.on("/api/project/main/metrics/job/t1?replica_num=0&job_num=0&limit=1000", {"metrics": []})
    with cli.on_terminal("metrics", "t1", "-w") as terminal:
        terminal.expect("no data")
        terminal.interrupt()
        assert terminal.end() == 0
