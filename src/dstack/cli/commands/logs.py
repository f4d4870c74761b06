"""`dstack logs`: what a job wrote."""

from __future__ import annotations

from typing import Any

import click

from dstack.api.client import Client
from dstack.cli.loglines import Filter, show_log
from dstack.cli.render.runs import finished, submission
from dstack.cli.session import connect, project_option
from dstack.cli.terminal import put_bytes, say
from dstack.errors import ResourceNotFound, UsageError

Json = dict[str, Any]


@click.command(epilog="Example: dstack logs train -f --grep loss --timestamps")
@click.argument("run_name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends")
@click.option(
    "--since", metavar="TIME", help="Only what is newer: a duration (`10m`) or an instant (`2026-01-31T12:00:00Z`)"
)
@click.option("--grep", metavar="REGEX", help="Only lines in which the expression is found")
@click.option("--timestamps", is_flag=True, help="Put the time before each line")
@click.option("--json", "as_json", is_flag=True, help="A JSON object per line, with time and text")
@click.option(
    "--job", "job_num", type=click.IntRange(0), default=0, show_default=True, help="The node of a distributed task"
)
@click.option("--replica", type=click.IntRange(0), default=0, show_default=True, help="The replica of a service")
@click.option("-d", "--diagnose", is_flag=True, help="The log of the agent that ran the job, instead of the job's own")
@project_option
def logs(
    run_name: str,
    follow: bool,
    since: str | None,
    grep: str | None,
    timestamps: bool,
    as_json: bool,
    job_num: int,
    replica: int,
    diagnose: bool,
) -> None:
    """Show the log of a run, of its newest attempt; of finished runs too."""
    if diagnose and (follow or grep or timestamps or as_json):
        raise UsageError("--diagnose shows what is stored, as it is: no other option but --since goes with it")
    chosen = Filter.of(since, grep, timestamps, as_json)
    with connect() as client:
        run = _started(client, run_name) if follow else client.runs.get(run_name)
        attempt = _attempt(run, run_name, job_num, replica)
        if attempt is None:
            return say(f"Run {run_name} has not started yet; `dstack logs -f {run_name}` waits for it")
        if diagnose:
            for _, data in client.logs.poll(run_name, attempt["id"], start_time=chosen.since_text, diagnose=True):
                put_bytes(data)
            return
        has_log = bool(attempt.get("job_provisioning_data")) or not finished(run)
        show_log(client.logs.follow(attempt["id"], wait=follow and has_log), chosen)


def _started(client: Client, run_name: str) -> Json:
    """The run, once it has a job."""
    run, seen = client.runs.get(run_name), None
    while not run.get("jobs") and not finished(run):
        latest, seen = client.runs.watch(id=run["id"], seen=seen)
        if latest is None:
            raise ResourceNotFound(f"Run {run_name} was deleted")
        run = latest
    return run


def _attempt(run: Json, run_name: str, job_num: int, replica: int) -> Json | None:
    """The newest submission of the job; `--replica N` of a distributed task means its node N."""
    found = submission(run, job_num, replica)
    if found is None and replica and (found := submission(run, replica, 0)):
        say(f"hint: nodes of a task are jobs: --job {replica}")
    if found is None and run.get("jobs"):
        wanted = f"replica={replica} job={job_num}" if replica else f"job={job_num}"
        known = ", ".join(job["job_spec"]["job_name"] for job in run["jobs"])
        raise ResourceNotFound(f"Run {run_name} has no job matching {wanted}", hint=f"its jobs: {known}")
    return found
