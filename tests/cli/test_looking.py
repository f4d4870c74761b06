"""Looking around: metrics, volumes, gateways, several jobs, probes, events about something, sign-on, sharing."""

from __future__ import annotations

import json

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Lines, Status, WireServer

NOT_FOUND = Status(400, {"detail": [{"msg": "Volume x not found", "code": "resource_not_exists"}]})
STAMPS = ["2026-01-31T12:00:10Z", "2026-01-31T12:00:00Z"]
MIB = 1048576


def several(status: str = "running", count: int = 2, **more) -> dict:
    """A run of several jobs, with a submission each."""
    run = wire.run(status, exit_status=0 if status == "done" else None)
    first = run["jobs"][0]
    run["jobs"] = [
        {
            "job_spec": first["job_spec"] | {"job_num": number, "job_name": f"t1-{number}-0"},
            "job_submissions": [first["job_submissions"][0] | {"id": wire.an_id(70 + number)}],
        }
        for number in range(count)
    ]
    return run | more


def measured(server: WireServer, job_num: int = 0, **series: list[float]) -> None:
    path = f"/api/project/main/metrics/job/t1?replica_num=0&job_num={job_num}&limit=1000"
    shown = [{"name": name, "timestamps": STAMPS[: len(v)], "values": v} for name, v in series.items()]
    server.on(path, {"metrics": shown})


def test_metrics_are_bars_from_old_to_new_with_the_newest_value(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("running"))
    measured(server, cpu_usage_percent=[200, 0], memory_working_set_bytes=[4096 * MIB, 1024 * MIB])
    out = cli.run("metrics", "t1").out
    assert out.splitlines()[0].split() == ["NAME", "UTILIZATION", "MEMORY"]
    assert out.splitlines()[1].split() == ["job=0", "cpu", "▁█", "100%", "▂▅", "4GB/8GB"]


def test_each_gpu_has_a_row_and_no_data_is_told(cli: Cli, server: WireServer):
    run = wire.run("running")
    machine = wire.offer(gpus=2)["instance"]
    run["jobs"][0]["job_submissions"][0]["job_provisioning_data"]["instance_type"] = machine
    server.on("runs/get", run)
    measured(server, gpu_util_percent_gpu0=[50], gpu_memory_usage_bytes_gpu0=[12288 * MIB])
    rows = [line.split() for line in cli.run("metrics", "t1").out.splitlines()]
    assert rows[1] == ["job=0", "cpu", "no", "data", "no", "data"]
    assert rows[2] == ["gpu=0", "▅", "50%", "▅", "12GB/24GB"]
    assert rows[3] == ["gpu=1", "no", "data", "no", "data"]


def test_metrics_of_one_job_of_several(cli: Cli, server: WireServer):
    server.on("runs/get", several())
    measured(server, 1, cpu_usage_percent=[100])
    found = json.loads(cli.run("metrics", "t1", "--job", "1", "--json").out)
    assert [job["job_num"] for job in found["jobs"]] == [1]
    assert found["jobs"][0]["metrics"][0]["name"] == "cpu_usage_percent"
    result = cli.run("metrics", "t1", "--job", "3")
    assert (result.code, "Run t1 has no job matching job=3" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("command", "short", "long"),
    [
        ("volume", "NAME BACKEND STATUS CREATED", "NAME BACKEND REGION STATUS ATTACHED CREATED ERROR"),
        (
            "gateway",
            "NAME BACKEND HOSTNAME DOMAIN DEFAULT STATUS",
            "NAME BACKEND HOSTNAME DOMAIN DEFAULT STATUS CREATED ERROR",
        ),
    ],
)
def test_volumes_and_gateways_are_listed(cli: Cli, server: WireServer, command: str, short: str, long: str):
    server.on(f"{command}s/list", [])
    assert cli.run(command).out.split() == short.split()
    assert cli.run(command, "list", "-v").out.split() == long.split()
    assert json.loads(cli.run(command, "--json").out) == {"project": "main", f"{command}s": []}


def a_volume() -> dict:
    return {
        "name": "v1",
        "project_name": "main",
        "user": "admin",
        "configuration": {"type": "volume", "backend": "aws", "region": "us-east-1", "size": 500.0},
        "external": False,
        "created_at": wire.SUBMITTED_AT,
        "status": "active",
        "attachments": [{"instance": {"name": "f1-0"}}],
    }


def test_a_volume_has_a_row_and_details(cli: Cli, server: WireServer):
    server.on("volumes/list", [a_volume()]).on("volumes/get", a_volume())
    assert cli.run("volume", "-v").out.splitlines()[1].split()[:5] == ["v1", "aws", "us-east-1", "active", "f1-0"]
    assert "Size      500GB" in cli.run("volume", "get", "v1").out
    assert json.loads(cli.run("volume", "get", "v1", "--json").out)["name"] == "v1"


def test_a_volume_is_deleted_after_a_question(cli: Cli, server: WireServer):
    server.on("volumes/get", a_volume()).on("volumes/delete", None)
    assert "Exiting" in cli.run("volume", "delete", "v1", stdin="n\n").err
    assert cli.run("volume", "delete", "v1", "-y").out == "Volume v1 deleted\n"
    assert server.bodies("volumes/delete") == [{"names": ["v1"]}]


def test_a_gateway_with_several_replicas_has_a_row_for_each(cli: Cli, server: WireServer):
    replicas = [
        {"replica_num": n, "status": "running", "hostname": f"10.0.0.{n}", "backend": "aws", "region": "us-east-1"}
        for n in range(2)
    ]
    gateway = {"name": "g1", "project_name": "main", "status": "running", "default": True, "backend": "aws"}
    server.on(
        "gateways/list", [gateway | {"region": "us-east-1", "wildcard_domain": "*.example.com", "replicas": replicas}]
    )
    rows = [line.split() for line in cli.run("gateway").out.splitlines()]
    assert rows[1] == ["g1", "aws", "(us-east-1)", "*.example.com", "✓", "running"]
    assert rows[3] == ["replica=1", "aws", "(us-east-1)", "10.0.0.1", "running"]


@pytest.mark.parametrize(("command", "noun"), [("volume", "volumes"), ("gateway", "gateways")])
def test_what_is_not_there_is_told(cli: Cli, server: WireServer, command: str, noun: str):
    server.on(f"{noun}/get", NOT_FOUND)
    result = cli.run(command, "get", "x")
    assert (result.code, result.err) == (1, "error: Volume x not found\n")


def test_a_run_of_several_jobs_has_a_row_for_each(cli: Cli, server: WireServer):
    server.on("/api/runs/list", [several()])
    rows = [line.split() for line in cli.run("ps").out.splitlines()]
    assert rows[1][0] == "t1"
    assert [row[0] for row in rows[2:]] == ["job=0", "job=1"]


def test_probes_have_a_column_where_there_are_any(cli: Cli, server: WireServer):
    run = wire.run("running")
    run["jobs"][0]["job_spec"]["probes"] = [{"ready_after": 2}] * 3
    run["jobs"][0]["job_submissions"][0]["probes"] = [{"success_streak": streak} for streak in (2, 1, 0)]
    server.on("/api/runs/list", [run])
    header, row = cli.run("ps").out.splitlines()
    assert header.split() == ["NAME", "BACKEND", "GPU", "PRICE", "STATUS", "PROBES", "SUBMITTED"]
    assert "✓~×" in row


@pytest.mark.parametrize("flags", [(), ("-v",)])
def test_a_run_whose_host_does_not_answer_says_so(cli: Cli, server: WireServer, flags: tuple[str, ...]):
    run = wire.run("running")
    run["jobs"][0]["job_submissions"][0] |= {"x_unreachable_since": STAMPS[0], "inactivity_secs": 5}
    server.on("/api/runs/list", [run])
    assert " running (unreachable) " in cli.run("ps", *flags).out


def test_replicas_of_two_deployments_are_told_apart(cli: Cli, server: WireServer):
    run = several()
    for number, job in enumerate(run["jobs"]):
        job["job_spec"] |= {"job_num": 0, "replica_num": number}
        job["job_submissions"][0]["deployment_num"] = number
    server.on("/api/runs/list", [run])
    out = cli.run("ps").out
    assert "   replica=0 deployment=0" in out
    assert "   replica=1 deployment=1" in out


def test_an_image_that_is_pulled_shows_how_far_it_is(cli: Cli, server: WireServer):
    run = wire.run("provisioning", message="pulling")
    run["jobs"][0]["job_submissions"][0] |= {
        "status": "pulling",
        "image_pull_progress": {
            "downloaded_bytes": 1_200_000_000,
            "extracted_bytes": 500_000_000,
            "total_bytes": 9_100_000_000,
            "is_total_bytes_final": False,
        },
    }
    server.on("/api/runs/list", [run])
    assert "pulling 1.2/0.5/≥9.1GB" in cli.run("ps").out


def test_the_progress_of_a_small_image_is_told_in_megabytes(cli: Cli, server: WireServer):
    run = wire.run("provisioning", message="pulling")
    done = {"downloaded_bytes": 81_000_000, "extracted_bytes": 20_400_000, "total_bytes": 96_000_000}
    run["jobs"][0]["job_submissions"][0] |= {
        "status": "pulling",
        "image_pull_progress": {**done, "is_total_bytes_final": True},
    }
    server.on("/api/runs/list", [run])
    assert "pulling 81/20/96MB" in cli.run("ps").out


def test_the_longer_table_of_fleets_has_the_fleet_and_its_instances(cli: Cli, server: WireServer):
    server.on("fleets/list", [wire.fleet("f1", "idle")])
    header, fleet, instance = (line.split() for line in cli.run("fleet", "-v").out.splitlines())
    assert header == ["NAME", "NODES", "RESOURCES", "DRIVER", "SPOT", "BACKEND", "PRICE", "STATUS", "CREATED", "ERROR"]
    assert fleet[:5] == ["f1", "0..2", "on-demand", "*", "active"]
    assert instance[0] == "instance=0"
    assert "idle" in instance


def test_the_logs_of_all_jobs_say_whose_each_line_is(cli: Cli, server: WireServer):
    def log(request):
        number = int(request.body["job_submission_id"][-2:], 16) - 70
        return Lines([wire.log(0, b"from %d\nmore" % number), wire.log_end(12)])

    server.on("runs/get", several("done")).on("logs/follow", log)
    assert cli.run("logs", "t1", "--all").out.splitlines() == [
        "[job 0] from 0",
        "[job 0] more",
        "[job 1] from 1",
        "[job 1] more",
    ]
    followed = cli.run("logs", "t1", "--all", "-f").out.splitlines()
    assert sorted(followed) == sorted(["[job 0] from 0", "[job 0] more", "[job 1] from 1", "[job 1] more"])
    items = [json.loads(line) for line in cli.run("logs", "t1", "--all", "--json").out.splitlines()]
    assert [item["job"] for item in items] == ["job 0", "job 0", "job 1", "job 1"]


def test_the_logs_of_all_jobs_are_merged_by_the_time_of_their_lines(cli: Cli, server: WireServer):
    def log(request):
        number = int(request.body["job_submission_id"][-2:], 16) - 70
        pieces = [wire.log(n, b"%d of %d\n" % (n, number), at=1769860800.0 + 2 * n + number) for n in range(2)]
        return Lines([*pieces, wire.log_end(12)])

    server.on("runs/get", several("done")).on("logs/follow", log)
    lines = cli.run("logs", "t1", "--all").out.splitlines()
    assert lines == ["[job 0] 0 of 0", "[job 1] 0 of 1", "[job 0] 1 of 0", "[job 1] 1 of 1"]


def test_the_log_of_the_agent_is_filtered_as_any_other(cli: Cli, server: WireServer):
    lines = [{"timestamp": STAMPS[1], "log_source": "stdout", "message": text} for text in ("YQo=", "Ygo=")]
    server.on("runs/get", wire.run("done")).on("logs/poll", {"logs": lines, "next_token": None})
    assert cli.run("logs", "t1", "-d").out == "a\nb\n"
    assert cli.run("logs", "t1", "-d", "--grep", "b").out == "b\n"


@pytest.mark.parametrize(
    ("flag", "path", "answer", "filter_"),
    [
        ("--target-volume", "volumes/get", {"id": wire.an_id(1)}, "target_volumes"),
        ("--within-gateway", "gateways/get", {"id": wire.an_id(1)}, "within_gateways"),
        ("--target-user", "/api/users/get_user", {"id": wire.an_id(1)}, "target_users"),
        ("--target-secret", "secrets/get", {"id": wire.an_id(1), "value": "v"}, "target_secrets"),
    ],
)
def test_events_are_asked_for_by_the_id_of_what_they_are_about(
    cli: Cli, server: WireServer, flag: str, path: str, answer: dict, filter_: str
):
    server.on("/api/projects/main/get", {"project_id": wire.an_id(9)}).on("/api/events/list", []).on(path, answer)
    assert cli.run("event", flag, "x").code == 0
    assert server.bodies("/api/events/list")[0][filter_] == [wire.an_id(1)]


def test_events_of_what_is_gone_are_asked_for_by_id(cli: Cli, server: WireServer):
    server.on("/api/projects/main/get", {"project_id": wire.an_id(9)}).on("/api/events/list", [])
    assert cli.run("event", "--within-run", wire.an_id(3)).code == 0
    assert server.bodies("/api/events/list")[0]["within_runs"] == [wire.an_id(3)]


def test_a_server_without_single_sign_on_says_how_to_go_on(bare: Cli, server: WireServer):
    server.on("/api/auth/list_providers", [])
    result = bare.run("login", "--url", server.url)
    assert result.code == 1
    assert "No SSO providers configured on the server." in result.err
    assert "dstack project add" in result.err


@pytest.mark.parametrize("command", ["export", "import"])
def test_sharing_is_answered_by_the_server(cli: Cli, server: WireServer, command: str):
    text = f"This dstack server does not support {command}s"
    server.on(f"{command}s/list", Status(400, {"detail": [{"msg": text, "code": "error"}]}))
    for line in ([command], [command, "list"], [command, "create", "x", "--importer", "y"]):
        result = cli.run(*line)
        assert (result.code, text in result.err) == (1, True)


def test_a_volume_is_deleted_by_its_file(cli: Cli, server: WireServer):
    cli.write("v.dstack.yml", "type: volume\nname: v1\nbackend: aws\nregion: us-east-1\nsize: 500GB\n")
    server.on("volumes/get", a_volume()).on("volumes/delete", None)
    assert cli.run("delete", "-f", "v.dstack.yml", "-y").out == "Volume v1 deleted\n"


def test_deletions_as_json(cli: Cli, server: WireServer):
    server.on("runs/get", wire.run("done")).on("runs/delete", None)
    out = cli.run("delete", "-f", "task.dstack.yml", "-y", "--json").out
    assert json.loads(out) == {"deleted": {"type": "run", "name": "t1"}}
