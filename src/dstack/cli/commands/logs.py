"""`dstack logs`: what the jobs of a run wrote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from dstack.api.client import Client
from dstack.api.logs import LogPiece
from dstack.cli.command import Command
from dstack.cli.failures import INTERRUPTED, Quit
from dstack.cli.loglines import Filter, show_log, show_logs
from dstack.cli.merged import merged
from dstack.cli.names import run_names
from dstack.cli.render.runs import finished, job_label, jobs_of, no_such_job, submission
from dstack.cli.session import connect, job_option, project_option
from dstack.cli.terminal import say
from dstack.errors import ResourceNotFound, UsageError

Json = dict[str, Any]


@click.command(cls=Command, epilog="Example: dstack logs train -f --grep loss --timestamps")
@click.argument("run_name", shell_complete=run_names)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends")
@click.option(
    "--since", metavar="TIME", help="Only what is newer: a duration (`10m`) or an instant (`2026-01-31T12:00:00Z`)"
)
@click.option("--grep", metavar="REGEX", help="Only lines in which the expression is found")
@click.option("--timestamps", is_flag=True, help="Put the time before each line")
@click.option("--json", "as_json", is_flag=True, help="A JSON object per line, with time and text")
@click.option("--all", "every", is_flag=True, help="Of all jobs, each line with its job before it")
@job_option
@click.option(
    "--replica", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="The replica of a service"
)
@click.option("-d", "--diagnose", is_flag=True, help="The log of the agent that ran the job, instead of the job's own")
@project_option
def logs(
    run_name: str,
    follow: bool,
    since: str | None,
    grep: str | None,
    timestamps: bool,
    as_json: bool,
    every: bool,
    job_num: int,
    replica: int,
    diagnose: bool,
) -> None:
    """Show the log of a run, of its newest attempt; of finished runs too."""
    if diagnose and follow:
        raise UsageError("--diagnose shows what is stored: it does not go with --follow")
    if every and (job_num or replica):
        raise UsageError("--all excludes --job and --replica")
    chosen = Filter.of(since, grep, timestamps, as_json)
    with connect() as client:
        run = _started(client, run_name) if follow else client.runs.get(run_name)
        found = _attempts(run, every, job_num, replica)
        if not found:
            return say(f"Run {run_name} has not started yet; `dstack logs -f {run_name}` waits for it")
        logs = [
            (label, _stored(client, run_name, attempt, chosen) if diagnose else _log(client, run, attempt, follow))
            for label, attempt in found
        ]
        try:
            if not every:
                show_log(logs[0][1], chosen)
            elif follow:
                merged(logs, chosen)
            else:
                show_logs(logs, chosen)
        except KeyboardInterrupt:
            if not follow:
                raise
            say(f"\nDetached\nhint: the run goes on; `dstack stop {run_name}` ends it")
            raise Quit(INTERRUPTED) from None


def _log(client: Client, run: Json, attempt: Json, follow: bool) -> Iterator[LogPiece]:
    """The job's own log, over a connection of its own: several may be read at a time."""
    has_log = bool(attempt.get("job_provisioning_data")) or not finished(run)
    return client.fork().logs.follow(attempt["id"], wait=follow and has_log)


def _stored(client: Client, run_name: str, attempt: Json, chosen: Filter) -> Iterator[LogPiece]:
    """The agent's log, line by line."""
    offset = 0
    for at, data in client.logs.poll(run_name, attempt["id"], start_time=chosen.since_text, diagnose=True):
        offset += len(data)
        yield LogPiece(offset, data, datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp())


def _started(client: Client, run_name: str) -> Json:
    """The run, once it has a job."""
    run, seen = client.runs.get(run_name), None
    while not run.get("jobs") and not finished(run):
        latest, seen = client.runs.watch(id=run["id"], seen=seen)
        if latest is None:
            raise ResourceNotFound(f"Run {run_name} was deleted")
        run = latest
    return run


def _attempts(run: Json, every: bool, job_num: int, replica: int) -> list[tuple[str, Json]]:
    """The newest submissions asked for; `--replica N` of a distributed task means its node N."""
    if every:
        jobs = [job for job in jobs_of(run) if job["job_submissions"]]
        return [(job_label(run, job), job["job_submissions"][-1]) for job in jobs]
    found = submission(run, job_num, replica)
    if found is None and replica and (found := submission(run, replica, 0)):
        say(f"hint: nodes of a task are jobs: --job {replica}")
    if found is None and run.get("jobs"):
        raise no_such_job(run, job_num, replica)
    return [] if found is None else [("", found)]
