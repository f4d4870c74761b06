"""`dstack attach` and the ports of attached runs, as far as a server that says what the test wants can show it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Status, WireServer

ME = {
    "username": "admin",
    "creds": {"token": "a-token"},
    "ssh_public_key": "ssh-ed25519 AAAA me",
    "ssh_private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nno key\n-----END OPENSSH PRIVATE KEY-----\n",
}
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPLG8RWxyN3bMmumYvECm+cFTJbm+/FMtTfkEjpReIU5"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def running(**attach: object) -> wire.Json:
    """A run of one job that can be entered."""
    run = wire.run("running")
    way = {"port": 1, "user": "root", "host_key": HOST_KEY, "message": "", "host": None} | attach
    run["jobs"][0]["job_submissions"][0]["x_attach"] = way
    return run


def serve(server: WireServer, run: wire.Json) -> None:
    server.on("runs/get", run).on("/api/users/get_my_user", ME)
    server.on("runs/watch", {"run": run, "seen": 1})


def test_a_run_that_is_over_cannot_be_entered(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("failed", exit_status=1))
    refused = cli.run("attach", "t1")
    assert refused.code == 1
    assert refused.err.splitlines() == [
        "error: Run t1 is finished (exited (1))",
        "hint: `dstack logs t1` shows its log, `dstack why t1` what went wrong",
    ]


def test_a_job_that_is_not_there_is_an_error_that_names_those_that_are(cli: Cli, server: WireServer):
    serve(server, running())
    refused = cli.run("attach", "t1", "--job", "3")
    assert refused.code == 1
    assert "Run t1 has no job matching job=3" in refused.err
    assert "its jobs: t1-0-0" in refused.err


@pytest.mark.parametrize(
    "way",
    [
        {"user": "root\n    ProxyCommand touch /tmp/x"},
        {"host": {"hostname": "-oProxyCommand=x", "port": 22, "user": "dstack", "proxy": None, "host_key": None}},
        {"host_key": "ssh-ed25519 AAAA\nother"},
    ],
)
def test_what_a_server_says_never_becomes_an_option_of_ssh(cli: Cli, server: WireServer, way: dict):
    serve(server, running(**way))
    refused = cli.run("attach", "t1")
    assert refused.code == 1
    assert "The server names a host" in refused.err
    assert not (cli.home / ".dstack" / "ssh" / "config").exists()


def test_where_nothing_leads_to_the_run_the_server_is_tried_and_named(cli: Cli, server: WireServer, taken: int):
    serve(server, running(port=taken))
    refused = cli.run("attach", "t1")
    assert refused.code == 1
    assert "The connection goes through the server: there is no route to it from here" in refused.err
    assert "error: Can't connect to the remote host" in refused.err


def test_an_identity_that_is_not_there_is_named(cli: Cli, server: WireServer):
    serve(server, running())
    refused = cli.run("attach", "t1", "--ssh-identity", "nowhere")
    assert (refused.code, refused.err.splitlines()[-1]) == (1, "error: --ssh-identity nowhere: there is no such file")


def test_a_mapping_of_ports_that_is_none_is_a_usage_error(cli: Cli):
    refused = cli.run("attach", "t1", "-p", "80:web")
    assert refused.code == 2
    assert "-p: `80:web` is not a port" in refused.err


def test_a_port_that_is_taken_here_is_told_before_the_run_is_submitted(cli: Cli, server: WireServer, taken: int):
    cli.write("web.dstack.yml", f"type: task\nname: t1\ncommands: [serve]\nports: ['{taken}:8000']\n")
    server.on("runs/get_plan", wire.run_plan()).on("repos/init", {})
    refused = cli.run("apply", "-f", "web.dstack.yml", "-y")
    assert refused.code == 1
    assert f"Failed to submit: Port {taken} is already in use on this machine" in refused.err
    assert ":8000" in refused.err
    assert server.bodies("runs/apply") == []


def test_a_detached_run_does_not_mind_a_port_that_is_taken(cli: Cli, server: WireServer, taken: int):
    cli.write("web.dstack.yml", f"type: task\nname: t1\ncommands: [serve]\nports: ['{taken}:8000']\n")
    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", wire.run()).on("repos/init", {})
    assert cli.run("apply", "-f", "web.dstack.yml", "-y", "-d").code == 0


def test_a_flag_takes_the_place_of_the_files_port(cli: Cli, server: WireServer):
    cli.write("web.dstack.yml", "type: task\nname: t1\ncommands: [serve]\nports: [8000, '9000:9001']\n")
    server.on("runs/get_plan", Status(400, {"detail": [{"msg": "enough", "code": "error"}]})).on("repos/init", {})
    cli.run("plan", "-f", "web.dstack.yml", "-p", "18000:8000", "-p", "*:7000")
    ports = server.bodies("runs/get_plan")[0]["run_spec"]["configuration"]["ports"]
    found = {port["container_port"]: port["local_port"] for port in ports}
    assert found == {9001: 9000, 8000: 18000, 7000: None}
