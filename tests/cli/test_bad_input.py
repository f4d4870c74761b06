"""What is wrong before or at the server: the message, the hint, the exit code, and no traceback."""

from __future__ import annotations

import os

import pytest

from support import wire_json as wire
from support.cli_process import Cli, Result
from support.wire_server import Hang, NotJson, Raw, Status, WireServer


def failed(result: Result, *parts: str, code: int = 1) -> None:
    """One readable failure on stderr, nothing on stdout."""
    assert result.code == code, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert result.err.startswith("error: ")
    for part in parts:
        assert part in result.err


def test_broken_yaml_is_told_with_file_and_line(cli: Cli):
    cli.write("broken.yml", "type: task\ncommands: [echo\n")
    failed(cli.run("apply", "-f", "broken.yml"), "broken.yml:3:1: the `[` of line 2 is not closed")


def test_an_unknown_key_is_told_with_its_line_and_the_nearest_known_key(cli: Cli):
    cli.write("typo.yml", "type: task\nname: t1\ncomands:\n  - echo hi\n")
    failed(cli.run("apply", "-f", "typo.yml"), "typo.yml:3:", "commands")


def test_an_absent_file_is_told(cli: Cli):
    failed(cli.run("apply", "-f", "nothing.yml"), "Configuration file nothing.yml does not exist", "task.dstack.yml")


def test_without_a_file_the_ones_at_hand_are_named(cli: Cli):
    result = cli.run("apply")
    failed(result, "no default .dstack.yml configuration found", "`dstack apply -f fleet.dstack.yml`")


def test_the_default_file_is_found_without_being_named(cli: Cli, server: WireServer):
    cli.write(".dstack.yml", "type: task\nname: t1\ncommands: [echo hi]\n")
    server.on("runs/get_plan", wire.run_plan())
    assert cli.run("plan").code == 0


def test_an_unset_variable_is_told_before_any_plan(cli: Cli, server: WireServer):
    cli.write("env.yml", "type: task\ncommands: [echo]\nenv:\n  - HF_TOKEN\n")
    failed(cli.run("apply", "-f", "env.yml"), "Environment variable HF_TOKEN is not set", "-e HF_TOKEN")
    assert server.requests == []


def test_an_unset_variable_of_the_flag_is_told(cli: Cli):
    failed(cli.run("apply", "-f", "task.dstack.yml", "-e", "NOPE"), "Environment variable NOPE is not set")


def test_standard_input_as_the_file_needs_yes(cli: Cli):
    failed(cli.run("apply", "-f", "-", stdin="type: task"), "-y", code=2)


def test_arguments_that_no_command_uses_are_refused(cli: Cli):
    failed(cli.run("apply", "-f", "task.dstack.yml", "--", "--epochs", "3"), "The arguments are not used", code=2)


def test_a_file_given_without_its_flag_is_understood(cli: Cli):
    failed(cli.run("apply", "task.dstack.yml"), "did you mean `dstack apply -f task.dstack.yml`?")


def test_a_flag_with_an_illegal_value_is_told(cli: Cli):
    failed(cli.run("apply", "-f", "task.dstack.yml", "--gpu", "A100:A100"), "command line", "resources.gpu")


def test_a_run_flag_on_a_fleet_is_told(cli: Cli):
    failed(cli.run("apply", "-f", "fleet.dstack.yml", "--max-duration", "1h"), "does not apply to a fleet", code=2)


def test_a_project_that_is_not_configured_is_told(bare: Cli):
    failed(bare.run("ps"), "No project is configured", "dstack server")


def test_a_configuration_file_that_is_not_yaml_is_told(bare: Cli):
    path = bare.home / ".dstack" / "config.yml"
    path.parent.mkdir()
    path.write_text("projects: [")
    failed(bare.run("ps"), "this is not YAML")


def test_an_address_without_a_token_is_told(bare: Cli):
    failed(bare.run("ps", env={"DSTACK_SERVER_URL": "http://127.0.0.1:1"}), "DSTACK_TOKEN is not set")


def test_a_server_that_is_down_is_told(bare: Cli):
    env = {"DSTACK_SERVER_URL": "http://127.0.0.1:1", "DSTACK_TOKEN": "t"}
    failed(bare.run("ps", env=env), "Failed to connect to dstack server http://127.0.0.1:1", "connection refused")


def test_a_wrong_token_is_told(cli: Cli, server: WireServer):
    server.on("/api/runs/list", Status(403, {"detail": {"msg": "Invalid token", "code": None}}))
    failed(cli.run("ps"), f"Access to {server.url} is denied: Invalid token", "dstack project add")


def test_a_missing_role_is_told_without_blaming_the_token(cli: Cli, server: WireServer):
    server.on("secrets/list", Status(403, {"detail": {"msg": "Access denied", "code": None}}))
    result = cli.run("secret")
    failed(result, "Access denied")
    assert "dstack project add" not in result.err


def test_a_project_that_the_server_does_not_have_is_told(cli: Cli, server: WireServer):
    server.on("fleets/list", Status(404, {"detail": {"msg": "Not found", "code": None}}))
    failed(cli.run("fleet"), "Project main does not exist")


def test_a_refusal_of_the_server_is_shown_with_its_hint(cli: Cli, server: WireServer):
    detail = {"detail": [{"msg": "Run t9 not found", "code": "resource_not_exists"}], "hint": "look at `dstack ps -a`"}
    server.on("runs/get", Status(400, detail))
    failed(cli.run("logs", "t9"), "Run t9 not found", "hint: look at `dstack ps -a`")


def test_a_server_of_another_version_is_told(cli: Cli, server: WireServer):
    message = "The client/CLI version (0.23.0) is incompatible with the server version (0.22.5)."
    server.on("/api/runs/list", Status(400, {"detail": [{"msg": message, "code": "error"}]}))
    failed(cli.run("ps"), message)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Status(500, {"detail": "x"}), "status 500"),
        (Status(502, None), "status 502"),
        (NotJson(), "not JSON"),
        (Raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "does not answer in HTTP"),
        (Raw(b""), "closed the connection"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{"), "the connection broke in the middle of its answer"),
        (Status(405, {"detail": "Method Not Allowed"}), "does not know /api/runs/list"),
        (Status(422, {"detail": [{"loc": ["body", "limit"], "msg": "too large", "type": "x"}]}), "limit: too large"),
    ],
)
def test_a_server_that_answers_badly_is_told(cli: Cli, server: WireServer, answer: object, words: str):
    server.on("/api/runs/list", answer)
    failed(cli.run("ps"), words)


def test_the_version_is_sent_with_every_call(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [])
    cli.run("ps")
    assert server.requests[0].headers["x-api-version"]
    assert server.requests[0].headers["authorization"] == "Bearer a-token"


def test_an_unexpected_failure_leaves_a_private_file_without_secrets(cli: Cli, server: WireServer):
    instant = "password=s3cret-value our-own-token"  # both are in the words of the failure
    line = {"timestamp": instant, "log_source": "stdout", "message": "YQo="}
    server.on("runs/get", wire.run("done")).on("logs/poll", {"logs": [line], "next_token": None})
    result = cli.run("logs", "t1", "-d", env={"DSTACK_TOKEN": "our-own-token"})
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "this is a bug" in result.err
    [path] = (cli.home / ".dstack" / "logs" / "cli").glob("crash-*.log")
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert "Traceback" in text and "Invalid isoformat string: 'password=*** ***'" in text
    assert "s3cret-value" not in text and "our-own-token" not in text


def test_a_reader_that_goes_away_is_no_failure_to_talk_about(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done"))
    server.on("logs/follow", _endless())
    process = cli.start("logs", "t1")
    assert process.stdout and process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""


def _endless() -> object:
    from support.wire_server import Lines

    lines = [wire.log(number * 60000, b"x" * 59999 + b"\n") for number in range(50)]
    return Lines([*lines, wire.log_end(50 * 60000)])


def test_ctrl_c_while_the_server_is_silent_ends_with_130(cli: Cli, server: WireServer):
    server.on("/api/runs/list", Hang())
    with cli.on_terminal("ps") as terminal:
        server.wait_for("/api/runs/list")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_no_colours_where_nobody_wants_them(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [wire.run("running")])
    assert "\x1b" not in cli.run("ps").out
    assert os.environ.get("FORCE_COLOR") is None or "\x1b" not in cli.run("ps").err
