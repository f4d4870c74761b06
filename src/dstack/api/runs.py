"""Runs of a project: plan, submit, look, wait for a change, stop, delete, ask why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dstack.api.transport import Transport

Json = dict[str, Any]

PAGE = 100  # the most that the server lists at once


class Runs:
    """A run, a plan and a specification are the JSON objects `Run`, `RunPlan` and `RunSpec` of the HTTP API."""

    def __init__(self, transport: Transport, project: str):
        self._transport = transport
        self._project = project

    def plan(
        self,
        run_spec: Json,
        *,
        max_offers: int | None = 3,
        full_offers: bool = False,
        unallocated: bool = False,
        for_offers_only: bool = False,
    ) -> Json:
        """What submitting `run_spec` would do, with the offers that fit.

        With `for_offers_only` nothing is to be submitted: the offers of all backends count, fleets or not.
        """
        body = {
            "run_spec": run_spec,
            "max_offers": max_offers,
            "full_offers": full_offers,
            "unallocated_resources": unallocated,
            "for_offers_only": for_offers_only,
        }
        return self._call("get_plan", body)

    def apply(self, run_spec: Json, *, current_resource: Json | None = None, force: bool = False) -> Json:
        """Submit or update a run; `current_resource` is the run that the plan showed. Returns the run."""
        plan = {"run_spec": run_spec, "current_resource": current_resource}
        return self._call("apply", {"plan": plan, "force": force}, idempotent=False)

    def get(self, name: str | None = None, *, id: str | None = None) -> Json:
        """One run by name (the newest of that name) or by id; raises ResourceNotFound."""
        return self._call("get", {"run_name": name, "id": id})

    def list(self, *, only_active: bool = False, limit: int = PAGE, username: str | None = None) -> list[Json]:
        """Up to `limit` runs of the project, newest first."""
        runs: list[Json] = []
        while len(runs) < limit:
            page = self._page(only_active, min(PAGE, limit - len(runs)), username, runs[-1] if runs else None)
            runs += page
            if len(page) < PAGE:
                break
        return runs

    def watch(
        self, name: str | None = None, *, id: str | None = None, seen: int | None = None, wait_s: float = 30.0
    ) -> tuple[Json | None, int]:
        """The run as soon as it differs from what `seen` stands for, else as it is after `wait_s` seconds (at most 60).

        Returns the run (None when there is none) and the next `seen`. Without `seen` the answer comes at once.
        """
        body = {"run_name": name, "id": id, "seen": seen, "wait_s": wait_s}
        answer = self._call("watch", body, timeout_s=wait_s + 15.0)
        return answer["run"], answer["seen"]

    def stop(self, names: Sequence[str], *, abort: bool = False) -> None:
        """Ask for the runs to stop: gracefully, or at once with `abort`. Does not wait for their end."""
        self._call("stop", {"runs_names": [*names], "abort": abort})

    def delete(self, names: Sequence[str]) -> None:
        """Remove finished runs from the lists."""
        self._call("delete", {"runs_names": [*names]})

    def why(self, name: str) -> Json:
        """Why a run is where it is: `lines` for people, `jobs` with their reports for programs."""
        return self._call("why", {"run_name": name})

    def _page(self, only_active: bool, limit: int, username: str | None, after: Json | None) -> list[Json]:
        body = {
            "project_name": self._project,
            "repo_id": None,
            "username": username,
            "only_active": only_active,
            "include_jobs": True,
            "job_submissions_limit": 1,
            "prev_submitted_at": after["submitted_at"] if after else None,
            "prev_run_id": after["id"] if after else None,
            "limit": limit,
            "ascending": False,
        }
        return self._transport.call("/api/runs/list", body)

    def _call(self, verb: str, body: Json, *, idempotent: bool = True, timeout_s: float | None = None) -> Any:
        path = f"/api/project/{self._project}/runs/{verb}"
        return self._transport.call(path, body, idempotent=idempotent, timeout_s=timeout_s)
