"""`dstack server orphans`."""

from __future__ import annotations

import json

from support.cli_process import Cli
from support.wire_server import WireServer

ONE = {
    "token": "tok-1",
    "status": "quarantined",
    "origin": "unknown",
    "backend": "sim",
    "backend_id": "sim-4711",
    "project_name": "main",
    "instance_name": None,
    "first_seen": "2023-11-14T22:13:20Z",
    "machine_created_at": None,
    "last_error": None,
}
LIST, TERMINATE, SETTLE = (f"/api/server/orphans/{act}" for act in ("list", "terminate", "settle"))


def test_orphans_are_listed_with_what_to_do_about_them(cli: Cli, server: WireServer):
    server.on(LIST, [ONE])
    result = cli.run("server", "orphans")
    assert result.code == 0
    head, row = result.out.splitlines()
    assert head.split() == ["TOKEN", "BACKEND", "MACHINE", "PROJECT", "WHY", "STATUS", "SEEN"]
    assert row.split()[:4] == ["tok-1", "sim", "sim-4711", "main"]
    assert "no row knows it" in row
    assert "dstack server orphans --terminate TOKEN" in result.err


def test_a_machine_is_terminated_after_a_yes(cli: Cli, server: WireServer):
    server.on(LIST, [ONE]).on(TERMINATE, None)
    result = cli.run("server", "orphans", "--terminate", "tok-1", stdin="y\n")
    assert result.code == 0
    assert "Terminate the sim machine sim-4711 with all that runs on it? [y/n]" in result.err
    assert server.bodies(TERMINATE) == [{"token": "tok-1"}]


def test_a_machine_is_left_alone_after_a_no(cli: Cli, server: WireServer):
    server.on(LIST, [ONE]).on(TERMINATE, None)
    assert cli.run("server", "orphans", "--terminate", "tok-1", stdin="n\n").code == 0
    assert server.bodies(TERMINATE) == []


def test_a_machine_that_is_settled_needs_no_question_with_yes(cli: Cli, server: WireServer):
    server.on(LIST, [ONE]).on(SETTLE, None)
    result = cli.run("server", "orphans", "--settle", "tok-1", "-y", "--json")
    assert json.loads(result.out) == {"settled": "tok-1"}
    assert server.bodies(SETTLE) == [{"token": "tok-1"}]


def test_a_machine_that_is_not_listed_is_an_error(cli: Cli, server: WireServer):
    server.on(LIST, [])
    result = cli.run("server", "orphans", "--terminate", "tok-1", "-y")
    assert result.code == 1
    assert "There is no orphaned machine tok-1" in result.err
