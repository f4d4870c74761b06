"""Where a job is, by what the server says of it, and what that becomes in the SSH configuration."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from dstack.cli.attach_home import AttachHome
from dstack.cli.way_in import Way, reachable, remove_entries, way_in, write_entries
from dstack.errors import DstackError
from support import wire_json as wire

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPLG8RWxyN3bMmumYvECm+cFTJbm+/FMtTfkEjpReIU5"
HOST = {"hostname": "10.0.0.5", "port": 2222, "user": "dstack", "proxy": None, "host_key": KEY}


def run_at(serial: int = 7, status: str = "running", job_num: int = 0, **attach: Any) -> tuple[wire.Json, wire.Json]:
    run = wire.run("running")
    job = run["jobs"][0]
    job["job_spec"] |= {"job_num": job_num, "job_name": f"t1-{job_num}-0"}
    way = {"port": 40022, "user": "root", "host_key": KEY, "message": "", "host": None} | attach
    job["job_submissions"][0] |= {"id": wire.an_id(serial), "status": status, "x_attach": way}
    return run, job


def written(tmp_path: Path, way: Way, **options: Any) -> str:
    home = AttachHome(tmp_path)
    write_entries(home, way, tmp_path / "key", "main", options.get("through_server", False))
    return home.config.path.read_text()


def the_way(**attach: Any) -> Way:
    way = way_in(*run_at(**attach))
    assert way is not None
    return way


def test_a_job_that_does_not_run_or_has_no_door_is_nowhere():
    assert way_in(*run_at(status="provisioning")) is None
    assert way_in(*run_at(port=None)) is None
    assert way_in(*run_at(status="terminated")) is None


def test_a_job_that_saves_its_work_before_it_ends_is_still_there():
    assert the_way(status="terminating") == the_way(status="running")


def test_another_attempt_of_a_job_is_another_place():
    assert the_way(serial=7) != the_way(serial=8)
    assert the_way(serial=7) == the_way(serial=7)


def test_the_first_job_is_found_by_the_name_of_the_run_and_others_by_their_own():
    assert the_way().names == ["t1", "t1-0-0"]
    assert the_way(job_num=1).names == ["t1-1-0"]


@pytest.mark.parametrize("name", ["t1\n  ProxyCommand touch /tmp/x", "../../.ssh/authorized_keys", "-F"])
def test_a_name_that_could_be_an_option_of_ssh_or_a_path_is_refused(name: str):
    run, job = run_at()
    run["run_spec"]["run_name"] = name
    with pytest.raises(DstackError, match="cannot be one"):
        way_in(run, job)


@pytest.mark.parametrize("attach", [{"port": "22\nProxyCommand x"}, {"host": HOST | {"port": "22\nProxyCommand x"}}])
def test_a_port_is_a_number(attach: dict[str, Any]):
    with pytest.raises(DstackError, match="port that is none"):
        way_in(*run_at(**attach))


def test_a_job_on_this_machine_is_entered_directly(tmp_path: Path):
    text = written(tmp_path, the_way())
    assert "Host t1 t1-0-0\n    HostName 127.0.0.1\n    Port 40022\n" in text
    assert "Proxy" not in text


def test_a_job_on_a_host_is_entered_through_it_with_both_host_keys_pinned(tmp_path: Path):
    text = written(tmp_path, the_way(host=HOST))
    assert "Host t1-host\n    HostName 10.0.0.5\n    Port 2222\n    User dstack\n" in text
    assert "    ProxyJump t1-host\n" in text
    assert text.count("StrictHostKeyChecking yes") == 2
    assert (tmp_path / ".dstack" / "ssh" / "t1.known_hosts").read_text().count(KEY) == 2


def test_a_login_node_stands_under_its_own_name(tmp_path: Path):
    proxy = {"hostname": "login.lab", "port": 22, "user": "ann"}
    assert "    ProxyJump ann@login.lab:22\n" in written(tmp_path, the_way(host=HOST | {"proxy": proxy}))


def test_without_a_route_the_server_carries_the_connection(tmp_path: Path):
    text = written(tmp_path, the_way(host=HOST), through_server=True)
    assert "ssh-stdio --project main t1 --job 0 --replica 0" in text
    assert "ProxyJump" not in text


def test_nothing_of_a_run_stays_when_one_leaves(tmp_path: Path):
    home, way = AttachHome(tmp_path), the_way(host=HOST)
    write_entries(home, way, tmp_path / "key", "main", False)
    remove_entries(home, way)
    assert home.config.runs() == []
    assert not (tmp_path / ".dstack" / "ssh" / "t1.known_hosts").exists()


def test_what_answers_otherwise_than_an_ssh_server_is_no_way():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            for greeting in (b"HTTP/1.1 400\r\n", b"SSH-2.0-x\r\n"):
                with listening.accept()[0] as connection:
                    connection.sendall(greeting)

        threading.Thread(target=answer, daemon=True).start()
        assert reachable(the_way(port=port)) is False
        assert reachable(the_way(port=port)) is True
    assert reachable(the_way(port=port)) is False
