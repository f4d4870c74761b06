"""What must hold at every moment, over all rows, acts and machines; each broken one in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from dstack.model.fleet import Fleet
from dstack.model.instance import Instance, InstanceStatus
from dstack.model.job import Job, JobStatus
from dstack.model.profile import StopCriteria
from dstack.model.row import Ref, Row
from dstack.model.run import Run, RunStatus

# How long the system may need to act on a deadline, in a world of faults.
SLACK_S = 2 * 3600.0
# How long an observation or an intent may wait for a server: dead ones come back within minutes, claims run out sooner.
HEARD_WITHIN_S = 900.0


@dataclass(frozen=True, slots=True)
class View:
    """One moment. `acts`: how many of each (resource, verb) are unfinished; `machines`: tokens that the provider really
    runs; `tasks`: jobs whose processes really run somewhere, with the token of the machine."""

    now: float
    rows: Iterable[Row]
    due: Mapping[Ref, float | None]
    acts: Mapping[tuple[Ref, str], int]
    machines: Set[str] = frozenset()
    tasks: Mapping[str, str] | None = None
    unread: Mapping[Ref, float] | None = None  # since when the oldest observation lies in the inbox
    heard_within_s: float = HEARD_WITHIN_S
    slack_s: float = SLACK_S
    ended: Mapping[Ref, str] | None = None  # the statuses in which rows were seen to have ended before


def broken(view: View) -> list[str]:
    """All that does not hold, as sentences; empty when all is well."""
    rows = list(view.rows)
    found: list[str] = []
    for check in _CHECKS:
        found += check(view, rows)
    return found


def beyond_minimum(rows: Iterable[Row]) -> list[str]:
    """The instances of fleets that have more than they keep when nobody needs any, by name; none once all have idled
    for their time."""
    live: dict[str, list[str]] = defaultdict(list)
    rows = list(rows)
    for row in rows:
        if isinstance(row, Instance) and not row.terminal:
            live[row.fleet_id].append(row.name)
    least = {r.id: _least(r) for r in rows if isinstance(r, Fleet)}
    return [name for id_, names in live.items() if len(names) > least.get(id_, 0) for name in names]


def _nothing_is_forgotten(view: View, rows: list[Row]) -> Iterator[str]:
    for row in rows:
        due = view.due.get(row.ref)
        if not row.terminal and due is None:
            yield f"{row.kind} {row.id} is {row.status} and never due"
        if row.terminal and due is not None:
            yield f"{row.kind} {row.id} is {row.status} and still due"


def _what_has_ended_stays_so(view: View, rows: list[Row]) -> Iterator[str]:
    ended = view.ended or {}
    for row in rows:
        if ended.get(row.ref, row.status) != row.status:
            yield f"{row.kind} {row.id} had ended as {ended[row.ref]} and is {row.status}"


def _acts_are_single(view: View, rows: list[Row]) -> Iterator[str]:
    for (ref, verb), count in view.acts.items():
        if count > 1:
            yield f"{ref.kind} {ref.id} has {count} unfinished acts {verb}"


def _what_is_said_is_heard(view: View, rows: list[Row]) -> Iterator[str]:
    for ref, since in (view.unread or {}).items():
        if view.now - since > view.heard_within_s:
            yield f"an observation about {ref.kind} {ref.id} lies unread since {view.now - since:.0f} s"
    for row in rows:
        asked = row.stop_requested_at if isinstance(row, Run) and not row.terminal else None
        if asked is not None and row.status is not RunStatus.TERMINATING and view.now - asked > view.heard_within_s:
            yield f"run {row.id} was asked to stop {view.now - asked:.0f} s ago"


def _blocks_are_right(view: View, rows: list[Row]) -> Iterator[str]:
    held: dict[str, int] = defaultdict(int)
    for row in rows:
        if isinstance(row, Job) and not row.terminal and row.instance_id and row.place:
            held[row.instance_id] += row.place.blocks
    for row in rows:
        if not isinstance(row, Instance) or row.terminal:
            continue
        if not 0 <= row.busy_blocks <= row.total_blocks:
            yield f"instance {row.name} has {row.busy_blocks} of {row.total_blocks} blocks busy"
        if row.busy_blocks != held[row.id]:
            yield f"instance {row.name} has {row.busy_blocks} blocks busy, its jobs hold {held[row.id]}"


def _no_machine_is_lost(view: View, rows: list[Row]) -> Iterator[str]:
    known = {r.token for r in rows if isinstance(r, Instance) and not r.terminal}
    known |= {r.token for r in rows if isinstance(r, Instance) and (r.ref, "terminate_instance") in view.acts}
    for token in sorted(set(view.machines) - known):
        yield f"machine {token} runs and no instance answers for it"


def _no_task_is_lost(view: View, rows: list[Row]) -> Iterator[str]:
    jobs = {r.id: r for r in rows if isinstance(r, Job)}
    going = {r.token for r in rows if isinstance(r, Instance) and (r.terminate_requested or r.terminal)}
    going |= {r.token for r in rows if isinstance(r, Instance) and r.status is InstanceStatus.TERMINATING}
    for job_id, token in (view.tasks or {}).items():
        job = jobs.get(job_id)
        removal = job is not None and (job.ref, "remove_task") in view.acts
        if (job is None or job.terminal) and token not in going and not removal:
            yield f"job {job_id} has ended and its processes still run"


def _tasks_run_where_they_were_placed(view: View, rows: list[Row]) -> Iterator[str]:
    tokens = {r.id: r.token for r in rows if isinstance(r, Instance)}
    jobs = {r.id: r for r in rows if isinstance(r, Job)}
    for job_id, token in (view.tasks or {}).items():
        job = jobs.get(job_id)
        if job is not None and job.instance_id is not None and tokens.get(job.instance_id) != token:
            yield f"job {job_id} runs on a machine that is not its instance's"


def _fleets_stay_in_bounds(view: View, rows: list[Row]) -> Iterator[str]:
    live: dict[str, int] = defaultdict(int)
    for row in rows:
        if isinstance(row, Instance) and not row.terminal:
            live[row.fleet_id] += 1
    for row in rows:
        nodes = row.spec.configuration.nodes if isinstance(row, Fleet) else None
        if nodes is not None and nodes.max is not None and live[row.id] > nodes.max:
            yield f"a fleet of at most {nodes.max} has {live[row.id]} instances"


def _runs_follow_their_jobs(view: View, rows: list[Row]) -> Iterator[str]:
    jobs: dict[str, list[Job]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Job):
            jobs[row.run_id].append(row)
    for row in rows:
        if isinstance(row, Run):
            mine = jobs[row.id]
            if (row.terminal or row.status is RunStatus.PENDING) and not all(j.terminal for j in mine):
                yield f"run {row.name} is {row.status} and has jobs that are not over"
            wrong = _unlike(row, _newest(mine), view.now - view.heard_within_s)
            if wrong:
                yield f"run {row.name} is {row.status} and {wrong}"


def _newest(jobs: list[Job]) -> list[Job]:
    """The last submission of each."""
    found: dict[tuple[int, int], Job] = {}
    for job in sorted(jobs, key=lambda j: j.submission_num):
        found[job.replica_num, job.job_num] = job
    return list(found.values())


def _unlike(run: Run, jobs: list[Job], heard: float) -> str | None:
    """What of its jobs contradicts a run; all that they did until `heard` it must know."""
    done = [j for j in jobs if j.status is JobStatus.DONE]
    masters = [j for j in done if j.job_num == 0 and j.spec.stop_criteria is StopCriteria.MASTER_DONE]
    if run.status is RunStatus.DONE and not masters and (not done or len(done) < len(jobs)):
        return f"{len(done)} of its {len(jobs)} jobs are"
    if run.status is RunStatus.RUNNING and all(j.running_since is None for j in jobs):
        return "none of its jobs ever did"
    known = [j for j in jobs if j.status is JobStatus.RUNNING and (j.running_since or heard) < heard]
    if run.status in (RunStatus.SUBMITTED, RunStatus.PROVISIONING) and known:
        return f"its job {known[0].spec.name} has long been running"
    over = bool(jobs) and all(j.terminal and (j.finished_at or heard) < heard for j in jobs)
    if over and not run.terminal and run.status is not RunStatus.PENDING:
        return "all of its jobs have long ended"
    return None


def _gangs_are_whole(view: View, rows: list[Row]) -> Iterator[str]:
    gangs: dict[tuple[str, int, int], list[Job]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Job) and row.spec.jobs_per_replica > 1:
            gangs[row.run_id, row.replica_num, row.submission_num].append(row)
    for (run_id, _, _), whole in gangs.items():
        gang = [j for j in whole if not j.terminal]
        if len(whole) != whole[0].spec.jobs_per_replica:
            yield f"run {run_id} was submitted with {len(whole)} of {whole[0].spec.jobs_per_replica} nodes"
        never = [j for j in gang if j.status is JobStatus.SUBMITTED and not j.tried_offers]
        if len({j.place.offer.region for j in gang if j.place}) > 1:
            yield f"the nodes of run {run_id} are in several regions"
        if never and any(j.place is not None for j in gang):
            yield f"run {run_id} has {len(never)} of {len(whole)} nodes without a place"
        late = [j for j in gang if j.status is JobStatus.PROVISIONING and j.ready_since is None]
        if late and any(j.running_since is not None and j.status is JobStatus.RUNNING for j in gang):
            yield f"run {run_id} runs on some nodes before {late[0].spec.name} has its machine"
        lost = [j for j in whole if _lost(j, view.now - view.heard_within_s)]
        if lost and any(j.status is not JobStatus.TERMINATING for j in gang):
            yield f"run {run_id} goes on without {lost[0].spec.name}"


def _lost(job: Job, heard: float) -> bool:
    """It ended, not by its own success, so long ago that the other nodes must know."""
    return job.terminal and job.status is not JobStatus.DONE and (job.finished_at or heard) < heard


def _idle_machines_go(view: View, rows: list[Row]) -> Iterator[str]:
    least = {r.id: _least(r) for r in rows if isinstance(r, Fleet)}
    kept: dict[str, int] = defaultdict(int)
    late: dict[str, list[Instance]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Instance) and row.status in (InstanceStatus.IDLE, InstanceStatus.BUSY):
            kept[row.fleet_id] += 1
            free = not row.unknown_tasks
            if free and row.idle_deadline is not None and row.idle_deadline + view.slack_s < view.now:
                late[row.fleet_id].append(row)
            idles = row.status is InstanceStatus.IDLE and not row.busy_blocks and row.idle_duration_s is not None
            if idles and row.idle_deadline is None:
                yield f"instance {row.name} idles and has no time at which it goes"
    for fleet_id, instances in late.items():
        if kept[fleet_id] > least.get(fleet_id, 0):
            yield f"instance {instances[0].name} idles long after its time"


def _least(fleet: Fleet) -> int:
    nodes = fleet.spec.configuration.nodes
    return nodes.min if nodes else 0


_CHECKS: tuple[Callable[[View, list[Row]], Iterable[str]], ...] = (
    _nothing_is_forgotten,
    _what_has_ended_stays_so,
    _acts_are_single,
    _what_is_said_is_heard,
    _blocks_are_right,
    _no_machine_is_lost,
    _no_task_is_lost,
    _tasks_run_where_they_were_placed,
    _fleets_stay_in_bounds,
    _runs_follow_their_jobs,
    _gangs_are_whole,
    _idle_machines_go,
)
