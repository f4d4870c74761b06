"""`dstack metrics`: how much of its machine a run uses."""

from __future__ import annotations

from typing import Any

import click

from dstack.api.client import Client
from dstack.cli.command import Command
from dstack.cli.names import run_names
from dstack.cli.redraw import redraw
from dstack.cli.render.metrics import metrics_table
from dstack.cli.render.runs import jobs_of, no_such_job
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put, put_json, width
from dstack.errors import ResourceNotFound, UsageError

Json = dict[str, Any]

PERIOD_S = 10.0


@click.command(cls=Command, epilog="Example: dstack metrics train -w")
@click.argument("run_name", shell_complete=run_names)
@click.option("--job", "job_num", metavar="N", type=click.IntRange(0), help="Only this node of a distributed task")
@click.option("--replica", metavar="N", type=click.IntRange(0), help="Only this replica of a service")
@click.option("-w", "--watch", is_flag=True, help="Show again every 10 seconds, until Ctrl-C")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@project_option
def metrics(run_name: str, job_num: int | None, replica: int | None, watch: bool, as_json: bool) -> None:
    """Show the use of processors, memory and GPUs by the jobs of a run, over the last hour."""
    if as_json and watch:
        raise UsageError("JSON output is not supported together with --watch")
    with connect() as client:

        def answer() -> str:
            return metrics_table(_jobs(client, run_name, job_num, replica), width())

        if as_json:
            jobs = [
                {"replica_num": job["replica_num"], "job_num": job["job_num"], "metrics": job["metrics"]}
                for job in _jobs(client, run_name, job_num, replica)
            ]
            put_json({"project": client.project, "run": run_name, "jobs": jobs})
        elif watch:
            redraw(answer, PERIOD_S)
        else:
            put(answer())


def _jobs(client: Client, run_name: str, job_num: int | None, replica: int | None) -> list[Json]:
    """The jobs asked for, with their series and what their machine has."""
    run = client.runs.get(run_name)
    found = jobs_of(run, job_num, replica)
    if not found and (run.get("jobs") or job_num or replica):
        raise no_such_job(run, job_num, replica)
    return [_measured(client, run_name, job) for job in found]


def _measured(client: Client, run_name: str, job: Json) -> Json:
    spec, attempt = job["job_spec"], (job["job_submissions"] or [{}])[-1]
    numbers = {"replica_num": spec.get("replica_num", 0), "job_num": spec["job_num"]}
    offer = (attempt.get("job_runtime_data") or {}).get("offer") or {}
    instance = offer.get("instance") or (attempt.get("job_provisioning_data") or {}).get("instance_type") or {}
    try:
        series = client.metrics.of_job(run_name, **numbers)
    except ResourceNotFound:
        series = []  # it has not started: there is nothing to measure
    return {**numbers, "resources": instance.get("resources") or {}, "metrics": series}
