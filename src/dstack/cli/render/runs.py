"""The table of `dstack ps` and the words for the state of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.cli.render import values
from dstack.cli.render.progress import probes_text, state_text
from dstack.cli.render.table import table
from dstack.cli.terminal import style
from dstack.errors import ResourceNotFound

Json = dict[str, Any]

FINISHED = ("terminated", "failed", "done")
HEADERS = ("NAME", "BACKEND", "GPU", "PRICE", "STATUS", "SUBMITTED")
VERBOSE_HEADERS = ("NAME", "BACKEND", "RESOURCES", "INSTANCE TYPE", "PRICE", "STATUS", "PROBES", "SUBMITTED", "ERROR")
PROBES = "PROBES"

_COLOURS = {"running": "green", "done": "dim", "failed": "red", "terminated": "dim", "terminating": "yellow"}


def runs_table(runs: Sequence[Json], now: float, *, verbose: bool = False, width: int | None = None) -> str:
    """All runs, those of several jobs with a row per job; probes have a column where there are any."""
    rows = [row for run in runs for row in _rows(run, now)]
    headers = VERBOSE_HEADERS if verbose else HEADERS
    if not verbose and any(row[PROBES] for row in rows):
        at = headers.index("SUBMITTED")
        headers = (*headers[:at], PROBES, *headers[at:])
    state = "VERBOSE STATUS" if verbose else "STATUS"
    shown = [[row[state if header == "STATUS" else header] for header in headers] for row in rows]
    return table(headers, shown, width)


def name(run: Json) -> str:
    return str(run["run_spec"].get("run_name") or run["id"])


def status(run: Json) -> str:
    """The state in words: `exited (1)`, `no capacity`, `pulling`, `running`."""
    return str(run.get("status_message") or run["status"])


def finished(run: Json) -> bool:
    return run["status"] in FINISHED


def submission(run: Json, job_num: int = 0, replica_num: int = 0) -> Json | None:
    """The newest submission of one job, or None."""
    for job in run.get("jobs") or []:
        spec = job["job_spec"]
        if spec["job_num"] == job_num and spec.get("replica_num", 0) == replica_num and job["job_submissions"]:
            return job["job_submissions"][-1]
    return None


def jobs_of(run: Json, job_num: int | None = None, replica_num: int | None = None) -> list[Json]:
    """The jobs of a run in their order, of one number or replica when said."""
    found = [
        job
        for job in run.get("jobs") or []
        if job_num in (None, job["job_spec"]["job_num"])
        and replica_num in (None, job["job_spec"].get("replica_num", 0))
    ]
    return sorted(found, key=lambda job: (job["job_spec"].get("replica_num", 0), job["job_spec"]["job_num"]))


def job_label(run: Json, job: Json) -> str:
    """`job 1`, `replica 2`, `replica 2 job 1`: what tells a job from the others of its run."""
    specs = [item["job_spec"] for item in run.get("jobs") or []]
    spec, words = job["job_spec"], []
    if any(item.get("replica_num", 0) for item in specs):
        words.append(f"replica {spec.get('replica_num', 0)}")
    if any(item["job_num"] for item in specs) or not words:
        words.append(f"job {spec['job_num']}")
    return " ".join(words)


def no_such_job(run: Json, job_num: int | None, replica_num: int | None) -> ResourceNotFound:
    """The error that names the jobs that there are."""
    asked = [f"replica={replica_num}"] if replica_num else []
    asked += [f"job={job_num}"] if job_num is not None or not asked else []
    known = ", ".join(str(job["job_spec"]["job_name"]) for job in run.get("jobs") or [])
    return ResourceNotFound(
        f"Run {name(run)} has no job matching {' '.join(asked)}", hint=f"its jobs: {known}" if known else None
    )


def error_text(run: Json) -> str:
    """What went wrong, in words; empty when nothing did."""
    texts = [run.get("error")]
    for job in run.get("jobs") or []:
        for attempt in job["job_submissions"][-1:]:
            texts += [attempt.get("error"), attempt.get("termination_reason_message")]
    found = list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
    found = [text for text in found if not any(text != other and text in other for other in found)]
    return "; ".join(found) if run["status"] in ("failed", "terminated", "terminating", "pending") else ""


def _rows(run: Json, now: float) -> list[dict[str, str]]:
    jobs = [job for job in jobs_of(run) if job["job_submissions"]]
    label = style(name(run), "bold")
    if len(jobs) == 1:
        return [_row(label, run, jobs[0], now)]
    return [_row(label, run, None, now), *(_row(f"   {_number(run, job)}", None, job, now) for job in jobs)]


def _row(label: str, run: Json | None, job: Json | None, now: float) -> dict[str, str]:
    """One row with all columns that any table has; of a run, of a job, or of a run with its only job."""
    spec, attempt = (job["job_spec"], job["job_submissions"][-1]) if job else ({}, {})
    item = attempt if run is None else run
    provisioned = attempt.get("job_provisioning_data") or {}
    offer = (attempt.get("job_runtime_data") or {}).get("offer") or {}
    instance = offer.get("instance") or provisioned.get("instance_type") or {}
    resources = instance.get("resources") or {}
    own_error = str(item.get("error") or item.get("termination_reason_message") or "")
    colour = _colour(item["status"])
    return {
        "NAME": label,
        "BACKEND": values.place(provisioned),
        "GPU": _gpu(resources),
        "RESOURCES": values.resources(resources) if resources else "",
        "INSTANCE TYPE": str(instance.get("name") or "") + _blocks(offer),
        "PRICE": values.money(offer.get("price", provisioned.get("price"))),
        "STATUS": style(state_text(item, attempt, False), *colour),
        "VERBOSE STATUS": style(state_text(item, attempt, True), *colour),
        PROBES: probes_text(spec, attempt),
        "SUBMITTED": values.age(item.get("submitted_at"), now),
        "ERROR": error_text(run) if run is not None else own_error,
    }


def _number(run: Json, job: Json) -> str:
    """`job=0`, `replica=1`, `group=0 replica=0`, and ` deployment=1` while replicas of several are there."""
    specs = [item["job_spec"] for item in run.get("jobs") or []]
    spec, words = job["job_spec"], []
    if len({item.get("replica_group") for item in specs}) > 1:
        words.append(f"group={spec.get('replica_group')}")
    if any(item.get("replica_num", 0) for item in specs):
        words.append(f"replica={spec.get('replica_num', 0)}")
    if any(item["job_num"] for item in specs) or not words:
        words.append(f"job={spec['job_num']}")
    deployments = [one["job_submissions"][-1].get("deployment_num", 0) for one in run["jobs"] if one["job_submissions"]]
    if len(set(deployments)) > 1:
        words.append(f"deployment={job['job_submissions'][-1].get('deployment_num', 0)}")
    return " ".join(words)


def _gpu(resources: Json) -> str:
    text = values.gpus(resources)
    return f"{text} (spot)" if text and resources.get("spot") else text


def _blocks(offer: Json) -> str:
    total = offer.get("total_blocks") or 1
    return f" ({offer.get('blocks', 1)}/{total})" if total > 1 else ""


def _colour(state: str) -> tuple[str, ...]:
    return (_COLOURS[state],) if state in _COLOURS else ()
