"""Staying with a run of several jobs: whose line each is, and what counts at the end."""

from __future__ import annotations

from typing import Any

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import Lines, Request, WireServer


def attempts(run: dict, *attempts: dict) -> dict:
    first = run["jobs"][0]
    jobs = [
        {
            "job_spec": first["job_spec"] | {"job_num": number, "job_name": f"t1-{number}-0"},
            "job_submissions": [first["job_submissions"][0] | {"id": wire.an_id(70 + number)} | attempt],
        }
        for number, attempt in enumerate(attempts)
    ]
    return run | {"jobs": jobs}


def attached(cli: Cli, server: WireServer, last: dict, logs: list[list[Any]]):
    """What `apply` shows of a run that runs and then is `last`, with a log for each of its jobs."""

    def log(request: Request) -> Lines:
        items = logs[int(request.body["job_submission_id"][-2:], 16) - 70]
        return Lines(items)

    def watch(request: Request) -> dict:
        if request.body["seen"] is None:
            return {"run": attempts(wire.run("running"), {}, {}), "seen": 1}
        return {"run": last, "seen": 2}

    server.on("runs/get_plan", wire.run_plan()).on("runs/apply", attempts(wire.run("submitted"), {}, {}))
    server.on("runs/watch", watch).on("logs/follow", log)
    return cli.run("apply", "-f", "task.dstack.yml", "-y")


def whole(*pieces: bytes) -> list[Any]:
    items, offset = [], 0
    for data in pieces:
        items.append(wire.log(offset, data))
        offset += len(data)
    return [*items, wire.log_end(offset)]


def test_each_line_has_its_job_before_it_and_none_is_cut(cli: Cli, server: WireServer):
    last = attempts(wire.run("done", exit_status=0), {"exit_status": 0}, {"exit_status": 0})
    result = attached(cli, server, last, [whole(b"zero ", b"is here\nend"), whole(b"one\n")])
    assert result.code == 0
    assert sorted(line for line in result.out.splitlines() if line.startswith("[")) == [
        "[job 0] end",
        "[job 0] zero is here",
        "[job 1] one",
    ]


def test_the_exit_code_is_that_of_the_job_that_failed_by_itself(cli: Cli, server: WireServer):
    failed = wire.run("failed", exit_status=7)
    own = {"exit_status": 7, "termination_reason": "container_exited_with_error"}
    last = attempts(failed, {"exit_status": None, "termination_reason": "terminated_by_server"}, own)
    result = attached(cli, server, last | {"x_exit_status": None}, [whole(b""), whole(b"bad\n")])
    assert result.code == 7
    assert "[job 1] bad" in result.out
