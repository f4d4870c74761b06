"""Which rows belong together: what the snapshots of a store in memory are made from."""

from __future__ import annotations

from collections import defaultdict

from dstack.model.instance import Instance
from dstack.model.job import Job, JobStatus
from dstack.model.row import Row

# Insertion-ordered sets: plain sets of strings would give another order in every process.
Ids = dict[str, None]


class Indexes:
    def __init__(self) -> None:
        self.newest: dict[str, dict[tuple[int, int], Job]] = defaultdict(dict)  # by run
        self.gangs: dict[tuple[str, int, int], Ids] = defaultdict(dict)  # jobs by run, replica and submission
        self.placed: dict[str, Ids] = defaultdict(dict)  # jobs by instance
        self.waiting: dict[str, Ids] = defaultdict(dict)  # jobs by project
        self.live: dict[tuple[str, str], Ids] = defaultdict(dict)  # fleets, instances and orphans by (kind, project)
        self.of_fleet: dict[str, Ids] = defaultdict(dict)  # live instances by fleet

    def update(self, old: Row | None, new: Row) -> None:
        """Take note of a row's new value."""
        if isinstance(new, Job):
            self._job(old if isinstance(old, Job) else None, new)
        elif new.kind in ("fleet", "instance", "orphan"):
            self._member(self.live[new.kind, new.project_id], new)
            if isinstance(new, Instance):
                self._member(self.of_fleet[new.fleet_id], new)

    def _job(self, old: Job | None, new: Job) -> None:
        newest = self.newest[new.run_id]
        key = (new.replica_num, new.job_num)
        if key not in newest or newest[key].submission_num <= new.submission_num:
            newest[key] = new
        self.gangs[new.run_id, new.replica_num, new.submission_num][new.id] = None
        if old is not None and old.instance_id is not None:
            self.placed[old.instance_id].pop(old.id, None)
        if new.instance_id is not None and not new.terminal:
            self.placed[new.instance_id][new.id] = None
        if new.status is JobStatus.SUBMITTED and new.stop_reason is None:
            self.waiting[new.project_id][new.id] = None
        else:
            self.waiting[new.project_id].pop(new.id, None)

    @staticmethod
    def _member(ids: Ids, row: Row) -> None:
        if row.terminal:
            ids.pop(row.id, None)
        else:
            ids[row.id] = None
