"""The table of `dstack ps` and the words for the state of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.cli.render import values
from dstack.cli.render.table import table
from dstack.cli.terminal import style

Json = dict[str, Any]

FINISHED = ("terminated", "failed", "done")
HEADERS = ("NAME", "BACKEND", "GPU", "PRICE", "STATUS", "SUBMITTED")
VERBOSE_HEADERS = ("NAME", "BACKEND", "RESOURCES", "INSTANCE TYPE", "PRICE", "STATUS", "SUBMITTED", "ERROR")

_COLOURS = {"running": "green", "done": "dim", "failed": "red", "terminated": "dim", "terminating": "yellow"}


def runs_table(runs: Sequence[Json], now: float, *, verbose: bool = False, width: int | None = None) -> str:
    """All runs, those of several jobs with a row per job."""
    rows = [row for run in runs for row in _rows(run, now, verbose)]
    return table(VERBOSE_HEADERS if verbose else HEADERS, rows, width)


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


def error_text(run: Json) -> str:
    """What went wrong, in words; empty when nothing did."""
    texts = [run.get("error")]
    for job in run.get("jobs") or []:
        for attempt in job["job_submissions"][-1:]:
            texts += [attempt.get("error"), attempt.get("termination_reason_message")]
    found = list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
    return "; ".join(found) if run["status"] in ("failed", "terminated", "terminating", "pending") else ""


def _rows(run: Json, now: float, verbose: bool) -> list[tuple[str, ...]]:
    jobs = [(job["job_spec"], job["job_submissions"][-1]) for job in run.get("jobs") or [] if job["job_submissions"]]
    if len(jobs) == 1:
        return [_row(style(name(run), "bold"), run, jobs[0][1], now, verbose)]
    rows = [_row(style(name(run), "bold"), run, None, now, verbose)]
    for spec, attempt in jobs:
        replica = f"replica={spec.get('replica_num', 0)} " if any(s.get("replica_num", 0) for s, _ in jobs) else ""
        rows.append(_row(f"   {replica}job={spec['job_num']}", attempt, attempt, now, verbose))
    return rows


def _row(label: str, item: Json, attempt: Json | None, now: float, verbose: bool) -> tuple[str, ...]:
    provisioned = (attempt or {}).get("job_provisioning_data") or {}
    offer = ((attempt or {}).get("job_runtime_data") or {}).get("offer") or {}
    instance = offer.get("instance") or provisioned.get("instance_type") or {}
    resources = instance.get("resources") or {}
    price = values.money(offer.get("price", provisioned.get("price")))
    state = style(_state(item, verbose), *_colour(item["status"]))
    submitted = values.age(item.get("submitted_at"), now)
    if not verbose:
        return label, values.place(provisioned), _gpu(resources), price, state, submitted
    return (
        label,
        values.place(provisioned),
        values.resources(resources) if resources else "",
        str(instance.get("name") or "") + _blocks(offer),
        price,
        state,
        submitted,
        error_text(item)
        if "run_spec" in item
        else str(item.get("error") or item.get("termination_reason_message") or ""),
    )


def _state(item: Json, verbose: bool) -> str:
    waiting = item.get("x_waiting_for")
    return f"{status(item)} (waiting for {waiting})" if verbose and waiting else status(item)


def _gpu(resources: Json) -> str:
    text = values.gpus(resources)
    return f"{text} (spot)" if text and resources.get("spot") else text


def _blocks(offer: Json) -> str:
    total = offer.get("total_blocks") or 1
    return f" ({offer.get('blocks', 1)}/{total})" if total > 1 else ""


def _colour(state: str) -> tuple[str, ...]:
    return (_COLOURS[state],) if state in _COLOURS else ()
